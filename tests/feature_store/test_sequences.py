"""A sequence holds the newest rows known at the prediction: compared with a search of every row."""

from __future__ import annotations

import doctest
import math
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from quick import quick

from feature_store import DefinitionError, Expression, FeatureSet, FeatureView, Latest, Sequence, Spine, sequences
from feature_store.offline import compute

DOCS = Path(__file__).resolve().parents[2] / "docs/features.md"
Row = Mapping[str, Any]
FOREVER = datetime(2030, 1, 1)  # noqa: DTZ001 (stored times are UTC without a zone)


def view(name: str, *features: Any, entity: tuple[str, ...] = ("who",), where: str | None = None) -> FeatureView:
    return FeatureView(name=name, source="events", entity=entity, where=where, features=features)


FEATURES = FeatureSet(
    spine=Spine(
        source="spine",
        key="key",
        prediction_time="event_time - interval 10 minute",
        features=(Expression(name="hour", sql="hour(prediction_time)"),),
    ),
    views=(
        view(
            "of_who",
            Sequence(name="two", columns=("value", "flag"), last=2),
            Latest(name="newest", column="value"),
            Sequence(name="many", columns=("flag", "value")),
        ),
        view(
            "of_both",
            Sequence(name="both_2h", columns=("value",), window="2h", last=3),
            Sequence(name="both_1d", columns=("value",), window="1d"),
            entity=("who", "place"),
            where="kept",
        ),
        view("of_all", Sequence(name="all_30m", columns=("value",), window="30m"), entity=()),
    ),
)
SPANS = {"2h": timedelta(hours=2), "1d": timedelta(days=1), "30m": timedelta(minutes=30), None: timedelta(days=9999)}

MISREADINGS = (
    "as_of is ignored",
    "what is known just at the prediction is not",
    "what happened by the prediction is known",
    "what is known last is the newest",
    "a window is one of events",
    "a window holds its first moment",
    "the oldest rows count",
    "the newest row comes first",
    "one row more counts",
    "of one moment what was known first comes last",
    "of rows known together the largest comes first",
    "of rows known together a missing value comes last",
    "nobody is somebody",
    "one column of the entity is enough",
    "the view's condition is ignored",
)


def meant(of: FeatureView, feature: Sequence, events: list[Row], row: Row, as_of: datetime, misread: str = "") -> Any:
    """The sequence of one row of the spine, written as plainly as possible."""
    predicted = row["event_time"] - timedelta(minutes=10)
    limit = predicted if misread == "as_of is ignored" else min(predicted, as_of)
    if misread == "what is known just at the prediction is not":
        limit = min(limit, predicted - timedelta(microseconds=1))
    when = "event_time" if misread == "what happened by the prediction is known" else "available_at"
    begun = "event_time" if misread == "a window is one of events" else "available_at"
    first = predicted - SPANS[feature.window]
    if misread == "a window holds its first moment":
        first -= timedelta(microseconds=1)
    columns = of.entity[:1] if misread == "one column of the entity is enough" else of.entity
    if None in [row[name] for name in columns] and misread != "nobody is somebody":
        return None
    known = [
        event
        for event in events
        if event["available_at"] is not None
        and event[when] <= limit
        and event[begun] > first
        and all(event[name] == row[name] for name in columns)
        and (of.where is None or misread == "the view's condition is ignored" or event[of.where] is True)
    ]

    def rank(event: Row) -> list[Any]:
        times = [event["event_time"], event["available_at"]]
        if misread == "what is known last is the newest":
            times.reverse()
        if misread == "of one moment what was known first comes last":
            times[1] = -(times[1] - predicted)
        sign = -1 if misread == "of rows known together the largest comes first" else 1
        there = misread != "of rows known together a missing value comes last"
        return times + [((event[name] is not None) is there, sign * (event[name] or 0)) for name in feature.columns]

    most = feature.last + (misread == "one row more counts")
    ranked = sorted(known, key=rank)
    steps = ranked[:most] if misread == "the oldest rows count" else ranked[-most:]
    if misread == "the newest row comes first":
        steps.reverse()
    return [[step[name] for name in feature.columns] for step in steps] or None


def same(found: Any, wanted: Any) -> bool:
    """Whether both have the same steps; a missing value is NaN in what was found."""
    if found is None or wanted is None:
        return found is wanted
    cells = [[math.nan if value is None else float(np.float32(value)) for value in step] for step in wanted]
    return len(found) == len(cells) and np.array_equal(np.array(found), np.array(cells), equal_nan=True)


