"""The contract of every learner: its methods, its declared needs and abilities, and its spec in `model.json`."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from refit.config.column_types import ArrayColumn
from refit.errors import UserError, first_line
from refit.learners.class_weights import row_weights
from refit.metrics import Metric
from refit.problems import kind_of, metric_named, problem_of
from refit.problems.contract import HALF, Problem
from refit.runtime.context import Progress, silent
from refit.schemas.artifact import Part
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

DESCRIPTION = "model.json"
FORMAT = 1  # of model.json; incremented when older code could misread it

Labels = NDArray[Any]  # 0 and 1, class codes, or numbers, as the problem reads a column
Floats = NDArray[np.float64]
Batch = tuple["pa.Table", Labels]  # rows and their labels


@dataclass(frozen=True)
class Declaration:
    """What a learner needs, what it can do, and how it is stored."""

    tasks: tuple[str, ...] = ("binary",)
    warm_start: bool = False  # it can continue training from a fitted learner with new rows only, in batches too
    labels: bool = True
    order: bool = False  # rows must come in time order
    groups: bool = False  # rows belong to groups that must stay together
    sequences: bool = False  # a feature may be a list of numbers for each row
    pretrained: bool = False  # it cannot start from random weights
    images: bool = False  # a feature may be an array of numbers of the same shape for each row
    # Rows without a label: ignored, used (`fit` and `resume` take them as `unlabelled`), or needed to be of any use.
    unlabelled: Literal["ignored", "used", "needed"] = "ignored"
    safe_format: str | None = None  # file format without pickle; a learner without one can never be the candidate


@dataclass(frozen=True)
class Start:
    """A stored learner, or a pretrained model, that fits start from (`train.start_from`)."""

    folder: Path  # with its `model.json`, or a Hugging Face folder
    name: str  # for messages, such as `version 3 of digits_base`
    digest: str  # of the learner, or of the folder
    pretrained: bool = False  # a Hugging Face folder; only learners that declare `pretrained` start from one


@dataclass(frozen=True)
class Spec:
    """Everything that determines a fitted learner, except for its rows."""

    name: str
    kind: str
    features: tuple[str, ...]
    categorical: frozenset[str] = frozenset()
    params: Mapping[str, Any] = field(default_factory=dict)  # as params.yaml gives them; what is valid, the kind knows
    seed: int = 0
    metric: str = "roc_auc"
    trusted_types: tuple[str, ...] = ()
    task: str = "binary"
    classes: tuple[str, ...] = ()  # multiclass: the label's texts, in the order of their codes
    source: str = ""  # for a kind `file.py:Class`: the text of the project's file
    text: tuple[str, ...] = ()  # features that are free text
    arrays: Mapping[str, ArrayColumn] = field(default_factory=dict)  # features that are images, vectors or sequences
    vectoriser: Mapping[str, Any] = field(default_factory=dict)  # for free text: kind, params, components
    average: int = 1  # number of seeds, from `seed` on, whose models are averaged
    device: str | None = None  # for networks, such as `cpu` or `cuda:0`; None: a GPU if there is one; not stored
    start: Start | None = None  # the learner whose weights and preparation a fit starts from; not stored
    quantile: float | None = None  # regression: predict this quantile (`refit.learners.quantiles`) instead of the mean
    options: Mapping[str, object] = field(default_factory=dict)  # of the kind of problem (`train.problem`)
    sources: Mapping[str, str] = field(default_factory=dict)  # texts of the project's files that the options name
    early_stopping_metric: str = ""  # chooses iterations; empty: the proper score of `metric`

    def __post_init__(self) -> None:
        """Put arrays in the order in which files hold them: layers belong to them by their place."""
        object.__setattr__(self, "arrays", dict(sorted(self.arrays.items())))

    @property
    def coded(self) -> tuple[str, ...]:
        """The features that are numbers or categories."""
        return tuple(name for name in self.features if name not in self.text and name not in self.arrays)

    def is_number(self, feature: str) -> bool:
        """Whether each of its cells is one number."""
        return not (feature in self.categorical or feature in self.text or feature in self.arrays)

    @property
    def columns(self) -> tuple[str, ...]:
        """The coded features, and a name for each value of the images and vectors."""
        flat = (f"{name}[{index}]" for name, array in self.arrays.items() for index in range(array.size))
        return (*self.coded, *flat)

    @property
    def level(self) -> float:
        """The third argument of a metric: the predicted quantile, or a half if there is none."""
        return HALF if self.quantile is None else self.quantile

    @property
    def problem(self) -> Problem:
        return problem_of(self.task, self.classes, self.options, self.sources)

    def score(self, label: Labels, predicted: Floats) -> float:
        """The learner's own metric of some predictions, at the quantile that it predicts if it predicts one."""
        return self.problem.score(self.metric, label, predicted, self.level)

    @property
    def stopping_metric(self) -> Metric:
        """The metric of validation rows that chooses iterations.

        Metrics of ranks and of classes do not see that probabilities are not extreme enough yet, and are noisy where a
        class is rare. Unless params name a metric, a proper score decides.

        >>> [Spec("it", "kind", (), metric=name).stopping_metric.name for name in ("roc_auc", "brier")]
        ['log_loss', 'brier']
        """
        of = kind_of(self.task).metric
        return of(self.early_stopping_metric or of(self.metric).proper or self.metric)

    def stopping_score(self, label: Labels, predicted: Floats, weights: Floats | None = None) -> float:
        """The `stopping_metric` of some predictions, at the quantile that the learner predicts if it predicts one.

        Args:
            weights: (classes,) of a fit whose rows count by their class; they count as much here, if the metric is a
                function of sums. Probabilities of such a fit are meant for rows in these shares.

        Raises:
            UserError: it is not finite, so that no number of iterations is better than another.
        """
        of_rows, name = None if weights is None else row_weights(weights, label), self.stopping_metric.name
        score = self.problem.score(name, label, predicted, self.level, of_rows)
        if not math.isfinite(score):
            raise not_finite(name, "train.early_stopping_metric" if self.early_stopping_metric else "train.metric")
        return score

    @property
    def target(self) -> Problem:
        """The older name of `problem`, for learners that projects have written."""
        return self.problem


