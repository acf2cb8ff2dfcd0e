"""The windows of a new project, in periods, and the steps of a history of series that come before them."""

from __future__ import annotations

import math

DAY = 86_400
MEAN_MONTH = 2_629_746
LEAST_MOMENTS = 24  # times of forecasts in a test window at least
AMPLE_ROWS, AMPLE_RARE = 5_000, 500  # which tell most models apart; more would only make the training rows older
WATCHED = 5  # windows of the drift watch in a test window: with those of validation it learns from 8 what is usual
SECONDS = {"day": DAY, "week": 7 * DAY, "month": MEAN_MONTH}


def periods_of_rows(rows: int, per_period: int, period: str, *, rarer: int | None = None) -> int:
    """The periods of the test window of rows with a time.

    So many that the gate can tell models apart and the drift watch has windows enough to learn what is usual, but at
    most a quarter of all.

    Args:
        rows: of the table.
        per_period: rows of a usual period.
        rarer: rows of the table with the rarer of two labels.

    >>> periods_of_rows(2_000, 95, "week"), periods_of_rows(500_000, 20_000, "month"), periods_of_rows(9_000, 30, "day")
    (5, 2, 75)
    >>> periods_of_rows(500_000, 20_000, "month", rarer=3_000)
    5
    """
    per_period = max(1, per_period)
    wanted = math.ceil(max(AMPLE_ROWS, AMPLE_RARE * rows / (rarer or rows)) / per_period)
    watched = math.ceil(WATCHED / 4) if period == "month" else WATCHED  # by weeks where batches are months
    return max(1, min(max(wanted, watched), rows // per_period // 4))


def periods_of_test(length: int, step_seconds: int, period: str) -> int:
    """The periods of the test window.

    Args:
        length: steps from the first to the last row of all series.

    >>> periods_of_test(730, DAY, "month"), periods_of_test(150, DAY, "month"), periods_of_test(850, 3600, "day")
    (4, 1, 15)
    """
    span = length * step_seconds
    # Steps shorter than a day are dependent within it, so days are counted.
    least = max(LEAST_MOMENTS * step_seconds, min(LEAST_MOMENTS * DAY, 0.4 * span))
    return max(1, math.ceil(max(0.15 * span, least) / SECONDS[period]))


def validation_periods(test: int) -> int:
    """The periods of the validation window."""
    return math.ceil(test / 2)


def learned_steps(length: int, step_seconds: int, period: str) -> float:
    """The steps from the start of a history that no validation or test window reaches; 0.4 of it at most.

    Windows end with the newest complete period, so the rows of a further one may come after them.

    >>> learned_steps(730, DAY, "month"), learned_steps(150, DAY, "month"), learned_steps(60, DAY, "week")
    (292.0, 57.0, 11.0)
    """
    test = periods_of_test(length, step_seconds, period)
    seconds = 31 * DAY if period == "month" else SECONDS[period]
    later = (test + validation_periods(test) + 1) * seconds / step_seconds
    return max(0.0, min(0.4 * length, length - later))
