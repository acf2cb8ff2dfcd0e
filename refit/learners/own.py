"""Adapts a user's own learner class, from a file of the project or an installed package, to the contract."""

from __future__ import annotations

import copy
import hashlib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.errors import RefitError, UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, project_files, safe
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    continuing,
    describe,
    require_same_arguments,
)
from refit.learners.imports import find
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ModelDescription
from refit.storage.columns import numbers, texts

if TYPE_CHECKING:
    import pyarrow as pa

FILES = "own"  # folder of the files that the class itself writes
VERBS = ("fit", "predict", "save", "load")


def is_learner(cls: type) -> bool:
    """Whether a class has all four verbs, unlike an estimator, which only fits and predicts."""
    return all(callable(getattr(cls, verb, None)) for verb in VERBS)


class OwnLearner:
    """Wraps a user's class with four verbs: checks rows, reports its failures with their line, and stores its code.

    The class is constructed with the spec. `fit(train, label, *, validation, iterations, progress)` returns a
    `FitReport` or None; `predict(table)` an array; `save(folder)` writes its own files, and `load(folder, spec)` reads
    them. Tables hold only the features, texts as `string` and numbers as `double`. The class may have a `declaration`,
    a `digest`, and `update(rows, label)`, which learns a further batch. If its declaration has `unlabelled`, `fit` may
    be given `unlabelled`, a table of rows without a label, and so may `update` if it has such an argument.
    """

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self.spec = spec
        self.threshold = 0.5
        self._class: Any = find(spec.kind, where, spec.source)
        with project_files.user_errors(self.spec, "__init__"):
            self._inner = self._class(spec)
        self._fitted = False

    @property
    def declaration(self) -> Declaration:
        declared = getattr(self._class, "declaration", Declaration())
        assert isinstance(declared, Declaration)
        return replace(declared, warm_start=self._can_update)

    @property
    def _can_update(self) -> bool:
        return callable(getattr(self._class, "update", None))

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
        check_labels(label, self.spec)
        rows = self._rows(train)
        seen = None if validation is None else (self._rows(validation[0]), validation[1].copy())
        extra = {} if unlabelled is None else {"unlabelled": self._rows(unlabelled)}
        with project_files.user_errors(self.spec, "fit"):
            report = self._inner.fit(
                rows, label.copy(), validation=seen, iterations=iterations, progress=progress, **extra
            )
        self._fitted = True
        return report if isinstance(report, FitReport) else FitReport()

    def resume(
        self,
        before: Learner,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
        unlabelled: pa.Table | None = None,
    ) -> FitReport:
        if not self._can_update:
            raise UserError(
                f"learner {self.spec.name!r} ({self.spec.kind}) cannot go on from what it has learned: it has no "
                "method update(rows, label); write one, or set train.warm_start: null"
            )
        assert isinstance(before, OwnLearner)
        check_labels(label, self.spec)
        require_same_arguments(self.spec, before.spec)
        self.spec = continuing(self.spec, before.spec)
        rows, self._fitted = self._rows(train), True
        self._inner = copy.deepcopy(before._inner)
        takes_more = unlabelled is not None and "unlabelled" in inspect.signature(self._inner.update).parameters
        extra = {"unlabelled": self._rows(unlabelled)} if takes_more else {}
        gain, curve, best, taken = self.spec.stopping_metric.gain, list[CurvePoint](), self._inner, 0
        for step in range((1 if iterations is None else iterations) + 1):
            if step:
                with project_files.user_errors(self.spec, "update"):
                    self._inner.update(rows, label.copy(), **extra)
            if validation is not None:
                curve.append(CurvePoint(step, *(self._score(*each) for each in ((train, label), validation))))
                if gain(curve[-1].validation, curve[taken].validation) > 0:
                    taken = step
                if taken == step:
                    best = copy.deepcopy(self._inner)
        if validation is None:
            return FitReport(1 if iterations is None else iterations)
        self._inner = best
        return FitReport(taken, tuple(curve))

    def _score(self, table: pa.Table, label: Labels) -> float:
        return self.spec.stopping_score(label, self.predict(table))

    def predict(self, table: pa.Table) -> Floats:
        if not self._fitted:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        rows = self._rows(table)
        if not rows.num_rows:
            return np.empty(self.spec.problem.shape(0))
        with project_files.user_errors(self.spec, "predict"):
            return np.array(self._inner.predict(rows), dtype=np.float64)

    def save(self, folder: Path) -> None:
        (folder / FILES).mkdir()
        with project_files.user_errors(self.spec, "save"):
            self._inner.save(folder / FILES)
        project_files.store_code(self.spec, folder)
        describe(self).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> OwnLearner:
        learner = cls(spec)
        learner.threshold = description.threshold
        with project_files.user_errors(learner.spec, "load"), safe.no_pickle():
            learner._inner = learner._class.load(folder / FILES, learner.spec)
        learner._fitted = True
        return learner

    def unsafe_reason(self) -> str | None:
        if self.declaration.safe_format is None:
            return "it declares no safe_format, the kind of file that it is stored in without pickle"
        return project_files.unsafe_reason(self.spec)

    def digest(self) -> str:
        given = getattr(self._inner, "digest", None)
        learned = {name: part for name, part in vars(self._inner).items() if name != "spec"}
        with project_files.user_errors(self.spec, "digest"):
            model = given() if callable(given) else canonical.digest(learned)
        code = hashlib.sha256(self.spec.source.encode()).hexdigest()
        parts = {"features": list(self.spec.features), "threshold": self.threshold.hex(), "code": code}
        return digest({"kind": self.spec.kind, "model": model, **parts})

    def _rows(self, table: pa.Table) -> pa.Table:
        """The features only, each converted to its type."""
        import pyarrow as pa

        words = {*self.spec.categorical, *self.spec.text}
        read = {name: texts if name in words else numbers for name in self.spec.features}
        return pa.table({name: column(table, name) for name, column in read.items()})
