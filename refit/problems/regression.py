"""Regression: labels and predictions are numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from refit.errors import counted
from refit.metrics import LOSS, Metric
from refit.problems.by_feature import is_by_feature, is_number, numbers
from refit.problems.contract import Guess, LabelSql, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from refit.metrics.formulas import Formula
    from refit.problems.contract import Floats, Labels, Naive

ABSOLUTE = ("mae", "mape", "pinball")  # metrics that the median minimises
SEASONAL_NAIVE = "seasonal_naive"  # the feature of forecasts: the value of the series one season before the target


class Middle(Guess):
    """The same number for every row."""

    value: float  # mean or median of the labels


class ValueOfFeature(Middle):
    """The value of a column; where it has none, the same number for every row."""

    feature: str


@dataclass(frozen=True)
class Regression(Problem):
    """Labels and predictions are numbers.

    >>> Regression().score("mae", [1, 2], [2, 4])
    1.5
    """

    name: ClassVar[str] = "regression"
    task: ClassVar[str] = "regression"
    proper_scores: ClassVar[tuple[str, ...]] = ("mae", "rmse")
    intervals: ClassVar[bool] = True
    dtype: ClassVar[Any] = "float64"
    demand: ClassVar[str] = "no finite number"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mae", "mean absolute error", False, LOSS, in_label_units=True),
        Metric("rmse", "root mean squared error", False, LOSS, in_label_units=True),
        Metric(
            "mape",
            "mean absolute error as a share of the label",
            False,
            LOSS,
            percent=True,
            undefined="a label is 0 there, and shares of it are endless",
        ),
        Metric("smape", "symmetric error share", False, (0.0, 2.0), percent=True, proper="mae"),
        Metric("pinball", "pinball loss of the median", False, LOSS, in_label_units=True),
        Metric("r2", "R²", True, (-math.inf, 1.0), proper="rmse"),
    )
    default_metric: ClassVar[str] = "mae"

    def label_sql(self, column: str) -> LabelSql:
        text = f"nullif(trim({column}::varchar), '')"
        value = f"try_cast({text} as double)"
        same = f"coalesce(try_cast({text} as hugeint) = try_cast({value} as hugeint), false)"
        lost = f"regexp_full_match({text}, '[+-]?[0-9]{{16,}}') and not {same}"
        return LabelSql(
            text,
            value,
            f"case when coalesce(isfinite({value}), false) then {lost} else true end",
            "a regression task needs finite numbers that a double holds (whole ones up to 2^53): correct them, cast "
            "the column where it is cut (params.yaml: ingest.sources), or set train.task: multiclass for texts",
        )

    def labels(self, column: pa.ChunkedArray) -> Labels:
        import numpy as np

        return np.asarray(column.to_numpy(), dtype=np.float64)

    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        import pyarrow.compute as pc

        return {"mean": pc.mean(column).as_py(), "std": pc.stddev(column).as_py()}

    def invalid_labels(self, labels: Labels) -> str:
        import numpy as np

        outside = ~np.isfinite(labels)
        return (
            counted(int(outside.sum()), "label is no finite number", "labels are not finite numbers")
            if outside.any()
            else ""
        )

    def constant_labels(self, labels: Labels) -> str:
        import numpy as np

        one = len(labels) and len(np.unique(labels)) == 1
        return f"all {len(labels):,} rows are {labels[0]:g}; a number that varies is needed" if one else ""

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        import numpy as np

        count = len(np.unique(labels))
        return count > 1, f"the test window holds {count:,} different labels; two are needed at least"

    def strata(self, labels: Labels) -> Labels:
        """Fifths of the labels."""
        import numpy as np

        return np.searchsorted(np.unique(np.quantile(labels, (0.2, 0.4, 0.6, 0.8))), labels)

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        import numpy as np

        invalid: NDArray[np.bool_] = ~np.isfinite(predicted)
        return invalid

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The mean, which minimises squared errors; for absolute errors the median."""
        import numpy as np

        middle = np.median if metric in ABSOLUTE else np.mean
        return Middle(value=float(middle(labels))).to_json()

    def constants(self, labels: Labels, metric: str) -> Mapping[str, Naive]:
        import numpy as np

        guesses = {"mean": np.mean(labels), "median": np.median(labels)}
        names = ("median", "mean") if metric in ABSOLUTE else ("mean", "median")
        return {name: Middle(value=float(guesses[name])).to_json() for name in names}

    def by_feature(self, rows: pa.Table, feature: str, labels: Labels, metric: str) -> Naive | None:
        if not is_number(rows.column(feature).type):
            return None
        return ValueOfFeature(**self.naive(labels, metric), feature=feature).to_json()

    def guess(self, naive: Naive, rows: int) -> Floats:
        import numpy as np

        return np.full(rows, Middle.stored(naive).value)

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        """A constant; where the table has the value of the season before, as that of forecasts has, that value.

        A guess by a column has its value first.
        """
        import numpy as np

        guess = self.guess(naive, table.num_rows)
        columns = [SEASONAL_NAIVE] if SEASONAL_NAIVE in table.column_names else []
        columns += [ValueOfFeature.stored(naive).feature] if is_by_feature(naive) else []
        for column in columns:
            values = numbers(table.column(column))
            guess = np.where(np.isfinite(values), values, guess)
        return guess

    def formula(self, metric: str) -> Formula:
        from refit.metrics.formulas import REGRESSION

        return REGRESSION[metric]
