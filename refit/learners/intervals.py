"""Prediction intervals: margins around predictions that contain a given share of out-of-fold labels.

Split conformal prediction (Lei et al. 2018, "Distribution-free predictive inference for regression", JASA 113): for
exchangeable rows, an interval contains the label of a new row with the level's probability, for any learner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.config import nearest
from refit.errors import UserError
from refit.learners.contract import Floats
from refit.plain_text import MISSING
from refit.schemas.postprocessing import MarginsByGroup, MarginSummary, StoredIntervals, StoredMargin

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.config.train import IntervalParams

FEWEST_OF_A_GROUP = 50  # rows; a smaller group uses the common margin
STORED_SCORES = 1000  # stored with a margin, for other levels and for adaptive margins

Texts = NDArray[np.str_]


class Margin(StoredMargin):
    """The amount by which a band is widened at both ends, and the scores that it is computed from."""

    def at(self, level: float) -> float:
        """The margin of another level, computed from the stored scores; the largest score if there are too few."""
        return conformal_quantile(np.array(self.scores), level)

    def summary(self) -> MarginSummary:
        """The margin without the scores."""
        return MarginSummary(value=self.value, rows=self.rows)


class Intervals(StoredIntervals):
    """The margins of one model: a common one, and one for each value of a column that has enough rows."""

    common: Margin
    groups: Mapping[str, Margin] = {}

    def margins(self, groups: Texts, level: float | None = None) -> Floats:
        """(rows,) margins.

        Args:
            groups: (rows,) values of the column `within`; see `groups_in`.
        """
        names, codes = np.unique(groups, return_inverse=True)
        margins = [self.groups.get(str(name), self.common) for name in names]
        other_level = None if level == self.level else level
        values = [each.value if other_level is None else each.at(other_level) for each in margins]
        return np.array(values, dtype=np.float64)[codes]

    def summary(self) -> MarginsByGroup:
        """The same without the scores."""
        groups = {name: margin.summary() for name, margin in self.groups.items()}
        return MarginsByGroup(**{**dict(self), "common": self.common.summary(), "groups": groups})


def intervals_from(stored: StoredIntervals) -> Intervals:
    """The intervals with these margins."""
    groups = {name: Margin(**dict(margin)) for name, margin in stored.groups.items()}
    return Intervals(**{**dict(stored), "common": Margin(**dict(stored.common)), "groups": groups})


def fit_intervals(band: Floats, labels: Floats, groups: Texts, params: IntervalParams) -> Intervals:
    """Fit the margins that contain a share `params.level` of these labels.

    Args:
        band: (rows, 2) low and high, predicted by fits that did not see the rows, in order of time.
        groups: (rows,) values of the column `params.within`.

    Raises:
        UserError: there are too few rows for the level.
    """
    scores, of_groups = score(band, labels), {}
    needed = require_rows(len(scores), params.level)
    for name in np.unique(groups) if params.within else ():
        of_group = scores[groups == name]
        if len(of_group) >= max(FEWEST_OF_A_GROUP, needed):
            of_groups[str(name)] = _margin(of_group, params)
    return Intervals(
        level=params.level,
        by=params.by,
        common=_margin(scores, params),
        within=params.within,
        groups=of_groups,
        rate=params.rate if params.adaptive else None,
        missing=MISSING,
    )


def require_rows(count: int, level: float) -> int:
    """The smallest number of rows whose scores have a rank for the level.

    Raises:
        UserError: there are fewer rows.
    """
    if (needed := math.ceil(level / (1 - level) - 1e-9)) > count:
        raise UserError(
            f"train.intervals.level {level:g} needs {needed:,} rows that no fit has seen, there are {count:,}; take a "
            "lower level, or a longer validation window"
        )
    return needed


def ends_of(level: float) -> tuple[float, float]:
    """The two quantiles that enclose a share of the labels.

    >>> ends_of(0.5)
    (0.25, 0.75)
    """
    return (1 - level) / 2, (1 + level) / 2


def score(band: Floats, labels: Floats) -> Floats:
    """(rows,) distance of a label outside its band; inside, the negative distance from the nearer end.

    Equation 6 of Romano, Patterson and Candès 2019, "Conformalized quantile regression", NeurIPS; for a band of zero
    width it is the absolute error.

    >>> score(np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([3.5, 1.0])).tolist()
    [0.5, 1.0]
    """
    outside: Floats = np.maximum(band[:, 0] - labels, labels - band[:, 1])
    return outside


def conformal_quantile(scores: Floats, level: float) -> float:
    """The score at rank ceil((n + 1) level): with this probability, the score of an exchangeable new row is no larger.

    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    """
    index = rank_index(len(scores), level)
    return float(np.partition(scores, index)[index])


def rank_index(count: int, level: float) -> int:
    """The index of that rank in `count` sorted scores; the last one if there are too few."""
    rank = math.ceil((count + 1) * level - 1e-9)
    return min(max(rank, 1), count) - 1


def widen(band: Floats, margins: Floats) -> Floats:
    """(rows, 2) the band widened by its margins; ends that would cross meet in the middle."""
    low, high = band[:, 0] - margins, band[:, 1] + margins
    middle = (low + high) / 2
    return np.column_stack([np.minimum(low, middle), np.maximum(high, middle)])


def groups_in(table: pa.Table, within: str | None, missing: str = MISSING) -> Texts:
    """(rows,) the column's values as texts; all empty if there is no grouping.

    Args:
        missing: the name for rows without a value; a text that equals it is quoted.

    Raises:
        UserError: the table has no such column.
    """
    if within is None:
        return np.full(table.num_rows, "")
    if within not in table.column_names:
        near = nearest(within, table.column_names)
        raise UserError(
            f"params.yaml: train.intervals.within: no column {within!r}{near}; featurize.keep carries columns along "
            "that are no features"
        )
    column = table[within].combine_chunks().dictionary_encode()
    names = [_name(value, missing) for value in column.dictionary.to_pylist()]
    codes = column.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    groups: Texts = np.array([*names, missing])[codes]
    return groups


def _name(value: Any, missing: str) -> str:
    """A value as text; whole numbers have the same text as integers and as floats."""
    if missing == MISSING and (value == MISSING or value != value):
        return repr(value) if value == MISSING else missing
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _margin(scores: Floats, params: IntervalParams) -> Margin:
    """Fit a margin; stores the newest scores if it is adaptive, else scores spread evenly over all, by size."""
    count = min(STORED_SCORES, len(scores))
    spread = np.linspace(0, len(scores) - 1, count).round().astype(np.int64)
    stored: Floats = scores[-count:] if params.adaptive else np.sort(scores)[spread]
    value = conformal_quantile(scores, params.level)
    return Margin(value=value, rows=len(scores), scores=tuple(stored.tolist()))