MOMENTS = (0, 1, 10, 11, 40, 50, 70, 110, 120, 121, 130, 160, 1440, 1441, 1450, 1560)
_TIMES = st.sampled_from([datetime(2020, 1, 1) + timedelta(minutes=minute) for minute in MOMENTS])  # noqa: DTZ001
_WHO, _PLACE = st.sampled_from(["a", "a", "a", "b", "b", None]), st.sampled_from([1, 1, 1, 2, None])
_VALUES = {
    "value": st.sampled_from([None, -100.0, -0.5, 0.0, 0.25, 0.33, 99.99, 100.0]),
    "flag": st.sampled_from([True, False, None]),
}
_EVENT = st.fixed_dictionaries(
    {
        "who": _WHO,
        "place": _PLACE,
        **_VALUES,
        "kept": st.sampled_from([True, True, True, False, None]),
        "event_time": _TIMES,
        "available_at": st.one_of(*[_TIMES] * 9, st.none()),
    }
)


@st.composite
def _events(draw: st.DrawFn) -> list[Row]:
    """Thirty events; six have a twin with other values, and two are there twice."""
    single = draw(st.lists(_EVENT, min_size=22, max_size=22))
    twins = [{**event, **draw(st.fixed_dictionaries(_VALUES))} for event in single[:6]]
    return [*single, *twins, *single[6:8]]


_SPINES = st.lists(
    st.fixed_dictionaries({"who": _WHO, "place": _PLACE, "event_time": _TIMES}), min_size=12, max_size=12
)
_AS_OF = _TIMES | st.just(FOREVER)
REPEATABLE: dict[str, Any] = {"deadline": None, "derandomize": True, "database": None, "phases": (Phase.generate,)}
ENOUGH = 10  # rows that each misreading gets wrong


@pytest.mark.ci
def test_a_sequence_is_what_its_definition_means(shared_store: Any) -> None:
    wrong: Counter[str] = Counter()

    @settings(max_examples=24, **REPEATABLE)
    @given(events=_events(), spine=_SPINES, as_of=_AS_OF)
    def compare(events: list[Row], spine: list[Row], as_of: datetime) -> None:
        shared_store.events(events)
        shared_store.spine([{"key": key, **row} for key, row in enumerate(spine)])
        features = shared_store.features(FEATURES, as_of).to_pylist()
        assert [row["key"] for row in features] == list(range(len(spine)))
        for row, given_row in zip(features, spine, strict=True):
            assert row["hour"] == (given_row["event_time"] - timedelta(minutes=10)).hour
            for of in FEATURES.views:
                for feature in (each for each in of.features if isinstance(each, Sequence)):
                    wanted = meant(of, feature, events, given_row, as_of)
                    assert same(row[feature.name], wanted), f"{feature.name} of {given_row}"
                    for misread in (each for each in MISREADINGS if wrong[each] < ENOUGH):
                        wrong[misread] += wanted != meant(of, feature, events, given_row, as_of, misread)

    compare()
    assert {misread: wrong[misread] for misread in MISREADINGS if wrong[misread] < ENOUGH} == {}


@pytest.mark.slow
@settings(max_examples=20, **REPEATABLE)
@given(events=_events(), spine=_SPINES, as_of=_AS_OF)
def test_rows_known_later_change_nothing(
    shared_store: Any, events: list[Row], spine: list[Row], as_of: datetime
) -> None:
    shared_store.spine([{"key": key, **row} for key, row in enumerate(spine)])
    shared_store.events(events)
    with_later = shared_store.features(FEATURES, as_of)
    last = min(as_of, max(row["event_time"] for row in spine) - timedelta(minutes=10))
    shared_store.events([e for e in events if e["available_at"] is not None and e["available_at"] <= last])
    assert repr(with_later.to_pylist()) == repr(shared_store.features(FEATURES, FOREVER).to_pylist())


