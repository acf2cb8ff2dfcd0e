"""The engine against the meaning of its definitions, written as slowly and plainly as possible."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Latest, Spine
from feature_store.compile import SINCE, UNTIL
from tests.feature_store.conftest import Store

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
        FeatureView(
            name="of_place",
            source="events",
            entity=("place",),
            ttl="2h",
            features=(
                Aggregate(name="place_sum", function="sum", column="value", windows=("30m", "2h")),
                Latest(name="place_last_30m", column="value", max_age="30m"),
                Age(name="place_age"),
            ),
        ),
        FeatureView(
            name="of_times",
            source="events",
            entity=("who",),
            windows_by="event_time",
            features=(
                *(Aggregate(name=f"times_{f}", function=f, column="value", windows=("30m", "2h")) for f in FUNCTIONS),
                Aggregate(name="times_rows", function="count", windows=WINDOWS),
            ),
        ),
    ),
)

Row = Mapping[str, Any]
FOREVER = datetime(2030, 1, 1)  # noqa: DTZ001 (stored times are UTC without a zone)
_MINUTES = {"m": 1, "h": 60, "d": 1440}


def _span(duration: str) -> timedelta:
    return timedelta(minutes=int(duration[:-1]) * _MINUTES[duration[-1]])


# Each rule that decides an answer, as it could be misread. The examples must tell every one of them from the meaning.
MISREADINGS = (
    "as_of is ignored",
    "what is known just at as_of is not",
    "what is known just at the prediction is not",
    "what is known just after the prediction is",
    "what is never known is",
    "a thing is known when it happens",
    "a window holds its first moment",
    "a window ends before the prediction",
    "a window by event times goes by when things became known",
    "a window by event times holds what is yet to happen",
    "what is just as old as it may be is fresh",
    "the view's time to live is ignored",
    "a feature's max_age is ignored",
    "nobody is somebody",
    "one column of the entity is enough",
    "the view's condition is ignored",
    "a condition that is missing holds",
    "rows alike are one row",
    "the newest event is the newest known",
    "of rows known together the oldest event counts",
    "of rows known together the event does not count",
    "of rows known together the smallest values count",
    "of rows known together a missing value comes first",
    "a missing value is passed over",
    "a missing value is a zero",
    "an age begins with the event",
    "what is out of reach of the last prediction is of all",
    "what is out of reach of the shortest window is of all",
)


def meant(
    view: FeatureView,
    events: Sequence[Row],
    spine: Row,
    predicted: datetime,
    as_of: datetime,
    *,
    misread: str = "",
    predictions: Sequence[datetime] = (),
) -> dict[str, Any]:
    """Each feature of a view (whose columns are plain names) for one row of the spine."""
    known = _known(view, events, spine, predicted, as_of, misread)
    if "out of reach" in misread:
        last = "last" in misread
        spans = [span for feature in view.features for span in _reaches(feature, view)]
        finite = [span for span in spans if span]
        first = max(predictions) - max(finite) if last else min(predictions) - min(finite)
        known = [event for event in known if None in spans or event[view.windows_by] > first]
    nobody = None in [spine[name] for name in view.entity] and misread != "nobody is somebody"
    values: dict[str, Any] = {}
    for feature in view.features:
        if isinstance(feature, Aggregate):
            for name, window in feature.columns().items():
                values[name] = (
                    None if nobody else _aggregate(feature, _within(view, known, predicted, window, misread), misread)
                )
        else:
            values[feature.name] = None if nobody else _newest(feature, view, known, predicted, misread)
    return values


def _known(
    view: FeatureView, events: Sequence[Row], spine: Row, predicted: datetime, as_of: datetime, misread: str
) -> list[Row]:
    """The events of the row's entity that were known at its prediction."""
    if misread == "a thing is known when it happens":
        events = [{**event, "available_at": event["event_time"]} for event in events]
    if misread == "what is never known is":
        events = [{**event, "available_at": event["available_at"] or event["event_time"]} for event in events]
    if misread == "rows alike are one row":
        events = list({tuple(event.values()): event for event in events}.values())
    minute = timedelta(minutes=1)
    limits = {
        "as_of is ignored": predicted,
        "what is known just at as_of is not": min(predicted, as_of - minute),
        "what is known just at the prediction is not": min(predicted - minute, as_of),
        "what is known just after the prediction is": min(predicted + minute, as_of),
    }
    limit = limits.get(misread, min(predicted, as_of))
    columns = view.entity[:1] if misread == "one column of the entity is enough" else view.entity
    accepted = {
        "the view's condition is ignored": (True, False, None),
        "a condition that is missing holds": (True, None),
    }
    return [
        event
        for event in events
        if event["available_at"] is not None
        and event["available_at"] <= limit
        and all(event[name] == spine[name] for name in columns)
        and (view.where is None or event[view.where] in accepted.get(misread, (True,)))
    ]


