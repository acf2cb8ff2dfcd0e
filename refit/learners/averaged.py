"""Averages one learner fitted with several seeds, so that the chance of a single seed cancels out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refit.errors import UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import load, make
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    describe,
    middle_iterations,
)
from refit.learners.newest import newest_of, taken
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    from typing import Any

    import pyarrow as pa


class Averaged:
    """Fits `spec.average` learners of one spec, with seeds from `spec.seed` on, and predicts their mean."""

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self.spec = spec
        self.threshold = 0.5
        seeds = range(spec.seed, spec.seed + spec.average)
        self.members = [make(replace(spec, seed=seed, average=1), where=where) for seed in seeds]

    @property
    def declaration(self) -> Declaration:
        tasks, unlabelled = ("binary", "multiclass", "regression"), self.members[0].declaration.unlabelled
        return Declaration(tasks, unlabelled=unlabelled, safe_format="that of its members")

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
        unlabelled: pa.Table | None = None,
    ) -> FitReport:
        """Fit every member with the median of their best iteration counts; the curve is that one point."""
        extra: dict[str, Any] = {} if unlabelled is None else {"unlabelled": unlabelled}
        reports = []
        for number, member in enumerate(self.members, start=1):
            progress(f"fitting {self.spec.name}, seed {number} of {len(self.members)}")
            fitted = member.fit(train, label, validation=validation, iterations=iterations, progress=progress, **extra)
            reports.append(fitted)
        middle = middle_iterations(reports)
        for member, report in zip(self.members, reports, strict=True):
            if report.iterations != middle:
                member.fit(train, label, iterations=middle, progress=progress, **extra)
        warnings = dict.fromkeys(warning for report in reports for warning in report.warnings)
        curve = () if validation is None or middle is None else (self._scored(middle, train, label, validation),)
        return FitReport(middle, curve, tuple(warnings), reports[0].regularisers)

    def _scored(
        self, iterations: int, train: pa.Table, label: Labels, validation: tuple[pa.Table, Labels]
    ) -> CurvePoint:
        """Score the mean on the validation rows, and on as many of the newest training rows."""
        recent = newest_of(train, len(validation[1]))
        on_training = self.spec.stopping_score(label[recent], self.predict(taken(train, recent)))
        return CurvePoint(iterations, on_training, self.spec.stopping_score(validation[1], self.predict(validation[0])))

    def resume(self, *args: Any, **named: Any) -> FitReport:
        """Raise UserError: an average has no single state to continue from."""
        raise UserError(
            f"learner {self.spec.name!r} is the mean of {len(self.members)} seeds, which cannot go on with new rows; "
            "set train.average: false, or train.warm_start: null"
        )

    def predict(self, table: pa.Table) -> Floats:
        return np.asarray(np.mean([member.predict(table) for member in self.members], axis=0), dtype=np.float64)

    def save(self, folder: Path) -> None:
        for number, member in enumerate(self.members):
            (folder / f"seed-{number}").mkdir()
            member.save(folder / f"seed-{number}")
        describe(self).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Averaged:
        learner = cls.__new__(cls)
        learner.spec = spec
        learner.threshold = description.threshold
        seeds = range(spec.average)
        learner.members = [load(folder / f"seed-{seed}", trusted_types=spec.trusted_types) for seed in seeds]
        return learner

    def unsafe_reason(self) -> str | None:
        return self.members[0].unsafe_reason()

    def digest(self) -> str:
        return digest({"mean of": [member.digest() for member in self.members], "threshold": self.threshold.hex()})


def members_of(learner: Learner) -> list[Learner]:
    """The members of an averaged learner; for any other learner, the learner itself."""
    return learner.members if isinstance(learner, Averaged) else [learner]
