"""Dimension reduction: a model places rows on few numbers, from which their features can be restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from refit.metrics import LOSS, SHARE, Metric
from refit.problems.unlabelled import OfFeatures, needs_rows, numbers_of

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.metrics.formulas import OfSums
    from refit.problems.contract import Floats, Labels, Naive


@dataclass(frozen=True)
class Reduction(OfFeatures):
    """A prediction is what is lost of a row, how far its neighbours can be trusted, and its first two coordinates.

    The reconstruction error is the mean squared error of a row's values in the units of the features, never in those of
    a model, so that models are comparable; columns of different units are put on one scale where they are cut. The
    trustworthiness (Venna and Kaski 2001) of a row is 1 if its nearest training rows on the map are its nearest ones in
    the features too, and about a half if they are any.
    """

    name: ClassVar[str] = "reduction"
    task: ClassVar[str] = "reduction"
    poolable: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = ("reconstruction_error", "trustworthiness", "component_1", "component_2")
    explained_part: ClassVar[str] = "reconstruction_error"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("reconstruction_error", "reconstruction error", False, LOSS),
        Metric("trustworthiness", "trustworthiness", True, SHARE),
    )
    default_metric: ClassVar[str] = "reconstruction_error"

    def predicted_values(self, predicted: Floats) -> pa.Array:
        """The first coordinate."""
        import pyarrow as pa

        return pa.array(predicted[:, 2])

    def predicted_value_sql(self, column: str) -> str:
        return f"{column}[3]"

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The mean of all rows."""
        import numpy as np

        if rows is None:
            raise needs_rows(self.name)
        return {"columns": list(rows.column_names), "mean": np.nanmean(numbers_of(rows), axis=0).tolist()}

    def opponent(self, learner: object, labels: Labels, metric: str, rows: pa.Table) -> Naive:
        """The principal components of the candidate's width, which lose less than the mean; of a linear one, the mean.

        Rows that are restored linearly lie in a plane, and none is nearer to the training rows than that of principal
        components: such a reduction is compared with the mean alone.
        """
        naive, width = self.naive(labels, metric, rows), getattr(learner, "width", 0)
        if not width or getattr(learner, "is_linear", False):
            return naive
        return {**naive, "components": _components(numbers_of(rows), width).tolist()}

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        import numpy as np

        apart = numbers_of(table.select(list(naive["columns"]))) - np.array(naive["mean"])
        components = np.array(naive.get("components") or np.zeros((0, apart.shape[1])))
        placed = np.where(np.isnan(apart), 0.0, apart) @ components.T
        error = mean_square(apart - placed @ components)
        where = np.zeros((len(error), 2))
        where[:, : min(2, placed.shape[1])] = placed[:, :2]
        return np.column_stack([error, np.full(len(error), 0.5), where])

    def formula(self, metric: str) -> OfSums:
        return {each.name: self.mean_of(each.name) for each in self.metrics}[metric]


def _components(numbers: Floats, width: int) -> Floats:
    """(width, columns) the first principal components; a missing value is the mean."""
    import numpy as np

    apart = np.nan_to_num(numbers - np.nanmean(numbers, axis=0), nan=0.0)
    _, vectors = np.linalg.eigh(apart.T @ apart)  # the smallest first
    components = vectors[:, ::-1][:, :width].T
    largest = components[np.arange(len(components)), np.abs(components).argmax(axis=1)]
    return np.asarray((components * np.sign(largest)[:, None]).round(12))  # the last bits differ between machines


def mean_square(apart: Floats) -> Floats:
    """(rows,) mean square of the values that a row has; 0 if it has none."""
    import numpy as np

    known = ~np.isnan(apart)
    squares = np.where(known, apart, 0.0) ** 2
    return np.asarray(squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1), dtype=np.float64)
