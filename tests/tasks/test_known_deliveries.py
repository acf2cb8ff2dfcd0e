"""Features over deliveries that replace all rows, read from files, against a plain reading of the same deliveries."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from quick import quick

from feature_store.offline import compute
from refit.config import parse
from refit.runtime.context import Context
from refit.schemas.validated import RowBalance, Validated, ValidatedBatch
from refit.storage.snapshots import snapshot_of
from tasks import ingest
from tasks.featurize.warehouse import open_warehouse, sources
from tests.tasks.histories import START, Row, hours
from tests.tasks.test_known_rows import FEATURES, _plain, asks_of_two, features_at

HEAD = ("id", "at", "who", "value")
DELIVERIES = 7
EVERY = 9  # hours


def delivered_at(number: int) -> datetime:
    return START + hours(EVERY * (number + 1))


def deliveries(chance: random.Random, keys: int) -> list[dict[int, Row]]:
    """Tables of few keys: most are changed, missing, or back in each; one row is of the moment of its delivery."""
    tables: list[dict[int, Row]] = []
    for number in range(DELIVERIES):
        table = dict(tables[-1]) if tables else {}
        for key in range(keys):
            move = chance.random()
            if move < 0.25:
                table.pop(key, None)
            elif move < 0.6 or (not tables and move < 0.9):
                last = table[key]["at"] if key in table and chance.random() < 0.7 else None
                at = last or START + hours(chance.randrange(0, EVERY * (number + 1)))
                table[key] = {"id": key, "at": at, "who": chance.choice("aab"), "value": chance.choice((1.0, 2.0, 3.5))}
        table[100 + number] = {"id": 100 + number, "at": delivered_at(number), "who": "b", "value": None}
        tables.append(table)
    return tables


def versions(tables: Sequence[Mapping[int, Row]]) -> list[Row]:
    """What the deliveries mean, row by row: each content of a key since the delivery that first had it."""
    found: list[Row] = []
    for key in sorted({key for table in tables for key in table}):
        before: Row | None = None
        seen = False
        for number, table in enumerate(tables):
            row = table.get(key)
            if row == before:
                continue
            newest = max((each["at"] for table in tables[:number] for each in table.values()), default=None)
            in_time = not seen and (newest is None or (row is not None and row["at"] > newest))
            there = row or before
            assert there is not None
            came = None if in_time else delivered_at(number)
            more = {"seq": number, "ready": there["at"], "fine": True, "gone": row is None, "came": came}
            found.append({**there, **more})
            before, seen = row, True
    return found


def deliver(folder: Path, number: int, table: Mapping[int, Row], chance: random.Random) -> None:
    rows = list(table.values())
    chance.shuffle(rows)
    path = folder / f"raw/sales-{delivered_at(number):%Y-%m-%dT%H}.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        writer.writerows(rows)


def context_of(folder: Path, now: datetime) -> Context:
    source = {
        "kind": "files",
        "path": "raw/*.csv",
        "columns": {"id": "integer", "at": "timestamp", "who": "text", "value": "number"},
        "required": ["id"],
        "key": ["id"],
        "event_time": "at",
        "changes": {"kind": "snapshot", "delivered": "%Y-%m-%dT%H", "max_deleted_share": 1},
    }
    raw: dict[str, Any] = {
        "project": {"name": "sold", "timezone": "UTC"},
        "ingest": {"period": "day", "sources": {"sales": source}},
        "featurize": {"label": {"source": "sales", "column": "value"}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return Context(folder, parse(raw), now=lambda: now.replace(tzinfo=UTC))


def features(context: Context, as_of: datetime) -> list[dict[str, Any]]:
    """The features of two entities at many moments, as a run as of a moment computes them."""
    snapshot = snapshot_of(as_of.isoformat(), context.params, ingest.take_in(context))
    batches = tuple(
        ValidatedBatch(
            **dict(each), accepted=each.rows, quarantined=0, excluded=(), excluded_rows=None, checks=0, warnings=()
        )
        for each in snapshot.batches
    )
    balance = RowBalance(rows_read=0, accepted=0, quarantined=0, pending=0)
    validated = Validated(as_of=snapshot.as_of, snapshot=snapshot.digest, rows=balance, batches=batches)
    with open_warehouse(context.project, validated, context.params) as warehouse:
        relation = warehouse.relation("sales", sources(context.params))
        table = compute(warehouse.connection, FEATURES, asks_of_two()[1], {"sales": relation}, warehouse.as_of)
        return [{name: _plain(value) for name, value in row.items()} for row in table.to_arrow_table().to_pylist()]


@pytest.mark.ci
@pytest.mark.parametrize("seed", quick(range(3)))
def test_features_over_deliveries_are_those_of_the_rows_that_were_known(tmp_path: Path, seed: int) -> None:
    chance = random.Random(400 + seed)
    tables = deliveries(chance, 12)
    for number, table in enumerate(tables):
        deliver(tmp_path, number, table, chance)
    rows = versions(tables)
    gone = [row for row in rows if row["gone"]]
    back = [
        row for row in rows if not row["gone"] and any(g["id"] == row["id"] and g["seq"] < row["seq"] for g in gone)
    ]
    assert min(len(gone), len(back), sum(row["came"] is None for row in rows)) > 4
    for as_of in (START + hours(40), START + hours(300)):
        context = context_of(tmp_path, START + hours(300))
        asks, _ = asks_of_two()
        for found, ask in zip(features(context, as_of), asks, strict=True):
            expected = features_at(rows, ask["who"], ask["at"] + hours(1), as_of)
            assert {name: found[name] for name in expected} == expected, ask


@pytest.mark.slow
def test_a_run_as_of_a_delivery_sees_the_same_whatever_is_delivered_later(tmp_path: Path) -> None:
    chance = random.Random(410)
    tables = deliveries(chance, 12)
    then = []
    for number, table in enumerate(tables):
        deliver(tmp_path, number, table, chance)
        context = context_of(tmp_path, delivered_at(number) + timedelta(minutes=1))
        then.append(features(context, delivered_at(number)))
    assert all(one != other for one, other in pairwise(then[:5]))  # all predictions lie before the sixth
    assert [features(context, delivered_at(number)) for number in range(DELIVERIES)] == then
