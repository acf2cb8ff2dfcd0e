"""Exact Shapley values of scikit-learn trees, with categories and missing values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.explanations.encoded import encoded
from refit.explanations.shapley import RawContributions
from refit.explanations.tree_reading import Floats, Tree, read
from refit.learners import Learner, sklearn_private
from refit.learners.sklearn_estimator import SklearnEstimator

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS_PER_LEAF, SECONDS_PER_STEP = 1.5e-5, 6e-9  # measured; used to count affordable work, not to time it
FEWEST_ROWS = 20  # with fewer affordable rows than this, another explainer is used
CHUNK = 2_000_000  # numbers held in memory at a time


def explain(learner: Learner, rows: pa.Table, background: pa.Table, seconds: float) -> RawContributions | None:
    """Exact contributions, by the rows that the trees were fitted to; None if there are no trees, or too many.

    Path-dependent TreeSHAP (Lundberg et al. 2018, "Consistent Individualized Feature Attribution for Tree Ensembles",
    algorithm 1), summed over leaves. All columns of one feature count as one player.
    """
    if not isinstance(learner, SklearnEstimator):
        return None
    estimator, _, _ = encoded(learner, rows.slice(0, 1))
    if (leaves := _leaves_of(estimator)) is None:
        return None
    count = _affordable(leaves, len(learner.spec.features), seconds)
    if count < min(rows.num_rows, FEWEST_ROWS):
        return None
    indices = np.unique(np.linspace(0, rows.num_rows - 1, min(count, rows.num_rows)).astype(np.int64))
    _, given, columns = encoded(learner, rows.take(indices))
    outputs = max(len(learner.spec.classes), 1)
    values, base = np.zeros((len(indices), len(learner.spec.features), outputs)), np.zeros(outputs)
    read_trees, offset = read(estimator, given, columns, learner.spec)
    by_size: dict[int, list[Leaf]] = {}
    for tree in read_trees:
        for leaf in _leaves(tree, len(indices)):
            base += leaf.value * np.prod(leaf.share)
            by_size.setdefault(size := len(leaf.features), []).append(leaf)
            if len(by_size[size]) * size * len(indices) * (size + 1) > 2 * CHUNK:
                _add(values, by_size.pop(size))
    for leaves_of_size in by_size.values():
        _add(values, leaves_of_size)
    return RawContributions(values, base + offset, indices, "trees")


def _leaves_of(estimator: Any) -> tuple[int, int] | None:
    """Count the trees and leaves of an estimator; None if it has no trees."""
    if sklearn_private.is_histogram_boosting(estimator):
        steps = sklearn_private.histogram_trees(estimator)
        counts = [int(each.nodes["is_leaf"].sum()) for step in steps for each in step]
        return len(counts), sum(counts)
    if hasattr(estimator, "tree_"):
        return 1, int(estimator.tree_.n_leaves)
    members = getattr(estimator, "estimators_", None)
    if members is None or not all(hasattr(each, "tree_") for each in np.ravel(members)):
        return None
    return len(np.ravel(members)), sum(int(each.tree_.n_leaves) for each in np.ravel(members))


def _affordable(tree_and_leaf_counts: tuple[int, int], features: int, seconds: float) -> int:
    """How many rows can be explained in about this many seconds."""
    trees, leaves = tree_and_leaf_counts
    path = min(np.log2(max(leaves / max(trees, 1), 1)) + 2, features)
    left = seconds - leaves * SECONDS_PER_LEAF
    return int(left / (leaves * path * (path / 2 + 1) * SECONDS_PER_STEP)) if left > 0 else 0


@dataclass(frozen=True)
class Leaf:
    """A leaf, and what each feature on the path to it lets through."""

    features: tuple[int, ...]
    share: Floats  # (features,) share of the training rows that pass, used if the feature is not known
    passes: NDArray[np.bool_]  # (features, rows) whether the row passes, used if the feature is known
    value: Floats  # (outputs,)


def _leaves(tree: Tree, rows: int) -> Iterator[Leaf]:
    """Walk to every leaf; a feature that is tested twice on a path counts once."""
    stack: list[tuple[int, dict[int, tuple[float, NDArray[np.bool_]]]]] = [(0, {})]
    while stack:
        node, way = stack.pop()
        if tree.left[node] < 0:
            share = np.array([share for share, _ in way.values()])
            passes = np.array([passes for _, passes in way.values()], dtype=np.bool_).reshape(len(way), rows)
            yield Leaf(tuple(way), share, passes, tree.value[node])
            continue
        feature, goes_left = int(tree.feature[node]), tree.goes_left[node]
        before, passed = way.get(feature, (1.0, None))
        for child, goes in ((tree.left[node], goes_left), (tree.right[node], ~goes_left)):
            share = before * tree.weight[child] / tree.weight[node]
            stack.append((int(child), {**way, feature: (share, goes if passed is None else passed & goes)}))


def _add(values: Floats, leaves: list[Leaf]) -> None:
    """Add the contributions of leaves that have equally many features on their paths.

    With o = passes and z = share, feature j of a leaf's M features gets (o_j - z_j) times the leaf's value times the
    sum over all sets S of the other features of |S|! (M - 1 - |S|)! / M! prod_S o prod_rest z. The weight is the
    integral of t^|S| (1 - t)^(M - 1 - |S|) over [0, 1], so the sum is the integral of prod (o t + z (1 - t)), a
    polynomial of degree M - 1 that Gauss-Legendre quadrature integrates exactly.
    """
    from scipy.sparse import csr_array

    size = len(leaves[0].features)
    if not size:
        return
    passes = np.array([leaf.passes for leaf in leaves], dtype=np.float64)  # (leaves, features, rows)
    share = np.array([leaf.share for leaf in leaves])[:, :, None]
    points, weights = np.polynomial.legendre.leggauss(size // 2 + 1)
    sums = np.zeros_like(passes)
    for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
        parts = passes * t + share * (1 - t)
        sums += weight * np.prod(parts, axis=1, keepdims=True) / parts
    sums *= passes - share
    features = np.array([leaf.features for leaf in leaves]).ravel()
    for output in range(values.shape[2]):
        sizes = np.repeat([leaf.value[output] for leaf in leaves], size)
        onto = csr_array((sizes, (features, np.arange(len(features)))), shape=(values.shape[1], len(features)))
        values[:, :, output] += (onto @ sums.reshape(len(features), -1)).T
