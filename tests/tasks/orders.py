"""A small project: two years of orders, of which we want to know whether they come back."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from snapshots import batch_of

from refit.config import override, parse
from refit.files import artifacts
from refit.runtime.context import Context

RAW: dict[str, Any] = {
    "project": {"name": "returns", "timezone": "Europe/Berlin"},
    "ingest": {
        "period": "month",
        "sources": {
            "orders": {
                "kind": "files",
                "path": "orders.csv",
                "columns": {
                    "id": "integer",
                    "customer": "text",
                    "price": "number",
                    "shop": "text",
                    "ordered": "timestamp",
                    "returned": "boolean",
                    "secret": "number",
                },
                "key": ["id"],
                "event_time": "ordered",
                "events": {
                    "placed": {
                        "available_at": "event_time - interval 1 hour",
                        "columns": {"id": "id", "customer": "customer", "price": "price", "shop": "shop"},
                    },
                    "settled": {
                        "available_at": "event_time + interval 10 day",
                        "columns": {
                            "id": "id",
                            "customer": "customer",
                            "price": "price",
                            "returned": "returned::integer",
                            "secret": "secret",
                        },
                    },
                },
            },
            "customers": {
                "kind": "files",
                "path": "customers.csv",
                "columns": {"customer": "text", "born": "integer"},
                "key": ["customer"],
            },
        },
    },
    "featurize": {
        "definitions": "features.py",
        "label": {"source": "settled", "column": "returned", "delay_hours": 240},
    },
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}


FEATURES = """
from feature_store import Aggregate, Expression, FeatureSet, FeatureView, Latest, Lookup, Spine

FEATURES = FeatureSet(
    spine=Spine(
        source="placed",
        key="id",
        prediction_time="event_time - interval 30 minute",
        features=(Expression(name="price", sql="price"), Expression(name="shop", sql="shop"),),
    ),
    views=(
        FeatureView(
            name="customer",
            source="settled",
            entity=("customer",),
            features=(
                Aggregate(name="rate", function="rate", column="returned", windows=("28d", "90d")),
                Latest(name="last_secret", column="secret"),
            ),
        ),
    ),
    lookups=(
        Lookup(name="customers", source="customers", key=("customer",),
               features=(Expression(name="age", sql="year(event_time) - born"),)),
    ),
)
"""


Project = Callable[..., Context]


def orders(rows: int = 1200) -> list[dict[str, Any]]:
    """Orders of 2019 in Berlin's time; `secret` is the label itself, known when the label is."""
    chance = random.Random(7)
    start = datetime(2018, 12, 31, 23, tzinfo=UTC).replace(tzinfo=None)
    found = []
    for n in range(rows):
        returned = chance.random() < 0.4
        found.append(
            {
                "id": n * 7919 % 100_003,
                "customer": f"c{chance.randrange(30)}" if chance.random() > 0.05 else None,
                "price": float(chance.randrange(1, 100)),
                "shop": chance.choice("xyz"),
                "ordered": start + timedelta(hours=n * 365 * 24 / rows),
                "returned": None if chance.random() < 0.03 else returned,
                "secret": float(returned),
            }
        )
    return found


def write_batches(folder: Path, rows: list[dict[str, Any]], as_of: str, excluded: tuple[int, ...] = ()) -> None:
    """What ingest and validate leave behind, as docs/files.md says."""
    batches = []
    months = sorted({row["ordered"].strftime("%Y-%m") for row in rows})
    customers = [{"customer": f"c{n}", "born": 1950 + n} for n in range(25)]
    tables = [("orders", month, [r for r in rows if r["ordered"].strftime("%Y-%m") == month]) for month in months]
    schema = pa.schema(
        {
            "id": pa.int64(),
            "customer": pa.string(),
            "price": pa.float64(),
            "shop": pa.string(),
            "ordered": pa.timestamp("us"),
            "returned": pa.bool_(),
            "secret": pa.float64(),
            "_row": pa.int64(),
            "_event_time": pa.timestamp("us"),
        }
    )
    for source, name, found in [*tables, ("customers", "all", customers)]:
        lines = [{**row, "_row": line, "_event_time": row.get("ordered")} for line, row in enumerate(found, start=2)]
        static = pa.schema(
            {"customer": pa.string(), "born": pa.int64(), "_row": pa.int64(), "_event_time": pa.timestamp("us")}
        )
        path = folder / f"data/batches/{source}/{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(lines, schema if source == "orders" else static), path)
        gone = list(excluded) if source == "orders" and name == "2019-03" else []
        counts = {"accepted": len(found) - len(gone), "quarantined": len(gone), "excluded": gone}
        content = {"rows": len(found), "read": len(found), "sha256": artifacts.sha256(path)}
        batch = batch_of(source, name, **content, **counts, excluded_rows=None, checks=0, warnings=[])
        batches.append(batch)
    snapshot = artifacts.digest([batch["sha256"] for batch in batches])
    rows = {"read": 0, "accepted": 0, "quarantined": 0, "pending": 0}
    content = {"as_of": as_of, "snapshot": snapshot, "rows": rows, "batches": batches}
    artifacts.write_json(folder / "data/validated.json", content)


def projects_in(tmp_path: Path) -> Project:
    """A function that makes the project's folder, with whatever is to be different, and gives its context."""

    def make(
        changes: Mapping[str, Any] | None = None,
        *,
        rows: list[dict[str, Any]] | None = None,
        as_of: str = "2019-12-31T23:00:00Z",
        features: str = FEATURES,
        excluded: tuple[int, ...] = (),
        name: str = "project",
    ) -> Context:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "features.py").write_text(features)
        write_batches(folder, rows or orders(), as_of, excluded)
        return Context(folder, parse(override(copy.deepcopy(RAW), changes or {})))

    return make


def table_of(context: Context) -> pa.Table:
    return pq.read_table(context.path(artifacts.TABLE))


def described(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = artifacts.read_json(context.path(artifacts.FEATURE_SET))
    return found
