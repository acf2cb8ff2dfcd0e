"""Generates a small table in the layout of the public groceries; what it says about purchases is made up."""

from __future__ import annotations

import random
from pathlib import Path

NAME = "groceries.csv"
TOGETHER = (
    ("pasta", "tomatoes", "cheese"),
    ("bread", "butter", "jam"),
    ("tea", "biscuits", "lemon"),
    ("beer", "crisps"),
)
ALONE = ("milk", "apples", "soap", "eggs", "rice", "onions")


def write(folder: Path, rows: int = 2500) -> None:
    chance = random.Random(2006)
    with (folder / NAME).open("w", newline="") as file:
        file.writelines(f"{','.join(_basket(chance))}\n" for _ in range(rows))


def _basket(chance: random.Random) -> list[str]:
    items = {item for group in chance.sample(TOGETHER, chance.choice((0, 1, 1, 2))) for item in group}
    items = {item for item in items if chance.random() < 0.8}
    return sorted(items | set(chance.sample(ALONE, chance.choice((1, 1, 2, 3)))))
