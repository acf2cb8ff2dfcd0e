"""Every command of `refit`, called in this process: starting one costs seconds."""

from __future__ import annotations

import contextlib
import gc
import io
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

from refit.cli import main


def commands(app: typer.Typer, *parents: str) -> Iterator[tuple[str, ...]]:
    """The name of each command of an app, of those within it too."""
    for each in app.registered_commands:
        yield (*parents, each.name or each.callback.__name__.replace("_", "-"))  # type: ignore[union-attr]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, *parents, *([group.name] if isinstance(group.name, str) else []))


def refit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit status of a command, and all that it printed."""
    status = _status(arguments)
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def refit_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a folder, as `subprocess.run` returns it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _status(arguments)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def _status(arguments: Sequence[str]) -> int:
    gc.freeze()  # a command that fails collects garbage: only its own, not that of all libraries of a test process
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", ["refit", *arguments])
            main.main()
    finally:
        gc.unfreeze()
    return int(ended.value.code or 0)
