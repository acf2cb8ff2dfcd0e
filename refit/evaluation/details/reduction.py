"""Dimension reduction: how much of the variance is kept, and the test rows on the map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.gate.comparison import error_reduction
from refit.problems.reduction import mean_square
from refit.problems.unlabelled import numbers_of
from refit.schemas.artifact import Part
from refit.schemas.evaluation import Details, Facts
from refit.schemas.measured import Measured

Floats = NDArray[np.float64]

POINTS, MOST_GROUPS = 1_500, 10


class PlacedRow(Part):
    """A test row on the first two coordinates."""

    x: float
    y: float
    group: str  # value of the column that rows are coloured by; empty if there is none


class ReductionDetails(Details):
    """What is measured of a map."""

    model_config = ConfigDict(extra="forbid")

    restored: Measured  # share of the variance of the test rows' features
    coloured_by: str
    points: tuple[PlacedRow, ...]


class ReductionFacts(Facts):
    """The mean coordinates of some rows."""

    model_config = ConfigDict(extra="forbid")

    x: float | None
    y: float | None


def facts(labels: NDArray[Any], predicted: Floats) -> ReductionFacts:
    return ReductionFacts(x=tidy(predicted[:, 2].mean()), y=tidy(predicted[:, 3].mean()))


def details(test: Holdout, scored: Scored, confidence: float) -> ReductionDetails:
    candidate = scored.p["candidate"]
    restored = error_reduction("reconstruction_error", test.sample, candidate, _means(test, scored))
    chosen = np.arange(test.rows)
    if test.rows > POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(test.rows, POINTS, replace=False))
    column, groups = _groups(test)
    return ReductionDetails(
        restored=with_interval(restored, confidence, -np.inf, 1.0),
        coloured_by=column,
        points=tuple(
            PlacedRow(x=round(float(x), 4), y=round(float(y), 4), group=groups[row])
            for row, (x, y) in zip(chosen, candidate[chosen, 2:4], strict=True)
        ),
    )


def _means(test: Holdout, scored: Scored) -> Floats:
    """The predictions of a map on which all test rows lie at one point: what it loses of them is their variance.

    The baseline says something else for curved maps: the principal components of their width.
    """
    if scored.candidate is None:
        raise AssertionError("the share of the variance is measured of a candidate")
    numbers = numbers_of(test.table.select(list(scored.candidate.spec.features)))
    predicted = np.zeros((test.rows, 4))
    predicted[:, 0] = mean_square(numbers - np.nanmean(numbers, axis=0))
    return predicted


def _groups(test: Holdout) -> tuple[str, list[str]]:
    """A column of few texts that is kept (`featurize.keep`), and its values; empty if there is none."""
    import pyarrow as pa

    for name in test.table.column_names:
        column = test.table[name]
        if name != "window" and pa.types.is_string(column.type) and 1 < len(column.unique()) <= MOST_GROUPS:
            return name, ["" if value is None else value for value in column.to_pylist()]
    return "", [""] * test.rows


MEASURES = Measures(details, facts)
