"""`features.json`: every kind of label, and what only some tables have, keep their bytes."""

from __future__ import annotations

from typing import Any

import pytest
from stored_files import features_json

from refit.errors import RefitError
from refit.schemas.feature_table import FeatureTable

TABLE = features_json(["price", "shop"], ["shop"])
BOUNDS = {"start": "2024-01-01T00:00:00Z", "end": "2024-02-01T00:00:00Z"}
FORECAST = {"of": "days", "series": ["shop"], "step": "1d", "horizons": [1, 7], "season": 7}


def windows(**labels: Any) -> dict[str, Any]:
    return {name: {**BOUNDS, "rows": 5, **labels} for name in ("train", "validation", "test")}


@pytest.mark.parametrize(
    "more",
    [
        {"windows": windows(positive=0)},
        {"windows": windows(classes={"a": 3, "b": 2}), "classes": ["a", "b"], "task": "multiclass"},
        {"windows": windows(mean=1.5, std=0.0), "task": "regression"},
        {"windows": windows(mean=None, std=None), "task": "regression"},
        {"windows": windows()},
        {"windows": windows(positive=1, late=2, until="2024-01-31T00:00:00Z")},
        {"forecast": {**FORECAST, "scales": {'["a"]': 2.5, '["b"]': None}}},
        {"giveaways": [{"features": ["price"], "reason": "counts the rows"}], "stand_in": ["orders"]},
        {"split": "at random", "kept": ["id"], "text": ["remark"]},
    ],
    ids=["binary", "classes", "numbers", "no numbers", "no label", "late", "forecast", "notes", "split"],
)
def test_what_is_read_is_written_with_the_same_keys(more: dict[str, Any]) -> None:
    stored = {"text": [], **TABLE, **more}
    table = FeatureTable.from_json(stored, "features.json")
    again = FeatureTable.from_json(table.to_json(), "features.json")
    assert again == table
    spine = again.definitions.feature_set.spine
    assert [feature.name for feature in spine.features] == ["price", "shop"]
    assert {**table.to_json(), "definitions": 0} == {**stored, "definitions": 0}


def test_the_rows_of_a_window_end_where_their_labels_come_in_time() -> None:
    late = FeatureTable.from_json({**TABLE, "windows": windows(positive=1, until="2024-01-31T00:00:00Z")}, "f")
    assert late.windows.validation.seen_until.isoformat() == "2024-01-31T00:00:00+00:00"
    whole = FeatureTable.from_json({**TABLE, "windows": windows(positive=1)}, "f")
    assert whole.windows.validation.seen_until.isoformat() == "2024-02-01T00:00:00+00:00"
    assert whole.windows.test.bounds == BOUNDS


def test_definitions_of_no_feature_set_are_refused_by_their_place() -> None:
    with pytest.raises(RefitError, match=r"f is damaged or was changed \(FeatureTable: definitions.feature_set.spine"):
        FeatureTable.from_json({**TABLE, "definitions": {"feature_set": {}, "sources": {}}}, "f")


BY_COLUMN = {"split": "as column part says"}
BY_SHOP = {"split": "0.2 of shop, seed 0"}
BY_ROW = {"split": "0.2 of the rows, seed 0"}


def rule(stored: dict[str, Any], *, event_time: str = "sold", **columns: str) -> str | None:
    """The rule of a table whose rows have columns computed by this SQL."""
    source = {"table": "rows", "event_time": event_time, "columns": {"id": "id", **columns}}
    definitions = {**TABLE["definitions"], "sources": {"rows": source}}
    return FeatureTable.from_json({**TABLE, **stored, "definitions": definitions}, "f").split_rule


@pytest.mark.parametrize(
    ("stored", "columns", "others", "text"),
    [
        (BY_COLUMN, {"part": "part"}, {"part": "lower(part)"}, "as column part says of rows"),
        (BY_COLUMN, {"part": "if(n = 1, 'test', 'train')"}, {"part": "if(n = 2, 'test', 'train')"}, "(part: if(n = 1,"),
        (BY_SHOP, {"shop": "town"}, {"shop": "street"}, "0.2 of shop, seed 0 of rows (shop: town)"),
        (BY_SHOP, {"shop": "town"}, {"shop": "town", "id": "number"}, "of rows (shop: town)"),  # rows without a shop
        (BY_ROW, {"id": "a || b"}, {"id": "a || c"}, "0.2 of the rows, seed 0, key 'id' of rows (id: a || b)"),
        (BY_COLUMN, {"part": "name"}, {"part": "name", "event_time": "made"}, "of rows (part: name)"),
    ],
    ids=["a column as it is", "a column", "by", "by, with a key", "each row", "not the time"],
)
def test_a_rule_is_another_if_a_column_that_it_reads_is_computed_otherwise(
    stored: dict[str, Any], columns: dict[str, str], others: dict[str, str], text: str
) -> None:
    assert text in str(rule(stored, **columns))
    assert rule(stored, **columns) == rule(stored, **columns, colour="lower(colour)")
    assert (rule(stored, **columns) == rule(stored, **others)) == ("event_time" in others)


def test_a_rule_that_reads_the_time_is_another_for_another_time() -> None:
    early = {"part": "if(event_time < '2024-02-01', 'train', 'test')"}
    assert rule(BY_COLUMN, **early) != rule(BY_COLUMN, event_time="delivered", **early)
