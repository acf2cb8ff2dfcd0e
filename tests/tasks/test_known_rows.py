"""Features and labels over rows that come late, are corrected and deleted, against a plain reading of the same."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from quick import quick

from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Lag, Latest, Spine
from feature_store import Sequence as Steps
from feature_store.definition import Source
from feature_store.errors import DefinitionError
from feature_store.offline import compute
from refit.config import parse
from refit.config.ingest import SourceParams
from refit.schemas.feature_definitions import Definitions
from tasks.featurize.known_rows import ARRIVED, Changing
from tasks.featurize.labels import CANDIDATES, LABEL, LABEL_KNOWN_AT, label_rows
from tasks.featurize.warehouse import Warehouse
from tests.tasks.histories import START, Row, history, hours

WINDOWS = ("3h", "1d")
FEATURES = FeatureSet(
    spine=Spine(
        source="asks",
        key="id",
        prediction_time="event_time + interval 1 hour",
        features=(Expression(name="own", sql="value"),),
    ),
    views=(
        FeatureView(
            name="of_who",
            source="sales",
            entity=("who",),
            features=(
                *(
                    Aggregate(name=f, function=f, column="value", windows=WINDOWS)
                    for f in ("count", "sum", "mean", "std")
                ),
                Latest(name="last", column="value"),
                Latest(name="last_fresh", column="value", max_age="3h"),
                Age(name="age"),
                Lag(name="ago", column="value", before=("2h",)),
                Steps(name="steps", columns=("value",), last=3),
                Steps(name="steps_fresh", columns=("value",), last=2, window="1d"),
            ),
        ),
        FeatureView(
            name="of_all",
            source="sales",
            entity=(),
            where="value > 2",
            features=(
                Aggregate(name="all_sum", function="sum", column="value", windows=("3h",)),
                Latest(name="all_last", column="value", max_age="1d"),
            ),
        ),
        FeatureView(
            name="of_times",
            source="sales",
            entity=("who",),
            windows_by="event_time",
            features=(
                Aggregate(name="times_count", function="count", column="value", windows=WINDOWS),
                Aggregate(name="times_sum", function="sum", column="value", windows=WINDOWS),
            ),
        ),
    ),
)
COLUMNS = {"id": "integer", "seq": "integer", "at": "timestamp", "ready": "timestamp", "who": "text", "value": "number"}
COLUMNS |= {"fine": "boolean", "gone": "boolean", "came": "timestamp"}


def declared(changes: Mapping[str, object]) -> SourceParams:
    return SourceParams.model_validate(
        {"kind": "files", "path": "a.csv", "columns": COLUMNS, "key": ("id",), "event_time": "at", "changes": changes}
    )


CORRECTIONS = {"kind": "corrections", "version": "seq", "deleted": "gone", "arrived_at": "came"}
SOURCE = Source(
    table="raw",
    event_time="at",
    available_at="ready",
    where="fine",
    columns={"id": "id", "who": "who", "value": "value", "seq": "seq"},
)


# --- the plain reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A row as known at a moment; `first` is when it would have been known in this version without corrections."""

    row: Row
    first: datetime


def there(row: Row) -> datetime:
    """Since when a version replaces the one before."""
    moment: datetime = row["came"] or row["ready"] or row["at"]
    return moment


def known_at(versions: Sequence[Row], moment: datetime) -> list[Known]:
    """What was known at a moment: of each id the newest version that had arrived, if it counts and is available."""
    found = []
    for number in sorted({row["id"] for row in versions}):
        own = [row for row in versions if row["id"] == number and there(row) <= moment]
        if not own:
            continue
        row = max(own, key=lambda each: each["seq"])
        since = None if row["ready"] is None else max(row["ready"], row["came"] or row["ready"])
        if row["gone"] or not row["fine"] or since is None or since > moment:
            continue
        earliest = min(own, key=lambda each: (there(each), each["seq"]))["came"]
        found.append(Known(row, max(row["ready"], earliest or row["ready"])))
    return found