@pytest.mark.parametrize("late", quick([0, 1_000, 100_000], 1))
def test_small_pieces_give_the_same_sequences_as_one(
    shared_store: Any, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """However late rows become known, and however few of them are read at once; each row gets its own sequence."""
    chance = random.Random(late)
    events = [
        {
            "who": chance.choice("abc"),
            "value": float(number),
            "event_time": shared_store.at(number),
            "available_at": shared_store.at(number + chance.randint(0, late)),
        }
        for number in range(3_000)
    ]
    spine = [
        {"key": key, "who": chance.choice("abcd"), "event_time": shared_store.at(chance.randrange(-9, 6_000))}
        for key in range(5_000)
    ]
    shared_store.events(events)
    shared_store.spine(spine)
    features = FeatureSet(
        spine=Spine(source="spine", key="key"),
        views=(view("v", Sequence(name="steps", columns=("value",), last=7)),),
    )
    whole = shared_store.features(features)["steps"].to_pylist()
    for index in chance.sample(range(len(spine)), 200):
        row = {**spine[index], "event_time": spine[index]["event_time"] + timedelta(minutes=10)}
        assert same(whole[index], meant(features.views[0], features.views[0].features[0], events, row, FOREVER))
    monkeypatch.setattr(sequences, "FIRST_WIDTH", 2)
    monkeypatch.setattr(sequences, "AT_ONCE", 100)
    monkeypatch.setattr(sequences, "BATCH_VALUES", 700)
    assert shared_store.features(features)["steps"].to_pylist() == whole


def test_the_order_of_rows_in_the_source_changes_nothing(shared_store: Any) -> None:
    """Zeros of both signs tie; a tie is the same rows in either order."""
    rows = [
        {"who": "a", "value": value, "flag": flag, "event_time": shared_store.at(minute), "available_at": None}
        for minute in (1, 1, 2)
        for value in (0.0, -0.0, math.nan, math.inf, None, 1.0)
        for flag in (True, None)
    ]
    rows = [{**row, "available_at": row["event_time"]} for row in rows]
    shared_store.spine([{"key": 1, "who": "a", "event_time": shared_store.at(60)}])
    found = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        shared_store.events(rows)
        found.add(repr(shared_store.features(FEATURES)["many"].to_pylist()))
    [only] = found
    assert "inf" not in only
    assert "-0.0" not in only


def test_days_of_a_window_are_those_of_the_calendar(store: Any) -> None:
    """On the day of the change to summer time a day has 23 hours."""
    noon = datetime(2024, 3, 31, 10)  # noqa: DTZ001 - noon in Berlin, in UTC
    times = [noon - timedelta(hours=hours) for hours in (22, 23, 24)]
    store.spine([{"key": 1, "who": "a", "event_time": noon}])
    store.events([{"who": "a", "value": i, "event_time": t, "available_at": t} for i, t in enumerate(times)])
    views = (view("v", Sequence(name="day", columns=("value",), window="1d")),)
    for calendar, steps in (("'Europe/Berlin'", [[0.0]]), (None, [[1.0], [0.0]])):
        features = FeatureSet(spine=Spine(source="spine", key="key", calendar=calendar), views=views)
        assert store.features(features)["day"].to_pylist() == [steps]


def test_shape_type_and_definition_survive(store: Any) -> None:
    assert FEATURES.sequences() == {"two": (2, 2), "many": (50, 2), "both_2h": (3, 1), "both_1d": (50, 1)} | {
        "all_30m": (50, 1)
    }
    assert FeatureSet.model_validate_json(FEATURES.model_dump_json()) == FEATURES
    assert FEATURES.without(["two", "both_*"]).names() == ["hour", "newest", "many", "all_30m"]
    store.spine([{"key": 1, "who": "a", "event_time": store.at(0)}])
    relation = compute(store.connection, FEATURES, "spine", {"events": "events"}, datetime(2030, 1, 1, tzinfo=UTC))
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert [types[name] for name in FEATURES.sequences()] == ["FLOAT[2][]"] * 2 + ["FLOAT[1][]"] * 3
    assert relation.columns[3:] == FEATURES.names()


def test_a_spine_without_rows_has_no_sequences(store: Any) -> None:
    assert store.features(FEATURES).num_rows == 0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("place + 0.5", None),
        ("who", "steps, step of who is a VARCHAR; a step holds numbers"),
        ("event_time", "is a TIMESTAMP; a step holds numbers"),
        ("nothing", "nothing"),
        ("lag(value) over ()", "window function"),
        ("value * 1e300", "out of range"),
        ("9007199254740993 + place", "no double is"),
    ],
)
def test_a_step_holds_numbers_that_a_float_can_hold(store: Any, column: str, message: str | None) -> None:
    event = {"who": "a", "place": 0, "value": 7.0, "event_time": store.at(0), "available_at": store.at(0)}
    store.spine([{"key": 1, "who": "a", "event_time": store.at(1)}])
    store.events([event])
    features = FeatureSet(
        spine=Spine(source="spine", key="key"), views=(view("v", Sequence(name="steps", columns=(column,))),)
    )
    if message is None:
        assert store.features(features)["steps"].to_pylist() == [[[0.5]]]
    else:
        with pytest.raises(DefinitionError, match=message):
            store.features(features)


def test_the_example_of_the_docs_runs() -> None:
    results = doctest.testfile(str(DOCS), module_relative=False)
    assert results.attempted > 5
    assert not results.failed
