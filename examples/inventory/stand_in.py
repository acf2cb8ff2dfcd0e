"""Generates two years of days in the layout of the bike sharing file; what it says about demand is made up."""

from __future__ import annotations

import io
import math
import random
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

COLUMNS = "instant,dteday,season,yr,mnth,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed"
DAYS = 731


def write(folder: Path) -> None:
    chance = random.Random(2011)
    text = io.StringIO()
    text.write(f"{COLUMNS},casual,registered,cnt\n")
    start = datetime(2011, 1, 1, tzinfo=UTC)
    for number in range(DAYS):
        day = start + timedelta(days=number)
        warmth = 0.5 + 0.3 * math.sin(2 * math.pi * (number - 100) / 365)
        count = max(50, round(chance.gauss(1, 0.25) * (1500 + 5000 * warmth) * (1 + number / DAYS)))
        calendar = (number + 1, f"{day:%Y-%m-%d}", 1 + day.month % 12 // 3, day.year - 2011, day.month, 0)
        weather = (day.isoweekday() % 7, int(day.weekday() < 5), 1, round(warmth, 2), round(warmth, 2), 0.6, 0.2)
        casual = count // 5
        text.write(",".join(map(str, (*calendar, *weather, casual, count - casual, count))) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "Bike-Sharing-Dataset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("day.csv", (2013, 1, 1, 0, 0, 0)), text.getvalue())