def features_at(versions: Sequence[Row], who: str, at: datetime, as_of: datetime) -> dict[str, Any]:
    everything = known_at(versions, min(at, as_of))
    mine = [each for each in everything if each.row["who"] == who]
    big = [each for each in everything if (each.row["value"] or 0) > 2]

    def within(known: Sequence[Known], window: float) -> list[Known]:
        return [each for each in known if each.first > at - hours(window)]

    def values(known: Sequence[Known]) -> list[float]:
        return [each.row["value"] for each in known if each.row["value"] is not None]

    def newest(known: Sequence[Known]) -> Any:
        top = max(known, key=lambda k: (k.first, k.row["at"], k.row["value"] or 0), default=None)
        return top and top.row["value"]

    def steps(known: Sequence[Known], last: int) -> Any:
        ordered = sorted(known, key=lambda k: (k.row["at"], k.first, k.row["value"] or 0))[-last:]
        return [each.row["value"] for each in ordered] or None

    result: dict[str, Any] = {}
    for window, length in (("3h", 3), ("1d", 24)):
        seen = values(within(mine, length))
        n, mean = len(seen), sum(seen) / len(seen) if seen else None
        result |= {f"count_{window}": n, f"sum_{window}": sum(seen), f"mean_{window}": mean}
        spread = sum((value - (mean or 0)) ** 2 for value in seen)
        result[f"std_{window}"] = pytest.approx((spread / (n - 1)) ** 0.5) if n > 1 else None
        happened = [each for each in mine if at - hours(length) < each.row["at"] <= at]
        result |= {f"times_count_{window}": len(values(happened)), f"times_sum_{window}": sum(values(happened))}
    result["last"] = newest(mine)
    result["last_fresh"] = newest(within(mine, 3))
    result["age"] = (at - max(each.first for each in mine)) / hours(1) if mine else None
    lagged = [each for each in mine if each.row["at"] == at - hours(2)]
    top = max(lagged, key=lambda k: (k.first, k.row["value"] or 0), default=None)
    result["ago_2h"] = top and top.row["value"]
    result["steps"], result["steps_fresh"] = steps(mine, 3), steps(within(mine, 24), 2)
    result["all_sum_3h"] = sum(values(within(big, 3)))
    result["all_last"] = newest(within(big, 24))
    return result


def asks_at(versions: Sequence[Row], as_of: datetime) -> dict[int, Row]:
    """The rows to predict by id: each as known at its prediction, or else as it became known first after it."""
    chosen = {}
    for number in {each.row["id"] for each in known_at(versions, as_of)}:
        own = [row for row in versions if row["id"] == number and row["ready"]]
        everything = [row for row in versions if row["id"] == number]
        in_time = [row for row in own if is_known(row, everything, min(row["at"] + hours(1), as_of))]
        after = [row for row in own if row["at"] + hours(1) < since(row) <= as_of]
        after = [row for row in after if is_known(row, everything, since(row))]
        chosen[number] = max(in_time, key=since) if in_time else min(after, key=since)
    return chosen


def is_known(row: Row, versions: Sequence[Row], moment: datetime) -> bool:
    return any(each.row is row for each in known_at(versions, moment))


def since(row: Row) -> datetime:
    moment: datetime = max(row["ready"], row["came"] or row["ready"])
    return moment


# --- the engine -------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> pa.Table:
    kinds = {"integer": pa.int64(), "timestamp": pa.timestamp("us"), "text": pa.string(), "number": pa.float64()}
    kinds["boolean"] = pa.bool_()
    columns = {name: pa.array([row[name] for row in rows], kinds[kind]) for name, kind in COLUMNS.items()}
    columns["event_time"] = columns["at"]
    columns[ARRIVED[1:-1]] = pa.nulls(len(rows), pa.timestamp("us"))
    return pa.table(columns)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as database:
        yield database


def warehouse_of(
    connection: duckdb.DuckDBPyConnection, as_of: datetime, **raw: tuple[Sequence[Row], object]
) -> Warehouse:
    for name, (rows, _) in raw.items():
        connection.register(name, table(rows))
    changing = {name: Changing.of(declared(c), "UTC") for name, (_, c) in raw.items() if c != "append"}  # type: ignore[arg-type]
    for (made,) in connection.execute("select table_name from duckdb_tables() where temporary").fetchall():
        connection.execute(f'drop table "{made}"')
    return Warehouse(connection, as_of.replace(tzinfo=UTC), list(raw), changing)


def features(
    warehouse: Warehouse, asks: str, declared_sources: Mapping[str, Source], feature_set: FeatureSet = FEATURES
) -> list[dict[str, Any]]:
    relation = warehouse.relation("sales", declared_sources)
    found = compute(warehouse.connection, feature_set, asks, {"sales": relation}, warehouse.as_of).to_arrow_table()
    return [{name: _plain(value) for name, value in row.items()} for row in found.to_pylist()]


