"""Checks the parameters of a deployed run: its own project, harmless settings, drift that its own data can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from flows.deployments import NOT_STARTED
from flows.progress_display import screen
from flows.run_options import Trigger
from refit.errors import UserError
from refit.plain_text import shortened
from refit.runtime.run_file import Overrides
from refit.schemas.answered_drift import DataWindow

NOW = "now"
JUDGING = ("validate", "evaluate", "register")  # sections that decide which rows and which models are good enough
MOST_CHARACTERS = 1_000  # of a reason or a column's name
MOST_COLUMNS = 10_000
OLDEST_EVENT = timedelta(days=7)
CLOCK_STEP = timedelta(minutes=5)  # by which two machines' clocks may differ
P = ParamSpec("P")
R = TypeVar("R")
FilePath = TypeVar("FilePath", bound=str | None)


def own_project(project: str) -> Path:
    """Return the folder that a flow works in; a deployed run works only in the one that it was deployed for.

    Raises:
        UserError: the run is deployed, and its parameters name another folder.
    """
    folder = Path(project).resolve()
    if (parameters := _deployed_with()) is None:
        return folder
    made_for = Path(str(parameters.get("project", "."))).resolve()
    if folder != made_for:
        raise UserError(
            f"project {shortened(project)} is not the one that this deployment was made for; it works on {made_for} "
            "only: leave the parameter out, or deploy the other project's own prefect.yaml"
        )
    return folder


def own_file(project: Path, parameter: str, path: FilePath) -> FilePath:
    """Return a file to read or write; a deployed run uses only files of its project.

    Raises:
        UserError: the run is deployed, and the file lies elsewhere.
    """
    if path is not None and _deployed_with() is not None and not (project / path).resolve().is_relative_to(project):
        raise UserError(f"{parameter} {shortened(path)} lies outside of {project}; a deployed run stays in its project")
    return path


def own_settings(overrides: Overrides | None) -> Overrides:
    """Return the overrides of a run; those of a deployed run may only be numbers and booleans, and loosen no check.

    A text could name a file, a module or a server, and so other data or code than those of `params.yaml`. A gate with
    another margin would promote a worse model, and `params.yaml`, which people review, would not show it.

    Raises:
        UserError: the run is deployed, and a setting is something else, or of what judges its rows and its candidate.
    """
    if _deployed_with() is not None:
        for name, value in (overrides or {}).items():
            if name.partition(".")[0] in JUDGING:
                raise UserError(
                    f"overrides: {shortened(name)} is of what decides on rows and models ({', '.join(JUDGING)}), which "
                    "holds for every deployed run alike: change params.yaml"
                )
            if value is not None and not isinstance(value, bool | int | float):
                raise UserError(
                    f"overrides: {shortened(name)} is {shortened(value)}; a deployed run takes numbers, true and "
                    "false: change params.yaml for anything else"
                )
    return dict(overrides or {})


def own_window(as_of: str) -> str:
    """Return when a run pretends to happen: a deployed one that is to run `now`, at the time of its schedule.

    A run that starts days late, since there was no worker, scores the rows of its own window: those after its schedule.
    """
    if as_of != NOW or _deployed_with() is None:
        return as_of
    from prefect import runtime

    return str(runtime.flow_run.scheduled_start_time.isoformat())


def admitted(reason: str, window: object, columns: Sequence[str] | None, emitted: str | None) -> Trigger:
    """Return what started a run, after checking the types and sizes of an event's fields, and the event's age.

    >>> str(admitted("drift", {"first": "2013-10-01", "end": "2013-10-08"}, ["carrier"], None))
    'drift; window 2013-10-01 to 2013-10-08; columns carrier'
    >>> admitted("drift", None, "carrier", None)
    Traceback (most recent call last):
    ...
    refit.errors.UserError: columns "carrier" is not as expected: at most 10,000 names of columns

    Raises:
        UserError: one of them is invalid.
    """
    if not isinstance(reason, str) or len(reason) > MOST_CHARACTERS:
        raise _unexpected("reason", reason, f"a text of at most {MOST_CHARACTERS:,} characters")
    if columns is not None and (
        not isinstance(columns, list | tuple) or len(columns) > MOST_COLUMNS or not _are_texts(columns)
    ):
        raise _unexpected("columns", columns, f"at most {MOST_COLUMNS:,} names of columns")
    if emitted is not None:
        _check_age(emitted, datetime.now(UTC))
    return Trigger(reason, None if window is None else DataWindow.of(window), tuple(columns or ()))


def refused_in_one_line(flow: Callable[P, R]) -> Callable[P, R]:
    """Let a deployed run with invalid parameters end as `NotStarted`, with a line that says why."""

    @wraps(flow)
    def guarded(*arguments: P.args, **settings: P.kwargs) -> R:
        try:
            return flow(*arguments, **settings)
        except UserError as error:
            if _deployed_with() is None:
                raise
            from prefect.states import Failed

            screen()(f"not started: {error}")
            return cast(R, Failed(name=NOT_STARTED, message=str(error)))

    return guarded


def _deployed_with() -> Mapping[str, object] | None:
    """Return the parameters of this run's deployment; None if the flow was called directly."""
    from prefect import runtime

    return (runtime.deployment.parameters or {}) if runtime.deployment.id else None


def _check_age(emitted: str, now: datetime) -> None:
    """Check that an event is neither too old nor in the future.

    >>> _check_age("2013-10-01T00:00:00Z", datetime(2013, 10, 9, tzinfo=UTC))
    Traceback (most recent call last):
    ...
    refit.errors.UserError: the event is of 2013-10-01T00:00:00+00:00, over 7 days ago; it is not acted upon
    """
    try:
        moment = datetime.fromisoformat(emitted)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        age = now - moment
    except (TypeError, ValueError, OverflowError):
        raise _unexpected("emitted", emitted, "the event's own time, ISO 8601") from None
    if age > OLDEST_EVENT:
        raise UserError(
            f"the event is of {moment.isoformat()}, over {OLDEST_EVENT.days} days ago; it is not acted upon"
        )
    if age < -CLOCK_STEP:
        raise UserError(f"the event is of {moment.isoformat()}, which is yet to come; see that the clocks are right")


def _are_texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) and len(value) <= MOST_CHARACTERS for value in values)


def _unexpected(name: str, value: object, right: str) -> UserError:
    return UserError(f"{name} {shortened(value)} is not as expected: {right}")
