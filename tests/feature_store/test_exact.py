"""Integers that no double holds are never learned from as others, and keys meet only where they are the same."""

from __future__ import annotations

from typing import Any

import pytest

from feature_store import Aggregate, DefinitionError, Expression, FeatureSet, FeatureView, Lag, Latest, Lookup, Spine

SPINE = Spine(source="spine", key="key")
BIG = (2**53 + 1, 2**63 - 1, -(2**53) - 1, 2**60 + 1)


def spine(sql: str) -> FeatureSet:
    return FeatureSet(spine=SPINE.model_copy(update={"features": (Expression(name="item", sql=sql),)}))


def of_events(*features: Any) -> FeatureSet:
    return FeatureSet(spine=SPINE, views=(FeatureView(name="v", source="events", entity=("who",), features=features),))


def rows(store: Any, values: list[int], kind: str = "BIGINT") -> None:
    store.fill(
        "spine",
        f"key BIGINT, item {kind}, event_time TIMESTAMP, available_at TIMESTAMP",
        [{"key": n, "item": value, "event_time": store.at(n)} for n, value in enumerate(values)],
    )


@pytest.mark.parametrize("value", BIG)
def test_a_feature_that_no_double_holds_is_refused(store: Any, value: int) -> None:
    rows(store, [1, value])
    with pytest.raises(DefinitionError, match=rf"feature 'item' holds {value}, which no double is.*column text"):
        store.features(spine("item"))


@pytest.mark.parametrize(("kind", "value"), [("UBIGINT", 2**64 - 1), ("HUGEINT", 2**100 + 1)])
def test_so_is_one_of_a_wider_type(store: Any, kind: str, value: int) -> None:
    rows(store, [1])
    with pytest.raises(DefinitionError, match=f"holds {value}"):
        store.features(spine(f"(item - 1 + {value}::{kind})::{kind}"))


def test_a_decimal_with_more_whole_digits_than_a_double_is_refused_and_money_is_not(store: Any) -> None:
    rows(store, [1])
    assert store.features(spine("(item + 0.1)::decimal(38, 10)"))["item"].to_pylist() == [1.1]
    with pytest.raises(DefinitionError, match="holds 9007199254740993"):
        store.features(spine("item * 9007199254740993::decimal(38, 10)"))


@pytest.mark.parametrize("value", [2**53, -(2**53), 2**60, 0, -1])
def test_an_integer_that_a_double_holds_is_a_number(store: Any, value: int) -> None:
    rows(store, [value])
    assert store.features(spine("item"))["item"].to_pylist() == [float(value)]


def test_big_integers_as_texts_are_as_many_categories(store: Any) -> None:
    rows(store, [2**60 + n for n in range(40)])
    assert len(set(store.features(spine("item::varchar"))["item"].to_pylist())) == 40


@pytest.mark.parametrize(
    "feature",
    [
        Latest(name="f", column="place"),
        Lag(name="f", column="place", of="event_time"),
        Aggregate(name="f", function="sum", column="place", windows=("1d",), decimals=0),
        Aggregate(name="f", function="mean", column="place", windows=("1d",), decimals=0),
        Aggregate(name="f", function="std", column="place", windows=("1d",), decimals=0),
    ],
)
def test_neither_do_views_make_another_number_of_one(store: Any, feature: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(60)}])
    store.events([{"who": "a", "place": 2**53 + 1, "event_time": store.at(60), "available_at": store.at(1)}])
    with pytest.raises(DefinitionError, match=f"holds {2**53 + 1}"):
        store.features(of_events(feature))


def test_a_count_or_a_rate_of_big_integers_is_exact_as_it_is(store: Any) -> None:
    store.spine([{"key": 1, "who": "a", "event_time": store.at(60)}])
    store.events([{"who": "a", "place": 2**53 + 1, "event_time": store.at(1), "available_at": store.at(1)}])
    counted = of_events(
        Aggregate(name="n", function="count", column="place", windows=("1d",)),
        Aggregate(name="r", function="rate", column="place", windows=("1d",)),
    )
    assert store.features(counted).to_pylist()[0] | {"n_1d": 1, "r_1d": 1} == store.features(counted).to_pylist()[0]


