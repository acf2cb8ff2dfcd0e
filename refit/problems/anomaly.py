"""Anomaly detection: a model scores how unusual each row is; labels, if there are any, only judge it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from refit.errors import counted
from refit.metrics import CORRELATION, SHARE, Metric
from refit.problems.binary import Binary
from refit.problems.contract import LabelSql
from refit.problems.unlabelled import OfFeatures, Unlabelled, needs_rows, numbers_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from refit.metrics.formulas import Formula
    from refit.metrics.mass_volume import ReferencePoints
    from refit.problems.contract import Floats, Labels, Naive, Problem

BUDGET = 0.01  # default share of the rows that is called an anomaly
MOST_COLUMNS = 50  # of rows whose volumes are estimated by points
MOST_AGREEING = 1_000  # columns of rows that simple detectors are fitted to
LEVELS = 101  # quantiles of the naive distances that are stored


@dataclass(frozen=True)
class Anomaly(OfFeatures):
    """A prediction is a row's score, the volume of all that is no more unusual, and whether it is within the budget.

    Models are compared without labels by the volumes of their level sets, estimated by one set of points in the range
    of the rows that they are judged on: the mean log volume that holds nine rows in ten or more, or the excess mass; or
    by their agreement with simple detectors of these rows.
    With a label of 0 and 1 (1: an anomaly) they can be compared by ROC AUC or average precision. No fit sees a label.
    """

    name: ClassVar[str] = "anomaly"
    task: ClassVar[str] = "anomaly"
    labelled: ClassVar[bool] = True
    optional_label: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("score", "log_volume", "flagged")
    explained_part: ClassVar[str] = "score"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("log_volume", "mean log volume", False, (-math.inf, math.inf)),
        Metric(
            "excess_mass",
            "excess mass",
            True,
            SHARE,
            undefined=f"it is known of 1 to {MOST_COLUMNS} columns that vary, none of them pictures",
        ),
        Metric(
            "agreement",
            "agreement of detectors",
            True,
            CORRELATION,
            undefined=f"it is known of 20 rows or more, and of at most {MOST_AGREEING} columns, one of them varying",
        ),
        *(replace(each, by_label=True) for each in Binary.metrics if each.name in ("roc_auc", "average_precision")),
        Metric("flagged", "share called an anomaly", True, SHARE, comparable=False),
        Metric("precision_at_budget", "precision within the budget", True, SHARE, comparable=False),
        Metric("recall_at_budget", "recall within the budget", True, SHARE, comparable=False),
    )
    default_metric: ClassVar[str] = "log_volume"

    def label_sql(self, column: str) -> LabelSql:
        """The label as in a binary problem; 0 for every row if there is no column."""
        return Binary().label_sql(column) if column else Unlabelled.label_sql(self, column)

    def labels(self, column: pa.ChunkedArray) -> Labels:
        """(rows,) 0 and 1; nan for a row without a label."""
        import numpy as np
        import pyarrow.compute as pc

        if not column.null_count:
            return Binary().labels(column)
        return np.asarray(pc.fill_null(column.cast("double"), np.nan).to_numpy(), dtype=np.float64)

    def to_column(self, labels: Labels) -> pa.Array:
        import pyarrow as pa

        return pa.array(labels, pa.int64(), from_pandas=True)

    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        return Binary().describe_labels(column)

    def invalid_labels(self, labels: Labels) -> str:
        return Binary().invalid_labels(labels[known(labels)])

    def judging(self, metric: str) -> Problem:
        return Binary() if self.metric(metric).by_label else self

    def strata(self, labels: Labels) -> Labels:
        import numpy as np

        return np.where(known(labels), labels, -1)

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        judged = labels[known(labels)]
        positive, unknown = int(judged.sum()), len(labels) - len(judged)
        words = f"{positive:,} of {len(judged):,} test rows are known to be anomalies"
        others = f"; {counted(unknown, 'other has', 'others have')} no label" if unknown else ""
        return True, words + others if positive else f"{len(labels):,} test rows, which need no label"

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

    def reference(self, rows: pa.Table) -> tuple[tuple[ReferencePoints, pa.Table] | None, Floats] | None:
        """Points in the range of the rows, as rows, and what simple detectors agree on.

        No points of pictures or more than `MOST_COLUMNS` columns, and nothing at all of more than `MOST_AGREEING`.
        """
        from refit.metrics.consensus import agreed
        from refit.metrics.mass_volume import ReferencePoints

        numbers = numbers_of(rows)
        if not 0 < numbers.shape[1] <= MOST_AGREEING:
            return None
        if numbers.shape[1] > MOST_COLUMNS:
            return None, agreed(numbers)
        if (points := ReferencePoints.of(numbers)) is None:
            return None  # no column varies
        table = rows_of(points.points, rows)
        return None if table is None else (points, table), agreed(numbers)

    def judged(self, predict: Callable[[pa.Table], Floats], rows: pa.Table, reference: Any) -> Floats:
        predicted = predict(rows)
        if reference is None:
            return predicted
        import numpy as np

        of_points, agreement = reference
        if of_points is None:
            return np.column_stack([predicted, agreement])
        points, table = of_points
        return np.column_stack([points.judged(predicted, predict(table)[:, 0]), agreement])

    def formula(self, metric: str) -> Formula:
        import numpy as np

        from refit.metrics.formulas import BINARY, OfKnown, OfPart, OfSums
        from refit.metrics.mass_volume import ExcessMass, MassVolume

        def at_budget(labels: Labels, predicted: Floats, _: float) -> Any:
            return labels * predicted[:, 2], predicted[:, 2], np.asarray(labels, dtype=np.float64)

        if metric in ("roc_auc", "average_precision"):
            return OfKnown(OfPart(BINARY[metric], 0))
        if metric == "precision_at_budget":
            # Undefined where no row is an anomaly, as recall is: without a label column, none is.
            return OfKnown(OfSums(at_budget, lambda sums: np.where(sums[2] > 0, sums[0] / sums[1], np.nan)))
        if metric == "recall_at_budget":
            return OfKnown(OfSums(at_budget, lambda sums: sums[0] / sums[2]))
        if metric == "agreement":
            return OfSums(_with_detectors, _correlation)
        if metric == "log_volume":
            return MassVolume()
        if metric == "excess_mass":
            return ExcessMass()
        return {"flagged": self.mean_of("flagged")}[metric]


def known(labels: Labels) -> NDArray[np.bool_]:
    """(rows,) whether there is a label."""
    import numpy as np

    return np.asarray(labels == labels, dtype=np.bool_)  # nan equals nothing


def _with_detectors(labels: Labels, predicted: Floats, _: float) -> tuple[Floats, ...]:
    """(rows,) columns whose sums give the correlation of a model's surprise with that of simple detectors."""
    import numpy as np

    from refit.metrics.consensus import surprise_of_ranks
    from refit.metrics.mass_volume import OF_PARTS

    own, width = surprise_of_ranks(predicted[:, 0]), predicted.shape[1]
    has_others = width in (len(Anomaly.parts) + 1, OF_PARTS.stop + 1)  # `judged` appends them, with points or without
    others = predicted[:, -1] if has_others else np.full(len(own), np.nan)
    return np.ones(len(own)), own, others, own**2, others**2, own * others


def _correlation(sums: Floats) -> Any:
    import numpy as np

    count, own, others, own_squares, others_squares, products = sums
    covariance = products - own * others / count
    return covariance / np.sqrt((own_squares - own**2 / count) * (others_squares - others**2 / count))


def _distances(numbers: Floats, mean: Floats, deviations: Floats) -> Floats:
    import numpy as np

    squares: Floats = np.nan_to_num((numbers - mean) / deviations, nan=0.0) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1)), dtype=np.float64)
