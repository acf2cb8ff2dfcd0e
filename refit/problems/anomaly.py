"""Anomaly detection: a model scores how unusual each row is; labels, if there are any, only judge it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from refit.metrics import SHARE, Metric
from refit.problems.binary import Binary
from refit.problems.contract import LabelSql
from refit.problems.unlabelled import OfFeatures, Unlabelled, needs_rows, numbers_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import JsonValue

    from refit.metrics.formulas import Formula
    from refit.problems.contract import Floats, Labels, Naive

BUDGET = 0.01  # default share of the rows that is called an anomaly
LEVELS = 101  # quantiles of the naive distances that are stored


@dataclass(frozen=True)
class Anomaly(OfFeatures):
    """A prediction is a row's score, the volume of all that is no more unusual, and whether it is within the budget.

    The learners of one training are chosen without labels by the mean log volume, in the units of the features: the
    mean of the mass-volume curve's logarithm over all shares of the rows. It is estimated by points in the range of the
    training rows, so models of two trainings are not compared by it, but by ROC AUC or average precision, which need a
    label of 0 and 1 (1: an anomaly). No fit sees a label.
    """

    name: ClassVar[str] = "anomaly"
    task: ClassVar[str] = "anomaly"
    labelled: ClassVar[bool] = True
    optional_label: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("score", "log_volume", "flagged")
    explained_part: ClassVar[str] = "score"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("log_volume", "mean log volume", False, (-math.inf, math.inf), between_trainings=False),
        *(each for each in Binary.metrics if each.name in ("roc_auc", "average_precision")),
        Metric("flagged", "share called an anomaly", True, SHARE, comparable=False),
        Metric("precision_at_budget", "precision within the budget", True, SHARE, comparable=False),
        Metric("recall_at_budget", "recall within the budget", True, SHARE, comparable=False),
    )
    default_metric: ClassVar[str] = "log_volume"

    def label_sql(self, column: str) -> LabelSql:
        """The label as in a binary problem; 0 for every row if there is no column."""
        return Binary().label_sql(column) if column else Unlabelled.label_sql(self, column)

    def labels(self, column: pa.ChunkedArray) -> Labels:
        return Binary().labels(column)

    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        return Binary().describe_labels(column)

    def invalid_labels(self, labels: Labels) -> str:
        return Binary().invalid_labels(labels)

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        positive = int(labels.sum())
        known = f"{positive:,} of {len(labels):,} test rows are known to be anomalies"
        return True, known if positive else f"{len(labels):,} test rows, which need no label"

    def predicted_values(self, predicted: Floats) -> pa.Array:
        import pyarrow as pa

        return pa.array(["anomaly" if flag else "usual" for flag in predicted[:, 2].tolist()], pa.string())

    def predicted_value_sql(self, column: str) -> str:
        return f"case when {column}[3] = 0 then 'usual' else 'anomaly' end"

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The distance to the mean, each column in its own standard deviation; volumes as those of a detector.

        Raises:
            RefitError: there are no rows.
        """
        import numpy as np

        from refit.metrics.level_sets import Volumes, proposal
        from refit.metrics.scaling import Scaling

        if rows is None:
            raise needs_rows(self.name)
        numbers = numbers_of(rows)
        scaling = Scaling.of(numbers)
        distances = _distances(numbers, scaling.means, scaling.deviations)
        drawn, weights = proposal(np.nan_to_num(scaling.scaled(numbers), nan=0.0))
        unit = float(np.log(scaling.deviations).sum())
        volumes = Volumes.of(np.sqrt((drawn**2).sum(axis=1)), weights, unit)
        levels = np.quantile(distances, np.linspace(0, 1, LEVELS))
        return {
            "columns": list(rows.column_names),
            "mean": scaling.means.tolist(),
            "deviations": scaling.deviations.tolist(),
            "levels": levels.tolist(),
            "log_volumes": volumes.log_of(levels).tolist(),
            "budget": float(np.quantile(distances, 1 - BUDGET)),
        }

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        import numpy as np

        from refit.metrics.level_sets import ball

        numbers = numbers_of(table.select(list(naive["columns"])))
        deviations = np.array(naive["deviations"])
        distances = _distances(numbers, np.array(naive["mean"]), deviations)
        if "levels" in naive:
            volumes = np.interp(distances, naive["levels"], naive["log_volumes"])
        else:  # made by an earlier version
            volumes = ball(distances, len(deviations)) + np.log(deviations).sum()
            volumes = np.minimum(volumes, naive["log_range"])
        return np.column_stack([distances, volumes, distances > naive["budget"]])

    def formula(self, metric: str) -> Formula:
        import numpy as np

        from refit.metrics.formulas import BINARY, OfPart, OfSums

        def at_budget(labels: Labels, predicted: Floats, _: float) -> Any:
            return labels * predicted[:, 2], predicted[:, 2], np.asarray(labels, dtype=np.float64)

        if metric in ("roc_auc", "average_precision"):
            return OfPart(BINARY[metric], 0)
        if metric == "precision_at_budget":
            return OfSums(at_budget, lambda sums: sums[0] / sums[1])
        if metric == "recall_at_budget":
            return OfSums(at_budget, lambda sums: sums[0] / sums[2])
        return {each: self.mean_of(each) for each in ("log_volume", "flagged")}[metric]


def _distances(numbers: Floats, mean: Floats, deviations: Floats) -> Floats:
    import numpy as np

    squares: Floats = np.nan_to_num((numbers - mean) / deviations, nan=0.0) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1)), dtype=np.float64)
