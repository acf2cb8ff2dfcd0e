"""Evaluates prediction intervals on held-out rows: coverage, width and scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Bands, Scored
from refit.learners import Floats
from refit.learners.intervals import ends_of, score
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.metrics.formulas import pinball

Report = dict[str, Any]

MOST_GROUPS = 40  # in the report, the largest
STRETCH = 120  # newest test rows (of one group) in the plot


def interval_report(test: Holdout, scored: Scored, confidence: float) -> Report | None:
    """The entry `intervals` of `evaluation.json`: coverage, width and scores, for all rows and for each group."""
    bands = scored.bands
    if bands is None:
        return None
    report_of = _reporter(test, bands.intervals.level, confidence)
    return {
        "level": bands.intervals.level,
        "by": bands.intervals.by,
        "within": bands.intervals.within,
        "rate": bands.intervals.rate,
        "rows": test.rows,
        **report_of(bands.reported, np.arange(test.rows)),
        "plain": None if bands.adaptive is None else report_of(bands.plain, np.arange(test.rows)),
        "groups": list(_by_group(bands, report_of)),
        "stretch": _stretch(test, scored.p["candidate"], bands),
    }


def winkler(band: Floats, labels: Floats, level: float) -> Floats:
    """(rows,) interval score: the width plus a penalty for labels outside; the true quantiles minimise it.

    Equation 43 of Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", JASA 102.

    >>> winkler(np.array([[0.0, 2.0], [0.0, 2.0]]), np.array([1.0, 3.0]), 0.5).tolist()
    [2.0, 6.0]
    """
    beyond = np.maximum(score(band, labels), 0.0)
    scores: Floats = band[:, 1] - band[:, 0] + 2 / (1 - level) * beyond
    return scores


def _reporter(test: Holdout, level: float, confidence: float) -> Callable[[Floats, NDArray[np.int64]], Report]:
    """Return a function that reports on a band for some of the rows, with clustered intervals."""

    def report_of(band: Floats, rows: NDArray[np.int64]) -> Report:
        band, labels, clusters = band[rows], test.labels[rows], test.sample.only(rows).clusters
        parts: dict[str, tuple[Floats, float]] = {
            "coverage": ((score(band, labels) <= 0).astype(np.float64), 1.0),
            "width": (band[:, 1] - band[:, 0], math.inf),
            "winkler": (winkler(band, labels, level), math.inf),
        }
        report: Report = {
            name: with_interval(jackknife(leave_out_mean(values, clusters)), confidence, 0.0, most)
            for name, (values, most) in parts.items()
        }
        losses = {f"{q:.4g}": pinball(labels, band[:, end], q) for end, q in enumerate(ends_of(level))}
        return report | {"pinball": {q: tidy(loss.mean()) for q, loss in losses.items()}}

    return report_of


def _by_group(bands: Bands, report_of: Callable[[Floats, NDArray[np.int64]], Report]) -> Iterator[Report]:
    if bands.intervals.within is None:
        return
    names, counts = np.unique(bands.groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist()
    for name in sorted(largest, key=_in_order):
        rows = np.flatnonzero(bands.groups == name)
        own = name in bands.intervals.groups
        yield {"value": name, "rows": len(rows), "own_margin": own, **report_of(bands.reported, rows)}


def _in_order(name: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(name), ""
    except ValueError:
        return math.inf, name


def _stretch(test: Holdout, predicted: Floats, bands: Bands) -> list[Report]:
    """The newest rows of the largest group, oldest first."""
    names, counts = np.unique(bands.groups, return_counts=True)
    rows = np.flatnonzero(bands.groups == names[counts.argmax()])[-STRETCH:]
    times = test.table.column("event_time").take(rows).to_pylist()
    return [
        {
            "time": f"{time:%Y-%m-%dT%H:%M}",
            "label": tidy(test.labels[row]),
            "predicted": tidy(predicted[row]),
            "low": tidy(bands.reported[row, 0]),
            "high": tidy(bands.reported[row, 1]),
        }
        for time, row in zip(times, rows, strict=True)
    ]


def flat(evaluation: Report) -> Iterator[tuple[str, float | None]]:
    """The intervals' entries in `reports/metrics.json`."""
    if intervals := evaluation.get("intervals"):
        yield "interval_coverage", intervals["coverage"]["value"]
        yield "interval_width", intervals["width"]["value"]
        yield "interval_winkler", intervals["winkler"]["value"]


def sentences(evaluation: Report) -> Iterator[str]:
    """Sentences for the model card."""
    intervals = evaluation.get("intervals")
    if not intervals:
        return
    coverage, span = intervals["coverage"], ""
    if coverage["lower"] is not None:
        span = f" (between {percent(coverage['lower'], 1)} and {percent(coverage['upper'], 1)})"
    yield (
        f"{percent(intervals['level'])} intervals held {percent(coverage['value'], 1)} of {intervals['rows']:,} "
        f"labels{span}; mean width {intervals['width']['value']:.4g}."
    )
    if plain := intervals["plain"]:
        yield (
            "They follow the labels as they become known; as they were in training they would have held "
            f"{percent(plain['coverage']['value'], 1)}, with mean width {plain['width']['value']:.4g}."
        )
    if missed := [group for group in intervals["groups"] if _misses(group["coverage"], intervals["level"])]:
        yield (
            f"By {intervals['within']}, {len(missed)} of {len(intervals['groups'])} held less than that by more than "
            f"their interval: {', '.join(group['value'] for group in missed[:5])}{' …' if len(missed) > 5 else ''}."
        )


def percent(share: float, digits: int | None = None) -> str:
    """Format a share: `90 %`, or with a number of digits `89.6 %`."""
    return f"{100 * share:.4g} %" if digits is None else f"{100 * share:.{digits}f} %"


def _misses(coverage: Mapping[str, float | None], level: float) -> bool:
    return coverage["upper"] is not None and coverage["upper"] < level
