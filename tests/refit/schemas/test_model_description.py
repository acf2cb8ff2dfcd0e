"""`model.json`: shared entries are typed, and those of a family are read by the family."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from refit.errors import RefitError
from refit.schemas.model_description import EncodedLearner, ModelDescription, TransformedLearner

OLD: dict[str, Any] = {
    "format": 1,
    "name": "forest",
    "kind": "sklearn.ensemble.RandomForestClassifier",
    "features": ["price", "shop"],
    "categorical": ["shop"],
    "params": {"max_depth": 3, "max_features": 0.5},
    "seed": 0,
    "metric": "roc_auc",
    "threshold": 0.5,
}
ENCODED = {"categories": {"shop": ["a", "b"]}, "weights": "model.skops", "libraries": {"scikit-learn": "1.9.0"}}


def test_a_model_stored_when_binary_was_the_only_task_is_one_without_texts() -> None:
    described = ModelDescription.from_json(OLD, "model.json")
    assert (described.task, described.classes, described.text, described.average) == ("binary", (), (), 1)
    assert described.calibration is None
    assert described.intervals is None


def test_a_family_reads_its_own_entries_and_they_are_written_as_they_were() -> None:
    described = ModelDescription.from_json({**OLD, **ENCODED}, "model.json")
    assert described.own(EncodedLearner).categories == {"shop": ("a", "b")}
    assert {name: described.to_json()[name] for name in ENCODED} == ENCODED
    transformed = ModelDescription.from_json({**OLD, "own": {"usual": 2.5}}, "model.json")
    assert transformed.own(TransformedLearner).learned == {"usual": 2.5}
    with pytest.raises(ValidationError, match=r"EncodedLearner\s+categories"):
        transformed.own(EncodedLearner)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"features": "price"}, "features: Input should be a valid array"),
        ({"threshold": "high"}, "threshold: Input should be a valid number"),
        ({"calibration": {"kind": "spline"}}, "calibration: Input tag 'spline' found using 'kind' does not match"),
        ({"intervals": {"level": 0.9, "by": "guesses", "common": {}}}, "intervals"),
    ],
)
def test_a_shared_entry_of_another_kind_is_refused_by_its_name(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(RefitError, match=r"model\.json is damaged or was changed .*restore the folder") as refused:
        ModelDescription.from_json({**OLD, **entry}, "model.json")
    assert words in str(refused.value)
