"""Evaluates prediction intervals on held-out rows: coverage, width and scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Bands, Scored
from refit.learners import Floats
from refit.learners.intervals import ends_of, score
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.metrics.formulas import pinball
from refit.schemas.interval_report import IntervalGroup, IntervalReport, IntervalScores, StretchRow
from refit.schemas.measured import Measured

ScoresOf = Callable[[Floats, NDArray[np.int64]], IntervalScores]

TOLERANCE = 0.02  # distance from the level from which on a miss matters
MOST_GROUPS = 40  # in the report, the largest
STRETCH = 120  # newest test rows (of one group) in the plot


def interval_report(test: Holdout, scored: Scored, confidence: float) -> IntervalReport | None:
    """The entry `intervals` of `evaluation.json`: coverage, width and scores, for all rows and for each group."""
    bands = scored.bands
    if bands is None:
        return None
    scores_of = _scorer(test, bands.intervals.level, confidence)
    every = np.arange(test.rows)
    return IntervalReport(
        **dict(scores_of(bands.reported, every)),
        level=bands.intervals.level,
        by=bands.intervals.by,
        within=bands.intervals.within,
        rate=bands.intervals.rate,
        rows=test.rows,
        plain=None if bands.adaptive is None else scores_of(bands.plain, every),
        groups=tuple(_by_group(bands, scores_of)),
        stretch=tuple(_stretch(test, scored.p["candidate"], bands)),
    )


def winkler(band: Floats, labels: Floats, level: float) -> Floats:
    """(rows,) interval score: the width plus a penalty for labels outside; the true quantiles minimise it.

    Equation 43 of Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", JASA 102.

    >>> winkler(np.array([[0.0, 2.0], [0.0, 2.0]]), np.array([1.0, 3.0]), 0.5).tolist()
    [2.0, 6.0]
    """
    beyond = np.maximum(score(band, labels), 0.0)
    scores: Floats = band[:, 1] - band[:, 0] + 2 / (1 - level) * beyond
    return scores


def _scorer(test: Holdout, level: float, confidence: float) -> ScoresOf:
    """Return a function that scores a band on some of the rows, with clustered intervals."""

    def scores_of(band: Floats, rows: NDArray[np.int64]) -> IntervalScores:
        band, labels, clusters = band[rows], test.labels[rows], test.sample.only(rows).clusters

        def mean(values: Floats, most: float = math.inf) -> Measured:
            return with_interval(jackknife(leave_out_mean(values, clusters)), confidence, 0.0, most)

        losses = {f"{q:.4g}": pinball(labels, band[:, end], q) for end, q in enumerate(ends_of(level))}
        return IntervalScores(
            coverage=mean((score(band, labels) <= 0).astype(np.float64), 1.0),
            width=mean(band[:, 1] - band[:, 0]),
            winkler=mean(winkler(band, labels, level)),
            pinball={q: tidy(loss.mean()) for q, loss in losses.items()},
        )

    return scores_of


def _by_group(bands: Bands, scores_of: ScoresOf) -> Iterator[IntervalGroup]:
    if bands.intervals.within is None:
        return
    names, counts = np.unique(bands.groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist()
    for name in sorted(largest, key=_in_order):
        rows = np.flatnonzero(bands.groups == name)
        own = name in bands.intervals.groups
        yield IntervalGroup(**dict(scores_of(bands.reported, rows)), value=name, rows=len(rows), own_margin=own)


def _in_order(name: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(name), ""
    except ValueError:
        return math.inf, name


def _stretch(test: Holdout, predicted: Floats, bands: Bands) -> Iterator[StretchRow]:
    """The newest rows of the largest group, oldest first."""
    names, counts = np.unique(bands.groups, return_counts=True)
    rows = np.flatnonzero(bands.groups == names[counts.argmax()])[-STRETCH:]
    times = test.table.column("event_time").take(rows).to_pylist()
    for time, row in zip(times, rows, strict=True):
        yield StretchRow(
            time=f"{time:%Y-%m-%dT%H:%M}",
            label=tidy(test.labels[row]),
            predicted=tidy(predicted[row]),
            low=tidy(bands.reported[row, 0]),
            high=tidy(bands.reported[row, 1]),
        )


def flat(intervals: IntervalReport | None) -> Iterator[tuple[str, float | None]]:
    """The intervals' entries in `reports/metrics.json`."""
    if intervals:
        yield "interval_coverage", intervals.coverage.value
        yield "interval_width", intervals.width.value
        yield "interval_winkler", intervals.winkler.value


def sentences(intervals: IntervalReport | None) -> Iterator[str]:
    """Sentences for the model card."""
    if not intervals:
        return
    yield (
        f"{percent(intervals.level)} intervals held {reached_percent(intervals.coverage.value)} of "
        f"{intervals.rows:,} labels{intervals.coverage.between(reached_percent)}; "
        f"mean width {intervals.width.value:.4g}."
    )
    if warning := shortfall(intervals.coverage, intervals.level):
        yield f"Warning: {warning}."
    if plain := intervals.plain:
        yield (
            "They follow the labels as they become known; as they were in training they would have held "
            f"{reached_percent(plain.coverage.value)}, with mean width {plain.width.value:.4g}."
        )
    if missed := [group.value for group in intervals.groups if _misses(group.coverage, intervals.level)]:
        yield (
            f"By {intervals.within}, {len(missed)} of {len(intervals.groups)} held less than that by more than "
            f"their interval: {', '.join(missed[:5])}{' …' if len(missed) > 5 else ''}."
        )


def shortfall(coverage: Measured, level: float) -> str:
    """A warning where intervals miss their level by more than chance and by 2 points or more; empty if they do not.

    >>> shortfall(Measured(value=0.756, lower=0.74, upper=0.77), 0.9)
    'they hold fewer labels than they state (75.6 %, not 90 %): do not rely on them'
    >>> shortfall(Measured(value=0.89, lower=0.885, upper=0.895), 0.9)
    ''
    """
    value, lower, upper = coverage.value, coverage.lower, coverage.upper
    if value is None or lower is None or upper is None or abs(value - level) < TOLERANCE or lower <= level <= upper:
        return ""
    reached = f"({reached_percent(value)}, not {percent(level)})"
    if value < level:
        return f"they hold fewer labels than they state {reached}: do not rely on them"
    return f"they hold more labels than they state {reached}: they are wider than they need be"


def percent(share: float) -> str:
    """Format a share to be reached: `90 %`."""
    return f"{100 * share:.4g} %"


def reached_percent(reached: float | None) -> str:
    """Format a share that was reached: `89.2 %`."""
    return "–" if reached is None else f"{100 * reached:.1f} %"


def _misses(coverage: Measured, level: float) -> bool:
    return coverage.upper is not None and coverage.upper < level
