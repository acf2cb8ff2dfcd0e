"""Says before the first run whether a model's backtest will be too short to tell a loss of skill from chance."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from refit.config import Params
from refit.config.windows import shift, windows
from refit.drift.performance import Length, whole_windows

__all__ = ["too_few_windows"]

_MOST_PERIODS = 400  # of a test window that is proposed


def too_few_windows(params: Params, now: datetime) -> str:
    """Return a line if no loss of skill can ask for a retraining of a model trained now; empty if one can.

    The backtest is taken to fill the validation and test windows. Where rows are drawn at random or cross-validated,
    it covers more than these, and nothing is said.
    """
    drift, split = params.drift, params.featurize.split
    if "performance" not in drift.retrain_on or split or params.train.cross_validation:
        return ""
    _, validation, test = windows(now, params)
    zone, needed = params.project.zone, drift.min_reference_windows
    assert validation.start is not None  # as it is without a split
    begin = validation.start.astimezone(zone)

    def count(length: Length, more: int = 0) -> int:
        first, end = shift(begin, -more, params.ingest.period).date(), test.end.astimezone(zone).date()
        return len(whole_windows(np.arange(np.datetime64(first), np.datetime64(end)), length))

    if (present := count(drift.window)) >= needed:
        return ""
    more = next((more for more in range(1, _MOST_PERIODS) if count(drift.window, more) >= needed), None)
    ways = [f"featurize.windows.test: {params.featurize.windows.test + more}"] if more else []
    if drift.window != "day" and count("day") >= needed:
        ways.append(f"drift.window: day, if a day has {drift.min_labelled_rows:,} labelled rows")
    enough = f"; {' or '.join(ways)} would do" if ways else ""
    return (
        f"a loss of skill cannot ask for a retraining yet: validation and test window hold {present} windows of "
        f"drift.window: {drift.window}, drift.min_reference_windows: {needed} are needed{enough}"
    )
