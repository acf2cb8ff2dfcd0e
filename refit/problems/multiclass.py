"""Classification into several classes: labels are texts; a prediction is a probability for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from refit.errors import counted
from refit.metrics import CORRELATION, LOSS, SHARE, Metric
from refit.problems.by_feature import SharesByFeature, is_by_feature
from refit.problems.contract import Guess, LabelSql, Problem

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from refit.metrics.formulas import Formula
    from refit.problems.contract import Floats, Labels, Naive

MOST_CLASSES = 200


class Shares(Guess):
    """The same probabilities for every row."""

    shares: Mapping[str, float]  # of labels, by class


@dataclass(frozen=True)
class Multiclass(Problem):
    """Labels are texts, coded by their index in the classes; a prediction is a probability for each class.

    >>> round(Multiclass(("cat", "dog")).score("log_loss", [0, 1], [[0.5, 0.5], [0.5, 0.5]]), 4)
    0.6931
    """

    name: ClassVar[str] = "multiclass"
    task: ClassVar[str] = "multiclass"
    proper_scores: ClassVar[tuple[str, ...]] = ("log_loss",)
    probabilities: ClassVar[bool] = True
    folds: ClassVar[Literal["kfold", "stratified", "time"]] = "stratified"
    dtype: ClassVar[Any] = "int64"
    demand: ClassVar[str] = "no probabilities (NaN, below 0, or not adding up to 1)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("log_loss", "log loss", False, LOSS),
        Metric("brier", "Brier score", False, (0.0, 2.0)),
        Metric("accuracy", "accuracy", True, SHARE, proper="log_loss"),
        Metric("balanced_accuracy", "balanced accuracy", True, SHARE, proper="log_loss"),
        Metric("f1_macro", "macro F1", True, SHARE, proper="log_loss"),
        Metric("mcc", "Matthews correlation", True, CORRELATION, proper="log_loss"),
        Metric("roc_auc_ovr", "mean ROC AUC of each class", True, SHARE, proper="log_loss"),
        Metric("calibration_error", "calibration error", False, SHARE, comparable=False),
    )
    default_metric: ClassVar[str] = "log_loss"

    def label_sql(self, column: str) -> LabelSql:
        text = f"nullif(trim({column}::varchar), '')"
        demand = (
            f"a multiclass task takes {MOST_CLASSES} at most: put them into groups (params.yaml: ingest.sources), or "
            "set train.task: regression where they are numbers"
        )
        return LabelSql(text, text, demand=demand, most_values=MOST_CLASSES)

    def labels(self, column: pa.ChunkedArray) -> Labels:
        """(rows,) class codes; -1 for an unknown class."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        codes = pc.index_in(column.combine_chunks(), value_set=pa.array(self.classes, pa.string()))
        return np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))

    def to_column(self, labels: Labels) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        return pa.array(self.classes, pa.string()).take(pa.array(np.asarray(labels, dtype=np.int64)))

    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        counts = {each["values"]: each["counts"] for each in column.value_counts().to_pylist()}
        return {"classes": dict(sorted(counts.items()))}

    def invalid_labels(self, labels: Labels) -> str:
        outside = (labels < 0) | (labels >= len(self.classes))
        return (
            f"{counted(int(outside.sum()), 'label is', 'labels are')} none of {', '.join(self.classes)}"
            if outside.any()
            else ""
        )

    def constant_labels(self, labels: Labels) -> str:
        if not len(labels) or (labels != labels[0]).any():
            return ""
        name = self.classes[labels[0]] if labels[0] >= 0 else "of no class that the model knows"
        return f"all {len(labels):,} rows are {name!r}; two classes are needed at least"

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        count = len(set(labels.tolist()))
        words = f"the test window holds rows of {count} of {len(self.classes)} classes; two are needed at least"
        return count > 1, words

    def shape(self, rows: int) -> tuple[int, ...]:
        return (rows, len(self.classes))

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        sums_to_one = abs(predicted.sum(axis=1) - 1) <= 1e-5  # some libraries give float32
        invalid: NDArray[np.bool_] = ~((predicted >= 0).all(axis=1) & sums_to_one)
        return invalid

    def predicted_values(self, predicted: Floats) -> pa.Array:
        return self.to_column(predicted.argmax(axis=1))

    def predicted_value_sql(self, column: str) -> str:
        from feature_store.sql_text import literal

        names, listed = ", ".join(map(literal, self.classes)), f"{column}::double[]"
        return f"([{names}])[list_position({listed}, list_max({listed}))]"

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The share of each class."""
        import numpy as np

        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        shares = dict(zip(self.classes, (counts / max(counts.sum(), 1)).tolist(), strict=True))
        return Shares(shares=shares).to_json()

    def guess(self, naive: Naive, rows: int) -> Floats:
        import numpy as np

        shares = Shares.stored(naive).shares
        return np.tile([shares.get(name, 0.0) for name in self.classes], (rows, 1))

    def constants(self, labels: Labels, metric: str) -> Mapping[str, Naive]:
        return {"base_rate": self.naive(labels, metric)}

    def by_feature(self, rows: pa.Table, feature: str, labels: Labels, metric: str) -> Naive | None:
        guess = SharesByFeature.fitted(rows.column(feature), feature, labels, self.classes)
        return None if guess is None else guess.to_json()

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        if is_by_feature(naive):
            return SharesByFeature.stored(naive).of(table, self.classes)
        return self.guess(naive, table.num_rows)

    def formula(self, metric: str) -> Formula:
        from refit.metrics.formulas import MULTICLASS

        return MULTICLASS[metric]
