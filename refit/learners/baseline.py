"""The naive baseline that every other learner must beat: the same guess for every row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.errors import RefitError, UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import project_files
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    check_labels,
    describe,
)
from refit.problems import tasks
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa


class Baseline:
    """Predicts the share of 1 or of each class, or the mean (for absolute errors the median), of its training rows.

    For forecasts it predicts the value of one season before, if that is known.
    """

    def __init__(self, spec: Spec, *, where: str = "") -> None:
        if spec.params:
            raise UserError(f"learner 'baseline' takes no params; found {', '.join(spec.params)} ({where}.params)")
        self.spec = spec
        self.threshold = 0.5
        self._naive: Mapping[str, object] = {}

    @property
    def declaration(self) -> Declaration:
        return Declaration(tasks(), sequences=True, images=True, safe_format="json")

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
        self._naive = self.spec.problem.naive(label, self.spec.metric, train.select(list(self.spec.features)))
        if self.spec.quantile is not None:
            self._naive = {"value": float(np.quantile(label, self.spec.quantile))}
        return FitReport()

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise UserError("a baseline has learned nothing to go on from; set train.warm_start: null")

    def predict(self, table: pa.Table) -> Floats:
        if not self._naive:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        if self.spec.quantile is not None:
            return self.spec.problem.guess(self._naive, table.num_rows)
        return self.spec.problem.guess_for(table, self._naive)

    def save(self, folder: Path) -> None:
        describe(self, self._naive).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Baseline:
        learner = cls(spec)
        learner.threshold = description.threshold
        learner._naive = description.model_extra or {}
        return learner

    def unsafe_reason(self) -> str | None:
        return project_files.untrusted_code(self.spec)  # it may play an opponent of the project

    def digest(self) -> str:
        return digest({"kind": "baseline", **_hex(self._naive), "threshold": self.threshold.hex()})


def _hex(value: Any) -> Any:
    """The same with every float as exact hexadecimal text."""
    if isinstance(value, Mapping):
        return {name: _hex(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hex(each) for each in value]
    return value.hex() if isinstance(value, float) else value
