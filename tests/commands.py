"""Every command of `refit`, called in this process: starting one costs seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterator

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
    gc.freeze()  # a command that fails collects garbage: only its own, not that of all libraries of a test process
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", ["refit", *arguments])
            main.main()
    finally:
        gc.unfreeze()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err