@dataclass(frozen=True)
class CurvePoint:
    """Scores of the training and validation rows after a number of iterations."""

    iteration: int
    training: float
    validation: float


@dataclass(frozen=True)
class FitReport:
    """The result of a fit: the best number of iterations, the score curve, and warnings of the library."""

    iterations: int | None = None
    curve: tuple[CurvePoint, ...] = ()
    warnings: tuple[str, ...] = ()
    regularisers: Mapping[str, float] = field(
        default_factory=dict
    )  # arguments to raise where it overfits: their values


def middle_iterations(reports: Sequence[FitReport]) -> int | None:
    """The median number of iterations (the upper one of two); None if no report has any.

    >>> middle_iterations([FitReport(40), FitReport(10), FitReport(25)])
    25
    """
    counts = sorted(report.iterations for report in reports if report.iterations is not None)
    return counts[len(counts) // 2] if counts else None


class Learner(Protocol):
    """Fits labelled rows and predicts labels, in the form that the task of its spec defines (`refit.problems`).

    A learner never changes its inputs. The same rows in the same order with the same spec give the same `digest`,
    independently of threads, directory, time zone, locale and hash seed.
    """

    threshold: float  # probability from which a row is predicted as 1, in a binary task

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
        """Fit the rows.

        With `validation` an iterative learner keeps the iteration with the best validation score; with `iterations` it
        runs exactly that many. A learner whose declaration has `unlabelled` also takes `unlabelled`: a table of rows
        whose label is not known, or None.

        Raises:
            UserError: a feature is missing or has another type, the label is constant, or the params conflict.
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
        """Continue training from `before`, a fitted learner of the same family and features, with new rows only.

        With `validation` it keeps the number of steps with the best score, possibly none; with `iterations` it takes
        exactly that many more.

        Raises:
            UserError: this kind of learner cannot continue training.
        """

    def predict(self, table: pa.Table) -> Floats:
        """(rows,) probabilities of 1, (rows, classes) probabilities, or (rows,) numbers, in the order of the rows.

        Raises:
            UserError: a feature is missing or has another type.
        """

    def save(self, folder: Path) -> None:
        """Write `model.json`, the weights and the manifest into an existing folder."""

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Learner:
        """Load the learner that `save` wrote; `refit.learners.load` calls it after checking the manifest."""

    def unsafe_reason(self) -> str | None:
        """The reason why this fitted learner has no safe format; None if it has one."""

    def digest(self) -> str:
        """Canonical digest of everything that its predictions depend on, independent of file formats."""


def describe(learner: Learner, own: Part | Mapping[str, object] | None = None) -> ModelDescription:
    """The content of `model.json`.

    Args:
        own: the entries that only its family has.
    """
    entries = own.to_json() if isinstance(own, Part) else dict(own or {})
    return ModelDescription.model_validate(
        {"format": FORMAT, "threshold": learner.threshold, **stored_spec(learner.spec), **entries}
    )


def stored_spec(spec: Spec) -> dict[str, object]:
    """The entries of `model.json` that give the spec, without the source text, the trusted types and the start."""
    entries = dataclasses.asdict(spec)
    del entries["trusted_types"], entries["source"], entries["device"], entries["start"]
    entries["categorical"] = tuple(name for name in spec.features if name in spec.categorical)
    entries["arrays"] = dict(spec.arrays)
    for name in ("options", "sources", "early_stopping_metric"):
        if not entries[name]:  # as before they existed, so that stored models keep their bytes
            del entries[name]
    return entries


def spec_from(description: ModelDescription, trusted_types: tuple[str, ...] = (), source: str = "") -> Spec:
    """The spec stored in a `model.json`, with the source text that was stored next to it."""
    return Spec(
        name=description.name,
        kind=description.kind,
        features=description.features,
        categorical=frozenset(description.categorical),
        params=description.params,
        seed=description.seed,
        metric=description.metric,
        trusted_types=trusted_types,
        task=description.task,
        classes=description.classes,
        source=source,
        text=description.text,
        arrays=description.arrays,
        vectoriser=description.vectoriser,
        average=description.average,
        quantile=description.quantile,
        options=description.options,
        sources=description.sources,
        early_stopping_metric=description.early_stopping_metric,
    )


def judged_by(learner: Learner, spec: Spec) -> Learner:
    """A fitted learner whose predictions follow the options of another spec's problem, so that both are comparable.

    A champion was trained in the environment of its time; it is compared in that of the candidate, and measures what it
    reports of itself as a candidate of now does (`as_measured_now`, where that has changed).
    """
    if (measured := getattr(learner, "as_measured_now", None)) is not None:
        learner = measured()
    if (learner.spec.options, learner.spec.sources) == (spec.options, spec.sources):
        return learner
    other: Any = copy.copy(learner)
    other.spec = dataclasses.replace(learner.spec, options=spec.options, sources=spec.sources)
    return cast(Learner, other)


def continuing(spec: Spec, before: Spec) -> Spec:
    """The spec of a learner that continues another one's training: it reads features in the order of the other.

    What was learned belongs to features by their place, and the project may name them in another order since.
    """
    return dataclasses.replace(spec, features=before.features, text=before.text, vectoriser=before.vectoriser)


def require_same_arguments(spec: Spec, before: Spec, bounds: Collection[str] = ()) -> None:
    """Check that a learner goes on with the arguments that it has learned with, since it takes no others.

    Args:
        bounds: arguments that may differ, because how far it goes is chosen again.

    Raises:
        UserError: one differs, or the class's code; a training would record what it has not used.
    """
    for name in sorted(({*spec.params} | {*before.params}) - {*bounds}):
        was, now = (each.params.get(name, "its default") for each in (before, spec))
        if was != now:
            raise UserError(
                f"learner {spec.name!r} ({spec.kind}) goes on with what it has learned by {name}: {was}; the params "
                f"ask for {now}: set it back, or set train.warm_start: null to learn by it"
            )
    if spec.source != before.source:
        raise UserError(f"learner {spec.name!r}: {spec.kind} has changed since; set train.warm_start: null to use it")


def could_not_fit(spec: Spec, said: str) -> UserError:
    """The error of a learner whose library refuses the rows or the params."""
    return UserError(
        f"learner {spec.name!r} ({spec.kind}) could not be fitted: {said}; change its params, or disable it in "
        "train.learners"
    )


@contextmanager
def library_errors(spec: Spec) -> Iterator[None]:
    """Turn what a library raises during a fit into one line."""
    try:
        yield
    except (ValueError, TypeError, MemoryError) as error:
        raise could_not_fit(spec, first_line(error)) from error


def cannot_resume(spec: Spec) -> UserError:
    """The error of a learner that is always fitted from nothing."""
    return UserError(f"learner {spec.name!r} ({spec.kind}) does not go on from a champion; set train.warm_start: null")


def not_finite(metric: str, key: str) -> UserError:
    """The error of a metric that cannot compare models on some labels; `key` is what names it in the params."""
    why = f"; {reason}" if (reason := metric_named(metric).undefined) else ""
    return UserError(f"{key}: {metric} is no finite number on these rows{why}: choose another metric")


def check_labels(label: Labels, spec: Spec) -> None:
    """Check that a model can be fitted to these labels.

    Raises:
        UserError: there are none, one is invalid for the task, or all are equal.
    """
    if not len(label):
        raise UserError(f"learner {spec.name!r} was given no rows; widen featurize.windows or move --as-of")
    if invalid := spec.problem.invalid_labels(label):
        raise UserError(f"learner {spec.name!r}: {invalid}")
    if constant := spec.problem.constant_labels(label):
        raise UserError(
            f"learner {spec.name!r}: the label is constant, {constant}: check featurize.label, or widen "
            "featurize.windows"
        )
