"""The contract of every kind of problem: what a unit is, its label, naive guess, metrics and valid predictions.

All stages work on a table with one row for each unit: a customer, a basket, an episode, a step of a stream. What a unit
means, and how a model's predictions for it are judged, only its problem knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from refit.errors import RefitError
from refit.metrics import LIMITS, Metric

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray
    from pydantic import JsonValue

    from refit.metrics.formulas import Formula

    Floats = NDArray[np.float64]
    Labels = NDArray[Any]  # (rows,) 0 and 1, class codes, or numbers
    Naive = Mapping[str, Any]  # a `Guess` as `training.json` and models of kind `baseline` store it

__all__ = ["HALF", "Guess", "LabelSql", "Options", "Problem", "aligned", "as_column", "of_column"]

FEWEST_OF_A_CLASS = 20  # rows of each class that a part of the test rows needs
HALF = 0.5  # default threshold from which a row is predicted as 1


@dataclass(frozen=True)
class LabelSql:
    """How the label column of a source becomes the label of the feature table."""

    text: str  # SQL of the value as a text, for errors
    value: str  # SQL of the label; null if there is none
    invalid: str = "false"  # SQL: a value that is there and is no label
    demand: str = ""  # what the problem needs and what to do, for errors
    most_values: int | None = None  # different values


class Options(BaseModel):
    """The options of a kind of problem (`train.problem`): frozen, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def code(self) -> tuple[str, ...]:
        """What they run: import paths, and `file.py:Name` of the project; a stored model runs it only if trusted."""
        return ()