def _plain(value: Any) -> Any:
    """Steps of one value as a list, None where it is missing."""
    return [None if step != step else step for [step] in value] if isinstance(value, list) else value


SOURCES = {"sales": SOURCE.model_copy(update={"table": "sales"})}


def asks_of_two() -> tuple[list[dict[str, Any]], str]:
    """Moments of prediction for two entities, and the query that gives them."""
    asks = [{"id": n, "who": who, "at": START + hours(n)} for n in range(0, 45, 2) for who in "ab"]
    lines = ", ".join(f"({2 * n}, '{a['who']}', 1.0, timestamp '{a['at']}')" for n, a in enumerate(asks))
    return asks, f"(select *, event_time as available_at from (values {lines}) t(id, who, value, event_time))"


@pytest.mark.parametrize("seed", range(2))
def test_features_of_late_rows_are_those_that_had_arrived(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    sales = history(random.Random(300 + seed), 40, late_only=True)
    asks, spine = asks_of_two()
    changes = {"kind": "late", "within": "60d", "arrived_at": "came"}
    warehouse = warehouse_of(connection, START + hours(300), sales=(sales, changes))
    for row, ask in zip(features(warehouse, spine, SOURCES), asks, strict=True):
        expected = features_at(sales, ask["who"], ask["at"] + hours(1), START + hours(300))
        assert {name: row[name] for name in expected} == expected, ask


@pytest.mark.parametrize(
    ("changes", "view", "complaint"),
    [
        (
            CORRECTIONS,
            0,
            "view 'of_who': count has windows of days by a calendar, over source 'sales' with corrected rows",
        ),
        ("append", 2, "view 'of_times': times_count has windows of days by a calendar, by event_time"),
    ],
    ids=["corrected rows", "event times"],
)
def test_windows_of_days_by_a_calendar_are_refused_where_rows_have_ends(
    connection: duckdb.DuckDBPyConnection, changes: object, view: int, complaint: str
) -> None:
    warehouse = warehouse_of(connection, START + hours(300), sales=(history(random.Random(1), 14), changes))
    by_clock = FEATURES.spine.model_copy(update={"calendar": "'Europe/Berlin'"})
    one = FEATURES.model_copy(update={"spine": by_clock, "views": (FEATURES.views[view],)})
    relation = warehouse.relation("sales", SOURCES)
    with pytest.raises(DefinitionError, match=complaint):
        compute(connection, one, asks_of_two()[1], {"sales": relation}, warehouse.as_of)


@pytest.mark.parametrize("seed", quick(range(8), 0, 1, 2))
def test_features_of_corrected_rows_are_those_of_the_newest_versions_that_were_known(
    connection: duckdb.DuckDBPyConnection, seed: int
) -> None:
    chance = random.Random(seed)
    sales = history(chance, 14)
    asks, spine = asks_of_two()
    for as_of in (START + hours(20), START + hours(300)):
        warehouse = warehouse_of(connection, as_of, sales=(sales, CORRECTIONS))
        for row, ask in zip(features(warehouse, spine, SOURCES), asks, strict=True):
            expected = features_at(sales, ask["who"], ask["at"] + hours(1), as_of)
            assert {name: row[name] for name in expected} == expected, ask


def test_a_feature_that_is_alone_in_its_view_is_what_it_is_among_others(connection: duckdb.DuckDBPyConnection) -> None:
    warehouse = warehouse_of(connection, START + hours(300), sales=(history(random.Random(5), 14), CORRECTIONS))
    spine, (view, *_) = asks_of_two()[1], FEATURES.views
    among_others = features(warehouse, spine, SOURCES)
    for feature in view.features:
        alone = FEATURES.model_copy(update={"views": (view.model_copy(update={"features": (feature,)}),)})
        for row, whole in zip(features(warehouse, spine, SOURCES, alone), among_others, strict=True):
            assert row == {name: whole[name] for name in row}, feature.name


ASKS = Spine(source="asks", key="id", prediction_time="event_time + interval 1 hour")
ASK_SOURCES = {"asks": SOURCE.model_copy(update={"table": "asks"})}


@pytest.mark.parametrize("seed", range(8))
def test_rows_to_predict_are_as_known_at_their_prediction(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    asks = [{**row, "ready": row["at"]} for row in history(random.Random(100 + seed), 40)]
    for as_of in (START + hours(20), START + hours(300)):
        warehouse = warehouse_of(connection, as_of, asks=(asks, CORRECTIONS))
        rows = warehouse.arrow(f"select id, seq from {warehouse.rows(ASKS, ASK_SOURCES)} order by id").to_pylist()
        expected = [{"id": number, "seq": row["seq"]} for number, row in sorted(asks_at(asks, as_of).items())]
        assert rows == expected


# --- labels -----------------------------------------------------------------------------------------------------------

DAYS = 6
PARAMS = {
    "project": {"name": "asked", "timezone": "UTC"},
    "ingest": {
        "period": "day",
        "sources": {
            "asks": {"kind": "files", "path": "a", "columns": COLUMNS, "key": ["id"], "event_time": "at"},
            "outcomes": {
                "kind": "files",
                "path": "b",
                "columns": COLUMNS,
                "key": ["id"],
                "event_time": "at",
                "changes": CORRECTIONS,
                "available_at": "ready",
            },
        },
    },
    "featurize": {"label": {"source": "outcomes", "column": "fine", "delay_hours": 0}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}


def outcomes(chance: random.Random, asks: Sequence[Row]) -> list[Row]:
    """Versions of the outcome of each row, most of which contradict one another."""
    versions = []
    for ask in asks:
        for seq in range(chance.choice((0, 1, 2, 3))):
            came = None if seq == 0 else ask["at"] + hours(chance.choice((3, 20, 30, 40, 50, 60, 80, 100)))
            fine = chance.random() < 0.5
            ready = ask["at"] + hours(1)
            versions.append(
                {**ask, "seq": seq, "fine": fine, "came": came, "ready": ready, "gone": chance.random() < 0.1}
            )
    return versions


def label_at(versions: Sequence[Row], number: int, moment: datetime, as_of: datetime) -> tuple[int, datetime] | None:
    """The label as known at a moment, or else as it was known first after it, and since when."""
    own = [{**row, "fine": True, "was": row["fine"]} for row in versions if row["id"] == number]
    for at in sorted({moment, *(since(row) for row in own)}):
        if moment <= at <= as_of and (found := known_at(own, at)):
            return int(found[0].row["was"]), since(found[0].row)
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_label_is_the_version_that_was_known_when_the_next_window_opened(
    connection: duckdb.DuckDBPyConnection, seed: int
) -> None:
    chance = random.Random(200 + seed)
    ask = {"seq": 0, "who": "a", "value": 1.0, "fine": True, "gone": False, "came": None}
    asks = [{**ask, "id": n, "at": START + hours(n), "ready": START + hours(n)} for n in range(24 * DAYS)]
    answers = outcomes(chance, asks)
    params, as_of = parse(PARAMS), START + hours(24 * DAYS)
    warehouse = warehouse_of(connection, as_of, asks=(asks, "append"), outcomes=(answers, CORRECTIONS))
    spine = FeatureSet(spine=Spine(source="asks", key="id", features=(Expression(name="value", sql="value"),)))
    definitions = Definitions(
        feature_set=spine, sources={"asks": ASK_SOURCES["asks"].model_copy(update={"where": None})}
    )
    counts = label_rows(warehouse, definitions, params)
    found = {row["id"]: row for row in warehouse.arrow(f"select * from {CANDIDATES}").to_pylist()}
    opens = {0: 4, 1: 4, 2: 4, 3: 4, 4: 5, 5: 6}  # day of the event -> day on which the window after it opened
    corrected = 0
    for row in asks:
        moment = START + hours(24 * opens[(row["at"] - START).days])
        expected = label_at(answers, row["id"], moment, as_of)
        assert (found[row["id"]][LABEL], found[row["id"]][LABEL_KNOWN_AT]) == (expected or (None, None)), row
        corrected += expected != label_at(answers, row["id"], as_of, as_of)
    assert corrected > 5
    kept = [row for row in answers if not row["gone"]]
    values = {
        row["id"]: {each["fine"] for each in kept if each["id"] == row["id"] and since(each) <= as_of} for row in kept
    }
    assert 0 < counts.contradicting <= sum(len(each) > 1 for each in values.values())