def _within(view: FeatureView, known: Sequence[Row], predicted: datetime, window: str, misread: str) -> list[Row]:
    by = view.windows_by
    if misread == "a window by event times goes by when things became known":
        by = "available_at"
    rows = [event for event in known if event[by] > predicted - _span(window)]
    if misread == "a window holds its first moment":
        rows = [event for event in known if event[by] >= predicted - _span(window)]
    if misread == "a window ends before the prediction":
        rows = [event for event in rows if event[by] < predicted]
    if misread != "a window by event times holds what is yet to happen":
        rows = [event for event in rows if event[by] <= predicted]
    return rows


def _reaches(feature: Latest | Age | Aggregate, view: FeatureView) -> list[timedelta | None]:
    """How long before a prediction a row may have become known to count for a feature; None where it always may."""
    if isinstance(feature, Aggregate):
        return [_span(window) for window in feature.windows]
    age = feature.max_age or view.ttl
    return [_span(age) if age else None]


def _newest(feature: Latest | Age, view: FeatureView, known: Sequence[Row], predicted: datetime, misread: str) -> Any:
    own = None if misread == "a feature's max_age is ignored" else feature.max_age
    age = own or (None if misread == "the view's time to live is ignored" else view.ttl)
    if age and misread == "what is just as old as it may be is fresh":
        known = [event for event in known if event["available_at"] >= predicted - _span(age)]
    elif age:
        known = [event for event in known if event["available_at"] > predicted - _span(age)]
    if isinstance(feature, Latest) and misread == "a missing value is passed over":
        known = [event for event in known if event[feature.column] is not None]
    if not known:
        return None
    when = "event_time" if misread == "the newest event is the newest known" else "available_at"
    last = max(event[when] for event in known)
    if isinstance(feature, Age):
        began = max(event["event_time"] for event in known) if misread == "an age begins with the event" else last
        return (predicted - began) / timedelta(hours=1)
    columns = [each.column for each in view.features if isinstance(each, Latest)]

    def rank(event: Row) -> list[Any]:
        missing_last = misread != "of rows known together a missing value comes first"
        sign = -1 if misread == "of rows known together the smallest values count" else 1
        values = [((event[name] is not None) is missing_last, sign * (event[name] or 0)) for name in columns]
        age = (event["event_time"] - predicted) / timedelta(minutes=1)
        age *= -1 if misread == "of rows known together the oldest event counts" else 1
        return values if misread == "of rows known together the event does not count" else [age, *values]

    value = max((event for event in known if event[when] == last), key=rank)[feature.column]
    return None if value is None else float(value)


def _aggregate(feature: Aggregate, rows: Sequence[Row], misread: str) -> Any:
    if feature.column is None:
        return len(rows)
    if misread == "a missing value is a zero":
        rows = [{**row, feature.column: row[feature.column] or 0} for row in rows]
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


# Few distinct minutes, so that events tie with each other, with predictions and with the edges of windows; few missing
# values and many rows, so that there is nearly always something to answer.
MOMENTS = (0, 1, 10, 11, 40, 50, 70, 110, 120, 121, 130, 160, 1440, 1441, 1450, 1560)


def _times(*minutes: int) -> st.SearchStrategy[datetime]:
    return st.sampled_from([datetime(2020, 1, 1) + timedelta(minutes=minute) for minute in minutes])  # noqa: DTZ001


