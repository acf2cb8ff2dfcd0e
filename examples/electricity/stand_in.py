"""Generates seven months of half hours in the layout of ELEC2; what they say of prices is made up."""

from __future__ import annotations

import math
import random
from pathlib import Path

STEPS = 48 * 31 * 7


def write(folder: Path) -> None:
    chance = random.Random(1996)
    lines = ["period,nswprice,nswdemand,vicprice,vicdemand,transfer,class"]
    recent: list[float] = []
    drift = 0.0
    for number in range(STEPS):
        period = (number % 48) / 47
        drift = 0.97 * drift + chance.gauss(0, 0.004)
        turned = 1 if number < STEPS // 2 else -1  # the daily rhythm turns round: a drift to find
        demand = 0.45 + 0.15 * math.sin(2 * math.pi * (period - 0.3)) + chance.gauss(0, 0.02)
        price = max(0.0, 0.06 + turned * 0.02 * (demand - 0.45) / 0.15 + drift)
        recent = [*recent[-47:], price]
        up = int(price > sum(recent) / len(recent))
        cells = (period, price, demand, price + chance.gauss(0, 0.02), demand + chance.gauss(0, 0.05), 0.5)
        lines.append(",".join([*(f"{cell:.6f}" for cell in cells), str(up)]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "elec.csv").write_text("\n".join(lines) + "\n")
