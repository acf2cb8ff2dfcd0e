"""All that Refit takes from scikit-learn's private API: the trees of its boosting, to shorten, extend and explain them.

`tests/refit/learners/test_sklearn_private.py` fails first if a release changes one of these names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners import spill

Floats = NDArray[np.float64]


def is_histogram_boosting(estimator: Any) -> bool:
    """Whether an estimator is a fitted HistGradientBoosting."""
    return hasattr(estimator, "_bin_mapper") and hasattr(estimator, "_predictors")


def histogram_trees(estimator: Any) -> list[list[Any]]:
    """The trees of each iteration, one for each output; each has `nodes` and `raw_left_cat_bitsets`."""
    trees: list[list[Any]] = estimator._predictors
    return trees


def histogram_baseline(estimator: Any) -> Floats:
    """(outputs,) what all predictions of a HistGradientBoosting start from."""
    return np.ravel(estimator._baseline_prediction)


def histogram_rows(estimator: Any, rows: Any) -> Floats:
    """Rows as the trees of a HistGradientBoosting see them, categorical columns first."""
    return np.asarray(estimator._preprocess_X(rows, reset=False), dtype=np.float64)


def boosting_start(estimator: Any, rows: Any) -> Floats | None:
    """(outputs,) what predictions of a GradientBoosting start from; None if the estimator is none."""
    if not hasattr(estimator, "_raw_predict_init"):
        return None
    return np.ravel(estimator._raw_predict_init(rows[:1]))


def truncate(estimator: Any, iterations: int) -> None:
    """Cut a HistGradientBoosting that stopped early to bit for bit the one fitted with so many iterations."""
    del estimator._predictors[iterations:]
    estimator.train_score_ = estimator.validation_score_ = np.empty(0)
    estimator.do_early_stopping_ = False
    estimator._scorer = None  # this and the next refer to the estimator itself, which no file format supports
    vars(estimator).pop("_raw_predict", None)


def shortened(estimator: Any, iterations: int) -> Any:
    """A HistGradientBoosting with the first trees of another one."""
    shorter = copy.copy(estimator)
    shorter._predictors = estimator._predictors[:iterations]
    shorter.max_iter = iterations
    return shorter


def with_more_trees(model: Any, matrix: Any, label: Any, trees: int) -> Any:
    """A copy of a HistGradientBoosting with further trees, fitted to new rows, whose classes must be among its own."""
    estimator = copy.deepcopy(model)
    estimator.set_params(warm_start=True, early_stopping=False, max_iter=model.n_iter_ + trees)
    estimator.train_score_ = estimator.validation_score_ = np.empty(0)
    with _own_bins(estimator), _own_classes(estimator):
        estimator.fit(matrix, label)
    estimator.set_params(warm_start=False)
    estimator.train_score_ = estimator.validation_score_ = np.empty(0)
    return estimator


@contextmanager
def prepared_in_parts(estimator: Any, rows: Any) -> Iterator[None]:
    """Let a HistGradientBoosting prepare a large matrix, coded already, in parts and into a file, and fit the same.

    scikit-learn makes two copies of it in memory to move the categorical columns to the front, and another one to draw
    the rows that bins are made from.
    """
    original = getattr(estimator, "_preprocess_X", None)
    if original is None or not spill.is_large(rows.nbytes):
        yield
        return

    def prepared(given: Any, *, reset: bool) -> Any:
        if not reset or given is not rows:
            return original(given, reset=reset)
        columns = np.flatnonzero(estimator.categorical_features)
        examples = [np.unique(rows[:, column], return_index=True)[1] for column in columns]  # every category
        _, categories = original(rows[np.unique(np.concatenate([[0], *examples]))], reset=True)
        if categories is None:
            return rows, None
        moved = spill.empty(rows.shape)
        for part in spill.parts(len(rows)):
            moved[part] = original(rows[part], reset=False)
        return moved, categories

    estimator._preprocess_X = prepared
    try:
        with _bins_from_drawn_rows():
            yield
    finally:
        del estimator._preprocess_X


@contextmanager
def _bins_from_drawn_rows() -> Iterator[None]:
    """Draw the rows that bins are made from as scikit-learn does; its way copies the whole of a matrix of columns."""
    from sklearn.ensemble._hist_gradient_boosting import gradient_boosting as seam
    from sklearn.utils import check_random_state

    original = seam._BinMapper.fit

    def fit(mapper: Any, rows: Any, y: Any = None, sample_weight: Any = None) -> Any:
        limit = mapper.subsample
        if sample_weight is not None or limit is None or len(rows) <= limit:
            return original(mapper, rows, y, sample_weight)
        drawn = check_random_state(mapper.random_state).choice(len(rows), limit, p=None, replace=True)
        mapper.subsample = None
        original(mapper, rows[drawn])
        mapper.subsample = limit
        return mapper

    seam._BinMapper.fit = fit
    try:
        yield
    finally:
        seam._BinMapper.fit = original


@contextmanager
def _own_bins(estimator: Any) -> Iterator[None]:
    """Let a warm fit reuse the bins and categories that the estimator's trees were grown with.

    scikit-learn computes bins from the rows of every fit, warm or not, and would apply the old trees to the new bins.
    """
    from sklearn.ensemble._hist_gradient_boosting import gradient_boosting as seam

    mapper, original, encoded = estimator._bin_mapper, seam._BinMapper, estimator._preprocess_X

    class FittedBinMapper:
        """Returns the fitted mapper's bins instead of fitting it again."""

        def fit_transform(self, rows: Any, sample_weight: Any = None) -> Any:
            return mapper.transform(rows)

        def __getattr__(self, name: str) -> Any:
            return getattr(mapper, name)

    seam._BinMapper = lambda **_: FittedBinMapper()
    estimator._preprocess_X = lambda rows, *, reset: (encoded(rows, reset=False), None)
    try:
        yield
    finally:
        seam._BinMapper = original
        del estimator._preprocess_X
        estimator._bin_mapper = mapper


@contextmanager
def _own_classes(estimator: Any) -> Iterator[None]:
    """Let a warm fit of a classifier number the classes as its trees do.

    scikit-learn numbers those of the rows of every fit, and would read the old trees as trees of other classes.
    """
    if not hasattr(estimator, "classes_"):
        yield
        return
    classes = estimator.classes_
    estimator._encode_y = lambda label: np.searchsorted(classes, label).astype(np.float64)
    try:
        yield
    finally:
        del estimator._encode_y