class Guess(BaseModel):
    """What the naive baseline of a kind has learned; each kind says what that is."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @classmethod
    def stored(cls, naive: Naive) -> Self:
        """The guess that a file holds.

        Raises:
            RefitError: it is not one of this kind.
        """
        try:
            return cls.model_validate(dict(naive))
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in detail["loc"])
            raise RefitError(f"the stored naive guess is damaged ({name}: {detail['msg']}); train again") from None

    def to_json(self) -> Naive:
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class Problem(ABC):
    """One kind of problem. Learners, metrics and the gate use its arrays of labels and predictions.

    A kind without labels (`labelled` is False) gives every row the label 0, known at its event time, and its metrics
    judge the predictions alone.
    """

    classes: tuple[str, ...] = ()  # the texts that class codes stand for; empty if labels are numbers
    options: Any = None  # an instance of `options_class`
    sources: Mapping[str, str] = field(default_factory=dict)  # texts of the project's files that the options name

    options_class: ClassVar[type[Options] | None] = None  # None: the kind has no options
    name: ClassVar[str]  # in `train.task`
    task: ClassVar[str]  # the kind of predictions that learners declare, and models record
    labelled: ClassVar[bool] = True
    optional_label: ClassVar[bool] = False  # labels only judge models, so that `featurize.label.column` may be left out
    proper_scores: ClassVar[tuple[str, ...]] = ()  # metrics that the drift watch measures in addition to the gate's
    probabilities: ClassVar[bool] = False  # predictions are probabilities, which can be calibrated
    has_threshold: ClassVar[bool] = False  # a prediction from a threshold on means 1
    estimable: ClassVar[bool] = False  # metrics can be estimated from calibrated predictions, before labels come
    can_leak: ClassVar[bool] = True  # a feature that predicts the label nearly perfectly is suspicious
    # A row is an episode that is played. Learners learn by playing, which more rows teach little; the one that was best
    # on the validation rows is the candidate, as a second training would end in another policy.
    played: ClassVar[bool] = False
    inexplicable: ClassVar[str] = ""  # why predictions are not explained by their features; empty if they are
    intervals: ClassVar[bool] = False  # predictions are numbers, which can have prediction intervals
    parts: ClassVar[tuple[str, ...]] = ()  # names of the numbers of a prediction that has several and no classes
    explained_part: ClassVar[str] = ""  # the one of them that explanations of predictions are of
    naive_of_rows: ClassVar[bool] = False  # the naive guess is of the features of its rows, not of labels alone
    of_features: ClassVar[bool] = (
        False  # losses are of the features themselves, so the same ones make models comparable
    )
    keeps_names: ClassVar[bool] = False  # what a model finds is named as the champion names it (`named_after`)
    poolable: ClassVar[bool] = True  # predictions of two fits mean the same: no numbers of segments, no axes of maps
    folds: ClassVar[Literal["kfold", "stratified", "time"]] = "kfold"  # kind of folds that `refit init` writes
    dtype: ClassVar[Any]  # of a label array
    demand: ClassVar[str]  # description of an invalid prediction, for errors
    metrics: ClassVar[tuple[Metric, ...]]
    default_metric: ClassVar[str]

    # Labels

    @abstractmethod
    def label_sql(self, column: str) -> LabelSql:
        """SQL of the label in the form of the feature table; `column` is a quoted name."""

    @abstractmethod
    def labels(self, column: pa.ChunkedArray) -> Labels:
        """(rows,) the label array of a table's column."""

    def labels_or_nan(self, column: pa.ChunkedArray) -> Floats:
        """(rows,) labels as numbers, nan for rows without a label so far."""
        import numpy as np

        labels = np.full(len(column), np.nan)
        there = column.is_valid().to_numpy().astype(np.bool_)
        labels[there] = self.labels(column.drop_null())
        return labels

    def to_column(self, labels: Labels) -> pa.Array:
        """The table column of a label array."""
        import numpy as np
        import pyarrow as pa

        return pa.array(np.asarray(labels, dtype=self.dtype))

    @abstractmethod
    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        """The labels of a window in figures, as `features.json` has them."""

    @abstractmethod
    def invalid_labels(self, labels: Labels) -> str:
        """A description of the labels that are invalid for this problem; empty if all are valid."""

    @abstractmethod
    def constant_labels(self, labels: Labels) -> str:
        """The reason why no model can be fitted to these labels, as they are all equal; empty if they vary."""

    def too_few(self, labels: Labels) -> str:
        """The reason why a part of the test rows cannot be judged by its labels; empty if it can."""
        return self.constant_labels(labels)

    @abstractmethod
    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        """Whether the test labels vary, and a sentence that states it."""

    def judging(self, metric: str) -> Problem:
        """The problem by whose rules there are labels enough for a metric: this one, unless labels are optional."""
        return self

    def strata(self, labels: Labels) -> Labels:
        """(rows,) strata for stratified folds: classes, or fifths of the numbers."""
        return labels

    def unusable(self, rows: pa.Table) -> str:
        """The reason why no model can be fitted to these features of training rows; empty if there is none."""
        return ""

    # Predictions

    def shape(self, rows: int) -> tuple[int, ...]:
        """The shape of the predictions for a number of rows."""
        return (rows, len(self.parts)) if self.parts else (rows,)

    def output(self, predicted: Floats) -> Floats:
        """What explanations of predictions are of: the predictions themselves, or (rows,) one of their parts."""
        return predicted[..., self.parts.index(self.explained_part)] if self.parts else predicted

    @abstractmethod
    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        """(rows,) mask of the predictions that are invalid for this problem."""

    def reference(self, rows: pa.Table) -> Any:
        """What the metrics of all models on some rows need to have in common; None if there is no such thing.

        Args:
            rows: the features of the rows.
        """
        return None

    def judged(self, predict: Callable[[pa.Table], Floats], rows: pa.Table, reference: Any) -> Floats:
        """A model's predictions of rows as the metrics take them: `parts` may be followed by other columns.

        Args:
            reference: of these rows' features (`reference`), the same for all models.
        """
        return predict(rows)

    def reported(self, judged: Floats) -> Floats:
        """The predictions themselves of those that `judged` returned."""
        return judged[:, : len(self.parts)] if self.parts else judged

    def check_predictions(self, predicted: Floats, rows: int) -> str:
        """What is wrong with predictions; empty if they are valid."""
        if predicted.shape != self.shape(rows):
            return f"an array of shape {predicted.shape} for {rows:,} rows; {self.shape(rows)} was expected"
        if count := int(self.invalid_predictions(predicted).sum()):
            return f"{count:,} values of {rows:,} that are {self.demand}"
        return ""

    def predicted_values(self, predicted: Floats) -> pa.Array:
        """(rows,) one value for each prediction: the prediction itself, or the name of the most probable class."""
        import pyarrow as pa

        return pa.array(predicted)

    def predicted_value_sql(self, column: str) -> str:
        """SQL of `predicted_values`; `column` holds predictions as `as_column` writes them."""
        return column

    # The naive opponent

    @abstractmethod
    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The simplest guess, which a learner has to beat.

        Args:
            rows: the features of these labels' rows, for a guess that needs them; None if they are not at hand.
        """

    def opponent(self, learner: object, labels: Labels, metric: str, rows: pa.Table) -> Naive:
        """The naive guess that a candidate has to beat; by default the same for all.

        Args:
            learner: the candidate.
            rows: the features of these labels' rows.
        """
        return self.naive(labels, metric, rows)

    def constants(self, labels: Labels, metric: str) -> Mapping[str, Naive]:
        """Naive guesses of one value for all rows, by name: first that of `naive`; empty if there are no others.

        Only kinds that name their guess here are compared with further opponents (`by_feature`).
        """
        return {}

    def by_feature(self, rows: pa.Table, feature: str, labels: Labels, metric: str) -> Naive | None:
        """The naive guess by a single feature; None if this feature allows none."""
        return None

    @abstractmethod
    def guess(self, naive: Naive, rows: int) -> Floats:
        """The naive guess as predictions for a number of rows."""

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        """The naive predictions for the rows of a feature table."""
        return self.guess(naive, table.num_rows)

    # Metrics

    @abstractmethod
    def formula(self, metric: str) -> Formula:
        """The formula of one of the problem's metrics.

        Raises:
            KeyError: the problem has no such metric.
        """

    @classmethod
    def metric(cls, name: str) -> Metric:
        """One of the problem's metrics.

        Raises:
            ValueError: the problem has no such metric.
        """
        for each in cls.metrics:
            if each.name == name:
                return each
        names = ", ".join(each.name for each in cls.metrics)
        raise ValueError(f"metric {name!r} is not for task {cls.task!r}; its metrics are {names}")

    @classmethod
    def metric_names(cls, *, comparable: bool = False) -> tuple[str, ...]:
        """Names of the problem's metrics.

        Args:
            comparable: only the metrics by which models are chosen and compared.
        """
        return tuple(each.name for each in cls.metrics if each.comparable or not comparable)

    @classmethod
    def limits(cls, *, higher_is_better: bool) -> tuple[str, ...]:
        """Metrics that may have a floor (higher is better) or a ceiling, those of a model such as latency included."""
        every = (*cls.metrics, *LIMITS)
        return tuple(each.name for each in every if each.higher_is_better == higher_is_better)

    def score(
        self,
        metric: str,
        label: ArrayLike,
        predicted: ArrayLike,
        threshold: float = HALF,
        weights: Floats | None = None,
    ) -> float:
        """Compute one metric; NaN or infinite if it is undefined, such as the ROC AUC of one class only.

        Args:
            label: (rows,) of 0 and 1, class codes, or numbers.
            predicted: (rows,) probabilities of 1, (rows, classes) probabilities, or (rows,) numbers.
            threshold: probability from which a row is predicted as 1, in a binary problem; for `pinball` the
                quantile's level.
            weights: (rows,) how often each row counts; a metric of ranks takes all rows as equal.

        Raises:
            RefitError: no rows, unequal lengths, or a prediction that is not finite.
            ValueError: the problem has no such metric.
        """
        from refit.metrics.formulas import OfSums, checked

        self.metric(metric)
        y, p = checked(label, predicted)
        formula = self.formula(metric)
        if weights is not None and isinstance(formula, OfSums):
            return formula.value(y, p, threshold, weights)
        return formula.value(y, p, threshold)

    def scores(self, label: ArrayLike, predicted: ArrayLike, threshold: float = HALF) -> dict[str, float]:
        """Compute every metric of the problem.

        Raises:
            RefitError: no rows, unequal lengths, or a prediction that is not finite.
        """
        from refit.metrics.formulas import checked

        y, p = checked(label, predicted)
        return {name: self.formula(name).value(y, p, threshold) for name in self.metric_names()}


def aligned(predicted: Floats, model_classes: tuple[str, ...], wanted: tuple[str, ...]) -> Floats:
    """Map probabilities of a model's classes to those of the wanted classes; classes unknown to the model get 0.

    >>> import numpy as np
    >>> aligned(np.array([[0.25, 0.75]]), ("cat", "dog"), ("ant", "cat", "dog")).tolist()
    [[0.0, 0.25, 0.75]]
    """
    import numpy as np

    if model_classes == wanted:
        return predicted
    probabilities = np.zeros((len(predicted), len(wanted)))
    for index, name in enumerate(model_classes):
        if name in wanted:
            probabilities[:, wanted.index(name)] = predicted[:, index]
    return probabilities


def as_column(predicted: Floats) -> pa.Array:
    """Predictions as a table column: numbers, or lists with several numbers for each row."""
    import pyarrow as pa

    if predicted.ndim == 1:
        return pa.array(predicted, pa.float64())
    return pa.FixedSizeListArray.from_arrays(pa.array(predicted.ravel(), pa.float64()), predicted.shape[1])


def of_column(column: pa.ChunkedArray | pa.Array) -> Floats:
    """The predictions in a column that `as_column` returned.

    >>> import numpy as np
    >>> of_column(as_column(np.array([[0.25, 0.75]]))).tolist()
    [[0.25, 0.75]]
    """
    import numpy as np
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
    values = np.asarray(array.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    width = array.type.list_size if pa.types.is_fixed_size_list(array.type) else len(values) // max(len(array), 1)
    return values.reshape(len(array), width)
