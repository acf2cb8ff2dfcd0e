"""Fairness: a metric differs little between a group and all other rows, shown with an interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from refit.config.behaviour import MEAN_ERROR, RATES, FairnessTest
from refit.errors import counted
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.slices import parts
from refit.gate.comparison import Sample, leave_out
from refit.metrics.clusters import LeftOut, jackknife, leave_out_mean
from refit.plain_text import signed
from refit.schemas.behaviour import BehaviourResult, GroupGap

MOST_CLUSTERS = 200  # metrics of ranks merge more than so many, which would not be those of the other group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refit.learners import Floats

    Rows = NDArray[np.int64]


def judged(
    wanted: FairnessTest, test: Holdout, predicted: Floats, threshold: float, confidence: float
) -> BehaviourResult:
    """Measure the gap of each group that is large enough."""
    values = dict(parts(test.table, wanted.column, params_key="evaluate.behaviour"))
    large = {name: rows for name, rows in values.items() if len(rows) >= wanted.min_rows}
    small = tuple(f"{name} ({counted(len(rows), 'row')})" for name, rows in values.items() if name not in large)
    measured = [_gap(name, rows, wanted, test, predicted, threshold, confidence) for name, rows in large.items()]
    sentence, passed = _verdict(wanted, measured, small, confidence)
    return BehaviourResult(
        name=wanted.name,
        kind="fairness",
        passed=passed,
        sentence=sentence,
        rows=test.rows,
        groups=tuple(measured),
        not_judged=small,
    )


def _verdict(
    wanted: FairnessTest, measured: list[GroupGap], small: tuple[str, ...], confidence: float
) -> tuple[str, bool]:
    if len(measured) < 2:
        few = (
            f"{len(measured)} group of {wanted.column} has"
            if len(measured) == 1
            else f"no group of {wanted.column} has"
        )
        return f"{few} {wanted.min_rows:,} test rows, two are needed; too small: {', '.join(small) or 'none'}", False
    worst = max(measured, key=lambda each: _reach(each, wanted.rule))
    what = "the interval's worse end" if wanted.rule == "interval" else "the gap"
    if worst.gap.value is None:
        return f"{wanted.metric} could not be compared where {wanted.column} is {worst.group}", False
    sentence = (
        f"{wanted.metric} differs most where {wanted.column} is {worst.group}: {signed(worst.gap.value)}"
        f"{worst.gap.between(signed)} against all other rows, with {confidence:.0%} confidence; {what} has "
        f"to be within {wanted.within:g}"
    )
    return sentence, all(each.passed for each in measured)


def _reach(each: GroupGap, rule: str) -> float:
    """How far a gap is from none; infinite if it is not known."""
    ends = (each.gap.value, each.gap.lower, each.gap.upper) if rule == "interval" else (each.gap.value,)
    return max(math.inf if end is None else abs(end) for end in ends)


def _gap(
    name: str, rows: Rows, wanted: FairnessTest, test: Holdout, predicted: Floats, threshold: float, confidence: float
) -> GroupGap:
    others = np.setdiff1d(np.arange(test.rows), rows)
    ours, theirs = (_left_out(wanted.metric, part, test, predicted, threshold) for part in (rows, others))
    gap = with_interval(jackknife(ours.minus(theirs, 1)), confidence, -math.inf)
    result = GroupGap(group=name, rows=len(rows), value=tidy(ours.value), gap=gap, passed=False)
    return result.model_copy(update={"passed": _reach(result, wanted.rule) <= wanted.within})


def _left_out(metric: str, rows: Rows, test: Holdout, predicted: Floats, threshold: float) -> LeftOut:
    """The metric of some rows, and without each cluster of all test rows."""
    clusters = test.sample.clusters.pooled(MOST_CLUSTERS)
    rows = _counted(metric, rows, test)
    if not len(rows):
        return LeftOut(math.nan, np.full(clusters.count, math.nan), clusters.effective)
    part, p = Sample(test.labels, clusters, test.problem).only(rows), predicted[rows]
    if metric in RATES:
        left = leave_out_mean((p >= threshold).astype(np.float64), part.clusters)
    elif metric == MEAN_ERROR:
        left = leave_out_mean(p - test.labels[rows], part.clusters)
    else:
        left = leave_out(metric, part, p, threshold)
    without = np.full(clusters.count, left.value)
    without[np.unique(clusters.codes[rows])] = left.without
    return LeftOut(left.value, without, clusters.effective)


def _counted(metric: str, rows: Rows, test: Holdout) -> Rows:
    """The rows that a rate is a share of."""
    if metric == "true_positive_rate":
        return np.compress(test.labels[rows] == 1, rows)
    return np.compress(test.labels[rows] == 0, rows) if metric == "false_positive_rate" else rows
