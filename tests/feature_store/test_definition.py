"""Definitions as data: closed, serialisable, and the same statement from the same definition."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from pydantic import ValidationError

from feature_store import Aggregate, DefinitionError, Expression, FeatureSet, FeatureView, Latest, Spine
from feature_store import compile as sql
from feature_store.views.flights import FEATURES

TIMES: tuple[Literal["available_at", "event_time"], ...] = ("available_at", "event_time")


def statements(features: FeatureSet) -> list[str]:
    """Every statement that does not depend on types found in the data."""
    found = [sql.spine_sql(features.spine, "rows"), sql.row_sql(features.spine.features, "spine", ["key"])]
    for view in features.views:
        found += [
            sql.events_sql(view, "entities", view.source, "timestamp '2020-01-01'"),
            sql.moments_sql(view, "spine", None),
            sql.view_sql(view, "spine", "totals"),
            sql.latest_sql(view, "joined", view.source, "timestamp '2020-01-01'"),
            sql.one_of_peers_sql(view, "latest"),
        ]
    return found + [sql.lookup_sql(lookup, "spine", lookup.source) for lookup in features.lookups]


def test_a_stored_definition_comes_back_and_makes_the_same_statements() -> None:
    stored = json.dumps(FEATURES.model_dump(mode="json"), sort_keys=True)
    back = FeatureSet.model_validate_json(stored)
    assert back == FEATURES
    assert statements(back) == statements(FEATURES)
    assert back.names() == FEATURES.names()


def test_what_windows_go_by_is_stored_only_where_it_is_not_the_default() -> None:
    """Otherwise every stored model would have another digest."""
    count = Aggregate(name="n", function="count", windows=("7d",))
    by = {each: FeatureView(name="v", source="s", windows_by=each, features=(count,)) for each in TIMES}
    assert "windows_by" not in by["available_at"].model_dump()
    assert by["event_time"].model_dump()["windows_by"] == "event_time"
    assert FeatureView.model_validate(by["event_time"].model_dump()) == by["event_time"]


def test_windows_by_event_times_are_of_aggregates_alone() -> None:
    others = (Aggregate(name="n", function="count", windows=("7d",)), Latest(name="last", column="value"))
    with pytest.raises(ValidationError, match="v: with windows_by event_time a view has aggregates alone; put last"):
        FeatureView(name="v", source="s", windows_by="event_time", features=others)


def test_every_reference_feature_says_what_it_is_and_what_missing_means() -> None:
    for name, feature in FEATURES.described().items():
        assert feature.description, name
        assert feature.missing, name


def test_patterns_leave_features_out_wherever_they_are_defined() -> None:
    less = FEATURES.without(["*_28d", "aircraft_*", "month", "temp"])
    assert not [name for name in less.names() if name.endswith("_28d") or name.startswith("aircraft_")]
    assert [name for name in FEATURES.names() if name in set(less.names())] == less.names()
    assert not less.lookups
    assert "aircraft" not in [view.name for view in less.views]
    assert "carrier_late_rate_7d" in less.names()
    assert FEATURES.without([]) == FEATURES


@pytest.mark.parametrize(
    ("patterns", "complaint"),
    [
        (["nothing*"], "pattern 'nothing\\*' matches no feature"),
        (["carier"], "did you mean 'carrier'"),
        (["*"], "match every feature"),
    ],
)
def test_patterns_that_leave_out_nothing_or_everything_are_refused(patterns: list[str], complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        FEATURES.without(patterns)


def feature_set(*features: Expression, view: tuple[Latest | Aggregate, ...] = ()) -> FeatureSet:
    views = (FeatureView(name="v", source="s", entity=("e",), features=view),) if view else ()
    return FeatureSet(spine=Spine(source="s", key="key", features=features), views=views)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: feature_set(), "at least one feature"),
        (lambda: feature_set(Expression(name="a", sql="1"), view=(Latest(name="a", column="x"),)), "twice: a"),
        (lambda: feature_set(Expression(name="label", sql="1")), "no feature may be called label"),
        (lambda: feature_set(Expression(name="key", sql="1")), "no feature may be called key"),
        (lambda: Aggregate(name="a", function="mean", windows=("1d",)), "mean needs a column"),
        (lambda: Aggregate(name="a", function="median", column="x", windows=("1d",)), "'count', 'sum', 'mean'"),  # type: ignore[arg-type]
        (lambda: Aggregate(name="a", function="count", windows=("1 day",)), "pattern"),
        (lambda: Aggregate(name="a", function="count", windows=()), "at least 1"),
        (lambda: Latest(name="a", column="x", max_age="0d"), "pattern"),
        (lambda: Expression(name="a", sql="1", colour="red"), "Extra inputs"),  # type: ignore[call-arg]
    ],
)
def test_a_definition_that_cannot_be_meant_is_refused_at_once(make: object, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        make()  # type: ignore[operator]