_WHO, _PLACE = st.sampled_from(["a", "a", "a", "b", "b", None]), st.sampled_from([1, 1, 1, 2, 2, None])
_VALUES = {
    "value": st.sampled_from([None, *(cents / 100 for cents in (-10_000, -250, -1, 0, 1, 33, 250, 9_999, 10_000))]),
    "flag": st.sampled_from([True, True, False, False, None]),
}
_EVENT = st.fixed_dictionaries(
    {
        "who": _WHO,
        "place": _PLACE,
        **_VALUES,
        "kept": st.sampled_from([True, True, True, False, None]),
        "event_time": _times(*MOMENTS),
        "available_at": st.one_of(*[_times(*MOMENTS)] * 9, st.none()),
    }
)


@st.composite
def _events(draw: st.DrawFn) -> list[Row]:
    """Thirty events; six have a twin with other values, and two are there twice."""
    single = draw(st.lists(_EVENT, min_size=22, max_size=22))
    twins = [{**event, **draw(st.fixed_dictionaries(_VALUES))} for event in single[:6]]
    return [*single, *twins, *single[6:8]]


def _spines(*minutes: int) -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries({"who": _WHO, "place": _PLACE, "event_time": _times(*minutes)})
    return st.lists(row, min_size=12, max_size=12)


_SPINES = _spines(*MOMENTS) | _spines(130, 160, 1450, 1560)
_AS_OF = _times(50, 70, 110, 120, 120) | st.just(FOREVER)
# The same examples on every run; a failure is reported as it is, since making thirty events fewer takes minutes.
REPEATABLE: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": (Phase.generate,),
}
ENOUGH = 20  # rows that each misreading gets wrong


@pytest.mark.ci
def test_every_feature_is_what_its_definition_means(shared_store: Any) -> None:
    wrong: Counter[str] = Counter()

    @settings(max_examples=40, **REPEATABLE)
    @given(events=_events(), spine=_SPINES, as_of=_AS_OF)
    def compare(events: list[Row], spine: list[Row], as_of: datetime) -> None:
        shared_store.events(events)
        shared_store.spine([{"key": key, **row} for key, row in enumerate(spine)])
        features = shared_store.features(FEATURES, as_of).to_pylist()
        assert [row["key"] for row in features] == list(range(len(spine)))
        predictions = [row["event_time"] - timedelta(minutes=10) for row in spine]
        for row, given_row, predicted in zip(features, spine, predictions, strict=True):
            assert (row["prediction_time"], row["hour"]) == (predicted, predicted.hour)
            for view in FEATURES.views:
                values = meant(view, events, given_row, predicted, as_of)
                for name, value in values.items():
                    rounded = value is not None and ("_std" in name or "_age" in name)
                    wanted = pytest.approx(value, rel=1e-12, abs=1e-9) if rounded else value
                    assert row[name] == wanted, f"{name} of {given_row}"
                for misread in (each for each in MISREADINGS if wrong[each] < ENOUGH):
                    told = meant(view, events, given_row, predicted, as_of, misread=misread, predictions=predictions)
                    wrong[misread] += told != values

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
    assert with_later.equals(shared_store.features(FEATURES, FOREVER))


def test_of_rows_of_one_instant_the_same_one_counts_however_old_it_is_and_with_versions(store: Store) -> None:
    row = {"who": "a", "event_time": store.at(0), "available_at": store.at(0)}
    store.events([{**row, "value": 1.0, "place": 5}, {**row, "value": 2.0, "place": 3}])
    store.spine([{"key": 1, "who": "a", "event_time": store.at(60), "available_at": store.at(60)}])
    values = (Latest(name="old", column="value", max_age="30m"), Latest(name="place", column="place"))
    view = FeatureView(name="v", source="events", entity=("who",), features=values)
    features = FeatureSet(spine=Spine(source="spine", key="key"), views=(view,))
    versions = f"(select *, available_at as {SINCE}, null::timestamp as {UNTIL} from events)"
    for source in ("events", versions):
        table = store.features(features, events=source)
        assert (table["old"].to_pylist(), table["place"].to_pylist()) == ([None], [3.0])
