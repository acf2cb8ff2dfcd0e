"""Clustering: a model divides rows into segments, and says how usual each row is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from refit.metrics import LOSS, Metric
from refit.problems.unlabelled import OfFeatures, needs_rows, numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from refit.metrics.formulas import OfSums
    from refit.problems.contract import Floats, Labels, Naive

NOISE = 0  # the number of the segment of rows that belong to none of the others
MOST_COVARIANCES = 64  # columns of the naive opponent; of more, it has variances only


def segment_name(number: float) -> str:
    """What people call a segment.

    >>> segment_name(3.0), segment_name(0.0)
    ('segment 3', 'noise')
    """
    return "noise" if number == NOISE else f"segment {number:.0f}"


@dataclass(frozen=True)
class Clustering(OfFeatures):
    """A prediction is a row's segment, how unusual the row is, how clearly it belongs there, and how far it lies off.

    The negative log-likelihood is that of the row's numbers in their own units, so that models are comparable however
    they scale them. Where a clustering is no mixture, it is that of the mixture which its segments imply: each with its
    share, mean and covariance. The simplified silhouette (Hruschka et al. 2004) compares the distance to a row's own
    centre with that to the next one: 1 is clear, 0 between two. Distances are in the model's own units.

    >>> Clustering().check_predictions(__import__("numpy").zeros((2, 4)), 2)
    ''
    """

    name: ClassVar[str] = "clustering"
    task: ClassVar[str] = "clustering"
    keeps_names: ClassVar[bool] = True
    poolable: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = ("segment", "negative_log_likelihood", "silhouette", "distance")
    explained_part: ClassVar[str] = "negative_log_likelihood"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("negative_log_likelihood", "negative log-likelihood", False, (-math.inf, math.inf)),
        Metric("silhouette", "simplified silhouette", True, (-1.0, 1.0)),
        Metric("distance", "distance to the nearest centre", False, LOSS, comparable=False),
    )
    default_metric: ClassVar[str] = "negative_log_likelihood"

    def predicted_values(self, predicted: Floats) -> pa.Array:
        import pyarrow as pa

        return pa.array([segment_name(number) for number in predicted[:, 0].tolist()], pa.string())

    def predicted_value_sql(self, column: str) -> str:
        number = f"{column}[1]"
        return f"case when {number} = {NOISE} then 'noise' else 'segment ' || {number}::bigint end"

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """One cluster: the mean and the covariance of all rows."""
        if rows is None:
            raise needs_rows(self.name)
        return _one_cluster(rows, ())

    def opponent(self, learner: object, labels: Labels, metric: str, rows: pa.Table) -> Naive:
        """One cluster of the same logarithms as the candidate's: its segments have to be better, not its scale."""
        return _one_cluster(rows, getattr(learner, "logged", ()))

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        import numpy as np

        from refit.metrics.mixtures import FLOOR, Mixture

        rows = table.select(list(naive["columns"]))
        numbers, stretch = _logged(rows, naive.get("logged", ()))
        mean, deviations = np.array(naive["mean"]), np.array(naive["deviations"])
        scaled = (numbers - mean) / deviations
        count = len(mean)
        spread = np.eye(count) if naive["correlations"] is None else np.array(naive["correlations"])
        one = Mixture(np.ones(1), np.zeros((1, count)), spread[None] + FLOOR * np.eye(count))
        known = ~np.isnan(numbers)
        loss = -one.log_density(scaled) + np.where(known, np.log(deviations), 0.0).sum(axis=1) + stretch
        distance = np.sqrt(np.where(known, scaled**2, 0.0).sum(axis=1))
        return np.column_stack([np.ones(len(loss)), loss, np.zeros(len(loss)), distance])

    def formula(self, metric: str) -> OfSums:
        return {each.name: self.mean_of(each.name) for each in self.metrics}[metric]


def _one_cluster(rows: pa.Table, logged: Sequence[str]) -> Naive:
    """The mean and the covariance of rows, of some features those of their logarithms."""
    import numpy as np

    numbers, _ = _logged(rows, logged)
    mean = np.nanmean(numbers, axis=0)
    apart = np.where(np.isnan(numbers), 0.0, numbers - mean)  # a missing value lies at the mean
    variances = np.maximum((apart**2).mean(axis=0), 1e-12 * np.maximum(mean**2, 1.0))
    few = len(mean) <= MOST_COVARIANCES
    deviations = np.sqrt(variances)
    spread: Any = ((apart / deviations).T @ (apart / deviations) / len(apart)).tolist() if few else None
    return {
        "columns": list(rows.column_names),
        "mean": mean.tolist(),
        "deviations": deviations.tolist(),
        "correlations": spread,
        **({"logged": list(logged)} if logged else {}),
    }


def _logged(rows: pa.Table, logged: Sequence[str]) -> tuple[Floats, Floats]:
    """(rows, values) numbers, of some features their logarithm; and (rows,) what that takes from a log density."""
    import numpy as np

    from refit.metrics.scaling import Scaling

    numbers = numbers_of(rows)
    widths = [numbers_of(rows.select([name])).shape[1] for name in rows.column_names]
    logs = np.repeat([name in logged for name in rows.column_names], widths)
    scaling = Scaling(logs, np.zeros(len(logs)), np.ones(len(logs)))
    return scaling.scaled(numbers), scaling.log_stretch(numbers)
