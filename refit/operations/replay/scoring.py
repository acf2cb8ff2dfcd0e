"""What a policy was worth: each row scored by whoever was in charge at its time, each window by its own metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from refit.gate.comparison import Sample, leave_out
from refit.metrics import METRICS, Task, of_task
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife, leave_out_mean
from refit.operations.replay.history import Floats, History, Rows, Times, as_numpy
from refit.operations.replay.simulation import Life

__all__ = ["Scores", "difference", "metrics_of", "no_change", "scores_of"]


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics that policies may be compared by."""
    return tuple(dict.fromkeys((*of_task(task, comparable=True), *(("accuracy",) if task != "regression" else ()))))


@dataclass(frozen=True)
class Span:
    """One window of the report: its rows by event time."""

    start: datetime  # with the project's zone, as the calendar there has it
    end: datetime
    rows: Rows  # places of the rows whose event lies in it


@dataclass(frozen=True)
class Scores:
    """A policy's metric in each window, with all rows and without each of their days.

    The score of the whole is the mean of the windows, each weighted by its labelled rows: a metric of ranks over all of
    them at once would compare rows of different models, and of months with different rates.
    """

    rows: tuple[int, ...]  # scored, of each window
    labelled: tuple[int, ...]
    windows: tuple[LeftOut | None, ...]  # none: the window has no metric

    @property
    def value(self) -> float:
        return self.whole.value

    @property
    def whole(self) -> LeftOut:
        """The weighted mean, on all days and without each."""
        known = [(left, rows) for left, rows in zip(self.windows, self.labelled, strict=True) if left is not None]
        total = sum(rows for _, rows in known)
        if not total:
            return LeftOut(math.nan, np.zeros(0), 0.0)
        value = sum(left.value * rows for left, rows in known) / total
        without = [value + (left.without - left.value) * rows / total for left, rows in known]
        return LeftOut(value, np.concatenate(without), sum(left.clusters for left, _ in known))


def spans_of(history: History, bounds: Sequence[datetime], zone: ZoneInfo) -> list[Span]:
    """The rows between each bound and the next, told by the clocks of `zone`."""
    places = np.searchsorted(history.event_time, [as_numpy(bound) for bound in bounds])
    return [
        Span(
            bounds[place].astimezone(zone),
            bounds[place + 1].astimezone(zone),
            np.arange(places[place], places[place + 1]),
        )
        for place in range(len(bounds) - 1)
    ]


def scores_of(history: History, life: Life, spans: Sequence[Span], metric: str) -> Scores:
    """The metric of each window, by the labels that had come by the replay's end."""
    p, called = _in_charge(history, life)
    rows, labelled, windows = [], [], []
    for span in spans:
        scored = span.rows[np.isfinite(p[span.rows]).reshape(len(span.rows), -1).all(axis=1)]
        known = scored[~np.isnan(history.label[scored])]
        rows.append(len(scored))
        labelled.append(len(known))
        windows.append(_measured(history, metric, known, p[known], called[known]))
    return Scores(tuple(rows), tuple(labelled), tuple(windows))


def _in_charge(history: History, life: Life) -> tuple[Floats, NDArray[np.bool_]]:
    """Each row's prediction by the model that was in charge when it was made, and whether that called it 1."""
    p, called = np.full(history.target.shape(len(history)), np.nan), np.zeros(len(history), bool)
    ends = [as_numpy(step.as_of) for step in life.steps[1:]] + [np.datetime64("9999-01-01", "us")]
    for step, end in zip(life.steps, ends, strict=True):
        fit = step.in_charge
        if fit is None:
            continue
        made = (history.prediction_time >= as_numpy(step.as_of)) & (history.prediction_time < end)
        rows = np.flatnonzero(made)
        p[rows] = fit.p(rows)
        if history.target.task == "binary":
            called[rows] = p[rows] >= fit.threshold
    return p, called


def _measured(history: History, metric: str, rows: Rows, p: Floats, called: NDArray[np.bool_]) -> LeftOut | None:
    """A window's metric; None where its rows do not give one."""
    if not len(rows):
        return None
    labels, clusters = history.labels_at(rows), Clusters.of(history.days[rows])
    if history.target.task in METRICS[metric].own:  # of whoever was in charge: accuracy
        found = leave_out_mean((called == (labels == 1)).astype(np.float64), clusters)
    else:
        found = leave_out(metric, Sample(labels, clusters, history.target.task), p)
    if not math.isfinite(found.value):
        return None
    # Without its only day, or its only positive one, a window says nothing: it then keeps its value.
    without = np.where(np.isfinite(found.without), found.without, found.value)
    return LeftOut(found.value, without, found.clusters)


def difference(metric: str, ours: Scores, theirs: Scores) -> Estimate:
    """How much better ours is on the same rows, positive is better; its error is clustered by day."""
    a, b = ours.whole, theirs.whole
    sign = METRICS[metric].sign
    if len(a.without) != len(b.without):
        return Estimate(sign * (a.value - b.value), math.nan, 0.0)
    return jackknife(LeftOut(sign * (a.value - b.value), sign * (a.without - b.without), a.clusters))


def no_change(history: History, spans: Sequence[Span], rows: Sequence[int]) -> float | None:
    """The accuracy of saying what the label was that became known last before each prediction; None without labels.

    A learner that does not beat it has learned no more than that things stay as they are.
    """
    known = np.flatnonzero(~np.isnan(history.label))
    order = known[np.argsort(history.known_at[known], kind="stable")]
    hits = total = 0
    for span, scored in zip(spans, rows, strict=True):
        asked = span.rows[~np.isnan(history.label[span.rows])] if scored else span.rows[:0]
        place = _last_known(history.known_at[order], history.prediction_time[asked], history.known_at[asked])
        asked, place = asked[place >= 0], place[place >= 0]
        hits += int((history.label[order[place]] == history.label[asked]).sum())
        total += len(asked)
    return hits / total if total else None


def _last_known(known_at: Times, predicted: Times, own: Times) -> Rows:
    """The place of the label that became known last by each prediction, and is not the predicted row's own."""
    by = np.searchsorted(known_at, predicted, side="right")
    before = np.searchsorted(known_at, predicted, side="left")
    return np.where(own <= predicted, before, by) - 1
