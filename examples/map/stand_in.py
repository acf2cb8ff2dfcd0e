"""Generates images in the layout of the public ones: strokes in fixed places, moved and blurred; nobody wrote them."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

SEGMENTS = {  # first row and column, last row and column
    "top": (6, 8, 6, 20),
    "middle": (14, 8, 14, 20),
    "bottom": (22, 8, 22, 20),
    "upper_left": (6, 8, 14, 8),
    "upper_right": (6, 20, 14, 20),
    "lower_left": (14, 8, 22, 8),
    "lower_right": (14, 20, 22, 20),
}
LIT = {  # as on the display of a clock
    0: "top bottom upper_left upper_right lower_left lower_right",
    1: "upper_right lower_right",
    2: "top upper_right middle lower_left bottom",
    3: "top upper_right middle lower_right bottom",
    4: "upper_left upper_right middle lower_right",
    5: "top upper_left middle lower_right bottom",
    6: "top upper_left middle lower_left lower_right bottom",
    7: "top upper_right lower_right",
    8: "top middle bottom upper_left upper_right lower_left lower_right",
    9: "top middle bottom upper_left upper_right lower_right",
}


def write(folder: Path) -> None:
    chance = random.Random(1998)
    for name, rows in (("t10k", 1500),):
        digits = [chance.randrange(10) for _ in range(rows)]
        images = b"".join(bytes(image(digit, chance)) for digit in digits)
        header = struct.pack(">IIII", 0x0803, rows, 28, 28)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images, mtime=0))
        labels = struct.pack(">II", 0x0801, rows) + bytes(digits)
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))


def image(digit: int, chance: random.Random) -> list[int]:
    """The 28 x 28 pixels of a digit, row by row."""
    down, right = chance.randint(-3, 3), chance.randint(-3, 3)
    pixels = [chance.choice((0, 0, 0, 40)) for _ in range(28 * 28)]
    for name in LIT[digit].split():
        top, left, bottom, end = SEGMENTS[name]
        for row in range(top, bottom + 2):
            for column in range(left, end + 2):
                pixels[(row + down) * 28 + column + right] = chance.randint(150, 255)
    return pixels