@pytest.mark.parametrize("others", [(), ("who",)])
def test_entities_and_lookups_meet_by_every_digit(store: Any, others: tuple[str, ...]) -> None:
    values = [2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
    store.spine([{"key": n, "who": "a", "place": v, "event_time": store.at(60)} for n, v in enumerate(values)])
    store.events([{"who": "a", "place": v, "value": n, "event_time": store.at(1), "available_at": store.at(1)}
                  for n, v in enumerate(values)])  # fmt: skip
    store.fill("places", "place BIGINT, name VARCHAR", [{"place": v, "name": str(v)} for v in values])
    features = FeatureSet(
        spine=SPINE,
        views=(
            FeatureView(
                name="v", source="events", entity=("place", *others), features=(Latest(name="last", column="value"),)
            ),
        ),
        lookups=(
            Lookup(name="p", source="places", key=("place",), features=(Expression(name="place_name", sql="p.name"),)),
        ),
    )
    table = store.features(features, places="places")
    assert table["last"].to_pylist() == [0, 1, 2, 3]
    assert table["place_name"].to_pylist() == list(map(str, values))


@pytest.mark.parametrize(
    ("kind", "value", "other", "odd"),
    [
        ("VARCHAR", "007", "BIGINT", "007"),
        ("VARCHAR", "+7", "BIGINT", "+7"),
        ("VARCHAR", "7.0", "BIGINT", "7.0"),
        ("VARCHAR", " 7", "DOUBLE", " 7"),
        ("BIGINT", 2**53 + 1, "DOUBLE", str(2**53 + 1)),
        ("DOUBLE", float(2**53), "BIGINT", "9007199254740992.0"),
    ],
)
def test_keys_that_would_meet_as_other_values_are_refused(
    store: Any, kind: str, value: Any, other: str, odd: str
) -> None:
    when = {"event_time": store.at(60), "available_at": store.at(1)}
    store.fill("spine", f"key BIGINT, who {kind}, event_time TIMESTAMP, available_at TIMESTAMP",
               [{"key": 1, "who": value, **when}])  # fmt: skip
    store.fill("events", f"who {other}, event_time TIMESTAMP, available_at TIMESTAMP", [{"who": 7, **when}])
    counted = of_events(Aggregate(name="n", function="count", windows=("1d",)))
    with pytest.raises(DefinitionError) as caught:
        store.features(counted)
    assert f"view 'v': who is a {kind} on one side and a {other} on the other, where {odd!r}" in str(caught.value)
    store.fill("who", f"who {other}, name VARCHAR", [{"who": 7, "name": "seven"}])
    looked_up = FeatureSet(
        spine=SPINE,
        lookups=(Lookup(name="w", source="who", key=("who",), features=(Expression(name="n", sql="w.name"),)),),
    )
    with pytest.raises(DefinitionError, match="lookup 'w': who is a"):
        store.features(looked_up, who="who")


@pytest.mark.parametrize(("kind", "value", "other"), [("VARCHAR", "7", "BIGINT"), ("VARCHAR", "7", "DOUBLE"),
                                                      ("BIGINT", 7, "DOUBLE")])  # fmt: skip
def test_keys_that_are_written_alike_meet_whatever_their_types(store: Any, kind: str, value: Any, other: str) -> None:
    when = {"event_time": store.at(60), "available_at": store.at(1)}
    store.fill("spine", f"key BIGINT, who {kind}, event_time TIMESTAMP, available_at TIMESTAMP",
               [{"key": 1, "who": value, **when}])  # fmt: skip
    store.fill("events", f"who {other}, event_time TIMESTAMP, available_at TIMESTAMP", [{"who": 7, **when}])
    table = store.features(of_events(Aggregate(name="n", function="count", windows=("1d",))))
    assert table["n_1d"].to_pylist() == [1]
