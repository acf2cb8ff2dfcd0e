"""Any scikit-learn outlier detector as a learner: its score, the volume below it, and a budget of anomalies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refit.errors import UserError
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
    describe,
    library_errors,
)
from refit.learners.of_numbers import OfNumbers
from refit.metrics.level_sets import Volumes, proposal
from refit.metrics.scaling import Scaling
from refit.problems.anomaly import BUDGET
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import AnomalyLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS, VOLUMES = "detector", "volumes.safetensors"


class Detector(OfNumbers):
    """Scales numbers, fits a detector to them without their label, and calls the budgeted share of rows anomalies.

    A missing value is taken for the mean. Higher scores are more anomalous.
    """

    SORT, OWN = "outlier", "budget"  # the share of the rows that is called an anomaly

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._configure(spec)
        self._model = self._built(where)
        if hasattr(self._model, "novelty"):
            self._model.set_params(novelty=True)  # LocalOutlierFactor scores new rows only then
        if not any(hasattr(self._model, name) for name in ("score_samples", "decision_function")):
            raise UserError(
                f"learner {spec.kind!r} scores no rows (it has neither score_samples nor decision_function); "
                f"train.task is 'anomaly' ({where}.kind)"
            )
        budget = spec.params.get(self.OWN, BUDGET)
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget < 0.5:
            raise UserError(
                f"learner {spec.name!r}: budget is the share of the rows that can be looked at, above 0 and below 0.5; "
                f"found {budget!r} ({where}.params.budget)"
            )

    def _configure(self, spec: Spec) -> None:
        super()._configure(spec)
        self._volumes: Volumes | None = None

    @property
    def declaration(self) -> Declaration:
        return Declaration(("anomaly",), labels=False, images=True, safe_format="skops")

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
        self._scaling = Scaling.of(numbers)
        points = np.nan_to_num(self._scaling.scaled(numbers), nan=0.0)
        with self._gathered() as messages, library_errors(self.spec):
            self._model = clone(self._model).fit(points)
            drawn, weights = proposal(points)  # the same for all detectors of the same rows
            scores, of_points = self._scores(drawn), self._of_training(points)
        if np.ptp(of_points) == 0:
            raise UserError(
                f"learner {self.spec.name!r} ({self.spec.kind}) gives all {len(points):,} training rows one score: "
                "there is nothing to rank them by; change its params, or disable it in train.learners"
            )
        self._volumes = Volumes.of(scores, weights, float(np.log(self._scaling.deviations).sum()))
        budget = float(str(self.spec.params.get(self.OWN, BUDGET)))
        self._limit = float(np.quantile(of_points, 1 - budget))
        if self.spec.metric in ("log_volume", "excess_mass"):
            messages += self._few_valued(numbers, "volumes say little in them: choose by a metric of labels")
        return self._report(messages)

    def _scores(self, points: Floats) -> Floats:
        if hasattr(self._model, "score_samples"):
            return -np.asarray(self._model.score_samples(points), dtype=np.float64)
        return np.asarray(self._model.decision_function(points), dtype=np.float64)  # of pyod: higher is more anomalous

    def _of_training(self, points: Floats) -> Floats:
        """(rows,) the scores of the training rows, as rows alike that are new would get them.

        A detector by neighbours takes a training row that it is asked for as its own nearest one. Such libraries store
        the scores by the other rows: LocalOutlierFactor of scikit-learn, and all detectors of pyod.
        """
        for name, sign in (("negative_outlier_factor_", -1.0), ("decision_scores_", 1.0)):
            stored: Floats = np.asarray(getattr(self._model, name, np.nan), dtype=np.float64)
            if stored.shape == (len(points),):
                return sign * stored
        return self._scores(points)

    def predict(self, table: pa.Table) -> Floats:
        if self._volumes is None:
            raise self._not_fitted()
        numbers = self._encoding.matrix(table)
        if not len(numbers):
            return np.empty(self.spec.problem.shape(0))
        with one_blas_thread():
            scores = self._scores(np.nan_to_num(self._scaling.scaled(numbers), nan=0.0))
        return np.column_stack([scores, self._volumes.log_of(scores), scores > self._limit])

    def save(self, folder: Path) -> None:
        assert self._volumes is not None
        weights, own_estimator = estimator_files.save(self._model, folder, WEIGHTS)
        volumes = {"scores": self._volumes.scores, "log_volumes": self._volumes.log_volumes}
        safe.save_arrays({**volumes, **self._scaling.arrays()}, folder / VOLUMES)
        project_files.store_code(self.spec, folder)
        own = AnomalyLearner(limit=self._limit, weights=weights, own_estimator=own_estimator)
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Detector:
        learner = cls._blank(description, spec)
        own, arrays = description.own(AnomalyLearner), safe.load_arrays(folder / VOLUMES)
        learner._scaling, learner._limit = Scaling.of_arrays(arrays), own.limit
        learner._volumes = Volumes(arrays["scores"], arrays["log_volumes"])
        learner._model = estimator_files.load(folder / own.weights, own.own_estimator, spec)
        return learner

    def unsafe_reason(self) -> str | None:
        if self.spec.source and (reason := project_files.unsafe_reason(self.spec)):
            return reason
        return estimator_files.unsafe_reason(self._model, self.spec)

    def digest(self) -> str:
        assert self._volumes is not None
        model = canonical.without_counters(self._model)
        learned = [model, self._scaling.arrays(), self._volumes.scores, self._volumes.log_volumes, self._limit]
        return digest(
            {"kind": self.spec.kind, "model": canonical.digest(learned), "features": list(self.spec.features)}
        )
