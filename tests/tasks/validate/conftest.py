"""A shop whose sales arrive by the month, as ingest leaves them, for the tests of `validate` and its quarantine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from snapshots import write_snapshot

from refit.config import override, parse
from refit.files import artifacts
from refit.runtime.context import Context
from refit.storage import quarantine
from tasks import validate

TYPES = {
    "id": ("text", pa.string()),
    "shop": ("text", pa.string()),
    "amount": ("number", pa.float64()),
    "items": ("integer", pa.int64()),
    "note": ("text", pa.string()),
    "sold_at": ("timestamp", pa.timestamp("us")),
}
PARAMS: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {
        "sources": {
            "sales": {
                "kind": "files",
                "path": "*.csv",
                "columns": {name: kind for name, (kind, _) in TYPES.items()},
                "required": ["shop"],
                "key": ["id"],
                "event_time": "sold_at",
            },
            "shops": {
                "kind": "files",
                "path": "shops.csv",
                "columns": {"shop": "text", "city": "text"},
                "key": ["shop", "city"],
            },
        }
    },
    "featurize": {"label": {"source": "sales", "column": "amount"}},
    "train": {"learners": [{"name": "base_rate", "kind": "baseline"}]},
}
STATIC = {"shop": pa.string(), "city": pa.string()}
Row = dict[str, Any]


def sale(number: int, month: int = 1, **other: Any) -> Row:
    """One good row."""
    moment = datetime(2024, month, 1) + timedelta(hours=number)  # noqa: DTZ001 - stored times are UTC without a zone
    row = {"id": f"{month}-{number}", "shop": "north", "amount": 2.5, "items": number % 3 + 1, "note": "paid"}
    return {**row, "sold_at": moment, "_row": number + 2, **other}


def uncast(row: int, column: str = "amount", value: str = "many") -> Row:
    """One fault that ingest found."""
    raw = json.dumps({"id": "x", column: value})
    return {"_row": row, "file": "sales.csv", "column": column, "value": value, "reason": "is no number", "row": raw}


@dataclass
class Shop:
    """The project; `add` what ingest brought, `run` the stage."""

    project: Path
    entries: list[Row] = field(default_factory=list)
    types: dict[str, Any] = field(default_factory=lambda: dict(TYPES))
    pending: dict[str, int] = field(default_factory=lambda: {"sales": 0, "shops": 0})

    def add(
        self, name: str, rows: Sequence[Row], *, faults: Sequence[Row] = (), month: int | None = None, **entry: Any
    ) -> None:
        """A batch of sales."""
        first = datetime(2024, month or int(name[5:7]), 1, tzinfo=UTC)
        end = (first + timedelta(days=31)).replace(day=1)
        schema = {**{column: kind for column, (_, kind) in TYPES.items()}, "_row": pa.int64()}
        table = pa.table({column: pa.array([row[column] for row in rows], kind) for column, kind in schema.items()})
        table = table.append_column("_event_time", table["sold_at"])
        period = {"start": f"{first:%Y-%m-%dT%H:%M:%SZ}", "end": f"{end:%Y-%m-%dT%H:%M:%SZ}", "static": False}
        self.store("sales", name, table, faults, {**period, **entry})

    def add_shops(self, rows: Sequence[tuple[str, str | None]], name: str = "v1") -> None:
        """The static table."""
        table = pa.table(
            {column: pa.array([row[i] for row in rows], pa.string()) for i, column in enumerate(("shop", "city"))}
        )
        table = table.append_column("_row", pa.array(range(2, len(rows) + 2), pa.int64()))
        table = table.append_column("_event_time", pa.nulls(len(rows), pa.timestamp("us")))
        self.store("shops", name, table, (), {"start": None, "end": None, "static": True})

    def store(self, source: str, name: str, table: pa.Table, faults: Sequence[Row], more: Mapping[str, Any]) -> None:
        path = self.project / artifacts.BATCHES / source / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        bad = path.with_suffix(".uncast.parquet")
        if faults:
            pq.write_table(pa.Table.from_pylist(list(faults)), bad)
        lost = len({fault["_row"] for fault in faults})
        entry = {
            "source": source,
            "name": name,
            "path": path.relative_to(self.project).as_posix(),
            "sha256": artifacts.sha256(path),
            "rows": len(table),
            "read": len(table) + lost,
            "uncast": lost,
            "uncast_path": bad.relative_to(self.project).as_posix() if faults else None,
            "uncast_sha256": artifacts.sha256(bad) if faults else None,
            "first": None,
            "last": None,
            "files": [f"{source}.csv"],
        }
        self.entries = [one for one in self.entries if (one["source"], one["name"]) != (source, name)]
        self.entries.append({**entry, **more})
        self.snapshot()

    def snapshot(self) -> None:
        write_snapshot(self.project, self.entries, self.pending, datetime(2024, 12, 1, tzinfo=UTC))

    def raw(self, *suite: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        """Params with a `suite` for the sales and `changes` of the section, `__` for a dot."""
        given = {f"validate.{path.replace('__', '.')}": value for path, value in changes.items()}
        if suite:
            given["validate.suites.sales"] = list(suite)
        return override(PARAMS, given)

    def context(self, *suite: Mapping[str, Any], **changes: Any) -> Context:
        """The stage's arguments."""
        now = datetime(2024, 12, 1, 8, tzinfo=UTC)
        return Context(project=self.project, params=parse(self.raw(*suite, **changes)), now=lambda: now)

    def run(self, *suite: Mapping[str, Any], **changes: Any) -> Any:
        """Run the stage; returns `validated.json`."""
        validate.run(self.context(*suite, **changes))
        return artifacts.read_json(self.project / artifacts.VALIDATED)

    def refused(self, batch: str, source: str = "sales") -> list[quarantine.Refusal]:
        """What lies in a batch's quarantine."""
        path = self.project / quarantine.path_of(source, batch)
        return quarantine.read(path) if path.is_file() else []


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def sales() -> Callable[..., list[Row]]:
    """`count` good rows of a month, with some fields of some rows changed: `sales(100, at={3: {"shop": "x"}})`."""

    def rows(count: int, month: int = 1, at: Mapping[int, Row] | None = None) -> list[Row]:
        return [sale(number, month, **(at or {}).get(number, {})) for number in range(count)]

    return rows


@pytest.fixture
def fault() -> Callable[..., Row]:
    return uncast
