"""Generates a small table in the layout of the public mammography file; what it says about mammograms is made up."""

from __future__ import annotations

import csv
import random
from pathlib import Path

NAME = "mammography.csv"


def write(folder: Path, rows: int = 6000) -> None:
    chance = random.Random(310)
    with (folder / NAME).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(_mammogram(chance) for _ in range(rows))


def _mammogram(chance: random.Random) -> list[object]:
    odd = chance.random() < 0.025
    measures = [round(chance.expovariate(1) + (chance.expovariate(0.3) if odd else 0.0) - 1, 8) for _ in range(6)]
    return [*measures, "'1'" if odd else "'-1'"]
