"""Progress of a run: six live lines on a terminal, plain lines elsewhere, Prefect's log in a worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Protocol

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from refit.config import STAGES
from refit.plain_text import one_line
from refit.runtime.terminal import Terminal, line

STATE_STYLE = {
    "executed": "green",
    "restored": "cyan",
    "unchanged": "dim",
    "failed": "bold red",
    "interrupted": "yellow",
}

SHOW_SECONDS = 10.0  # between two lines of a log that say how far a step is
LASTING = ("warning: ", "note: ")  # texts that the next step must not overwrite


class Screen(Protocol):
    """Receives each stage's begin, progress and end."""

    def begin(self, stage: str) -> None: ...
    def end(self, stage: str, outcome: str, seconds: float) -> None: ...
    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None: ...


class LogScreen:
    """Writes to a log: one line at each stage's end, one for each new step, and how far a long one is now and then."""

    def __init__(
        self,
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger, self._last = logger, ""
        self._clock, self._shown = clock, clock()

    def begin(self, stage: str) -> None:
        self._last = ""

    def end(self, stage: str, outcome: str, seconds: float) -> None:
        self._logger.info("%s: %s in %.1f s", stage, one_line(outcome), seconds)

    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None:
        if what != self._last:
            self._logger.info("%s", one_line(what))
            self._last, self._shown = what, self._clock()
        elif total and self._clock() - self._shown >= SHOW_SECONDS:
            self._logger.info("%s: %s of %s", one_line(what), _amount(done), _amount(total))
            self._shown = self._clock()


def _amount(value: float) -> str:
    """A number of rows, or of epochs, which may be a part of one.

    >>> _amount(1_234_567), _amount(2.666667), _amount(3.0)
    ('1,234,567', '2.7', '3')
    """
    return f"{value:,.1f}".removesuffix(".0")


class LineScreen(LogScreen):
    """Writes plain lines to standard error, where there is no terminal."""

    def __init__(self, console: Terminal) -> None:
        logger = logging.Logger("refit.screen", logging.INFO)
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        super().__init__(logger)


class StateColumn(ProgressColumn):
    """Shows the state of each stage in its colour."""

    def render(self, task: Task) -> RenderableType:
        state = str(task.fields["state"])
        return line((f"{state:<11}", STATE_STYLE.get(state, "bold")))


class BothScreens:
    """Shows everything on two screens."""

    def __init__(self, first: Screen, second: Screen) -> None:
        self._both = first, second

    def begin(self, stage: str) -> None:
        for each in self._both:
            each.begin(stage)

    def end(self, stage: str, outcome: str, seconds: float) -> None:
        for each in self._both:
            each.end(stage, outcome, seconds)

    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None:
        for each in self._both:
            each(what, done, total)


class LiveScreen:
    """Shows six lines on a terminal, with a bar where the amount of work is known."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: dict[str, TaskID] = {
            stage: progress.add_task(stage, total=1, start=False, state="", what="") for stage in STAGES
        }
        self._current: TaskID | None = None

    def begin(self, stage: str) -> None:
        self._current = self._lines[stage]
        self._progress.start_task(self._current)
        self._progress.update(self._current, state="running", total=None)

    def end(self, stage: str, outcome: str, seconds: float) -> None:
        self._progress.update(self._lines[stage], completed=1, total=1, state=outcome, what="")
        self._progress.stop_task(self._lines[stage])
        self._current = None

    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None:
        if self._current is None or what.startswith(LASTING):  # printed above the bars, where it stays
            self._progress.console.print(what, style="dim")
        else:
            self._progress.update(self._current, what=one_line(what), completed=done if total else 0, total=total)


SCREEN: ContextVar[Screen | None] = ContextVar("SCREEN", default=None)


def screen() -> Screen:
    """Return the screen of this run, which Prefect's log of the flow run repeats; that log alone if there is none."""
    from prefect import get_run_logger
    from prefect.exceptions import MissingContextError

    current = SCREEN.get()
    try:
        logger = get_run_logger()
    except MissingContextError:
        return current or LogScreen(logging.getLogger("refit"))
    if current is None:
        return LogScreen(logger)
    repeated = logging.Logger("refit", logging.INFO)
    repeated.addHandler(ToPrefect())
    return BothScreens(current, LogScreen(repeated))


class ToPrefect(logging.Handler):
    """Sends records to the page of this flow run only: on a terminal, the screen shows the same.

    Threads of a stage have neither the flow run nor the settings of its server: all records are sent as from here.
    """

    def __init__(self) -> None:
        from prefect.logging.handlers import APILogHandler

        super().__init__()
        self._sender, self._context = APILogHandler(), copy_context()

    def emit(self, record: logging.LogRecord) -> None:
        self._context.copy().run(self._sender.emit, record)


@contextmanager
def show_progress(console: Terminal, *, stages: bool = True) -> Iterator[None]:
    """Show every run of this block on `console`: its stages live on a terminal, plain lines elsewhere."""
    if not (stages and console.is_terminal):
        token = SCREEN.set(LineScreen(console))
        try:
            yield
        finally:
            SCREEN.reset(token)
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description:<10}", markup=False),
        StateColumn(),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as progress:
        token = SCREEN.set(LiveScreen(progress))
        try:
            yield
        finally:
            SCREEN.reset(token)
