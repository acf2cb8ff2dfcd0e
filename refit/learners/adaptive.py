"""Margins that follow what came true: a miss widens the next intervals, a hit narrows them a little.

Adaptive conformal inference (Gibbs and Candès 2021, "Adaptive conformal inference under distribution shift", NeurIPS,
equation 2): what is asked of the scores, 1 - alpha_t, moves by a rate times what was missed beyond alpha. The scores
move along, the newest in place of the oldest. A label counts from when it is known, not from when its row happened.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Floats
from refit.learners.intervals import KEPT_SCORES, Intervals, Margin, Texts, place_of, score

# What all labels that are awaited may move the level by. Each row was given a margin that none of them had moved yet:
# from 1.57 (half of pi) on, such late corrections overshoot more each time, and intervals swing instead of holding.
LOOP_GAIN = 0.33

Times = NDArray[np.datetime64]


def followed(
    intervals: Intervals, band: Floats, groups: Texts, labels: Floats, *, predicted_at: Times, known_at: Times
) -> Floats:
    """(rows,) margins, each by the labels that were known when its row was predicted.

    Args:
        band: (rows, 2) what the margins widen.
        groups: (rows,) values of the column that tells margins apart.
        labels: (rows,) nan where there is none.
        predicted_at: (rows,) when each row was predicted; the rows may come in any order.
        known_at: (rows,) since when each label is known; NaT: it is not.

    >>> from refit.learners.intervals import Intervals, Margin
    >>> told = Intervals(0.5, "residuals", Margin(2.0, 3, (1.0, 2.0, 3.0)), rate=0.25)
    >>> hours = np.arange(3).astype("datetime64[h]")
    >>> rows = {"band": np.zeros((3, 2)), "groups": np.array([""] * 3), "labels": np.array([9.0, 9.0, 9.0])}
    >>> followed(told, **rows, predicted_at=hours, known_at=hours + 1).tolist()  # a miss, then a hit
    [2.0, 9.0, 3.0]
    >>> followed(told, **rows, predicted_at=hours, known_at=hours + 9).tolist()
    [2.0, 2.0, 2.0]
    """
    assert intervals.rate is not None
    level = intervals.level
    states = {name: _State(margin, level) for name, margin in intervals.groups.items()}
    common = _State(intervals.common, level)
    mine = [states.get(name, common) for name in groups.tolist()]
    missed_by, margins = score(band, labels), np.empty(len(labels))
    now, known = (np.asarray(each, "datetime64[us]").astype(np.int64) for each in (predicted_at, known_at))
    never = np.isnat(known_at) | np.isnan(labels)
    waiting: list[tuple[int, int]] = []
    for row in np.argsort(now, kind="stable").tolist():
        came = []
        while waiting and waiting[0][0] <= now[row]:
            came.append(heappop(waiting)[1])
        for each in came:
            mine[each].learn(missed_by[each], bool(missed_by[each] > margins[each]), level, intervals.rate)
        for each in came:
            mine[each].awaited -= 1
        margins[row] = mine[row].margin()
        if not never[row]:
            mine[row].awaited += 1
            heappush(waiting, (max(known[row], now[row] + 1), row))  # rows of one moment are predicted together
    return margins


class _State:
    """What one margin is made of at a moment."""

    def __init__(self, margin: Margin, level: float) -> None:
        self._asked = level  # 1 - alpha_t
        self._recent: deque[Any] = deque(margin.scores)
        self._ordered = sorted(margin.scores)
        self.awaited = 0  # labels of rows that were given a margin and have not taught it yet

    def margin(self) -> float:
        """Where more is asked for than any score gives, the largest: the paper's interval has no end there."""
        return float(self._ordered[place_of(len(self._ordered), self._asked)])

    def learn(self, found: float, missed: bool, level: float, rate: float) -> None:
        """Take in a label that became known: what was asked moves, and the oldest score gives way."""
        step = min(rate, LOOP_GAIN / max(self.awaited, 1))
        self._asked = min(max(self._asked + step * (missed - (1 - level)), 0.0), 1.0)
        self._recent.append(found)
        insort(self._ordered, found)
        if len(self._recent) > KEPT_SCORES:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
