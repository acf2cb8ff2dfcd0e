"""What the engine promises besides the right values: every row, in order, the same each time, and errors that speak."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import duckdb
import pytest

from feature_store import Age, Aggregate, DefinitionError, Expression, FeatureSet, FeatureView, Latest, Lookup, Spine

SPINE = Spine(source="spine", key="key")
ONE_DAY = ("1d",)


def view(*features: Any, name: str = "view", entity: tuple[str, ...] = ("who",), **others: Any) -> FeatureSet:
    return FeatureSet(
        spine=SPINE, views=(FeatureView(name=name, source="events", entity=entity, features=features, **others),)
    )


def crowd(store: Any, rows: int, seed: int = 0) -> None:
    """Many events of few entities, with many ties, in no order."""
    chance = random.Random(seed)
    store.spine(
        [
            {
                "key": key,
                "who": chance.choice(["a", "b", "c", None]),
                "place": key % 3,
                "event_time": store.at(chance.randrange(3000)),
            }
            for key in range(rows // 4)
        ]
    )
    store.connection.execute("select setseed(0.5)")
    store.connection.execute(
        f"create or replace table events as select ['a', 'b', 'c'][1 + (i * 7919 % 3)::int] as who, i % 3 as place, "
        f"sin(i) * 1e4 as value, i % 5 = 0 as flag, true as kept, timestamp '2020-01-01' + to_minutes(i * 31 % 2900) "
        f"as event_time, timestamp '2020-01-01' + to_minutes((i * 31 % 2900) // 7 * 7) as available_at "
        f"from range({rows}) t(i)"
    )


EVERYTHING = view(
    *(
        Aggregate(name=f, function=f, column="value", windows=("1h", "1d"))
        for f in ("count", "sum", "mean", "std", "rate")
    ),
    Latest(name="last", column="value"),
    Latest(name="last_flag", column="flag"),
    Age(name="age"),
)


def test_one_row_comes_out_for_each_that_goes_in_and_in_order(store: Any) -> None:
    keys = [5, 3, 9, 1, 3]
    store.spine([{"key": key, "who": "a" if key > 2 else None, "event_time": store.at(60)} for key in keys])
    store.events([{"who": "a", "value": n, "event_time": store.at(0), "available_at": store.at(0)} for n in range(4)])
    found = store.features(EVERYTHING)
    assert found["key"].to_pylist() == keys
    assert found["count_1d"].to_pylist() == [4, 4, 4, None, 4]


def test_rows_without_any_event_are_kept(store: Any) -> None:
    store.spine(
        [{"key": 1, "who": "nobody", "event_time": store.at(0)}, {"key": 2, "who": None, "event_time": store.at(0)}]
    )
    rows = store.features(EVERYTHING).to_pylist()
    assert [row["count_1d"] for row in rows] == [0, None]
    assert [row["sum_1d"] for row in rows] == [0, None]
    assert (
        [row["mean_1d"] for row in rows]
        == [row["last"] for row in rows]
        == [row["age"] for row in rows]
        == [None, None]
    )


def test_an_empty_spine_gives_an_empty_table_with_all_columns(store: Any) -> None:
    found = store.features(EVERYTHING)
    assert found.num_rows == 0
    assert found.column_names == ["key", "event_time", "prediction_time", *EVERYTHING.names()]


def test_the_edges_of_a_window_are_after_its_start_up_to_its_end(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(120)}])
    store.events(
        [{"who": "a", "value": m, "available_at": store.at(m), "event_time": store.at(m)} for m in (60, 61, 120, 121)]
    )
    [row] = store.features(EVERYTHING).to_pylist()
    assert (row["count_1h"], row["sum_1h"]) == (2, 61 + 120)


def test_results_do_not_depend_on_threads_time_zone_or_the_order_of_source_rows(store: Any) -> None:
    crowd(store, 40_000)
    store.connection.execute("set threads = 1")
    first = store.features(EVERYTHING)
    store.connection.execute("set threads = 4")
    store.connection.execute("set TimeZone = 'America/New_York'")
    assert store.features(EVERYTHING).equals(first)
    store.connection.execute("create or replace table events as select * from events order by hash(value), who")
    assert store.features(EVERYTHING).equals(first)
    assert first["last"].null_count < first.num_rows


def test_sums_lose_nothing_to_large_values_that_left_the_window(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(3000)}])
    large = [{"who": "a", "value": 1e12 + n / 3, "available_at": store.at(n)} for n in range(50)]
    small = [{"who": "a", "value": value, "available_at": store.at(2990)} for value in (0.1, 0.2, -0.05)]
    store.events([*large, *small])
    wanted = view(
        *(Aggregate(name=f, function=f, column="value", windows=("1h",), decimals=3) for f in ("sum", "mean", "count"))
    )
    row = store.features(wanted).to_pylist()[0]
    assert (row["sum_1h"], row["mean_1h"], row["count_1h"]) == (0.25, 0.25 / 3, 3)


def test_the_spread_of_nearly_equal_large_values_is_neither_negative_nor_nan(store: Any) -> None:
    store.spine(
        [{"key": 1, "who": "same", "event_time": store.at(100)}, {"key": 2, "who": "near", "event_time": store.at(100)}]
    )
    same = [{"who": "same", "value": 1e9 + 0.1, "available_at": store.at(n)} for n in range(90)]
    near = [{"who": "near", "value": 1e9 + n % 2, "available_at": store.at(n)} for n in range(90)]
    store.events([*same, *near])
    found = store.features(view(Aggregate(name="std", function="std", column="value", windows=ONE_DAY)))
    assert found["std_1d"].to_pylist() == [0.0, pytest.approx((22.5 / 89) ** 0.5, rel=1e-12)]


def test_totals_beyond_64_bits_are_exact(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(200)}])
    units = [-(10**11) - 7 * n for n in range(121)]  # of a millionth: 10^17, and 10^34 squared
    store.events([{"who": "a", "value": float(unit), "available_at": store.at(n)} for n, unit in enumerate(units)])
    found = store.features(
        view(*(Aggregate(name=f, function=f, column="value", windows=("3h",)) for f in ("sum", "mean", "std")))
    )
    inside = [unit * 10**6 for unit in units[21:]]
    total, squares, count = sum(inside), sum(unit**2 for unit in inside), len(inside)
    assert total < -(2**63)
    assert found["sum_3h"].to_pylist() == [total / 1e6]
    assert found["mean_3h"].to_pylist() == [total / (count * 1e6)]
    spread = (count * squares - total**2) / (count * (count - 1))
    assert found["std_3h"].to_pylist() == [pytest.approx(spread**0.5 / 1e6, rel=1e-15)]


def test_a_value_that_is_not_finite_is_missing(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(100)}])
    values = (float("nan"), float("inf"), 4.0)
    store.events([{"who": "a", "value": value, "available_at": store.at(n)} for n, value in enumerate(values, start=1)])
    row = store.features(EVERYTHING).to_pylist()[0]
    assert (row["sum_1d"], row["mean_1d"], row["rate_1d"]) == (4.0, 4.0, 1.0)
    store.events([{"who": "a", "value": float("nan"), "available_at": store.at(1)}])
    assert store.features(EVERYTHING)["last"].to_pylist() == [None]


def test_values_beyond_exact_sums_are_an_error_that_says_what_to_do(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(100)}])
    store.events([{"who": "a", "value": 1e18, "available_at": store.at(1)}])
    with pytest.raises(DefinitionError, match=r"view 'view'.*fewer `decimals`"):
        store.features(EVERYTHING)


def test_a_lookup_adds_columns_of_a_static_table_and_keeps_rows_it_does_not_know(store: Any) -> None:
    store.spine([{"key": n, "who": who, "event_time": store.at(0)} for n, who in enumerate(["b", "x", None, "a"])])
    store.fill(
        "people",
        "who VARCHAR, born BIGINT, event_time TIMESTAMP",
        [{"who": "a", "born": 1990}, {"who": "b", "born": 2000}],
    )
    people = Lookup(
        name="people",
        source="people",
        key=("who",),
        features=(
            Expression(name="age", sql="year(spine.event_time) - born"),
            Expression(name="decade", sql="(born // 10)::varchar"),
        ),
    )
    found = store.features(FeatureSet(spine=SPINE, lookups=(people,)), people="people")
    assert found["age"].to_pylist() == [20, None, None, 30]
    assert found["decade"].to_pylist() == ["200", None, None, "199"]


def test_a_static_table_with_a_key_twice_is_an_error_that_names_it(store: Any) -> None:
    store.fill(
        "people",
        "who VARCHAR, born BIGINT",
        [{"who": "a", "born": 1}, {"who": "a", "born": 2}, {"who": None}, {"who": None}],
    )
    people = Lookup(name="people", source="people", key=("who",), features=(Expression(name="born", sql="born"),))
    with pytest.raises(DefinitionError, match="people has 2 rows for who = a"):
        store.features(FeatureSet(spine=SPINE, lookups=(people,)), people="people")


def test_a_lookup_of_events_and_a_view_of_a_static_table_are_refused(store: Any) -> None:
    later = Lookup(name="later", source="events", key=("who",), features=(Expression(name="value", sql="value"),))
    with pytest.raises(DefinitionError, match=r"rows of 'events' become known over time.*use a FeatureView"):
        store.features(FeatureSet(spine=SPINE, lookups=(later,)))
    store.fill("people", "who VARCHAR, born BIGINT", [])
    static = FeatureView(
        name="people", source="people", entity=("who",), features=(Latest(name="born", column="born"),)
    )
    with pytest.raises(DefinitionError, match=r"source 'people' has no available_at; .* a lookup a static table"):
        store.features(FeatureSet(spine=SPINE, views=(static,)), people="people")


def test_a_column_that_shows_the_future_scores_no_better_than_chance(store: Any) -> None:
    chance = random.Random(1)
    labels = [chance.random() < 0.3 for _ in range(4000)]
    moments = [store.at(10 * n) for n in range(len(labels))]
    who = [str(chance.randrange(40)) for _ in labels]
    store.spine([{"key": n, "who": w, "event_time": m} for n, (w, m) in enumerate(zip(who, moments, strict=True))])
    store.events(
        [
            {"who": w, "value": float(label), "event_time": m, "available_at": m + timedelta(microseconds=1)}
            for w, m, label in zip(who, moments, labels, strict=True)
        ]
    )
    canary = view(
        Latest(name="last", column="value"), Aggregate(name="mean", function="mean", column="value", windows=("1h",))
    )
    found = store.features(canary)
    for name in ("last", "mean_1h"):
        assert abs(auc(found[name].to_pylist(), labels) - 0.5) < 0.03, name
    # The same column, said to be known at once, gives the label away: the test would see a leak.
    store.connection.execute("update events set available_at = event_time")
    assert auc(store.features(canary)["last"].to_pylist(), labels) == 1.0


def auc(scores: list[float | None], labels: list[bool]) -> float:
    """Area under the ROC curve; ties count half, missing scores are the lowest."""
    filled = [-1.0 if score is None else score for score in scores]
    groups: dict[float, list[int]] = {}
    for score, label in zip(filled, labels, strict=True):
        groups.setdefault(score, [0, 0])[label] += 1
    below, won = 0, 0.0
    for score in sorted(groups):
        negative, positive = groups[score]
        won += positive * (below + negative / 2)
        below += negative
    return won / (below * sum(labels))


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("lead(value) over (order by event_time)", "the window function lead, which sees other rows"),
        ("(select max(value) from events)", "a subquery, which sees other rows"),
        ("max(value)", "the aggregate max, which sees other rows"),
        ("value + random()", r"random\(\), which differs from run to run"),
        ("epoch(now()::timestamp)", r"now\(\), which differs from run to run"),
        ("epoch(current_date)", "current_date, which differs from run to run"),
        ("value, flag", "feature 'last' is a TUPLE"),
        ("value) as v from events --", "is more than one SQL expression"),
        ("value); drop table events; --", "no SQL expression"),
        ("valeu", "last: .*valeu.* Candidate bindings.*value"),
        ("lowre(who)", "last: .*lowre"),
        ("event_time", "feature 'last' is a TIMESTAMP; make it a number"),
    ],
)
def test_an_expression_that_cannot_be_is_refused_by_name(store: Any, sql: str, complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint) as caught:
        store.features(view(Latest(name="last", column=sql)))
    assert "\n" not in str(caught.value)
    assert store.connection.sql("select * from events").columns, "the source is still there"


@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        (
            FeatureSet(spine=SPINE, views=view(Age(name="age"), entity=("whom",)).views),
            "no column 'whom'; it has key, who",
        ),
        (
            FeatureSet(spine=Spine(source="spine", key="id"), views=view(Age(name="age")).views),
            "spine's key: .*no column 'id'",
        ),
        (
            FeatureSet(
                spine=Spine(source="spine", key="key", prediction_time="now()"), views=view(Age(name="a")).views
            ),
            r"prediction_time: .*now\(\)",
        ),
        (
            FeatureSet(
                spine=SPINE,
                views=(FeatureView(name="v", source="evnts", entity=("who",), features=(Age(name="age"),)),),
            ),
            "source 'evnts' is unknown; there are events, spine",
        ),
        (view(Age(name="age"), where="nothing > 1"), "view 'view', where: .*nothing"),
        (view(Aggregate(name="sum", function="sum", column="who", windows=ONE_DAY)), "view 'view'|sum: "),
    ],
)
def test_a_definition_that_does_not_fit_the_sources_is_refused(
    store: Any, features: FeatureSet, complaint: str
) -> None:
    store.events([{"who": "a", "available_at": store.at(0)}])
    with pytest.raises(DefinitionError, match=complaint):
        store.features(features)


def test_nothing_is_left_behind_but_the_result(store: Any) -> None:
    store.features(EVERYTHING)
    with pytest.raises(DefinitionError, match="nothing"):
        store.features(view(Latest(name="last", column="nothing")))
    left = store.connection.execute("select table_name from duckdb_tables() where temporary").fetchall()
    assert len(left) == 1
    assert left[0][0].endswith("_features")


def test_the_engine_works_in_a_locked_connection(store: Any) -> None:
    from feature_store.offline import configure

    configure(store.connection)
    store.connection.execute("set lock_configuration = true")
    assert store.features(EVERYTHING).num_rows == 0


def test_an_as_of_without_a_zone_is_refused(store: Any) -> None:
    from feature_store.offline import compute

    with pytest.raises(ValueError, match="time zone"):
        compute(store.connection, EVERYTHING, "spine", {"events": "events"}, store.at(0))
    assert isinstance(store.connection, duckdb.DuckDBPyConnection)
