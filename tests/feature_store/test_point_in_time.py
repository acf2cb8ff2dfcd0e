"""The engine against the meaning of its definitions, written as slowly and plainly as possible."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Latest, Spine

WINDOWS = ("30m", "2h", "1d")
FUNCTIONS = ("count", "sum", "mean", "std", "rate")
FEATURES = FeatureSet(
    spine=Spine(
        source="spine",
        key="key",
        prediction_time="event_time - interval 10 minute",
        features=(Expression(name="hour", sql="hour(prediction_time)"),),
    ),
    views=(
        FeatureView(
            name="of_who",
            source="events",
            entity=("who",),
            features=(
                *(Aggregate(name=f"who_{f}", function=f, column="value", windows=WINDOWS) for f in FUNCTIONS),
                Aggregate(name="who_rows", function="count", windows=WINDOWS),
                Aggregate(name="who_flagged", function="rate", column="flag", windows=("2h",)),
                Latest(name="who_last", column="value"),
                Latest(name="who_last_2h", column="value", max_age="2h"),
                Age(name="who_age"),
            ),
        ),
        FeatureView(
            name="of_both",
            source="events",
            entity=("who", "place"),
            where="kept",
            ttl="1d",
            features=(
                Aggregate(name="both_mean", function="mean", column="value", windows=("2h",), decimals=2),
                Latest(name="both_flag", column="flag"),
                Latest(name="both_last", column="value"),
                Age(name="both_age"),
            ),
        ),
    ),
)

Row = Mapping[str, Any]
FOREVER = datetime(2030, 1, 1)  # noqa: DTZ001 (stored times are UTC without a zone)
_MINUTES = {"m": 1, "h": 60, "d": 1440}


def _span(duration: str) -> timedelta:
    return timedelta(minutes=int(duration[:-1]) * _MINUTES[duration[-1]])


def meant(view: FeatureView, events: Sequence[Row], spine: Row, predicted: datetime, as_of: datetime) -> dict[str, Any]:
    """Each feature of a view (whose columns are plain names) for one row of the spine."""
    entity = [spine[name] for name in view.entity]
    known = [
        event
        for event in events
        if event["available_at"] is not None
        and event["available_at"] <= min(predicted, as_of)
        and [event[name] for name in view.entity] == entity
        and (view.where is None or event[view.where])
    ]
    found: dict[str, Any] = {}
    for feature in view.features:
        if isinstance(feature, Aggregate):
            for name, window in feature.columns().items():
                rows = [event for event in known if event["available_at"] > predicted - _span(window)]
                found[name] = None if None in entity else _aggregate(feature, rows)
        else:
            found[feature.name] = None if None in entity else _newest(feature, view, known, predicted)
    return found


def _newest(feature: Latest | Age, view: FeatureView, known: Sequence[Row], predicted: datetime) -> Any:
    age = feature.max_age or view.ttl
    known = [event for event in known if age is None or event["available_at"] > predicted - _span(age)]
    if not known:
        return None
    last = max(event["available_at"] for event in known)
    if isinstance(feature, Age):
        return (predicted - last) / timedelta(hours=1)
    order = ["event_time", *(f.column for f in view.features if isinstance(f, Latest))]

    def rank(event: Row) -> list[tuple[bool, Any]]:
        return [(event[name] is not None, event[name]) for name in order]

    value = max((event for event in known if event["available_at"] == last), key=rank)[feature.column]
    return None if value is None else float(value)


def _aggregate(feature: Aggregate, rows: Sequence[Row]) -> Any:
    if feature.column is None:
        return len(rows)
    values = [Fraction(str(float(row[feature.column]))) for row in rows if row[feature.column] is not None]
    n, total = len(values), sum(values, Fraction(0))
    if feature.function == "count":
        return n
    if feature.function == "sum":
        return float(total)
    if feature.function == "std":
        return math.sqrt(sum((value - total / n) ** 2 for value in values) / (n - 1)) if n > 1 else None
    if feature.function == "rate":
        return sum(value != 0 for value in values) / n if n else None
    return float(total / n) if n else None


# Few distinct minutes, so that events tie with each other, with predictions and with the edges of windows.
_MOMENTS = st.sampled_from([0, 1, 9, 10, 11, 40, 50, 70, 110, 120, 130, 160, 1440, 1450, 1451, 1560])
_TIMES = _MOMENTS.map(lambda minute: datetime(2020, 1, 1) + timedelta(minutes=minute))  # noqa: DTZ001
_WHO, _PLACE = st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None])
_EVENT = st.fixed_dictionaries(
    {
        "who": _WHO,
        "place": _PLACE,
        "value": st.none() | st.integers(-10_000, 10_000).map(lambda cents: cents / 100),
        "flag": st.sampled_from([True, False, None]),
        "kept": st.sampled_from([True, False, None]),
        "event_time": _TIMES,
        "available_at": st.none() | _TIMES,
    }
)
_SPINE = st.fixed_dictionaries({"who": _WHO, "place": _PLACE, "event_time": _TIMES})


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(_EVENT, max_size=30),
    spine=st.lists(_SPINE, max_size=12),
    as_of=_TIMES | st.just(FOREVER),
)
def test_every_feature_is_what_its_definition_means(
    shared_store: Any, events: list[Row], spine: list[Row], as_of: datetime
) -> None:
    shared_store.events(events)
    shared_store.spine([{"key": key, **row} for key, row in enumerate(spine)])
    found = shared_store.features(FEATURES, as_of).to_pylist()
    assert [row["key"] for row in found] == list(range(len(spine)))
    for row, given_row in zip(found, spine, strict=True):
        predicted = given_row["event_time"] - timedelta(minutes=10)
        assert (row["prediction_time"], row["hour"]) == (predicted, predicted.hour)
        for view in FEATURES.views:
            for name, value in meant(view, events, given_row, predicted, as_of).items():
                rounded = value is not None and ("_std" in name or "_age" in name)
                wanted = pytest.approx(value, rel=1e-12, abs=1e-9) if rounded else value
                assert row[name] == wanted, f"{name} of {given_row}"


@settings(max_examples=20, deadline=None)
@given(events=st.lists(_EVENT, max_size=30), when=_TIMES, who=_WHO, place=_PLACE)
def test_rows_known_later_change_nothing(
    shared_store: Any, events: list[Row], when: datetime, who: str | None, place: int | None
) -> None:
    predicted = when - timedelta(minutes=10)
    shared_store.spine([{"key": 1, "who": who, "place": place, "event_time": when}])
    shared_store.events(events)
    with_later = shared_store.features(FEATURES)
    shared_store.events([e for e in events if e["available_at"] is not None and e["available_at"] <= predicted])
    assert with_later.equals(shared_store.features(FEATURES))
