"""Whether intervals hold what they promise on rows that no model has seen, and how wide they are for it."""

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

MOST_GROUPS = 40  # that are told of; the largest
STRETCH = 120  # newest test rows (of one group) that are drawn


def judged(test: Holdout, scored: Scored, confidence: float) -> Report | None:
    """`intervals` of `evaluation.json`: coverage, width and scores, of all rows and of each group."""
    found = scored.bands
    if found is None:
        return None
    tell = _teller(test, found.intervals.level, confidence)
    return {
        "level": found.intervals.level,
        "by": found.intervals.by,
        "within": found.intervals.within,
        "rate": found.intervals.rate,
        "rows": test.rows,
        **tell(found.said, np.arange(test.rows)),
        "plain": None if found.followed is None else tell(found.plain, np.arange(test.rows)),
        "groups": list(_by_group(found, tell)),
        "stretch": _stretch(test, scored.p["candidate"], found),
    }


def winkler(band: Floats, labels: Floats, level: float) -> Floats:
    """(rows,) the width, and what a label outside costs: least for the true quantiles.

    Equation 43 of Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", JASA 102.

    >>> winkler(np.array([[0.0, 2.0], [0.0, 2.0]]), np.array([1.0, 3.0]), 0.5).tolist()
    [2.0, 6.0]
    """
    beyond = np.maximum(score(band, labels), 0.0)
    found: Floats = band[:, 1] - band[:, 0] + 2 / (1 - level) * beyond
    return found


def _teller(test: Holdout, level: float, confidence: float) -> Callable[[Floats, NDArray[np.int64]], Report]:
    """What tells of a band on some of the rows, with intervals that allow for clusters."""

    def tell(band: Floats, rows: NDArray[np.int64]) -> Report:
        band, labels, clusters = band[rows], test.labels[rows], test.sample.only(rows).clusters
        parts: dict[str, tuple[Floats, float]] = {
            "coverage": ((score(band, labels) <= 0).astype(np.float64), 1.0),
            "width": (band[:, 1] - band[:, 0], math.inf),
            "winkler": (winkler(band, labels, level), math.inf),
        }
        told: Report = {
            name: with_interval(jackknife(leave_out_mean(values, clusters)), confidence, 0.0, most)
            for name, (values, most) in parts.items()
        }
        losses = {f"{q:.4g}": pinball(labels, band[:, end], q) for end, q in enumerate(ends_of(level))}
        return told | {"pinball": {q: tidy(loss.mean()) for q, loss in losses.items()}}

    return tell


def _by_group(found: Bands, tell: Callable[[Floats, NDArray[np.int64]], Report]) -> Iterator[Report]:
    if found.intervals.within is None:
        return
    names, counts = np.unique(found.groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist()
    for name in sorted(largest, key=_in_order):
        rows = np.flatnonzero(found.groups == name)
        own = name in found.intervals.groups
        yield {"value": name, "rows": len(rows), "own_margin": own, **tell(found.said, rows)}


def _in_order(name: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(name), ""
    except ValueError:
        return math.inf, name


def _stretch(test: Holdout, predicted: Floats, found: Bands) -> list[Report]:
    """The newest rows of the largest group, oldest first."""
    names, counts = np.unique(found.groups, return_counts=True)
    rows = np.flatnonzero(found.groups == names[counts.argmax()])[-STRETCH:]
    times = test.table.column("event_time").take(rows).to_pylist()
    return [
        {
            "time": f"{time:%Y-%m-%dT%H:%M}",
            "label": tidy(test.labels[row]),
            "predicted": tidy(predicted[row]),
            "low": tidy(found.said[row, 0]),
            "high": tidy(found.said[row, 1]),
        }
        for time, row in zip(times, rows, strict=True)
    ]


def flat(evaluation: Report) -> Iterator[tuple[str, float | None]]:
    """What `reports/metrics.json` has of the intervals."""
    if found := evaluation.get("intervals"):
        yield "interval_coverage", found["coverage"]["value"]
        yield "interval_width", found["width"]["value"]
        yield "interval_winkler", found["winkler"]["value"]


def words(evaluation: Report) -> Iterator[str]:
    """Sentences for the model card."""
    found = evaluation.get("intervals")
    if not found:
        return
    held, span = found["coverage"], ""
    if held["lower"] is not None:
        span = f" (between {percent(held['lower'], 1)} and {percent(held['upper'], 1)})"
    yield (
        f"{percent(found['level'])} intervals held {percent(held['value'], 1)} of {found['rows']:,} labels{span}; mean "
        f"width {found['width']['value']:.4g}."
    )
    if plain := found["plain"]:
        yield (
            "They follow the labels as they become known; as they were in training they would have held "
            f"{percent(plain['coverage']['value'], 1)}, with mean width {plain['width']['value']:.4g}."
        )
    if off := [group for group in found["groups"] if _misses(group["coverage"], found["level"])]:
        yield (
            f"By {found['within']}, {len(off)} of {len(found['groups'])} held less than that by more than their "
            f"interval: {', '.join(group['value'] for group in off[:5])}{' …' if len(off) > 5 else ''}."
        )


def percent(share: float, digits: int | None = None) -> str:
    """A share in words: `90 %`, or with so many digits `89.6 %`."""
    return f"{100 * share:.4g} %" if digits is None else f"{100 * share:.{digits}f} %"


def _misses(coverage: Mapping[str, float | None], level: float) -> bool:
    return coverage["upper"] is not None and coverage["upper"] < level
