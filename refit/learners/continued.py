"""Continues training of a fitted scikit-learn estimator on new rows only, with more trees or more passes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.learners.contract import Labels, Spec
from refit.learners.sklearn_private import is_histogram_boosting, shortened, with_more_trees

MOST_TREES, MOST_PASSES = 100, 20


def can_go_on(estimator: Any) -> bool:
    """Whether an estimator, fitted or not, alone or in a pipeline, can continue training."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    fitted, boosting = _estimator(estimator), (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    return isinstance(fitted, boosting) or hasattr(fitted, "partial_fit")


def most_steps(model: Any) -> int:
    """The largest number of further steps to try.

    Raises:
        UserError: such a model cannot continue training.
    """
    estimator = _estimator(model)
    if is_histogram_boosting(estimator):
        return MOST_TREES
    if hasattr(estimator, "partial_fit"):
        return MOST_PASSES
    kind = type(estimator).__name__
    raise UserError(
        f"train.warm_start: champion: a {kind} cannot go on from what it has learned; warm starts are for "
        "HistGradientBoosting, estimators with partial_fit (such as SGDClassifier) and networks: "
        "set train.warm_start: null, or promote such a learner first"
    )


def require_known_classes(model: Any, label: Labels, spec: Spec) -> None:
    """Raise UserError if a label is of a class that a fitted model has not learned, and can never predict."""
    unknown = np.setdiff1d(label, getattr(model, "classes_", label))
    if len(unknown):
        raise UserError(
            f"learner {spec.name!r} ({spec.kind}) goes on with the classes that it has learned, and "
            f"{spec.classes[int(unknown[0])]!r} is new: set train.warm_start: null to learn it"
        )


def stages(
    model: Any, matrix: Any, label: Any, steps: int, row_sets: Sequence[Any], verb: str
) -> Iterator[tuple[Any, list[NDArray[np.float64]]]]:
    """Yield the given model, unchanged, and then the model after each of `steps` further steps on new rows.

    Each model comes with its predictions for each of `row_sets`.

    Args:
        matrix: the new rows, encoded by the model's own encoding.
        row_sets: encoded rows to predict.
        verb: the estimator's method that predicts.
    """
    if is_histogram_boosting(model):
        grown = with_more_trees(model, matrix, label, steps)
        staged = [islice(getattr(grown, f"staged_{verb}")(rows), model.n_iter_ - 1, None) for rows in row_sets]
        for count in range(model.n_iter_, grown.n_iter_ + 1):
            yield shortened(grown, count), [next(each) for each in staged]
        return
    now = copy.deepcopy(model)
    yield now, [getattr(now, verb)(rows) for rows in row_sets]
    encoded = now.named_steps["encode"].transform(matrix) if hasattr(now, "named_steps") else matrix
    for _ in range(steps):
        now = copy.deepcopy(now)
        _estimator(now).partial_fit(encoded, label)
        yield now, [getattr(now, verb)(rows) for rows in row_sets]


def _estimator(model: Any) -> Any:
    return model[-1] if hasattr(model, "named_steps") else model
