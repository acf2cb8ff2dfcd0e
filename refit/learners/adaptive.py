"""Interval margins that adapt to observed labels: a miss widens the next intervals, a hit narrows them a little.

Adaptive conformal inference (Gibbs and Candès 2021, "Adaptive conformal inference under distribution shift", NeurIPS,
equation 2): the level 1 - alpha_t moves by a rate times the miss beyond alpha. The scores are a sliding window: the
newest replaces the oldest. A label counts from the time it becomes known, not from the time of its row.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Floats
from refit.learners.intervals import STORED_SCORES, Intervals, Margin, Texts, rank_index, score

# Limit on how far all pending labels together may move the level. Their rows got margins before any of these labels
# could move it: from 1.57 (half of pi) on, such late corrections overshoot more each time and the intervals oscillate.
LOOP_GAIN = 0.33

Times = NDArray[np.datetime64]


def adaptive_margins(
    intervals: Intervals, band: Floats, groups: Texts, labels: Floats, *, predicted_at: Times, known_at: Times
) -> Floats:
    """(rows,) margins, each computed from the labels that were known when its row was predicted.

    Args:
        band: (rows, 2) the band that the margins widen.
        groups: (rows,) values of the column that groups the margins.
        labels: (rows,) nan if there is none.
        predicted_at: (rows,) when each row was predicted; the rows may come in any order.
        known_at: (rows,) when each label became known; NaT if it has not.

    >>> from refit.learners.intervals import Intervals, Margin
    >>> margin = Margin(value=2.0, rows=3, scores=(1.0, 2.0, 3.0))
    >>> intervals = Intervals(level=0.5, by="residuals", common=margin, rate=0.25)
    >>> hours = np.arange(3).astype("datetime64[h]")
    >>> rows = {"band": np.zeros((3, 2)), "groups": np.array([""] * 3), "labels": np.array([9.0, 9.0, 9.0])}
    >>> adaptive_margins(intervals, **rows, predicted_at=hours, known_at=hours + 1).tolist()  # a miss, then a hit
    [2.0, 9.0, 3.0]
    >>> adaptive_margins(intervals, **rows, predicted_at=hours, known_at=hours + 9).tolist()
    [2.0, 2.0, 2.0]
    """
    assert intervals.rate is not None
    level = intervals.level
    states = {name: _State(margin, level) for name, margin in intervals.groups.items()}
    common = _State(intervals.common, level)
    row_states = [states.get(name, common) for name in groups.tolist()]
    missed_by, margins = score(band, labels), np.empty(len(labels))
    now, known_us = (np.asarray(each, "datetime64[us]").astype(np.int64) for each in (predicted_at, known_at))
    never = np.isnat(known_at) | np.isnan(labels)
    waiting: list[tuple[int, int]] = []
    for row in np.argsort(now, kind="stable").tolist():
        arrived = []
        while waiting and waiting[0][0] <= now[row]:
            arrived.append(heappop(waiting)[1])
        for each in arrived:
            row_states[each].learn(missed_by[each], bool(missed_by[each] > margins[each]), level, intervals.rate)
        for each in arrived:
            row_states[each].awaited -= 1
        margins[row] = row_states[row].margin()
        if not never[row]:
            row_states[row].awaited += 1
            heappush(waiting, (max(known_us[row], now[row] + 1), row))  # rows of one moment are predicted together
    return margins


class _State:
    """The state of one margin at a moment."""

    def __init__(self, margin: Margin, level: float) -> None:
        self._level = level  # 1 - alpha_t
        self._recent: deque[Any] = deque(margin.scores)
        self._ordered = sorted(margin.scores)
        self.awaited = 0  # pending labels: of rows that got a margin and whose label has not been learned yet

    def margin(self) -> float:
        """The margin at the current level; the largest score if the level exceeds all (unbounded in the paper)."""
        return float(self._ordered[rank_index(len(self._ordered), self._level)])

    def learn(self, new_score: float, missed: bool, level: float, rate: float) -> None:
        """Learn a label that became known: move the level and replace the oldest score."""
        step = min(rate, LOOP_GAIN / max(self.awaited, 1))
        self._level = min(max(self._level + step * (missed - (1 - level)), 0.0), 1.0)
        self._recent.append(new_score)
        insort(self._ordered, new_score)
        if len(self._recent) > STORED_SCORES:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
