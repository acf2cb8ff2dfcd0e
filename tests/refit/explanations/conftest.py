"""Rows whose label follows `strength` most, then `colour`; `visits` and `noise` tell nothing, `same` never differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.learners import Learner, Spec, make

Fit = Callable[..., Learner]


@pytest.fixture(scope="session")
def rows() -> pa.Table:
    random = np.random.default_rng(0)
    count = 400
    return pa.table(
        {
            "strength": random.normal(size=count),
            "visits": random.integers(0, 4, count),
            "noise": [None if value > 1 else value for value in random.normal(size=count)],
            "same": [1.0] * count,
            "colour": random.choice(["red", "green", "blue"], count, p=[0.5, 0.3, 0.2]),
        }
    )


@pytest.fixture(scope="session")
def worded(rows: pa.Table) -> pa.Table:
    """The rows with a text that repeats the colour among other words."""
    others = ["some", "many", "few", "no"]
    told = [f"{others[n % 4]} {each} things" for n, each in enumerate(rows["colour"].to_pylist())]
    return rows.append_column("words", pa.array(told))


@pytest.fixture(scope="session")
def fitted(rows: pa.Table, worded: pa.Table) -> Fit:
    """Fits a learner of a kind to these rows; with a text it is told the colour in words as well."""

    def fit(task: str, kind: str, *, text: bool = False, average: int = 1, **params: Any) -> Learner:
        table = worded if text else rows
        score = table["strength"].to_numpy() + 0.8 * (np.array(table["colour"].to_pylist()) == "red")
        luck = np.random.default_rng(1).normal(0, 0.5, len(table))
        label = {
            "regression": np.exp(score),
            "binary": (score + luck > 0).astype(int),
            "multiclass": np.digitize(score + luck, (-0.5, 0.8)),
        }
        spec = Spec(
            "one",
            kind,
            tuple(table.column_names),
            frozenset({"colour"}),
            params,
            task=task,  # type: ignore[arg-type]
            metric="mae" if task == "regression" else "log_loss",
            classes=("a", "b", "c") if task == "multiclass" else (),
            text=("words",) if text else (),
            vectoriser={"kind": "sklearn.feature_extraction.text.TfidfVectorizer", "params": {}, "components": 5},
            average=average,
        )
        learner = make(spec)
        learner.fit(table, label[task])
        return learner

    return fit
