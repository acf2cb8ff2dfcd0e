"""Learners that read rows in order of time are refused where rows are drawn by chance, or some are left out."""

from __future__ import annotations

from typing import Any

import pytest

from refit.config import parse
from refit.errors import UserError
from refit.learners import Spec
from tasks.train.specs import make_all

COLUMNS = {"id": "text", "y": "integer", "at": "timestamp"}
PARAMS: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "*.csv", "columns": COLUMNS, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "y"}},
    "train": {"learners": [{"name": "stream", "kind": "online"}]},
}


def make_with(**sections: Any) -> None:
    params = parse({name: {**part, **sections.get(name, {})} for name, part in PARAMS.items()})
    make_all([Spec("stream", "online", ("x",))], params)


def test_windows_and_folds_in_order_of_time_are_read() -> None:
    make_with()
    make_with(train={"cross_validation": {"kind": "time", "folds": 3}})


def test_folds_by_chance_are_refused() -> None:
    with pytest.raises(UserError, match=r"reads rows in order of time; folds of kind 'kfold' mix it up: set train\."):
        make_with(train={"cross_validation": {"kind": "kfold", "folds": 3}})


def test_a_part_of_the_rows_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"would never learn those that train\.max_rows leaves out: set train\.max_rows"
    ):
        make_with(train={"max_rows": 1000})


def test_windows_by_chance_are_refused() -> None:
    with pytest.raises(UserError, match=r"featurize\.split draws windows by chance: set featurize\.windows instead"):
        make_with(featurize={"split": {"test": 0.2}})
