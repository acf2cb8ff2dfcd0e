"""Which drift a retraining has answered already, so that an event that comes twice retrains once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from flows.early_end import EndsEarly
from refit.config import Params
from refit.errors import RefitError, UserError
from refit.plain_text import shortened
from refit.runtime.context import Context, utc_now
from refit.runtime.registry_store import opened
from refit.schemas.answered_drift import Answer, DataWindow
from refit.storage import adoption, drift_answers
from refit.storage.batches import manifests
from refit.storage.snapshots import label_source
from registry.records import Records

LONGEST_WINDOW = timedelta(days=31)
ONE_DAY = timedelta(days=1)  # a window's days are in the project's zone, which may be that far from UTC


class AlreadyAnswered(EndsEarly):
    """A retraining for this window of data, or for a newer one, has ended already."""

    def __init__(self, window: DataWindow, answer: Answer) -> None:
        super().__init__(
            f"nothing to do: drift up to {window.end} was answered at {answer.at} "
            f"by the retraining for drift up to {answer.window.end} (flow run {answer.flow_run})",
            state="Answered",
            result={"answered": answer.to_json(), "window": window.to_json()},
        )


@dataclass(frozen=True)
class WindowRange:
    """The range in which a window of data can lie: not in the future, and not outside of the rows."""

    now: datetime
    first: datetime | None = None
    last: datetime | None = None

    def refusal(self, window: DataWindow) -> str | None:
        """Return why no data can have shown drift in a window; None if they can.

        >>> from datetime import UTC
        >>> possible = WindowRange(*(datetime(2013, month, 1, tzinfo=UTC) for month in (12, 1, 10)))
        >>> possible.refusal(DataWindow(first="2013-10-01", end="2013-10-08"))
        >>> possible.refusal(DataWindow(first="2013-10-01", end="9999-12-31"))
        'it lies in the future: it is 2013-12-01'
        >>> possible.refusal(DataWindow(first="2012-10-01", end="2012-10-08"))
        'it lies outside of the data: rows are of 2013-01-01 to 2013-10-01'
        """
        first, end = window.begins, window.ends
        if first > end:
            return "it ends before it begins"
        if end > self.now + ONE_DAY:
            return f"it lies in the future: it is {self.now:%Y-%m-%d}"
        if self.first is None or self.last is None:
            return None
        if end <= self.first or first > self.last + ONE_DAY or end > self.last + ONE_DAY + LONGEST_WINDOW:
            return f"it lies outside of the data: rows are of {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"
        return None


def window_range(project: Path, params: Params, now: datetime) -> WindowRange:
    """Return the possible windows of a project, by the clock and by the rows ever read of its label's source."""
    batches = manifests(project, label_source(params))
    return WindowRange(
        now,
        min((batch.first for batch in batches if batch.first), default=None),
        max((batch.last for batch in batches if batch.last), default=None),
    )


def require_past(project: Path, params: Params, as_of: datetime, *, now: datetime) -> None:
    """Refuse a run as of the future: every later drift would count as older than its training.

    Raises:
        UserError: `as_of` is later than the clock and than the data.
    """
    if as_of <= now + ONE_DAY:
        return
    last = window_range(project, params, now).last
    if last is None or as_of > last + LONGEST_WINDOW:
        raise UserError(
            f"as_of {as_of:%Y-%m-%d} lies in the future: it is {now:%Y-%m-%d}, "
            f"and {f'the newest row is of {last:%Y-%m-%d}' if last else 'no row was read yet'}; give an earlier one"
        )


def require_seen(window: DataWindow, as_of: datetime) -> None:
    """Refuse a run that cannot see the window it would answer: no other run would look at it afterwards.

    Raises:
        UserError: the window ends after `as_of`.
    """
    if window.ends - ONE_DAY > as_of:
        raise UserError(
            f"window {window} is refused: as_of {as_of:%Y-%m-%d} lies before its end, so the run would "
            "not see it; give a later as_of, or `latest`"
        )


@contextmanager
def answering(
    project: Path, params: Params, window: DataWindow | None, *, flow_run: str | None, wait_seconds: float
) -> Iterator[None]:
    """Answer drift with the block, once for all checkouts that share the registry; a block that fails answers nothing.

    Args:
        window: that drifted; None if the block answers no drift.
        wait_seconds: how long to wait for another checkout that is answering drift of the model.

    Raises:
        AlreadyAnswered: a retraining for this window, or for a newer one, has ended.
        RefitError: another checkout is answering drift, or may have begun to since the connection was lost.
        UserError: no data can have shown drift in the window, which may be known only after the block.
    """
    if window is None:
        yield
        return
    context = Context(project, params)
    with ExitStack() as held:
        with opened(context) as store:
            lock = Records(store, params.project.name).lock("retraining", wait_seconds=wait_seconds)
            check = held.enter_context(lock)
        adoption.adopt(context)
        _require_possible(project, params, window, utc_now())
        newest, invalid = _newest(project, params, utc_now())
        if newest and not invalid and newest.answer.window.ends >= window.ends:
            raise AlreadyAnswered(window, newest.answer)
        yield
        now = utc_now()
        _require_possible(project, params, window, now)
        answer = Answer(window=window, flow_run=flow_run, at=now.isoformat(timespec="seconds"))
        drift_answers.record(context, answer, check)


def invalid_reason(project: Path, params: Params, now: datetime) -> str | None:
    """Return why the recorded answer of the project's model is impossible, so that no later drift would be answered.

    Returns None if it is possible, or there is none. An answer that other checkouts share is judged by the clock alone,
    that of their database if they share one: they may have read rows that this one has not.

    Raises:
        RefitError: the record cannot be read.
    """
    return _newest(project, params, now)[1]


def _newest(project: Path, params: Params, now: datetime) -> tuple[drift_answers.Recorded | None, str | None]:
    """The recorded answer, and why it is impossible."""
    if (newest := drift_answers.newest(Context(project, params))) is None:
        return None, None
    end = newest.answer.window.end
    try:
        possible = WindowRange(newest.now or now) if newest.shared else window_range(project, params, now)
        reason = possible.refusal(newest.answer.window)
    except UserError as error:
        reason = str(error)
    return newest, reason and f"{newest.place} says that drift up to {shortened(end)} was answered: {reason}"


def repair(project: Path, params: Params, now: datetime) -> list[str]:
    """Delete an impossible answer; return what to say of it. The caller holds the project's lock.

    One that other checkouts share is ignored and stays: the clock of this machine may be the one that is wrong. A
    record that cannot be read stays as well: only a run that answers drift needs it, and is refused.
    """
    try:
        newest, reason = _newest(project, params, now)
    except RefitError:
        return []
    if newest is None or reason is None:
        return []
    if newest.shared:
        return [f"{reason}; ignored"]
    drift_answers.forget(Context(project, params))
    return [f"{reason}; forgotten"]


def _require_possible(project: Path, params: Params, window: DataWindow, now: datetime) -> None:
    if (reason := window_range(project, params, now).refusal(window)) is not None:
        raise UserError(f"window {window} is refused: {reason}")
