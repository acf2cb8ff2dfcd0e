"""Compares two models on the same rows, with errors: a bare gain would promote an equal model half the time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife
from refit.problems import metric_named
from refit.problems.binary import Binary
from refit.problems.contract import Problem

__all__ = ["Sample", "error_reduction", "gain", "leave_out", "single"]


@dataclass(frozen=True)
class Sample:
    """Labels of the rows that models are compared on, in the form of the problem's metrics, with their clusters."""

    labels: NDArray[Any]
    clusters: Clusters
    problem: Problem = field(default_factory=Binary)

    def only(self, rows: NDArray[Any]) -> Sample:
        """A subset of the rows, with their clusters."""
        return Sample(self.labels[rows], self.clusters.only(rows), self.problem)

    def judged(self, metric: str, *scores: ArrayLike) -> tuple[Sample, tuple[NDArray[Any], ...]]:
        """The rows that a metric judges, with their scores: those with a label where others have none, else all.

        A row without a label says nothing of a metric by labels, so it does not count as one of the rows, of the
        clusters or of the days that the gate needs.
        """
        given = tuple(np.asarray(each) for each in scores)
        by_label = {each.name for each in self.problem.metrics if each.by_label}
        if metric not in by_label or (there := ~np.isnan(self.labels)).all():
            return self, given
        return self.only(there), tuple(each[there] for each in given)


def gain(metric: str, sample: Sample, candidate: ArrayLike, opponent: ArrayLike) -> Estimate:
    """How much better `candidate` scores than `opponent` on the same rows: positive is better, for any metric.

    The gain is nan if the metric is undefined, for instance with one class only; nothing is raised.
    """
    sample, (candidate, opponent) = sample.judged(metric, candidate, opponent)
    if not len(sample.labels):
        return Estimate(math.nan, math.nan, 0.0)
    ours, theirs = leave_out(metric, sample, candidate), leave_out(metric, sample, opponent)
    with np.errstate(invalid="ignore"):
        return jackknife(ours.minus(theirs, metric_named(metric).sign), sample.clusters)


def error_reduction(metric: str, sample: Sample, candidate: ArrayLike, opponent: ArrayLike) -> Estimate:
    """The reduction of the opponent's distance from a perfect metric, as a share of it: 1 is perfect, 0 is equal.

    The distance is 1 - value if higher is better, and the loss itself if lower is. A gain of 0.01 is little at a ROC
    AUC of 0.6, but half of what is missing at 0.98. Not finite if the opponent is already perfect.
    """
    sample, (candidate, opponent) = sample.judged(metric, candidate, opponent)
    if not len(sample.labels):
        return Estimate(math.nan, math.nan, 0.0)
    ours, theirs = leave_out(metric, sample, candidate), leave_out(metric, sample, opponent)
    perfect = metric_named(metric).perfect

    def shares(left: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            reduced = 1 - np.abs(perfect - np.asarray(left)) / np.abs(perfect - np.asarray(other))
        return np.where(np.isfinite(reduced), reduced, np.nan)

    redrawn = None
    if ours.redrawn is not None and theirs.redrawn is not None:
        redrawn = shares(ours.redrawn, theirs.redrawn)
    value, without = float(shares(ours.value, theirs.value)), shares(ours.without, theirs.without)
    return jackknife(LeftOut(value, without, ours.clusters, redrawn), sample.clusters)


def single(metric: str, sample: Sample, scores: ArrayLike) -> Estimate:
    """One model's metric with its clustered standard error."""
    return jackknife(leave_out(metric, sample, scores))


def leave_out(metric: str, sample: Sample, scores: ArrayLike, threshold: float = 0.5) -> LeftOut:
    """The metric of predictions on all rows, and exactly without each cluster; nan if a prediction is not finite.

    Raises:
        ValueError: there is no such metric for the sample's problem, or there are not as many predictions as labels.
    """
    scores = np.asarray(scores, dtype=np.float64)
    clusters = sample.clusters
    if len(scores) != len(sample.labels):
        raise ValueError(f"{len(scores)} scores for {len(sample.labels)} labels")
    metric_named(metric), sample.problem.metric(metric)  # raise if there is none
    how = sample.problem.formula(metric)
    if not len(scores) or not np.isfinite(scores).all():
        return LeftOut(math.nan, np.full(clusters.count, math.nan), clusters.effective)
    return how.left_out(sample.labels, scores, threshold, clusters)
