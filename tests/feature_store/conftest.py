"""Sources of a few rows in DuckDB, and features computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from feature_store import FeatureSet
from feature_store.offline import compute

Rows = Sequence[Mapping[str, Any]]

SPINE = "key BIGINT, who VARCHAR, place BIGINT, event_time TIMESTAMP, available_at TIMESTAMP"
EVENTS = (
    "who VARCHAR, place BIGINT, value DOUBLE, flag BOOLEAN, kept BOOLEAN, event_time TIMESTAMP, available_at TIMESTAMP"
)


@dataclass
class Store:
    """A database with a spine and one event source."""

    connection: duckdb.DuckDBPyConnection

    def at(self, minute: float) -> datetime:
        return datetime(2020, 1, 1, tzinfo=UTC).replace(tzinfo=None) + timedelta(minutes=minute)

    def fill(self, name: str, types: str, rows: Rows) -> None:
        """Make a table; a column that a row does not name is null."""
        self.connection.execute(f"create or replace table {name} ({types})")
        columns = [part.split()[0] for part in types.split(",")]
        if rows:
            self.connection.register(
                "given", pa.table({column: [row.get(column) for row in rows] for column in columns})
            )
            self.connection.execute(f"insert into {name} select * from given")
            self.connection.unregister("given")

    def spine(self, rows: Rows) -> None:
        self.fill("spine", SPINE, rows)

    def events(self, rows: Rows) -> None:
        self.fill("events", EVENTS, rows)

    def features(self, features: FeatureSet, as_of: datetime | None = None, **sources: str) -> Any:
        """The features as an Arrow table."""
        known = {"spine": "spine", "events": "events", **sources}
        moment = (as_of or self.at(6_000_000)).replace(tzinfo=UTC)
        return compute(self.connection, features, "spine", known, moment).to_arrow_table()


@pytest.fixture
def store() -> Iterator[Store]:
    with duckdb.connect() as connection:
        found = Store(connection)
        found.spine([])
        found.events([])
        yield found


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Store]:
    """One database for all examples of a property: each fills it again."""
    with duckdb.connect(config={"threads": 1}) as connection:
        yield Store(connection)
