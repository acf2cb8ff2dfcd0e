"""Any scikit-learn clusterer or mixture as a learner: stored as its centres and the mixture that its segments imply."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, safe
from refit.learners.blas import one_blas_thread
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    describe,
    library_errors,
)
from refit.learners.meta_learner import matching
from refit.learners.of_numbers import OfNumbers
from refit.metrics.mixtures import FLOOR, Mixture
from refit.metrics.scaling import Scaling
from refit.problems.clustering import NOISE
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ClusteringLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

ARRAYS = "segments.safetensors"
LOG = "log"  # an argument of ours: features whose logarithm is clustered, as shell patterns


class Clusterer(OfNumbers):
    """Scales numbers, lets an estimator divide the training rows, and keeps what new rows need.

    A mixture assigns a row to its likeliest component, every other clustering to the nearest centre, as k-means does.
    Rows that a clustering calls noise (-1) are a segment of their own; a new row belongs to it if it lies farther from
    its nearest centre than all training rows of that segment. A missing value counts neither in distances nor in
    densities; the estimator itself gets the mean. The estimator is not stored.
    """

    SORT, OWN = "cluster", LOG

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._configure(spec)
        self._estimator = self._built(where)
        if not hasattr(self._estimator, "fit_predict"):
            raise UserError(
                f"learner {spec.kind!r} divides no rows into clusters (it has no fit_predict); train.task is "
                f"'clustering' ({where}.kind)"
            )
        self._logs(where)

    def _configure(self, spec: Spec) -> None:
        super()._configure(spec)
        self._mixture: Mixture | None = None

    @property
    def declaration(self) -> Declaration:
        return Declaration(("clustering",), labels=False, images=True, safe_format="safetensors")

    def _logs(self, where: str = "train.learners") -> NDArray[np.bool_]:
        """(columns,) mask of those whose logarithm is clustered."""
        patterns = self.spec.params.get(LOG) or ()
        if isinstance(patterns, str) or not all(isinstance(each, str) for each in patterns):
            raise UserError(
                f"learner {self.spec.name!r}: log is a list of features, such as [amount] or ['*']; found "
                f"{patterns!r} ({where}.params.log)"
            )
        chosen = matching(patterns, self.spec.features, f"{where}.params.log")
        return np.isin(self._encoding.origins, chosen)

    @property
    def logged(self) -> tuple[str, ...]:
        """The features whose logarithm is clustered."""
        return matching(self.spec.params.get(LOG) or (), self.spec.features, LOG)

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        numbers = self._encoding.matrix(train)
        self._scaling = Scaling.of(numbers, self._logs())
        points = np.nan_to_num(self._scaling.scaled(numbers), nan=0.0)
        with self._gathered() as messages:
            self._keep(*self._divided(points), points)
        if self.spec.metric == "negative_log_likelihood":
            messages += self._few_valued(
                numbers, "likelihood can be won by segments of them alone: choose by silhouette"
            )
        if self.segments.max() == self.segments.min():
            messages.append("it found a single segment: all rows are alike to it")
        return self._report(messages)

    def _divided(self, points: Floats) -> tuple[Any, NDArray[np.int64]]:
        """The estimator fitted to scaled points, and the group that it put each in."""
        from sklearn.base import clone

        estimator = clone(self._estimator)
        with library_errors(self.spec):
            return estimator, np.asarray(estimator.fit_predict(points), dtype=np.int64)

    def divided(self, points: Floats) -> NDArray[np.int64]:
        """(rows,) the groups that the estimator makes of scaled points; the learner stays as it is."""
        with warnings.catch_warnings(), one_blas_thread():
            warnings.simplefilter("ignore")
            return self._divided(points)[1]

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise UserError(
            f"learner {self.spec.name!r} ({self.spec.kind}) does not go on from a champion; set train.warm_start: null "
            "(segments keep the champion's names all the same)"
        )

    def _keep(self, estimator: Any, groups: NDArray[np.int64], points: Floats) -> None:
        """Keep what new rows need; segments are numbered by size, the largest first."""
        names = np.unique(groups)
        if (names < 0).all():
            raise UserError(
                f"learner {self.spec.name!r} ({self.spec.kind}) found no cluster: all {len(points):,} training rows "
                "are noise to it; let clusters be smaller or looser (such as min_cluster_size), or take another learner"
            )
        weights = getattr(estimator, "weights_", None)
        self._likeliest = weights is not None and hasattr(estimator, "covariances_")
        if self._likeliest:
            means = np.asarray(estimator.means_, dtype=np.float64)
            covariances = _full(estimator, means.shape)
            mixture = Mixture(np.maximum(np.asarray(weights, dtype=np.float64), 1e-300), means, covariances)
            sizes, centres = mixture.weights, means
            noisy = np.zeros(len(means), dtype=np.bool_)
            empty = ~np.isin(np.arange(len(means)), names)  # part of the density, and no segment: no row belongs to it
        else:
            codes = np.searchsorted(names, groups)
            mixture = Mixture.of_groups(points, codes, len(names))
            sizes, centres, noisy = mixture.weights, mixture.means.copy(), names < 0
            empty = np.zeros(len(names), dtype=np.bool_)
            given = getattr(estimator, "cluster_centers_", None)
            if given is not None and np.shape(given) == centres[~noisy].shape:
                centres[~noisy] = given
        kind = getattr(estimator, "covariance_type", "full") if self._likeliest else "full"
        self.parameters = _parameters(kind, int((~empty).sum()), centres.shape[1])
        order = np.lexsort((np.arange(len(sizes)), -sizes, noisy | empty))  # noise last
        self._mixture = Mixture(mixture.weights[order], mixture.means[order], mixture.covariances[order])
        self._centres = np.ascontiguousarray(centres[order][: int((~noisy & ~empty).sum())])
        self.segments = np.array([*range(1, len(self._centres) + 1), *[NOISE] * int(noisy.sum())], dtype=np.int64)
        self._reach = np.full(len(self._centres), np.inf)
        if noisy.any():
            for nearest, code in enumerate(order[: len(self._centres)]):
                apart = points[groups == names[code]] - self._centres[nearest]
                self._reach[nearest] = np.sqrt((apart**2).sum(axis=1)).max()

    def predict(self, table: pa.Table) -> Floats:
        if self._mixture is None:
            raise self._not_fitted()
        numbers = self._encoding.matrix(table)
        if not len(numbers):
            return np.empty(self.spec.problem.shape(0))
        points = self._scaling.scaled(numbers)
        with one_blas_thread():
            joint = self._mixture.log_joint(points)
            distances = _distances(points, self._centres)
        top = joint.max(axis=1)
        loss = self._scaling.log_stretch(numbers) - top - np.log(np.exp(joint - top[:, None]).sum(axis=1))
        rows = np.arange(len(points))
        nearest = (joint[:, : len(self._centres)] if self._likeliest else -distances).argmax(axis=1)
        own = distances[rows, nearest]
        segment = np.where(own > self._reach[nearest], NOISE, self.segments[nearest])
        return np.column_stack([segment, loss, _silhouettes(distances, nearest, own), own])

    def points(self, table: pa.Table) -> Floats:
        """(rows, columns) the scaled numbers that are clustered; a missing value is 0, the mean."""
        return np.nan_to_num(self._scaling.scaled(self._encoding.matrix(table)), nan=0.0)

    def named_after(self, before: Learner, rows: pa.Table) -> None:
        """Give segments the numbers of a champion's that hold the same rows, the most rows in all.

        The same are more than half of the rows of one of the two. A segment without such a one gets a number that the
        champion does not use. Source: Kuhn (1955), "The Hungarian method for the assignment problem".
        """
        from scipy.optimize import linear_sum_assignment

        theirs = before.predict(rows)[:, 0].astype(np.int64)
        ours = self.predict(rows)[:, 0].astype(np.int64)
        mine = self.segments[self.segments != NOISE]
        taken = np.unique([*theirs, *getattr(before, "segments", ())])
        others = taken[taken != NOISE]
        shared = np.array([[((ours == a) & (theirs == b)).sum() for b in others] for a in mine]).reshape(len(mine), -1)
        sizes = np.array([[min((ours == a).sum(), (theirs == b).sum()) for b in others] for a in mine])
        shared[2 * shared <= sizes.reshape(shared.shape)] = 0
        matched = {
            int(mine[a]): int(others[b]) for a, b in zip(*linear_sum_assignment(-shared), strict=True) if shared[a, b]
        }
        unused = (number for number in range(1, len(mine) + int(others.max(initial=0)) + 1) if number not in others)
        names = {int(number): matched.get(int(number)) or next(unused) for number in mine}
        self.segments = np.array([names.get(int(number), NOISE) for number in self.segments], dtype=np.int64)

    def save(self, folder: Path) -> None:
        safe.save_arrays(self._arrays(), folder / ARRAYS)
        own = ClusteringLearner(likeliest=self._likeliest, segments=tuple(self.segments.tolist()), weights=ARRAYS)
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Clusterer:
        learner = cls._blank(description, spec)
        own, arrays = description.own(ClusteringLearner), safe.load_arrays(folder / ARRAYS)
        learner._likeliest, learner.segments = own.likeliest, np.array(own.segments, dtype=np.int64)
        learner._mixture = Mixture(arrays["weights"], arrays["means"], arrays["covariances"])
        learner._scaling = Scaling.of_arrays(arrays)
        learner._centres, learner._reach = arrays["centres"], arrays["reach"]
        return learner

    def _arrays(self) -> Mapping[str, Any]:
        assert self._mixture is not None
        return {
            "weights": self._mixture.weights,
            "means": self._mixture.means,
            "covariances": self._mixture.covariances,
            **self._scaling.arrays(),
            "centres": self._centres,
            "reach": self._reach,
        }

    def unsafe_reason(self) -> str | None:
        return None

    def digest(self) -> str:
        parts = {"features": list(self.spec.features), "segments": self.segments.tolist()}
        model = canonical.digest({**self._arrays(), "likeliest": self._likeliest})
        return digest({"kind": self.spec.kind, "model": model, **parts})


def _parameters(kind: str, count: int, width: int) -> int:
    """The free parameters of a mixture of `count` Gaussians in `width` dimensions, by its type of covariance.

    >>> [_parameters(kind, 3, 2) for kind in ("full", "tied", "diag", "spherical")]
    [17, 11, 14, 11]
    """
    triangle = width * (width + 1) // 2
    covariances = {"tied": triangle, "diag": count * width, "spherical": count}.get(kind, count * triangle)
    return count * (1 + width) - 1 + covariances


def _full(estimator: Any, shape: tuple[int, ...]) -> Floats:
    """(k, d, d) the covariances of a mixture of any of scikit-learn's types."""
    (count, width), covariances = shape, np.asarray(estimator.covariances_, dtype=np.float64)
    kind = getattr(estimator, "covariance_type", "full")  # the shapes alone do not tell tied from diag if k is d
    if kind == "tied":
        full = np.tile(covariances, (count, 1, 1))
    elif kind in ("diag", "spherical"):
        full = covariances.reshape(count, -1, 1) * np.eye(width)
    else:
        full = covariances
    return np.asarray(full + FLOOR * 1e-3 * np.eye(width), dtype=np.float64)


def _distances(points: Floats, centres: Floats) -> Floats:
    """(rows, k) distances to the centres, as if the missing values were as far off as the others on average."""
    known = ~np.isnan(points)
    share = points.shape[1] / np.maximum(known.sum(axis=1), 1)
    squares = [np.where(known, points - centre, 0.0) ** 2 for centre in centres]
    distances: Floats = np.sqrt(np.stack([each.sum(axis=1) * share for each in squares], axis=1))
    return distances


def _silhouettes(distances: Floats, nearest: NDArray[np.int64], own: Floats) -> Floats:
    """(rows,) simplified silhouettes; 0 if there is one centre only."""
    if distances.shape[1] < 2:
        return np.zeros(len(distances))
    others = distances.copy()
    others[np.arange(len(nearest)), nearest] = np.inf
    nearest = others.min(axis=1)
    larger = np.maximum(own, nearest)
    silhouettes: Floats = np.divide(nearest - own, larger, out=np.zeros(len(own)), where=larger > 0)
    return silhouettes
