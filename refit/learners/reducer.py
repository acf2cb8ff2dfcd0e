"""Any scikit-learn transformer or map of rows as a learner: coordinates, what they restore, and trustworthiness."""

from __future__ import annotations

import copy
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError, first_line
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, estimator_files, project_files, safe
from refit.learners.blas import one_blas_thread
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    check_labels,
    could_not_fit,
    describe,
)
from refit.learners.of_numbers import OfNumbers
from refit.metrics.scaling import Scaling
from refit.problems.reduction import mean_square
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ModelDescription, ReductionLearner

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS, REFERENCE = "reducer", "reference.safetensors"
SCALE = "scale"  # an argument of ours: whether each column gets a standard deviation of 1
NEIGHBOURS = 5  # of trustworthiness, and of rows that are restored by their neighbours
CLOSE = 10  # training rows of which one gives a new row its place
FEW, MANY = 2_000, 20_000  # training rows that are stored: to judge by, and to place new rows by
AT_ONCE = 512  # rows
LINEAR_BY = 50  # rows, restored one by one and as sums of two


class Reducer(OfNumbers):
    """Scales numbers and lets an estimator place them on few coordinates.

    An estimator that can be stored without pickle places new rows itself, and restores them if it can. Any other map of
    rows (UMAP, t-SNE, spectral embedding) is stored as the coordinates of its training rows: of the nearest ones, a new
    row takes the place of the one in their midst on the map (a mean could lie between two groups, where nothing is),
    and it is restored as the mean of its nearest rows on the map. A missing value is taken for the mean.
    """

    SORT, OWN = "transformer", SCALE

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._configure(spec)
        self._model: Any = self._built(where)
        if not hasattr(self._model, "fit_transform"):
            raise UserError(
                f"learner {spec.kind!r} places no rows (it has no fit_transform); train.task is 'reduction' "
                f"({where}.kind)"
            )
        if not isinstance(spec.params.get(SCALE, True), bool):
            raise UserError(
                f"learner {spec.name!r}: scale is true or false; found {spec.params[SCALE]!r} ({where}.params.scale)"
            )

    def _configure(self, spec: Spec) -> None:
        super()._configure(spec)
        self._scaling: Scaling | None = None

    @property
    def declaration(self) -> Declaration:
        return Declaration(("reduction",), labels=False, images=True, safe_format="skops")

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        from sklearn.base import clone

        check_labels(label, self.spec)
        numbers = self._encoding.matrix(train)
        scaling = Scaling.of(numbers)
        if not self.spec.params.get(SCALE, not self.spec.arrays):
            count = numbers.shape[1]  # a missing value is still the mean
            scaling = Scaling(scaling.logs, np.zeros(count), np.ones(count))
        self._means = np.nan_to_num(np.nanmean(numbers, axis=0), nan=0.0)
        self._scaling = scaling
        points = self._points(numbers)
        with self._gathered() as messages:
            try:
                model = clone(self._model)
                shown = {"progress": progress} if "progress" in signature(model.fit).parameters else {}
                placed = np.asarray(model.fit_transform(points, **shown), dtype=np.float64)
            except (ValueError, TypeError, MemoryError, RuntimeError) as error:
                raise could_not_fit(self.spec, first_line(error)) from error
        if placed.ndim != 2 or len(placed) != len(points) or not np.isfinite(placed).all():
            raise UserError(
                f"learner {self.spec.name!r} ({self.spec.kind}) gave coordinates of shape {placed.shape} for "
                f"{len(points):,} rows, or some that are not finite: change its params, or disable it"
            )
        if (varied := int((np.ptp(points, axis=0) > 0).sum())) <= placed.shape[1]:
            raise UserError(
                f"learner {self.spec.name!r} ({self.spec.kind}) keeps {placed.shape[1]} coordinates of {varied} "
                "columns that vary, which is no reduction: "
                + (f"set n_components to {varied - 1} at most" if varied > 1 else "give it two such columns or more")
            )
        is_stored = hasattr(model, "transform") and estimator_files.unsafe_reason(model, self.spec) is None
        self._fitted = model if is_stored else None
        self._alone = self._fitted is not None and _depends_on_others(self._fitted, points[:8])
        self._restores = self._fitted is not None and _restores(self._fitted, placed[:2], points.shape[1])
        random = np.random.default_rng(self.spec.seed)
        count = min(FEW if self._fitted is not None else MANY, len(points))
        drawn = random.choice(len(points), count, replace=False)  # in no order, so that the first are like all
        self.width, self._in_features = placed.shape[1], True
        self._reference = np.ascontiguousarray(points[drawn], dtype=np.float32)
        self._placed = np.ascontiguousarray(placed[drawn])
        return self._report(messages)

    def _points(self, numbers: Floats) -> Floats:
        assert self._scaling is not None
        return self._scaling.scaled(np.where(np.isnan(numbers), self._means, numbers))

    def coordinates(self, table: pa.Table) -> Floats:
        """(rows, components) where rows lie."""
        return self._embed(self._points(self._encoding.matrix(table)))

    def _embed(self, points: Floats) -> Floats:
        if self._fitted is not None:
            each = [points[[row]] for row in range(len(points))] if self._alone else [points]
            return np.vstack([np.asarray(self._fitted.transform(part), dtype=np.float64) for part in each])
        near, _ = _nearest(points, self._reference, CLOSE)
        around = self._placed[near]  # (rows, k, components)
        apart = np.sqrt(((around[:, :, None] - around[:, None]) ** 2).sum(axis=3)).sum(axis=2)
        return np.asarray(around[np.arange(len(around)), apart.argmin(axis=1)], dtype=np.float64)

    def _restored(self, placed: Floats) -> Floats:
        """(rows, columns) the scaled numbers that coordinates stand for."""
        if self._fitted is not None and self._restores:
            return np.asarray(self._fitted.inverse_transform(placed), dtype=np.float64)
        near, _ = _nearest(placed, self._placed)
        return np.asarray(self._reference[near].mean(axis=1), dtype=np.float64)

    @property
    def is_linear(self) -> bool:
        """Whether rows are restored linearly from their coordinates, by whatever estimator."""
        if self._fitted is None or not self._restores:
            return False
        first = self._placed[:LINEAR_BY]
        second = first[::-1]
        together = self._restored(first + second) + self._restored(np.zeros_like(first))
        apart = self._restored(first) + self._restored(second)
        return bool(np.allclose(together, apart, rtol=0.0, atol=1e-5 * np.abs(apart).max()))

    def predict(self, table: pa.Table) -> Floats:
        if self._scaling is None:
            raise self._not_fitted()
        numbers = self._encoding.matrix(table)
        parts = [np.empty(self.spec.problem.shape(0))]
        with one_blas_thread():
            for start in range(0, len(numbers), AT_ONCE):
                parts.append(self._part(numbers[start : start + AT_ONCE]))
        return np.vstack(parts)

    def _part(self, numbers: Floats) -> Floats:
        assert self._scaling is not None
        points = self._points(numbers)
        placed = self._embed(points)
        error = mean_square(numbers - self._scaling.original(self._restored(placed)))
        second = placed[:, 1] if placed.shape[1] > 1 else np.zeros(len(placed))
        return np.column_stack([error, self._trust(points, placed), placed[:, 0], second])

    def _trust(self, points: Floats, placed: Floats) -> Floats:
        """(rows,) trustworthiness of each row among the stored training rows.

        Distances are in the units of the features, as reconstruction errors are, so that models of different scales are
        comparable. Source: Venna and Kaski (2001), "Neighborhood preservation in nonlinear projection methods",
        equation 1, for rows that are not among the others.
        """
        assert self._scaling is not None
        reference, on_map = self._reference[:FEW].astype(np.float64), self._placed[:FEW]
        if self._in_features:
            points, reference = self._scaling.original(points), self._scaling.original(reference)
        count, k = len(reference), min(NEIGHBOURS, max(1, len(reference) // 4))
        near, _ = _nearest(placed, on_map, k)
        distances = _squares(points, reference)
        own = np.take_along_axis(distances, near, axis=1)
        ranks = np.stack([(distances < own[:, [each]]).sum(axis=1) + 1 for each in range(k)], axis=1)
        penalty = np.maximum(ranks - k, 0).sum(axis=1)
        worst = k * (2 * count - 3 * k + 1) / 2  # the k last ranks
        return np.asarray(1 - penalty / max(worst, 1), dtype=np.float64).clip(0.0, 1.0)

    def as_measured_now(self) -> Reducer:
        """This map, with a trustworthiness in the units of the features, even if it was stored before that was so."""
        if self._in_features:
            return self
        other = copy.copy(self)
        other._in_features = True
        return other

    def save(self, folder: Path) -> None:
        assert self._scaling is not None
        weights, own_estimator = None, None
        if self._fitted is not None:
            weights, own_estimator = estimator_files.save(self._fitted, folder, WEIGHTS)
        safe.save_arrays(self._arrays(), folder / REFERENCE)
        project_files.store_code(self.spec, folder)
        own = ReductionLearner(
            weights=weights,
            restores=self._restores,
            alone=self._alone,
            in_features=self._in_features,
            own_estimator=own_estimator,
        )
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._scaling is not None
        own = {"reference": self._reference, "placed": self._placed, "column_means": self._means}
        return {**own, **self._scaling.arrays()}

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Reducer:
        learner = cls._blank(description, spec)
        own, arrays = description.own(ReductionLearner), safe.load_arrays(folder / REFERENCE)
        learner._scaling = Scaling.of_arrays(arrays)
        learner._reference, learner._placed = arrays["reference"], arrays["placed"]
        learner.width, learner._in_features = arrays["placed"].shape[1], own.in_features
        learner._means, learner._restores, learner._alone = arrays["column_means"], own.restores, own.alone
        learner._fitted = estimator_files.load(folder / own.weights, own.own_estimator, spec) if own.weights else None
        return learner

    def unsafe_reason(self) -> str | None:
        return project_files.unsafe_reason(self.spec) if self.spec.source else None

    def digest(self) -> str:
        model = canonical.digest([canonical.without_counters(self._fitted), self._arrays()])
        return digest({"kind": self.spec.kind, "model": model, "features": list(self.spec.features)})


def _depends_on_others(model: Any, points: Floats) -> bool:
    """Whether a row's place depends on the rows that are placed with it, as where all are iterated together (NMF)."""
    together, alone = model.transform(points), np.vstack([model.transform(points[[row]]) for row in range(len(points))])
    return not np.allclose(together, alone, rtol=1e-9, atol=1e-9)


def _restores(model: Any, placed: Floats, width: int) -> bool:
    """Whether an estimator gives columns back; some can only if they were made to (KernelPCA)."""
    try:
        return bool(np.shape(model.inverse_transform(placed)) == (len(placed), width))
    except (AttributeError, ValueError, NotImplementedError):  # scikit-learn's NotFittedError is both of the first two
        return False


def _squares(points: Floats, others: Floats) -> Floats:
    """(rows, others) squared distances."""
    products = points @ others.T
    squares = (points**2).sum(axis=1)[:, None] - 2 * products + (others**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0.0), dtype=np.float64)


def _nearest(points: Floats, others: NDArray[Any], count: int = NEIGHBOURS) -> tuple[NDArray[np.int64], Floats]:
    """(rows, k) the nearest of others, nearest first, and their distances; of equal ones the first."""
    squares = _squares(points, np.asarray(others, dtype=np.float64))
    count = min(count, len(others))
    near = np.argpartition(squares, count - 1, axis=1)[:, :count]
    near = np.sort(near, axis=1)
    values = np.take_along_axis(squares, near, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    near = np.take_along_axis(near, order, axis=1)
    return near, np.sqrt(np.take_along_axis(squares, near, axis=1))
