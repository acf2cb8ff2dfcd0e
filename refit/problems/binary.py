"""Binary classification: labels 0 and 1; a prediction is the probability of 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from refit.metrics import CORRELATION, LOSS, SHARE, Metric
from refit.problems.by_feature import SharesByFeature, is_by_feature
from refit.problems.contract import FEWEST_OF_A_CLASS, Guess, LabelSql, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from refit.metrics.formulas import Formula
    from refit.problems.contract import Floats, Labels, Naive


BOTH = ("0", "1")  # the classes of a guess by one feature


class Rate(Guess):
    """The same probability for every row."""

    rate: float  # of positive labels


@dataclass(frozen=True)
class Binary(Problem):
    """Labels 0 and 1; a prediction is the probability of 1.

    >>> Binary().score("roc_auc", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """

    name: ClassVar[str] = "binary"
    task: ClassVar[str] = "binary"
    proper_scores: ClassVar[tuple[str, ...]] = ("brier",)
    probabilities: ClassVar[bool] = True
    has_threshold: ClassVar[bool] = True
    estimable: ClassVar[bool] = True
    folds: ClassVar[Literal["kfold", "stratified", "time"]] = "stratified"
    dtype: ClassVar[Any] = "int64"
    demand: ClassVar[str] = "no probability (NaN or outside 0 to 1)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("roc_auc", "ROC AUC", True, SHARE, proper="log_loss"),
        Metric("average_precision", "average precision", True, SHARE, proper="log_loss"),
        Metric("log_loss", "log loss", False, LOSS),
        Metric("brier", "Brier score", False, SHARE),
        Metric("accuracy", "accuracy", True, SHARE, comparable=False),
        Metric("accuracy_at_half", "accuracy at .5", True, SHARE, proper="log_loss"),
        Metric("balanced_accuracy", "balanced accuracy", True, SHARE, comparable=False),
        Metric("f1", "F1", True, SHARE, comparable=False),
        Metric("mcc", "Matthews correlation", True, CORRELATION, comparable=False),
        Metric("calibration_error", "calibration error", False, SHARE, comparable=False),
    )
    default_metric: ClassVar[str] = "roc_auc"

    def label_sql(self, column: str) -> LabelSql:
        text = f"lower({column}::varchar)"
        value = f"coalesce(try_cast({text} as double), case {text} when 'true' then 1 when 'false' then 0 end)"
        return LabelSql(
            text,
            f"{value}::bigint",
            f"coalesce({value} not in (0, 1), true)",
            "a binary task needs 0 and 1: cut an event source with a column that says so, such as "
            "`late: (delay >= 15)::integer` (params.yaml: ingest.sources), or set train.task: multiclass for texts, "
            "regression for numbers",
        )

    def labels(self, column: pa.ChunkedArray) -> Labels:
        import numpy as np

        return np.asarray(column.to_numpy(), dtype=np.int64)

    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        import pyarrow.compute as pc

        return {"positive": pc.sum(column).as_py() or 0}

    def invalid_labels(self, labels: Labels) -> str:
        import numpy as np

        values = np.unique(labels)
        return "" if np.isin(values, (0, 1)).all() else f"the label must be 0 or 1; found {values[:5].tolist()}"

    def constant_labels(self, labels: Labels) -> str:
        one = len(labels) and (labels == labels[0]).all()
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

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        return ~((predicted >= 0) & (predicted <= 1))

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The rate of positive labels."""
        return Rate(rate=float(labels.mean())).to_json()

    def constants(self, labels: Labels, metric: str) -> Mapping[str, Naive]:
        return {"base_rate": self.naive(labels, metric)}

    def by_feature(self, rows: pa.Table, feature: str, labels: Labels, metric: str) -> Naive | None:
        guess = SharesByFeature.fitted(rows.column(feature), feature, labels, BOTH)
        return None if guess is None else guess.to_json()

    def guess(self, naive: Naive, rows: int) -> Floats:
        import numpy as np

        return np.full(rows, Rate.stored(naive).rate)

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        if is_by_feature(naive):
            return SharesByFeature.stored(naive).of(table, BOTH)[:, 1]
        return self.guess(naive, table.num_rows)

    def formula(self, metric: str) -> Formula:
        from refit.metrics.formulas import BINARY

        return BINARY[metric]
