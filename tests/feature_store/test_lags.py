"""A lag is what was counted at one moment, if that was known in time: compared with a search of every event."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from feature_store import Aggregate, DefinitionError, Expression, FeatureSet, FeatureView, Lag, Spine
from tasks.evaluate.importance import groups_of

HOUR = 60


def lags(*features: Lag, entity: tuple[str, ...] = ("who",)) -> FeatureSet:
    spine = Spine(source="spine", key="key", entities={"ahead": "event_time + interval 2 hour"})
    return FeatureSet(spine=spine, views=(FeatureView(name="view", source="events", entity=entity, features=features),))


BOTH = lags(
    Lag(name="value", column="value", before=("1h", "3h")),
    Lag(name="then", column="value", of="ahead"),
    Lag(name="before_then", column="value", of="ahead", before=("3h",)),
)


def crowd(store: Any, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events on the hour, some of them repeated later, known early or late; rows on the hour and off it."""
    chance = random.Random(seed)
    events = []
    for hour in range(40):
        for who in ("a", "b", None):
            for _ in range(chance.choice((0, 1, 1, 2))):
                known = store.at(HOUR * (hour + chance.choice((-5, 0, 1, 1, 4))))
                value = float(chance.randrange(100)) if chance.random() < 0.9 else None
                events.append({"who": who, "value": value, "event_time": store.at(HOUR * hour), "available_at": known})
    spine = [
        {"key": key, "who": chance.choice(("a", "b", "c", None)), "event_time": store.at(30 * chance.randrange(80))}
        for key in range(120)
    ]
    return spine, events


def looked_up(events: list[dict[str, Any]], row: dict[str, Any], moment: datetime) -> float | None:
    """The value that became known last of the row's events at a moment; of those together the largest, none last."""
    known = [
        (each["available_at"], each["value"] is not None, each["value"] or 0.0)
        for each in events
        if each["who"] is not None
        and each["who"] == row["who"]
        and each["event_time"] == moment
        and each["available_at"] <= row["event_time"]
    ]
    newest = max(known, default=(None, False, 0.0))
    return newest[2] if newest[1] else None


@pytest.mark.parametrize("seed", range(4))
def test_a_lag_is_the_value_of_its_moment_where_that_was_known(store: Any, seed: int) -> None:
    spine, events = crowd(store, seed)
    store.spine(spine)
    store.events(events)
    for row, found in zip(spine, store.features(BOTH).to_pylist(), strict=True):
        moments = {"value_1h": -1, "value_3h": -3, "then": 2, "before_then_3h": -1}
        expected = {
            name: looked_up(events, row, row["event_time"] + timedelta(hours=hours)) for name, hours in moments.items()
        }
        assert {name: found[name] for name in moments} == expected


def test_what_becomes_known_after_the_prediction_changes_nothing(store: Any) -> None:
    spine, events = crowd(store, 9)
    store.spine(spine)
    store.events(events)
    before = store.features(BOTH).to_pylist()
    last = max(row["event_time"] for row in spine)
    late = [{**each, "value": 1e6, "available_at": last + timedelta(seconds=1)} for each in events]
    store.events([*late, *events])
    assert store.features(BOTH).to_pylist() == before


def test_a_view_without_entity_is_about_everyone(store: Any) -> None:
    store.spine([{"key": 1, "who": None, "event_time": store.at(2 * HOUR)}])
    store.events(
        [
            {"who": "a", "value": hour, "event_time": store.at(HOUR * hour), "available_at": store.at(HOUR * hour)}
            for hour in (0, 1)
        ]
    )
    view = FeatureView(
        name="all",
        source="events",
        features=(
            Lag(name="value", column="value", before=("1h",)),
            Aggregate(name="count", function="count", windows=("1d",)),
        ),
    )
    found = store.features(FeatureSet(spine=Spine(source="spine", key="key"), views=(view,))).to_pylist()
    assert [(row["value_1h"], row["count_1d"]) for row in found] == [(1.0, 2.0)]


def test_months_and_years_are_those_of_the_calendar(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": datetime(2024, 3, 1)}])  # noqa: DTZ001 - UTC, as stored
    store.events(
        [
            {"who": "a", "value": 1.0, "event_time": datetime(2024, 2, 1), "available_at": datetime(2024, 2, 1)},  # noqa: DTZ001
            {"who": "a", "value": 2.0, "event_time": datetime(2023, 3, 1), "available_at": datetime(2023, 3, 1)},  # noqa: DTZ001
        ]
    )
    found = store.features(lags(Lag(name="value", column="value", before=("1mo", "1y")))).to_pylist()
    assert [(row["value_1mo"], row["value_1y"]) for row in found] == [(1.0, 2.0)]


def test_lags_are_left_out_one_by_one() -> None:
    kept = BOTH.without(["value_3h", "then"])
    assert kept.names() == ["value_1h", "before_then_3h"]
    assert FeatureSet.model_validate_json(BOTH.model_dump_json()) == BOTH


def test_a_time_that_the_spine_has_not_is_an_error_with_its_name(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(0)}])
    with pytest.raises(DefinitionError, match="view 'view', value"):
        store.features(lags(Lag(name="value", column="value", of="tomorrow")))


def test_every_column_of_a_view_says_which_view_it_comes_from() -> None:
    """Importance shuffles a view's columns together: lags count with their view, not with the row itself."""
    features = lags(
        Lag(name="value", column="value", before=("1h", "3h")),
        Lag(name="then", column="value", of="ahead"),
        Aggregate(name="count", function="count", windows=("1d", "7d")),
    )
    spine = features.spine.model_copy(update={"features": (Expression(name="hour", sql="hour(event_time)"),)})
    features = features.model_copy(update={"spine": spine})
    assert features.origins() == dict.fromkeys(("value_1h", "value_3h", "then", "count_1d", "count_7d"), "view")
    assert groups_of(features, features.names()) == {"the row itself": ["hour"], "view": list(features.origins())}
