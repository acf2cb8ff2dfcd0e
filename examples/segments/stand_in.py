"""Generates a small table in the layout of the public wholesale file; what it says about customers is made up."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

NAME = "Wholesale customers data.csv"
HEADER = "Channel,Region,Fresh goods,Milk,Grocery,Frozen,Detergents_Paper,Delicassen\n"
TYPICAL = {1: (9000, 2200, 3000, 2200, 400, 900), 2: (6000, 8500, 13000, 1100, 5500, 1200)}  # spending by channel


def write(folder: Path, rows: int = 400) -> None:
    chance = random.Random(292)
    with (folder / NAME).open("w", newline="") as file:
        file.write(HEADER)
        csv.writer(file, lineterminator="\n").writerows(_customer(chance) for _ in range(rows))


def _customer(chance: random.Random) -> list[int]:
    channel = 1 + (chance.random() < 1 / 3)
    amounts = [round(middle * math.exp(chance.gauss(0, 0.6))) for middle in TYPICAL[channel]]
    return [channel, chance.choice((1, 2, 3, 3, 3)), *amounts]
