"""Defines the training, validation and test windows.

Windows are whole periods of local time, counted back from the newest known label. A window uses the rows whose labels
were known when the next window opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from refit.config import Params

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Period = Literal["day", "week", "month"]
NAMES = ("train", "validation", "test")
LEARNED = ("train", "validation")  # of these the candidate is made
UNLABELLED = "unlabelled"  # suffix of a window's name in the feature table: the row has no label known in time
LATE = "late"  # likewise: the label was not known when the next window opened


@dataclass(frozen=True)
class Window:
    """Event times from `start` (None for no limit) up to, not including, `end`.

    If another window follows, the rows are those before `until` whose label was known when it opened.
    """

    name: str
    start: datetime | None
    end: datetime
    opens: datetime | None = None  # when the next window opens; None for the last one

    def until(self, delay: timedelta) -> datetime:
        """The end of the rows whose label is due when the next window opens; it is due a delay after the event."""
        return self.end if self.opens is None else min(self.end, self.opens - delay)


def period_start(moment: datetime, period: Period, zone: ZoneInfo) -> datetime:
    """The local midnight at which the period of `moment` began; weeks begin on Monday.

    >>> period_start(datetime(2013, 8, 1, 3, 59, tzinfo=UTC), "month", ZoneInfo("America/New_York")).isoformat()
    '2013-07-01T00:00:00-04:00'
    """
    day = moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if period == "week":
        day -= timedelta(days=day.weekday())
    if period == "month":
        day = day.replace(day=1)
    return day.replace(tzinfo=zone)


def local_days(times: pa.ChunkedArray, zone: ZoneInfo) -> NDArray[np.datetime64]:
    """The local calendar day in `zone` of each moment (UTC); shape (len(times),)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    utc = pc.assume_timezone(times.cast(pa.timestamp("us")), "UTC")
    local = pc.local_timestamp(utc.cast(pa.timestamp("us", tz=str(zone))))
    days: NDArray[np.datetime64] = local.to_numpy().astype("datetime64[D]")
    return days


def as_numpy(moment: datetime) -> np.datetime64:
    """Convert a moment to the type in the tables: UTC without a zone."""
    import numpy as np

    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def shift(start: datetime, periods: int, period: Period) -> datetime:
    """Move a period's start by whole periods of local time.

    >>> shift(datetime(2013, 1, 1), -2, "month")
    datetime.datetime(2012, 11, 1, 0, 0)
    """
    if period == "month":
        months = start.year * 12 + start.month - 1 + periods
        return start.replace(year=months // 12, month=months % 12 + 1)
    return start + timedelta(days=periods * (7 if period == "week" else 1))


def label_wait(params: Params) -> timedelta:
    """How long after an event all labels of its time are due: a label's delay, or a forecast's longest horizon."""
    lead_hours = params.forecast.lead_hours if params.forecast else 0.0
    return timedelta(hours=max(params.featurize.label.delay_hours, lead_hours))


def windows(as_of: datetime, params: Params) -> tuple[Window, Window, Window]:
    """Training, validation and test window; the test ends with the last whole period before `as_of` minus the delay.

    A window ends where the next one opens. If the label's delay would take more than half of its last period, whole
    periods lie between the two.

    With `featurize.split` all three cover the same time, and rows are assigned at random.
    """
    period, zone, lengths = params.ingest.period, params.project.zone, params.featurize.windows
    delay = timedelta(hours=params.featurize.label.delay_hours)
    end = period_start(as_of - delay, period, zone)
    if params.featurize.split:
        start = None if lengths.training is None else shift(end, -lengths.training, period).astimezone(UTC)
        return tuple(Window(name, start, end.astimezone(UTC)) for name in NAMES)  # type: ignore[return-value]
    test = shift(end, -lengths.test, period)
    validation = _before("validation", test, lengths.validation, delay, params)
    assert validation.start is not None
    training = _before("train", validation.start, lengths.training, delay, params)
    return training, validation, Window("test", test.astimezone(UTC), end.astimezone(UTC))


def _before(name: str, opening: datetime, periods: int | None, delay: timedelta, params: Params) -> Window:
    """The window before `opening`, with most labels of its last period due by then; `None` periods for no start."""
    period, zone = params.ingest.period, params.project.zone
    opens = opening.astimezone(UTC)
    due = opens - delay
    begin = period_start(due, period, zone)
    after = shift(begin, 1, period)
    whole = begin if due - begin.astimezone(UTC) <= after.astimezone(UTC) - due else after
    start = None if periods is None else shift(whole, -periods, period).astimezone(UTC)
    return Window(name, start, whole.astimezone(UTC), opens)


def earliest_as_of(first: datetime, params: Params) -> datetime:
    """The earliest `as_of` whose training window contains rows from `first` on."""
    period, lengths = params.ingest.period, params.featurize.windows
    end = shift(period_start(first, period, params.project.zone), 1, period)
    if not params.featurize.split:
        end = shift(end, lengths.validation + lengths.test, period)
    delay = timedelta(hours=params.featurize.label.delay_hours)
    while windows(end.astimezone(UTC) + delay, params)[0].until(delay) <= first:
        end = shift(end, 1, period)
    return (end.astimezone(UTC) + delay).astimezone(params.project.zone)
