"""The newest known value of ten columns for a million labels among five million events: the engine, raw SQL, pandas.

    python benchmarks/point_in_time_join.py [--labels N] [--events N] [--rounds N]

Everyone starts from the same DuckDB tables and ends with one row for each label in the order of the labels. Pandas is
given frames already sorted by time, which `merge_asof` demands.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import duckdb

from feature_store import FeatureSet, FeatureView, Latest, Spine
from feature_store.offline import compute, configure

COLUMNS = [f"f{number}" for number in range(10)]
LATER = datetime(2100, 1, 1, tzinfo=UTC)
FEATURES = FeatureSet(
    spine=Spine(source="labels", key="id"),
    views=(
        FeatureView(
            name="newest",
            source="events",
            entity=("entity",),
            features=tuple(Latest(name=column, column=column) for column in COLUMNS),
        ),
    ),
)


def fill(connection: duckdb.DuckDBPyConnection, labels: int, events: int) -> None:
    """A year of events of 50,000 entities, known an hour later, in no order; values by hash, the same on every run."""
    year = 365 * 24 * 3600 * 1_000_000
    values = ", ".join(f"hash(i, {n}) / 18446744073709551615.0 as {column}" for n, column in enumerate(COLUMNS))

    def moment(salt: int) -> str:
        return f"timestamp '2020-01-01' + to_microseconds((hash(i, {salt}) % {year})::bigint)"

    connection.execute(
        f"create table events as select (hash(i, 100) % 50000)::bigint as entity, {moment(101)} as event_time, "
        f"event_time + interval 1 hour as available_at, {values} from range({events}) t(i)"
    )
    connection.execute(
        f"create table labels as select i as id, (hash(i, 102) % 50000)::bigint as entity, {moment(103)} as event_time "
        f"from range({labels}) t(i)"
    )


def engine(connection: duckdb.DuckDBPyConnection) -> Any:
    return compute(connection, FEATURES, "labels", {"events": "events"}, LATER)


def raw(connection: duckdb.DuckDBPyConnection) -> Any:
    columns = ", ".join(f"events.{column}" for column in COLUMNS)
    connection.execute(
        f"create temp table joined as select id, labels.event_time, labels.event_time as prediction_time, {columns} "
        "from labels asof left join events on labels.entity = events.entity and labels.event_time >= "
        "events.available_at order by id"
    )
    return connection.table("joined")


def timed(function: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Wall-clock and processor seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    connection = duckdb.connect()
    configure(connection)
    fill(connection, asked.labels, asked.events)
    frames = [
        connection.table(name).df().sort_values(by)
        for name, by in (("labels", "event_time"), ("events", "available_at"))
    ]

    def pandas() -> Any:
        import pandas as pd

        events = frames[1].drop(columns="event_time")
        joined = pd.merge_asof(frames[0], events, left_on="event_time", right_on="available_at", by="entity")
        return joined.sort_values("id")

    seconds: dict[str, list[tuple[float, float]]] = {
        "raw DuckDB ASOF": [],
        "feature_store": [],
        "pandas merge_asof": [],
    }
    for number in range(asked.rounds):
        spent, wanted = timed(lambda: raw(connection))
        seconds["raw DuckDB ASOF"].append(spent)
        spent, found = timed(lambda: engine(connection))
        seconds["feature_store"].append(spent)
        if number == 0:
            assert found.to_arrow_table().equals(wanted.to_arrow_table()), "the engine and raw SQL differ"
            spent, frame = timed(pandas)
            seconds["pandas merge_asof"].append(spent)
            assert abs(frame[COLUMNS].sum().sum() - wanted.df()[COLUMNS].sum().sum()) < 1e-3, (
                "pandas and raw SQL differ"
            )
        connection.execute("drop table joined")
        connection.execute(f'drop table "{found.alias}"')
    base = [statistics.median(each) for each in zip(*seconds["raw DuckDB ASOF"], strict=True)]
    shape = f"{asked.labels:,} labels x {asked.events:,} events x {len(COLUMNS)} features"
    print(f"{shape}, median of {asked.rounds} (pandas: one, its frames sorted before); budget 1.2x")
    for name, times in seconds.items():
        wall, cpu = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"{name:20} {wall:6.2f} s {wall / base[0]:5.2f}x   {cpu:6.2f} s of processor {cpu / base[1]:5.2f}x")


if __name__ == "__main__":
    main()
