"""The contract of every learner: four verbs, what it needs and can do, and how its spec is written in `model.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.problems.target import HALF, Target, target_of
from refit.runtime.context import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.metrics import Task

DESCRIPTION = "model.json"
FORMAT = 1  # of model.json; raised when older code could misread it

Labels = NDArray[Any]  # 0 and 1, codes of classes, or numbers: what the task's target makes of a column
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Declaration:
    """What a learner can do and needs, and how it is stored."""

    tasks: tuple[str, ...] = ("binary",)
    warm_start: bool = False  # it can go on from a fitted one with new rows alone
    labels: bool = True
    order: bool = False  # rows must come in time order
    groups: bool = False  # rows belong to groups that must stay together
    safe_format: str | None = None  # file format that needs no pickle; none: may be compared, never be candidate


@dataclass(frozen=True)
class Spec:
    """Everything that decides what a learner does, given its rows."""

    name: str
    kind: str
    features: tuple[str, ...]
    categorical: frozenset[str] = frozenset()
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    metric: str = "roc_auc"
    trusted_types: tuple[str, ...] = ()
    task: Task = "binary"
    classes: tuple[str, ...] = ()  # multiclass: the label's texts, in the order of their codes
    source: str = ""  # of a kind `file.py:Class`: the text of the project's file
    text: tuple[str, ...] = ()  # features that are free text
    vectoriser: Mapping[str, Any] = field(default_factory=dict)  # of them: kind, params, components
    average: int = 1  # seeds, from `seed` on, whose models are averaged
    quantile: float | None = None  # of a number: predict this quantile (`refit.learners.quantiles`); none: its mean

    @property
    def coded(self) -> tuple[str, ...]:
        """The features that are numbers or categories."""
        return tuple(name for name in self.features if name not in self.text)

    @property
    def level(self) -> float:
        """What a metric takes beside labels and predictions: the quantile that is predicted, else a half."""
        return HALF if self.quantile is None else self.quantile

    @property
    def target(self) -> Target:
        return target_of(self.task, self.classes)


@dataclass(frozen=True)
class CurvePoint:
    """Scores of the training and validation rows after so many iterations."""

    iteration: int
    training: float
    validation: float


@dataclass(frozen=True)
class FitReport:
    """What a fit found out: how many iterations were best, the way there, and what the library warned of."""

    iterations: int | None = None
    curve: tuple[CurvePoint, ...] = ()
    warnings: tuple[str, ...] = ()


def middle_iterations(reports: Sequence[FitReport]) -> int | None:
    """As many as half of the fits wanted at least; None where none counts any.

    >>> middle_iterations([FitReport(40), FitReport(10), FitReport(25)])
    25
    """
    found = sorted(report.iterations for report in reports if report.iterations is not None)
    return found[len(found) // 2] if found else None


class Learner(Protocol):
    """Fits rows with a label and predicts it, as the task of its spec has both (`refit.problems.target`).

    A learner never changes what it is given, and the same rows in the same order with the same spec give the same
    `digest`, whatever the machine's threads, directory, time zone, locale or hash seed.
    """

    threshold: float  # probability from which a row is called 1, in a binary task

    @property
    def spec(self) -> Spec: ...

    @property
    def declaration(self) -> Declaration: ...

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        """Fit the rows. With `validation` an iterative learner stops where that score is best and predicts from there;
        with `iterations` it does exactly so many.

        Raises:
            UserError: a feature is missing or of another type, the label is constant, or the params are at odds.
        """

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
        """Go on from `before`, a fitted learner of the same family and features, with new rows alone.

        With `validation` it takes the steps after which that score is best, perhaps none; with `iterations` exactly so
        many more.

        Raises:
            UserError: this kind of learner cannot go on.
        """

    def predict(self, table: pa.Table) -> Floats:
        """(rows,) probabilities of 1, (rows, classes) probabilities, or (rows,) numbers, in the order of the rows.

        Raises:
            UserError: a feature is missing or of another type.
        """

    def save(self, folder: Path) -> None:
        """Write `model.json`, the weights and the manifest into an existing folder."""

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> Learner:
        """The learner that `save` wrote; called by `refit.learners.load` once the manifest is checked."""

    def obstacle(self) -> str | None:
        """Why this fitted learner has no safe format, in words; none: it has one."""

    def digest(self) -> str:
        """Canonical digest of everything that its predictions depend on; file formats and library bytes do not."""


def describe(learner: Learner, **more: Any) -> dict[str, Any]:
    """What `model.json` says of any learner; families add what is theirs."""
    return {"format": FORMAT, **spec_told(learner.spec), "threshold": learner.threshold, **more}


def spec_told(spec: Spec) -> dict[str, Any]:
    """A spec as JSON has it, without the text of its file and the types that the user trusts."""
    told = dataclasses.asdict(spec)
    del told["trusted_types"], told["source"]
    told["categorical"] = [name for name in spec.features if name in spec.categorical]
    return told


def described(description: Mapping[str, Any], trusted_types: tuple[str, ...] = ()) -> Spec:
    """The spec in a `model.json`."""
    return Spec(
        name=description["name"],
        kind=description["kind"],
        features=tuple(description["features"]),
        categorical=frozenset(description["categorical"]),
        params=description["params"],
        seed=description["seed"],
        metric=description["metric"],
        trusted_types=trusted_types,
        task=description.get("task", "binary"),  # models stored before there were other tasks do not say
        classes=tuple(description.get("classes", ())),
        source=description.get("source", ""),
        text=tuple(description.get("text", ())),
        vectoriser=description.get("vectoriser", {}),
        average=description.get("average", 1),
        quantile=description.get("quantile"),
    )


def check_labels(label: Labels, spec: Spec) -> None:
    """Raise where the label cannot be learned from."""
    if not len(label):
        raise UserError(f"learner {spec.name!r} was given no rows; widen featurize.windows or move --as-of")
    if odd := spec.target.odd(label):
        raise UserError(f"learner {spec.name!r}: {odd}")
    if alike := spec.target.alike(label):
        raise UserError(
            f"learner {spec.name!r}: the label is constant, {alike}: check featurize.label, or widen featurize.windows"
        )
