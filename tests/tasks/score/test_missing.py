"""Scoring says which features it misses that training had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Expression, FeatureSet, Spine
from refit.files.artifacts import REFERENCE
from refit.schemas.feature_definitions import Definitions
from tasks.score.champion_model import Champion
from tasks.score.missing import lost_zeros, newly_missing

NUMBER = pa.float64()
NOBODY: Any = None  # which version is champion has no say here


@pytest.fixture
def champion(tmp_path: Path) -> Champion:
    """It learned from rows that had a and b, c in one of four, and d never."""
    learned = {"a": [1.0, 2, 3, 4], "b": [1.0, None, 3, 4], "c": [1.0, None, None, None], "d": [None] * 4}
    pq.write_table(pa.table({name: pa.array(each, NUMBER) for name, each in learned.items()}), tmp_path / REFERENCE)
    features = tuple(Expression(name=name, sql=name) for name in "abcd")
    feature_set = FeatureSet(spine=Spine(source="rows", key="id", features=features))
    return Champion(NOBODY, tmp_path, NOBODY, Definitions(feature_set=feature_set, sources={}))


def to_score(**columns: list[float | None]) -> pa.Table:
    return pa.table({name: pa.array(columns.get(name, [None, None]), NUMBER) for name in "abcd"})


def test_a_feature_that_is_gone_is_named(champion: Champion) -> None:
    [note] = newly_missing(champion, to_score(a=[1.0, 2.0]))
    assert note.startswith("missing in every row, though most rows of training had them: b; ")


def test_what_was_rare_before_or_is_there_in_some_rows_is_not(champion: Champion) -> None:
    assert list(newly_missing(champion, to_score(a=[1.0, None], b=[None, 2.0]))) == []
    assert list(newly_missing(champion, to_score().slice(0, 0))) == []


def test_codes_that_lost_their_zeros_are_named(champion: Champion) -> None:
    codes = {"a": ["00501", "10001", "x"], "b": ["7", "07", "1"]}
    learned = {name: pa.array(codes.get(name, [None] * 3), pa.string()) for name in "abcd"}
    pq.write_table(pa.table(learned), champion.folder / REFERENCE)
    lost = pa.table({name: pa.array(["501", "7", "2", None], pa.string()) for name in "abcd"})
    [note] = lost_zeros(champion, lost)
    assert note.startswith("a has lost leading zeros: '501' was '00501' in training")
    assert list(lost_zeros(champion, pa.table(learned))) == []
    assert list(lost_zeros(champion, to_score(a=[501.0, 7.0]))) == []
