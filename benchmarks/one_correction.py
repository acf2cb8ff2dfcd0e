"""What one corrected row of twelve months costs: CPU seconds of ingest, validate and featurize, first and afterwards.

python benchmarks/one_correction.py [--rows 100000]

The correction arrives after all predictions, so no row of the training table may change; whether one did is printed.
The last line is featurize on the same rows, without the table that it kept.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from refit.config import parse
from refit.files import artifacts
from refit.runtime.context import Context
from tasks import featurize, ingest, validate
from tasks.featurize import table_cache

COLUMNS = ("id", "at", "customer", "price", "back", "version")
FIRST = datetime(2025, 1, 2, tzinfo=UTC)
FEATURES = """
from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Latest, Spine

FEATURES = FeatureSet(
    spine=Spine(source="placed", key="id", features=(Expression(name="price", sql="price"),)),
    views=tuple(
        FeatureView(
            name=name,
            source="settled",
            entity=entity,
            features=(
                Aggregate(name=f"{name}_n", function="count", column="price", windows=("1d", "7d", "28d")),
                Aggregate(name=f"{name}_mean", function="mean", column="price", windows=("1d", "7d", "28d")),
                Aggregate(name=f"{name}_std", function="std", column="price", windows=("7d", "28d")),
                Aggregate(name=f"{name}_rate", function="rate", column="back", windows=("7d", "28d")),
                Latest(name=f"{name}_last", column="price"),
                Age(name=f"{name}_age"),
            ),
        )
        for name, entity in (("customer", ("customer",)), ("price", ("price",)), ("all", ()))
    ),
)
"""


def source() -> dict[str, Any]:
    seen = {"id": "id", "customer": "customer", "price": "price"}
    return {
        "kind": "files",
        "path": "raw/*.csv",
        "columns": dict.fromkeys(COLUMNS, "integer") | {"at": "timestamp", "customer": "text"},
        "key": ["id"],
        "event_time": "at",
        "changes": {"kind": "corrections", "version": "version"},
        "events": {
            "placed": {"available_at": "event_time", "columns": seen},
            "settled": {"available_at": "event_time + interval 1 hour", "columns": {**seen, "back": "back"}},
        },
    }


def context_of(folder: Path, now: datetime) -> Context:
    raw: dict[str, Any] = {
        "project": {"name": "corrected", "timezone": "UTC"},
        "ingest": {"period": "month", "sources": {"orders": source()}},
        "featurize": {"definitions": "features.py", "label": {"source": "settled", "column": "back", "delay_hours": 0}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return Context(folder, parse(raw), now=lambda: now)


def write(path: Path, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def seconds(stage: ModuleType, context: Context) -> float:
    before = time.process_time()
    stage.run(context)
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    chance, gap = random.Random(1), timedelta(days=366) / count
    rows: list[tuple[object, ...]] = [
        (n, datetime(2024, 1, 1) + n * gap, f"c{chance.randrange(count // 50)}", chance.randrange(100), n % 2, 1)  # noqa: DTZ001
        for n in range(count)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder, tables = Path(name), list[pa.Table]()
        (folder / "raw").mkdir()
        (folder / "features.py").write_text(FEATURES)
        (folder / artifacts.RUN).write_text("as_of: '2025-01-05'\n")
        print(f"{'':<18} {'ingest':>8} {'validate':>8} {'featurize':>9}   CPU s")
        corrected = [(*rows[count // 2][:3], 999, 0, 2)]
        for what, day, content in (("all rows", 0, rows), ("one correction", 1, corrected)):
            write(folder / f"raw/{day}.csv", content)
            context = context_of(folder, FIRST + timedelta(days=day))
            spent = [seconds(stage, context) for stage in (ingest, validate, featurize)]
            print(f"{what:<18} {spent[0]:8.2f} {spent[1]:8.2f} {spent[2]:9.2f}")
            tables.append(pq.read_table(folder / artifacts.TABLE))
        digest = artifacts.sha256(folder / artifacts.TABLE)
        shutil.rmtree(folder / table_cache.FOLDER)
        print(f"{'all features again':<18} {'':8} {'':8} {seconds(featurize, context):9.2f}")
        same = tables[0].equals(tables[1]) and digest == artifacts.sha256(folder / artifacts.TABLE)
    print(f"{tables[1].num_rows:,} rows in the table; the same bits: {same}")


if __name__ == "__main__":
    main()
