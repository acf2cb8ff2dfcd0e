"""Scores of a policy: each row is predicted by the champion at its time, and each window has its own metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from refit.config.windows import as_numpy
from refit.gate.comparison import Sample, leave_out
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife, leave_out_mean
from refit.operations.replay.history import Floats, History, Rows, Times
from refit.operations.replay.simulation import Simulation
from refit.problems import kind_of, metric_named

__all__ = ["ACCURACIES", "Scores", "difference", "metrics_of", "no_change", "scores_of"]

ACCURACIES = ("accuracy", "accuracy_at_half")


def metrics_of(kind: str) -> dict[str, str]:
    """The names of metrics for a kind of problem, each with the metric by which policies are compared.

    One rule holds for all policies. Each champion brings a threshold of its own, which may follow its validation rows
    more than what is true, so that `accuracy` compares all of them at .5.

    >>> metrics_of("binary")["accuracy"], metrics_of("multiclass")["accuracy"]
    ('accuracy_at_half', 'accuracy')
    """
    problem = kind_of(kind)
    names = {name: name for name in problem.metric_names(comparable=True)}
    return names | ({"accuracy": "accuracy_at_half"} if problem.has_threshold else {})


@dataclass(frozen=True)
class Span:
    """One window of the report, with its rows by event time."""

    start: datetime  # in the project's zone
    end: datetime
    rows: Rows  # indices of the rows whose event is in the window


@dataclass(frozen=True)
class Scores:
    """The metric of a policy in each window, on all rows and with each day left out.

    Without its only day, or its only day with positives, a window has no metric (nan), and drops out of the mean.

    The overall score is the mean of the windows, weighted by labelled rows: a rank metric over all windows at once
    would compare rows of different models, and of months with different base rates.
    """

    rows: tuple[int, ...]  # scored, of each window
    labelled: tuple[int, ...]
    windows: tuple[LeftOut | None, ...]  # None if the window has no metric

    @property
    def value(self) -> float:
        return self.whole.value

    @property
    def whole(self) -> LeftOut:
        """The weighted mean, on all days and with each day left out."""
        measured = [(left, rows) for left, rows in zip(self.windows, self.labelled, strict=True) if left is not None]
        total = sum(rows for _, rows in measured)
        if not total:
            return LeftOut(math.nan, np.zeros(0), 0.0)
        value = sum(left.value * rows for left, rows in measured) / total
        without = [_without_each_day(value, total, left, rows) for left, rows in measured]
        return LeftOut(value, np.concatenate(without), sum(left.clusters for left, _ in measured))


def _without_each_day(mean: float, total: int, window: LeftOut, rows: int) -> Floats:
    """(days,) the weighted mean of all windows without each day of one of them."""
    others = (mean * total - window.value * rows) / (total - rows) if rows < total else math.nan
    without: Floats = mean + (window.without - window.value) * rows / total
    return np.where(np.isfinite(window.without), without, others)


def spans_of(history: History, bounds: Sequence[datetime], zone: ZoneInfo) -> list[Span]:
    """The windows between consecutive bounds, with times in `zone`."""
    starts = np.searchsorted(history.event_time, [as_numpy(bound) for bound in bounds])
    return [
        Span(
            bounds[index].astimezone(zone),
            bounds[index + 1].astimezone(zone),
            np.arange(starts[index], starts[index + 1]),
        )
        for index in range(len(bounds) - 1)
    ]


def scores_of(history: History, simulation: Simulation, spans: Sequence[Span], metric: str) -> Scores:
    """The metric of each window, with the labels known by the end of the replay."""
    p, positive = _predictions(history, simulation)
    complete = np.asarray(np.isfinite(p).reshape(len(p), -1).all(axis=1))
    needs_label = not history.problem.optional_label or history.problem.metric(metric).by_label
    judged = ~np.isnan(history.label) if needs_label else np.ones(len(history), dtype=np.bool_)
    rows, labelled, windows = [], [], []
    for span in spans:
        scored = span.rows[complete[span.rows]]
        labelled_rows = scored[judged[scored]]
        rows.append(len(scored))
        labelled.append(len(labelled_rows))
        windows.append(_measured(history, metric, labelled_rows, p[labelled_rows], positive[labelled_rows]))
    return Scores(tuple(rows), tuple(labelled), tuple(windows))


def _predictions(history: History, simulation: Simulation) -> tuple[Floats, NDArray[np.bool_]]:
    """Each row's prediction by the champion at that time, and whether it was classified as 1."""
    p, positive = np.full(history.problem.shape(len(history)), np.nan), np.zeros(len(history), bool)
    ends = [as_numpy(step.as_of) for step in simulation.steps[1:]] + [np.datetime64("9999-01-01", "us")]
    for step, end in zip(simulation.steps, ends, strict=True):
        fit = step.in_charge
        if fit is None:
            continue
        made = (history.prediction_time >= as_numpy(step.as_of)) & (history.prediction_time < end)
        rows = np.flatnonzero(made)
        p[rows] = fit.p(rows)
        if history.problem.has_threshold:
            positive[rows] = p[rows] >= fit.record.threshold
    return p, positive


def _measured(history: History, metric: str, rows: Rows, p: Floats, positive: NDArray[np.bool_]) -> LeftOut | None:
    """The metric of a window; None if it is undefined for its rows."""
    if not len(rows):
        return None
    labels, clusters = history.labels_at(rows), Clusters.of(history.days[rows])
    if not history.problem.metric(metric).comparable:  # accuracy at the threshold of each champion
        estimate = leave_out_mean((positive == (labels == 1)).astype(np.float64), clusters)
    else:
        estimate = leave_out(metric, Sample(labels, clusters, history.problem), p)
    if not math.isfinite(estimate.value):
        return None
    return estimate


def difference(metric: str, ours: Scores, theirs: Scores) -> Estimate:
    """How much better `ours` is on the same rows (positive is better), with an error clustered by day."""
    a, b = ours.whole, theirs.whole
    sign = metric_named(metric).sign
    if len(a.without) != len(b.without):
        return Estimate(sign * (a.value - b.value), math.nan, 0.0)
    return jackknife(LeftOut(sign * (a.value - b.value), sign * (a.without - b.without), a.clusters))


def no_change(history: History, spans: Sequence[Span], rows: Sequence[int]) -> float | None:
    """The accuracy of predicting the label that became known last before each prediction; None without labels.

    A learner that does not beat it has learned only that nothing changes.
    """
    labelled = np.flatnonzero(~np.isnan(history.label))
    order = labelled[np.argsort(history.known_at[labelled], kind="stable")]
    hits = total = 0
    for span, scored in zip(spans, rows, strict=True):
        predicted = span.rows[~np.isnan(history.label[span.rows])] if scored else span.rows[:0]
        latest = _last_known(history.known_at[order], history.prediction_time[predicted], history.known_at[predicted])
        predicted, latest = predicted[latest >= 0], latest[latest >= 0]
        hits += int((history.label[order[latest]] == history.label[predicted]).sum())
        total += len(predicted)
    return hits / total if total else None


def _last_known(known_at: Times, predicted: Times, own: Times) -> Rows:
    """The index of the label that became known last by each prediction, other than the predicted row's own."""
    by = np.searchsorted(known_at, predicted, side="right")
    before = np.searchsorted(known_at, predicted, side="left")
    return np.where(own <= predicted, before, by) - 1
