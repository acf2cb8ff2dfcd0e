"""Defines labels, predictions and naive guesses for each task, and which labels a model cannot be fitted to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.config.forecasting import SEASONAL_NAIVE
from refit.metrics import Task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Binary",
    "Multiclass",
    "Regression",
    "Target",
    "aligned",
    "as_column",
    "guess",
    "of_column",
    "target_of",
]

Floats = NDArray[np.float64]
Labels = NDArray[Any]  # 0 and 1, class codes, or numbers

FEWEST_OF_A_CLASS = 20  # rows of each class that a part of the test rows needs
HALF = 0.5  # default threshold from which a row is predicted as 1


class Target(ABC):
    """One task's labels and predictions. Learners and metrics use its label arrays."""

    task: ClassVar[Task]
    dtype: ClassVar[Any]  # of a label array
    demand: ClassVar[str]  # description of an invalid prediction, for errors
    classes: tuple[str, ...] = ()  # multiclass: the texts that the codes stand for

    @abstractmethod
    def labels(self, column: pa.ChunkedArray) -> Labels:
        """(rows,) the label array of a table's column."""

    def labels_or_nan(self, column: pa.ChunkedArray) -> Floats:
        """(rows,) labels as numbers, nan for rows without a label so far."""
        labels = np.full(len(column), np.nan)
        there = column.is_valid().to_numpy().astype(np.bool_)
        labels[there] = self.labels(column.drop_null())
        return labels

    def to_column(self, labels: Labels) -> pa.Array:
        """The table column of a label array."""
        import pyarrow as pa

        return pa.array(np.asarray(labels, dtype=self.dtype))

    def predicted_values(self, predicted: Floats) -> pa.Array:
        """(rows,) one value for each prediction: the prediction itself, or the name of the most probable class."""
        import pyarrow as pa

        return pa.array(predicted)

    @abstractmethod
    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        """(rows,) mask of the predictions that are invalid for this task."""

    @abstractmethod
    def invalid_labels(self, labels: Labels) -> str:
        """A description of the labels that are invalid for this task; empty if all are valid."""

    @abstractmethod
    def constant_labels(self, labels: Labels) -> str:
        """The reason why no model can be fitted to these labels, as they are all equal; empty if they vary."""

    def too_few(self, labels: Labels) -> str:
        """The reason why a part of the test rows cannot be judged by its labels; empty if it can."""
        return self.constant_labels(labels)

    @abstractmethod
    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        """Whether the test labels vary, and a sentence that states it."""

    @abstractmethod
    def naive(self, labels: Labels, metric: str) -> dict[str, Any]:
        """The best constant guess, which a learner has to beat."""

    @abstractmethod
    def guess(self, naive: Mapping[str, Any], rows: int) -> Floats:
        """The naive guess as predictions for a number of rows."""

    def strata(self, labels: Labels) -> Labels:
        """(rows,) strata for stratified folds: classes, or fifths of the numbers."""
        return labels

    def shape(self, rows: int) -> tuple[int, ...]:
        """The shape of the predictions for a number of rows."""
        return (rows,)

    def problem(self, predicted: Floats, rows: int) -> str:
        """What is wrong with predictions; empty if they are valid."""
        if predicted.shape != self.shape(rows):
            return f"an array of shape {predicted.shape} for {rows:,} rows; {self.shape(rows)} was expected"
        if count := int(self.invalid_predictions(predicted).sum()):
            return f"{count:,} values of {rows:,} that are {self.demand}"
        return ""


@dataclass(frozen=True)
class Binary(Target):
    """Labels 0 and 1; a prediction is the probability of 1."""

    task: ClassVar[Task] = "binary"
    dtype: ClassVar[Any] = np.int64
    demand: ClassVar[str] = "no probability (NaN or outside 0 to 1)"

    def labels(self, column: pa.ChunkedArray) -> Labels:
        return np.asarray(column.to_numpy(), dtype=np.int64)

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        return ~((predicted >= 0) & (predicted <= 1))

    def invalid_labels(self, labels: Labels) -> str:
        values = np.unique(labels)
        return "" if np.isin(values, (0, 1)).all() else f"the label must be 0 or 1; found {values[:5].tolist()}"

    def constant_labels(self, labels: Labels) -> str:
        one = len(labels) and len(np.unique(labels)) == 1
        return f"all {len(labels):,} rows are {int(labels[0])}; both classes are needed" if one else ""

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        positive = int(labels.sum())
        negative = len(labels) - positive
        words = f"the test window holds {positive:,} positive and {negative:,} negative rows; both are needed"
        return positive > 0 and negative > 0, words

    def too_few(self, labels: Labels) -> str:
        rows, positive = len(labels), int(labels.sum())
        if min(positive, rows - positive) < FEWEST_OF_A_CLASS:
            return f"{positive:,} of its {rows:,} test rows are positive, {FEWEST_OF_A_CLASS} of each class are needed"
        return ""

    def naive(self, labels: Labels, metric: str) -> dict[str, Any]:
        return {"rate": float(np.mean(labels))}

    def guess(self, naive: Mapping[str, Any], rows: int) -> Floats:
        return np.full(rows, float(naive["rate"]))


