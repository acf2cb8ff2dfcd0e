"""The arguments of every stage: its project and params, how it reports progress, and what it may do."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from refit.config import Params
from refit.plain_text import one_line
from refit.runtime.workers import StartWorkers, processes

WHO = "REFIT_WHO"  # an environment variable: the person, where several share a user, as in containers and in CI
_LONGEST_NAME = 100  # characters


class Progress(Protocol):
    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None:
        """Report what is being done, and how much of it (`done` of `total`) if known."""


def silent(what: str, done: float = 0, total: float | None = None) -> None:
    """A progress that reports nothing."""


def utc_now() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """Arguments of every stage's `run`."""

    project: Path
    params: Params
    progress: Progress = silent
    may_promote: bool = False  # aliases move only under `refit run`, a deployment, or a person's command
    trigger: str = "manual"
    flow_run: str | None = None
    home_page: str | None = None  # its address, if a server of the project is up
    now: Callable[[], datetime] = field(default=utc_now)
    workers: StartWorkers = processes  # what computes parts: other processes, or another engine of the flow
    declared_in: Path | None = None  # folder that the paths of sources are relative to; None means the project

    @property
    def sources_root(self) -> Path:
        """The folder of the sources' files and of scripts for generated data; batches are written to `project`."""
        return self.declared_in or self.project

    def path(self, relative: Path | str) -> Path:
        """The path of a file or folder of the project."""
        return self.project / relative


def person() -> str:
    """Who runs the command, as recorded in the ledger: the user and the machine, after the name in `REFIT_WHO`.

    Anybody may set the variable, so the name is a note for people, and no right depends on it.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    account = f"{user}@{socket.gethostname()}"
    name = one_line(os.environ.get(WHO, "").strip())
    return f"{name[:_LONGEST_NAME]} ({account})" if name else account
