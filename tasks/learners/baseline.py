"""The naive baseline that every other learner must beat: the base rate for everyone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.artifacts import digest, write_json, write_manifest
from tasks.context import Progress, silent
from tasks.errors import RefitError, UserError
from tasks.learners import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    describe,
    described,
)

if TYPE_CHECKING:
    import pyarrow as pa


class Baseline:
    """Predicts the share of 1 among the rows it was fitted on."""

    declaration: ClassVar[Declaration] = Declaration(safe_format="json")

    def __init__(self, spec: Spec, *, where: str = "") -> None:
        if spec.params:
            raise UserError(f"learner 'baseline' takes no params; found {', '.join(spec.params)} ({where}.params)")
        self.spec = spec
        self.threshold = 0.5
        self._rate = float("nan")

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec.name)
        self._rate = float(np.mean(label))
        return FitReport()

    def resume(
        self,
        before: Learner,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        raise UserError("a baseline has learned nothing to go on from; set train.warm_start: null")

    def predict(self, table: pa.Table) -> Floats:
        if np.isnan(self._rate):
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        return np.full(table.num_rows, self._rate)

    def save(self, folder: Path) -> None:
        write_json(folder / DESCRIPTION, describe(self, rate=self._rate))
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> Baseline:
        learner = cls(described(description))
        learner.threshold = float(description["threshold"])
        learner._rate = float(description["rate"])
        return learner

    def obstacle(self) -> str | None:
        return None

    def digest(self) -> str:
        return digest({"kind": "baseline", "rate": self._rate.hex(), "threshold": self.threshold.hex()})
