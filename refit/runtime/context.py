"""What a stage is given: where it works, with which params, how it tells of its progress, and what it is allowed."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from refit.config import Params


class Progress(Protocol):
    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None:
        """Say what is being done, and how much of it (`done` of `total`) where that is known."""


def silent(what: str, done: float = 0, total: float | None = None) -> None:
    """A progress that tells nobody."""


def utc_now() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """Arguments of every stage's `run`."""

    project: Path
    params: Params
    progress: Progress = silent
    may_promote: bool = False  # aliases move only under `refit run`, a deployment, or `refit promote`
    trigger: str = "manual"
    flow_run: str | None = None
    now: Callable[[], datetime] = field(default=utc_now)
    declared_in: Path | None = None  # the folder that the paths of sources are relative to; none: the project

    @property
    def sources_root(self) -> Path:
        """Where the files of sources and the scripts of stand-ins are looked for; batches go into `project`."""
        return self.declared_in or self.project

    def path(self, relative: Path | str) -> Path:
        """A path of the project."""
        return self.project / relative


def person() -> str:
    """Who runs this, and on which machine, as the ledger keeps it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = "unknown"
    return f"{name}@{socket.gethostname()}"
