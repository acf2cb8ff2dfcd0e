"""A learner's own `exclude` is refused where losses are of the features, so that learners could not be compared."""

from __future__ import annotations

import pytest

from refit.config import parse
from refit.errors import UserError
from refit.learners import Spec
from tasks.train.specs import make_all
from tests.tasks.train.test_order import PARAMS

KINDS = {"clustering": "sklearn.cluster.KMeans", "anomaly": "sklearn.ensemble.IsolationForest", "binary": "baseline"}


def make_both(task: str, *features: tuple[str, ...]) -> None:
    learners = [{"name": name, "kind": KINDS[task]} for name in ("wide", "narrow")]
    params = parse(PARAMS | {"train": {"learners": learners}})
    named = zip(("wide", "narrow"), features, strict=True)
    make_all([Spec(name, KINDS[task], columns, task=task, metric="") for name, columns in named], params)


@pytest.mark.parametrize("task", ["clustering", "anomaly"])
def test_learners_of_other_features_are_refused_where_losses_are_of_them(task: str) -> None:
    with pytest.raises(UserError, match=r"learner 'narrow' excludes 'y', .*\(params.yaml: train.learners\[1\].exclude"):
        make_both(task, ("x", "y"), ("x",))
    with pytest.raises(UserError, match=r"(?s)2 learners are wrong:.*'wide' excludes 'y', .*'narrow' excludes 'x', "):
        make_both(task, ("x",), ("y",))
    make_both(task, ("x",), ("x",))


def test_learners_of_other_features_are_compared_by_labels() -> None:
    make_both("binary", ("x", "y"), ("x",))
