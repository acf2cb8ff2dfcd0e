"""Many models in one: a model for each value of a category, and one of all rows for the values that have too few."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from refit.config import nearest
from refit.errors import RefitError, UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import load, make
from refit.learners.averaged import members_of
from refit.learners.contract import (
    DESCRIPTION,
    Batch,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    describe,
)
from refit.learners.fit_workers import fit_workers
from refit.learners.group_fits import Fitted, GroupFit, LabelledGroups, event_times, fit_all, is_learnable, needed
from refit.learners.meta_learner import INNER, PER_GROUP, MetaLearner
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import GroupedLearner, ModelDescription, OwnModel
from refit.storage.columns import texts

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PerGroup", "TooFewGroups", "values_of"]


FEWEST = 20  # rows that `min_rows` may ask for: a fifth of them chooses iterations
TASKS = ("binary", "multiclass", "regression")

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


class TooFewGroups(UserError):
    """Fewer than two groups have rows that a model of their own can be fitted to: true of the rows."""


class PerGroup(MetaLearner):
    """Fits a model for each value of the category `by` that has at least `min_rows` rows, and a pooled one to all rows.

    The pooled model predicts rows of the other values, of values that were never seen, and of none. A model of its own
    needs labels that vary (classes: each of them) among the older four fifths of its rows, and among the newest fifth,
    which chooses its number of iterations; then it is fitted to all of its rows. Where these cannot be fitted, the
    pooled model predicts them, and a warning says why. It does not see `by`. Its seed is that of the spec with the
    value, so that a new value changes no other value's model.

    Within `refit.learners.fit_workers.fitting_with`, models are fitted side by side; that changes no bit of them.

    This is what others call segmented, grouped or many models: for example Montero-Manso and Hyndman (2021),
    "Principles and algorithms for forecasting groups of time series: locality and globality", section 2.
    """

    arguments: ClassVar[Mapping[str, object]] = {"by": None, "min_rows": 1000}

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        super().__init__(spec, where=where)
        self._require_suitable(make(self._spec_of(""), where=f"{where}.params"))

    @property
    def declaration(self) -> Declaration:
        inner = self.inner.declaration
        tasks = tuple(task for task in inner.tasks if task in TASKS)
        return replace(inner, tasks=tasks, warm_start=False, unlabelled="ignored", safe_format="that of its models")

    @property
    def by(self) -> str:
        """The category whose values have models."""
        return str(self.settings["by"])

    def _configure(self, spec: Spec, where: str) -> None:
        super()._configure(spec, where)
        self.models: dict[str, Learner] = {}  # by value, in the order of the values
        self.stored = GroupedLearner()

    def _check(self) -> None:
        by, least = self.settings["by"], self.settings["min_rows"]
        if not isinstance(by, str) or by not in self.spec.categorical:
            if not isinstance(by, str) or by not in self.spec.features:
                fault = f"found {by!r}{nearest(str(by), sorted(self.spec.categorical))}"
            elif self.spec.is_number(by):
                fault = f"{by!r} is none: declare its column as text"
            else:
                fault = f"{by!r} is {'free text' if by in self.spec.text else 'an image, vector or sequence'}"
            raise UserError(
                f"learner {PER_GROUP!r} needs `by`, a category among its features; {fault} ({self._where}.params.by)"
            )
        if isinstance(least, bool) or not isinstance(least, int) or least < FEWEST:
            raise UserError(
                f"learner {PER_GROUP!r}: min_rows is a number of rows from {FEWEST} on; found {least!r} "
                f"({self._where}.params.min_rows)"
            )
        if len(self.spec.features) < 2:
            raise UserError(
                f"learner {PER_GROUP!r} has no feature but {by!r}, which its models do not see ({self._where})"
            )

    def _require_suitable(self, inner: Learner) -> None:
        declared, fault = inner.declaration, ""
        if declared.order:
            fault = "learns a stream, which cannot be divided"
        elif declared.unlabelled == "needed":
            fault = "learns from rows without a label, which it would not be given"
        elif not declared.labels or not set(declared.tasks) & set(TASKS):
            fault = f"is for {' and '.join(declared.tasks)}, which has no labels to fit"
        if fault:
            raise UserError(f"learner {PER_GROUP!r}: {inner.spec.kind!r} {fault} ({self._where}.params.kind)")

    def _learned(self, table: pa.Table, label: Labels) -> Batch:
        return table, label

    def _spec_of(self, value: str) -> Spec:
        """The spec of a value's own model."""
        pooled, by = self._inner_spec(), self.by
        seed = int.from_bytes(hashlib.sha256(f"{self.spec.seed} {value}".encode()).digest()[:4])
        features = tuple(name for name in pooled.features if name != by)
        name = f"{self.spec.name} of {value}"  # for errors
        return replace(pooled, name=name, features=features, categorical=pooled.categorical - {by}, seed=seed)

    def groups(self, table: pa.Table) -> Iterator[tuple[str, Indices]]:
        """Each value with the indices of its rows, ascending; in the order of the values, without the gaps.

        Raises:
            UserError: there is no such column, or it is no category.
        """
        encoded = texts(table, self.by).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        values = encoded.dictionary.to_pylist()
        edges = np.searchsorted(codes[order], np.arange(len(values) + 1))
        for code in sorted(range(len(values)), key=values.__getitem__):
            yield values[code], order[edges[code] : edges[code + 1]]

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: Batch | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        """As `Learner.fit`; iterations are not chosen by `validation`, as each model has its own number of them.

        Raises:
            TooFewGroups: fewer than two values have a model of their own.
        """
        check_labels(label, self.spec)
        groups, times = dict(self.groups(train)), event_times(train)
        least = self.settings["min_rows"]
        chosen = {
            value: rows
            for value, rows in groups.items()
            if len(rows) >= least and is_learnable(self.spec, times[rows], label[rows])
        }
        if len(chosen) < 2:
            largest = max((len(rows) for rows in groups.values()), default=0)
            raise TooFewGroups(
                f"learner {self.spec.name!r} ({PER_GROUP}) needs two values of {self.by!r} that have {least:,} "
                f"rows and labels that vary; {len(chosen)} of {len(groups):,} do, the largest has {largest:,} of "
                f"{len(label):,} rows: lower min_rows, or use {self.spec.params['kind']} alone"
            )
        inner_where = f"{self._where}.params"
        fits = [GroupFit(self._inner_spec(), inner_where, iterations, required=True)]
        fits += [GroupFit(self._spec_of(value), inner_where, iterations) for value in chosen]
        rows = LabelledGroups(needed(self.spec, train), label, [*chosen.values()])
        pooled, tried = fit_all(fits, rows, fit_workers.get(), self.spec.name, progress)
        of_values = dict(zip(chosen, tried, strict=True))
        own = {value: fitted for value, fitted in of_values.items() if isinstance(fitted, Fitted)}
        warning = self._warning([each for each in tried if isinstance(each, UserError)], len(chosen))
        if len(own) < 2:
            raise TooFewGroups(f"learner {self.spec.name!r} ({PER_GROUP}) needs two values with models; {warning}")
        self.inner, self.models = pooled.model, {value: fitted.model for value, fitted in own.items()}
        self.stored = GroupedLearner(
            models=tuple(OwnModel(value=value, rows=len(chosen[value])) for value in own),
            pooled_values=len(groups) - len(own),
            pooled_rows=len(label) - sum(len(chosen[value]) for value in own),
        )
        reports = [pooled.report, *(fitted.report for fitted in own.values())]
        warnings = dict.fromkeys([warning] * bool(warning) + [each for report in reports for each in report.warnings])
        return FitReport(iterations, (), tuple(warnings), pooled.report.regularisers)

    def _warning(self, faults: Sequence[UserError], count: int) -> str:
        """How many values have no model because their rows cannot be fitted, and why the first has none."""
        if not faults:
            return ""
        return (
            f"{len(faults):,} of {count:,} values of {self.by!r} cannot have models of their own, only the pooled one; "
            f"of the first: {faults[0].sentence}"
        )

    def predict(self, table: pa.Table) -> Floats:
        if not self.models:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        parts = [(self.models[value], rows) for value, rows in self.groups(table) if value in self.models]
        pooled = np.ones(table.num_rows, dtype=bool)
        for _, rows in parts:
            pooled[rows] = False
        parts.append((self.inner, np.flatnonzero(pooled)))
        order = np.concatenate([rows for _, rows in parts])
        in_order = needed(self.spec, table).take(order)  # once: rows of a table in chunks cost a copy of its columns
        predicted, start = np.empty(self.spec.problem.shape(table.num_rows)), 0
        for model, rows in parts:
            predicted[rows] = model.predict(in_order.slice(start, len(rows)))
            start += len(rows)
        return predicted

    def save(self, folder: Path) -> None:
        for part, model in zip(_folders(folder, len(self.models)), [self.inner, *self.models.values()], strict=True):
            part.mkdir()
            model.save(part)
        describe(self, self.stored).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Self:
        learner = cls.__new__(cls)
        learner._configure(spec, str(folder))
        learner.threshold = description.threshold
        learner.stored = description.own(GroupedLearner)
        values = [model.value for model in learner.stored.models]
        models = [load(part, trusted_types=spec.trusted_types) for part in _folders(folder, len(values))]
        learner.inner, learner.models = models[0], dict(zip(values, models[1:], strict=True))
        return learner

    def unsafe_reason(self) -> str | None:
        return next((why for model in self._all() if (why := model.unsafe_reason()) is not None), None)

    def digest(self) -> str:
        models = {value: model.digest() for value, model in self.models.items()}
        return digest(
            {
                "kind": PER_GROUP,
                "by": self.by,
                "pooled": self.inner.digest(),
                "models": models,
                "threshold": self.threshold.hex(),
            }
        )

    def _all(self) -> Sequence[Learner]:
        return [self.inner, *self.models.values()]


def values_of(learner: Learner) -> frozenset[str]:
    """The values that have a model of their own in every member of a learner; none if it is not many models."""
    models = (each.models if isinstance(each, PerGroup) else () for each in members_of(learner))
    return frozenset.intersection(*map(frozenset, models))


def _folders(folder: Path, models: int) -> list[Path]:
    """The folders of the pooled model and of the values' own, whose names no value of the data decides."""
    return [folder / INNER, *(folder / f"model-{number:05d}" for number in range(models))]
