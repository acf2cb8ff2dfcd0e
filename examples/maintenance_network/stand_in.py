"""Generates a few engines in the layout of C-MAPSS; what it says about engines is made up."""

from __future__ import annotations

import random
from pathlib import Path

ENGINES = 30
LEVELS = (
    518.67,
    642,
    1590,
    1400,
    14.62,
    21.61,
    554,
    2388,
    9050,
    1.3,
    47.3,
    522,
    2388,
    8130,
    8.42,
    0.03,
    392,
    2388,
    100,
    39,
    23.4,
)
WEARING = {
    1: 1.0,
    2: 10.0,
    3: 20.0,
    6: -2.0,
    10: 1.0,
    11: -2.0,
    14: 0.08,
    19: -0.5,
    20: -0.3,
}  # by how much, until failure


def write(folder: Path) -> None:
    chance = random.Random(2008)
    remaining = [chance.randint(5, 60) for _ in range(ENGINES)]
    train = [_engine(chance, unit, 0) for unit in range(1, ENGINES + 1)]
    test = [_engine(chance, unit, left) for unit, left in enumerate(remaining, start=1)]
    (folder / "train_FD001.txt").write_text("".join(train))
    (folder / "test_FD001.txt").write_text("".join(test))
    (folder / "RUL_FD001.txt").write_text("".join(f"{left} \n" for left in remaining))


def _engine(chance: random.Random, unit: int, left: int) -> str:
    """Its readings until it fails, less the last `left`."""
    life = chance.randint(90, 140)
    lines = []
    for cycle in range(1, life - left + 1):
        wear = max(0.0, 1 - (life - cycle) / 80) ** 2
        sensors = [
            level + wear * WEARING.get(place, 0.0) + chance.gauss(0, abs(WEARING.get(place, 0.0)) / 4)
            for place, level in enumerate(LEVELS)
        ]
        settings = (chance.gauss(0, 0.002), chance.gauss(0, 0.0003), 100.0)
        lines.append(" ".join([str(unit), str(cycle), *(f"{number:.4f}" for number in (*settings, *sensors))]) + "  \n")
    return "".join(lines)
