"""Reads the fitted trees of scikit-learn estimators, and which branch each row takes at each node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners import Spec, sklearn_private

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """A fitted tree as arrays over its nodes."""

    left: NDArray[np.int64]  # -1: a leaf
    right: NDArray[np.int64]
    feature: NDArray[np.int64]  # of the learner
    weight: Floats  # of the training rows that reached the node
    value: Floats  # (nodes, outputs)
    goes_left: NDArray[np.bool_]  # (nodes, rows)

    def onto(self, output: int, outputs: int) -> Tree:
        """The same tree, with its one value assigned to one of several outputs."""
        value = np.zeros((len(self.value), outputs))
        value[:, output] = self.value[:, 0]
        return replace(self, value=value)


def read(estimator: Any, given: Any, columns: NDArray[np.int64], spec: Spec) -> tuple[Iterator[Tree], Any]:
    """Return the trees of an estimator, and the constant that it adds to their sum.

    Args:
        given: rows as the estimator receives them.
        columns: for each column, the index of its feature in the learner's spec.
    """
    given = given.toarray() if hasattr(given, "toarray") else np.asarray(given)
    if sklearn_private.is_histogram_boosting(estimator):
        return _histogram_trees(estimator, given, columns), sklearn_private.histogram_baseline(estimator)
    if hasattr(estimator, "tree_"):
        return iter([_tree(estimator, given, columns, _scale(estimator, spec), 1.0)]), 0.0
    if (start := sklearn_private.boosting_start(estimator, given)) is not None:  # a tree of numbers for each output
        return _boosted_trees(estimator, given, columns), start
    share = 1 / len(estimator.estimators_)
    trees = (_tree(each, given, columns, _scale(estimator, spec), share) for each in estimator.estimators_)
    return trees, 0.0


def _scale(estimator: Any, spec: Spec) -> Floats | None:
    """(values of a leaf, outputs) matrix from a leaf's class shares to predictions; None if no mapping is needed."""
    if not spec.problem.probabilities:
        return None
    classes = np.asarray(estimator.classes_)
    if not spec.classes:
        return np.asarray(classes[:, None] == 1, dtype=np.float64)
    onto = np.zeros((len(classes), len(spec.classes)))
    onto[np.arange(len(classes)), classes] = 1.0
    return onto


def _tree(estimator: Any, given: NDArray[Any], columns: NDArray[np.int64], scale: Floats | None, share: float) -> Tree:
    """Read a tree of `sklearn.tree`, which compares in single precision."""
    tree = estimator.tree_
    value = tree.value[:, 0, :]
    if scale is not None:
        value = value / value.sum(axis=1, keepdims=True) @ scale
    seen = given.astype(np.float32)[:, np.maximum(tree.feature, 0)]
    goes_left = np.where(np.isnan(seen), tree.missing_go_to_left.astype(np.bool_), seen <= tree.threshold)
    feature = columns[np.maximum(tree.feature, 0)]
    weight = tree.weighted_n_node_samples
    return Tree(tree.children_left, tree.children_right, feature, weight, value * share, goes_left.T)


def _boosted_trees(estimator: Any, given: NDArray[Any], columns: NDArray[np.int64]) -> Iterator[Tree]:
    outputs = estimator.estimators_.shape[1]
    for step in estimator.estimators_:
        for output, each in enumerate(step):
            yield _tree(each, given, columns, None, estimator.learning_rate).onto(output, outputs)


def _histogram_trees(estimator: Any, given: NDArray[Any], columns: NDArray[np.int64]) -> Iterator[Tree]:
    """Read the trees of HistGradientBoosting, which orders categorical columns before all others."""
    seen = sklearn_private.histogram_rows(estimator, given)
    categorical = estimator.is_categorical_
    if categorical is not None:
        columns = np.concatenate([columns[categorical], columns[~categorical]])
    steps = sklearn_private.histogram_trees(estimator)
    outputs = len(steps[0]) if steps else 1
    for step in steps:
        for output, predictor in enumerate(step):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(np.bool_)
            tree = Tree(
                left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
                right=nodes["right"].astype(np.int64),
                feature=columns[nodes["feature_idx"]],
                weight=nodes["count"].astype(np.float64),
                value=nodes["value"][:, None],
                goes_left=_ways(nodes, predictor.raw_left_cat_bitsets, seen),
            )
            yield tree.onto(output, outputs)


def _ways(nodes: Any, left_categories: Any, seen: Floats) -> NDArray[np.bool_]:
    """(nodes, rows) whether a row goes left; categories that are not in the node's left set go right."""
    x = seen[:, nodes["feature_idx"]].T
    with np.errstate(invalid="ignore"):
        left = x <= nodes["num_threshold"][:, None]
    for node in np.flatnonzero(nodes["is_categorical"]):
        codes = np.nan_to_num(x[node]).astype(np.int64)
        words = left_categories[nodes["bitset_idx"][node]]
        left[node] = (words[codes // 32] >> (codes % 32).astype(np.uint32)) & 1
    ways: NDArray[np.bool_] = np.where(np.isnan(x), nodes["missing_go_to_left"].astype(np.bool_)[:, None], left)
    return ways
