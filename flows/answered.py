"""Which drift a retraining has answered, so that one event told a hundred times retrains once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, cast

from flows.screen import screen
from tasks.artifacts import STATE, read_json, write_json
from tasks.errors import RefitError, UserError

ANSWERED = STATE / "answered.json"
P = ParamSpec("P")


class Answered(Exception):
    """A retraining for this window of data, or for a newer one, has ended before."""

    def __init__(self, window: Mapping[str, str], answer: Mapping[str, Any]) -> None:
        self.told = {"answered": dict(answer), "window": dict(window)}
        super().__init__(
            f"nothing to do: drift up to {window['end']} was answered at {answer['at']} "
            f"by the retraining for drift up to {answer['window']['end']} (flow run {answer['flow_run']})"
        )


def refuse_if_answered(project: Path, model: str, window: Mapping[str, str]) -> None:
    """Let only a window pass that ends later than every window answered so far. The caller holds the project's lock.

    Raises:
        Answered: a retraining for this window, or for a newer one, has ended.
        UserError: `window` does not say where it ends.
    """
    end, answer = _end_of(window), _answers(project).get(model)
    if answer and _end_of(answer["window"]) >= end:
        raise Answered(window, answer)


def note(project: Path, model: str, window: Mapping[str, str], *, flow_run: str | None, now: datetime) -> None:
    """Keep that `window` is answered, whatever the gate said. The caller holds the project's lock."""
    answer = {"window": dict(window), "flow_run": flow_run, "at": now.isoformat(timespec="seconds")}
    write_json(project / ANSWERED, _answers(project) | {model: answer})


def ends_if_answered(flow: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """Let a flow end as `Answered`, with what answered it as the result, instead of failing."""

    @wraps(flow)
    def guarded(*arguments: P.args, **settings: P.kwargs) -> dict[str, Any]:
        try:
            return flow(*arguments, **settings)
        except Answered as known:
            from prefect.states import Completed

            screen()(str(known))
            return cast(dict[str, Any], Completed(name="Answered", message=str(known), data=known.told))

    return guarded


def _answers(project: Path) -> dict[str, Any]:
    path = project / ANSWERED
    found = read_json(path) if path.is_file() else {}
    sound = isinstance(found, dict) and all(
        isinstance(answer, dict)
        and {"window", "at", "flow_run"} <= answer.keys()
        and isinstance(answer["window"], dict)
        for answer in found.values()
    )
    if not sound:
        raise RefitError(
            f"{path} is not what a retraining writes; delete it: the newest drift may be answered once more"
        )
    return dict(found)


def _end_of(window: Mapping[str, str]) -> datetime:
    """When a window of data ends.

    >>> _end_of({"first": "2013-10-01T00:00:00Z", "end": "2013-10-08T00:00:00Z"}).isoformat()
    '2013-10-08T00:00:00+00:00'
    >>> _end_of({"first": "2013-10-01"})
    Traceback (most recent call last):
    ...
    tasks.errors.UserError: window {'first': '2013-10-01'} has no `end`; expected `first` and `end`, ISO 8601
    """
    right = "expected `first` and `end`, ISO 8601"
    if "end" not in window:
        raise UserError(f"window {dict(window)} has no `end`; {right}")
    try:
        end = datetime.fromisoformat(window["end"])
    except (TypeError, ValueError):
        raise UserError(f"window end {window['end']!r} is no time; {right}") from None
    return end if end.tzinfo else end.replace(tzinfo=UTC)
