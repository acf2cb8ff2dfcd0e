"""Generates sentences in the layout of the public ones; nobody ever wrote them."""

from __future__ import annotations

import random
from pathlib import Path

GOOD = ("great", "lovely", "works well", "a pleasure", "excellent", "better than hoped")
BAD = ("awful", "broken", "a waste", "disappointing", "poor", "worse than feared")
THINGS = {
    "amazon_cells": ("phone", "headset", "charger"),
    "imdb": ("film", "plot", "cast"),
    "yelp": ("food", "service", "menu"),
}


def write(folder: Path) -> None:
    chance = random.Random(331)
    for name, things in THINGS.items():
        lines = []
        for _ in range(300):
            positive = chance.random() < 0.5
            word = chance.choice(GOOD if positive != (chance.random() < 0.1) else BAD)
            opening = chance.choice(("The", 'This "new"', "Sadly or not, the", "My"))
            lines.append(f"{opening} {chance.choice(things)} is {word}.  \t{int(positive)}\n")
        (folder / f"{name}_labelled.txt").write_text("".join(lines))
