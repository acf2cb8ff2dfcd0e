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
