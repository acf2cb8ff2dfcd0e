"""Generates a few hundred customers in the layout of CDNOW's file; what it says about customers is made up."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

CUSTOMERS = 800
LAST = date(1998, 6, 30)


def write(folder: Path) -> None:
    chance = random.Random(1997)
    lines = [" customer_id  date number_of_cds  dollar_value\n"]
    for customer in range(1, CUSTOMERS + 1):
        day = date(1997, 1, 1) + timedelta(days=chance.randrange(84))
        pause, value, leaves = chance.expovariate(1 / 60) + 5, chance.expovariate(1 / 25) + 6, chance.uniform(0.05, 0.5)
        while day <= LAST:
            spent = max(1.0, value * chance.uniform(0.5, 1.5))
            lines.append(f" {customer:05d} {day:%Y%m%d} {1 + int(spent // 15):2d} {spent:7.2f}\n")
            if chance.random() < leaves:
                break
            day += timedelta(days=1 + int(chance.expovariate(1 / pause)))
    (folder / "CDNOW_master.txt").write_text("".join(lines))