@dataclass(frozen=True)
class Multiclass(Target):
    """Labels are texts, coded by their index in the classes; a prediction is a probability for each class."""

    classes: tuple[str, ...]
    task: ClassVar[Task] = "multiclass"
    dtype: ClassVar[Any] = np.int64
    demand: ClassVar[str] = "no probabilities (NaN, below 0, or not adding up to 1)"

    def labels(self, column: pa.ChunkedArray) -> Labels:
        """(rows,) class codes; -1 for an unknown class."""
        import pyarrow as pa
        import pyarrow.compute as pc

        codes = pc.index_in(column.combine_chunks(), value_set=pa.array(self.classes, pa.string()))
        return np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))

    def to_column(self, labels: Labels) -> pa.Array:
        import pyarrow as pa

        return pa.array(self.classes, pa.string()).take(pa.array(np.asarray(labels, dtype=np.int64)))

    def predicted_values(self, predicted: Floats) -> pa.Array:
        return self.to_column(predicted.argmax(axis=1))

    def shape(self, rows: int) -> tuple[int, ...]:
        return (rows, len(self.classes))

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        sums_to_one = np.abs(predicted.sum(axis=1) - 1) <= 1e-5  # some libraries give float32
        invalid: NDArray[np.bool_] = ~((predicted >= 0).all(axis=1) & sums_to_one)
        return invalid

    def invalid_labels(self, labels: Labels) -> str:
        outside = (labels < 0) | (labels >= len(self.classes))
        return f"{int(outside.sum()):,} labels are none of {', '.join(self.classes)}" if outside.any() else ""

    def constant_labels(self, labels: Labels) -> str:
        if not len(labels) or len(np.unique(labels)) > 1:
            return ""
        name = self.classes[labels[0]] if labels[0] >= 0 else "of no class that the model knows"
        return f"all {len(labels):,} rows are {name!r}; two classes are needed at least"

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        count = len(np.unique(labels))
        words = f"the test window holds rows of {count} of {len(self.classes)} classes; two are needed at least"
        return count > 1, words

    def naive(self, labels: Labels, metric: str) -> dict[str, Any]:
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return {"shares": dict(zip(self.classes, (counts / max(counts.sum(), 1)).tolist(), strict=True))}

    def guess(self, naive: Mapping[str, Any], rows: int) -> Floats:
        return np.tile([float(naive["shares"].get(name, 0.0)) for name in self.classes], (rows, 1))


@dataclass(frozen=True)
class Regression(Target):
    """Labels and predictions are numbers."""

    task: ClassVar[Task] = "regression"
    dtype: ClassVar[Any] = np.float64
    demand: ClassVar[str] = "no finite number"

    def labels(self, column: pa.ChunkedArray) -> Labels:
        return np.asarray(column.to_numpy(), dtype=np.float64)

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        invalid: NDArray[np.bool_] = ~np.isfinite(predicted)
        return invalid

    def invalid_labels(self, labels: Labels) -> str:
        outside = ~np.isfinite(labels)
        return f"{int(outside.sum()):,} labels are not finite numbers" if outside.any() else ""

    def constant_labels(self, labels: Labels) -> str:
        one = len(labels) and len(np.unique(labels)) == 1
        return f"all {len(labels):,} rows are {labels[0]:g}; a number that varies is needed" if one else ""

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        count = len(np.unique(labels))
        return count > 1, f"the test window holds {count:,} different labels; two are needed at least"

    def strata(self, labels: Labels) -> Labels:
        return np.searchsorted(np.unique(np.quantile(labels, (0.2, 0.4, 0.6, 0.8))), labels)

    def naive(self, labels: Labels, metric: str) -> dict[str, Any]:
        """The mean, which minimises squared errors; for absolute errors the median."""
        middle = np.median if metric in ("mae", "mape", "pinball") else np.mean
        return {"value": float(middle(labels))}

    def guess(self, naive: Mapping[str, Any], rows: int) -> Floats:
        return np.full(rows, float(naive["value"]))


def target_of(task: Task, classes: Iterable[str] = ()) -> Target:
    """The target of a task.

    Args:
        classes: of a multiclass task, in the order of their codes.

    >>> target_of("multiclass", ("cat", "dog")).shape(3)
    (3, 2)
    """
    if task == "multiclass":
        return Multiclass(tuple(classes))
    return Binary() if task == "binary" else Regression()


def guess(table: pa.Table, target: Target, naive: Mapping[str, Any]) -> Floats:
    """The naive predictions that a model has to beat: a constant; for forecasts the season before, if it is known."""
    everyone = target.guess(naive, table.num_rows)
    if target.task != "regression" or SEASONAL_NAIVE not in table.column_names:
        return everyone
    season = table.column(SEASONAL_NAIVE).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(season), season, everyone)


def aligned(predicted: Floats, model_classes: tuple[str, ...], wanted: tuple[str, ...]) -> Floats:
    """Map probabilities of a model's classes to those of the wanted classes; classes unknown to the model get 0.

    >>> aligned(np.array([[0.25, 0.75]]), ("cat", "dog"), ("ant", "cat", "dog")).tolist()
    [[0.0, 0.25, 0.75]]
    """
    if model_classes == wanted:
        return predicted
    probabilities = np.zeros((len(predicted), len(wanted)))
    for index, name in enumerate(model_classes):
        if name in wanted:
            probabilities[:, wanted.index(name)] = predicted[:, index]
    return probabilities


def as_column(predicted: Floats) -> pa.Array:
    """Predictions as a table column: numbers, or lists with a probability for each class."""
    import pyarrow as pa

    if predicted.ndim == 1:
        return pa.array(predicted, pa.float64())
    return pa.FixedSizeListArray.from_arrays(pa.array(predicted.ravel(), pa.float64()), predicted.shape[1])


def of_column(column: pa.ChunkedArray | pa.Array) -> Floats:
    """The predictions in a column that `as_column` returned.

    >>> of_column(as_column(np.array([[0.25, 0.75]]))).tolist()
    [[0.25, 0.75]]
    """
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
    values = np.asarray(array.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    width = array.type.list_size if pa.types.is_fixed_size_list(array.type) else len(values) // max(len(array), 1)
    return values.reshape(len(array), width)
