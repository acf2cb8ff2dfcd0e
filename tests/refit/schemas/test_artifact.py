"""Stored files: what is written is read, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refit.errors import RefitError
from refit.files.artifacts import read_json
from refit.schemas.incumbent import Incumbent, RegisteredModel

OLD = {"version": "1", "model_digest": "ab", "seen_until": "2025-05-01T00:00:00Z", "split": None}
STORED: dict[str, Any] = {"model": "churn", **OLD, "anchor": OLD, "looks": 2}


def test_a_file_is_read_and_written_with_the_same_content(tmp_path: Path) -> None:
    path = tmp_path / "comparand.json"
    incumbent = Incumbent.from_json(STORED, "comparand.json")
    incumbent.write(path)
    assert read_json(path) == STORED
    assert Incumbent.read(path) == incumbent
    assert incumbent.champion == incumbent.anchor == RegisteredModel.model_validate(incumbent.anchor)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": "churn", "schema": 2}, "written by a newer Refit (format 2, this one reads up to 1); upgrade Refit"),
        ({"model": "churn", "colour": 1}, "Incumbent: colour: Extra inputs are not permitted"),
        ({"model": "churn", "looks": True}, "Incumbent: looks: Input should be a valid integer"),
        ({"model": "churn", "looks": float("nan")}, "Incumbent: looks: Input should be a valid integer"),
        ({"model": "churn", "seen_until": "2025-05-01T00:00:00"}, "Incumbent: seen_until: Value error, a time without"),
        ({}, "Incumbent: model: Field required"),
        ([], "Incumbent: Input should be an object"),
    ],
    ids=["newer", "unknown key", "wrong type", "not finite", "no zone", "empty", "no object"],
)
def test_content_that_is_not_a_files_own_is_refused_on_one_line(content: object, words: str) -> None:
    with pytest.raises(RefitError) as refused:
        Incumbent.from_json(content, "comparand.json")
    assert words in str(refused.value)
    assert str(refused.value).startswith("comparand.json ")
    assert "\n" not in str(refused.value)


def test_a_champion_of_generated_rows_is_no_opponent() -> None:
    assert set(Incumbent.from_json(STORED, "x").opponents) == {"champion"}
    other = {**STORED, "anchor": {**OLD, "version": "0"}}
    assert set(Incumbent.from_json(other, "x").opponents) == {"champion", "anchor"}
    assert Incumbent.from_json({**other, "stand_in": "champion"}, "x").opponents == {}
    assert set(Incumbent.from_json({**other, "stand_in": "candidate"}, "x").opponents) == {"champion", "anchor"}
