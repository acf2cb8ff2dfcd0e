"""Random histories of rows that come late, are corrected and deleted."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

START = datetime(2024, 5, 1)  # noqa: DTZ001 (stored times are UTC without a zone)
Row = Mapping[str, Any]


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def history(chance: random.Random, rows: int, *, late_only: bool = False) -> list[Row]:
    """Rows of few moments, most with several versions that arrive in any order, at one time, or never are available."""
    versions = []
    for number in range(rows):
        event = START + hours(chance.randrange(0, 30))
        who = chance.choice("aab")
        for seq in range(1 if late_only else chance.choice((1, 2, 2, 3, 4))):
            if chance.random() < 0.2:
                event += hours(chance.choice((-3, 2)))
            ready = event + hours(chance.choice((0, 0, 0, 2)))
            versions.append(
                {
                    "id": number,
                    "seq": seq,
                    "at": event,
                    "ready": None if chance.random() < 0.05 else ready,
                    "who": who if chance.random() < 0.9 else "b",
                    "value": chance.choice((None, 1.0, 2.0, 3.5, 4.25)),
                    "fine": chance.random() < 0.9,
                    "gone": seq > 0 and chance.random() < 0.15,
                    "came": None
                    if seq == 0 and chance.random() < 0.6
                    else event + hours(chance.choice((0, 1, 2, 5, 26))),
                }
            )
    chance.shuffle(versions)
    return versions
