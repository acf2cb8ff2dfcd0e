"""Generates four months of hours in the layout of the bike sharing file; what it says about demand is made up."""

from __future__ import annotations

import io
import math
import random
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

COLUMNS = "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed"
HOURS = 8 * 31 * 24


def write(folder: Path) -> None:
    chance = random.Random(2011)
    text = io.StringIO()
    text.write(f"{COLUMNS},casual,registered,cnt\n")
    start = datetime(2012, 1, 1, tzinfo=UTC)
    for number in range(HOURS):
        hour = start + timedelta(hours=number)
        if hour.month == 9:
            break
        working = hour.weekday() < 5
        rush = 1.5 if working and hour.hour in (8, 17, 18) else 1.0
        warmth = 0.5 + 0.2 * math.sin(2 * math.pi * (number / 24 - 100) / 365) + chance.gauss(0, 0.03)
        mean = 150 * rush * (1.1 - math.cos(2 * math.pi * (hour.hour - 3) / 24)) * warmth
        count = max(1, round(chance.gauss(mean, 0.15 * mean)))
        casual = count // 5
        row = (
            number + 1,
            f"{hour:%Y-%m-%d}",
            1 + hour.month % 12 // 3,
            1,
            hour.month,
            hour.hour,
            0,
            hour.isoweekday() % 7,
        )
        weather = (int(working), 1, round(warmth, 2), round(warmth, 2), round(chance.uniform(0.3, 0.9), 2), 0.2)
        text.write(",".join(map(str, (*row, *weather, casual, count - casual, count))) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "Bike-Sharing-Dataset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("hour.csv", (2012, 9, 1, 0, 0, 0)), text.getvalue())
