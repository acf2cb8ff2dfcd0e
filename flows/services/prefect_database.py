"""The database of a project's Prefect server: one history for `refit run`, `refit ui` and `refit up`."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from refit.files.artifacts import STATE
from registry.urls import read_only_url, sqlite_url

DATABASE = STATE / "prefect.db"


def settings(project: Path) -> dict[str, str]:
    """The environment variable that makes a Prefect server use the project's database.

    Two projects have deployments of the same names, and runs that are not the other's.
    """
    return {"PREFECT_API_DATABASE_CONNECTION_URL": sqlite_url(project / DATABASE, "aiosqlite")}


def provide(project: Path) -> None:
    """Copy this machine's empty database to a project that has none: its tables take Prefect seconds to create."""
    if (project / DATABASE).exists() or not (template := _template()).is_file():
        return
    (project / STATE).mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(template, project / DATABASE)


def keep_if_new(project: Path, *, existed: bool) -> None:
    """Keep a copy of a database that a server has just created, before anything is written to it."""
    if not existed and not (template := _template()).exists():
        with suppress(OSError, sqlite3.Error):  # the copy only saves time
            template.parent.mkdir(parents=True, exist_ok=True)
            _copy(project / DATABASE, template)


def _template() -> Path:
    from prefect import __version__
    from prefect.settings import PREFECT_HOME

    return Path(str(PREFECT_HOME.value())) / f"refit-empty-{__version__}.db"


def _copy(source: Path, target: Path) -> None:
    """Copy an SQLite database that may be in use; if the target exists by then, it stays."""
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # 0600 from its first moment
    os.close(handle)
    try:
        with closing(sqlite3.connect(read_only_url(source), uri=True)) as old, closing(sqlite3.connect(scratch)) as new:
            old.backup(new)
            new.execute("pragma journal_mode = delete")  # one file; a server turns its log on again
        with suppress(FileExistsError):
            target.hardlink_to(scratch)
    finally:
        Path(scratch).unlink()
