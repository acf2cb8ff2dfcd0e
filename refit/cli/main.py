"""The command line `refit ...`; every command imports only what it needs."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import traceback

import typer
from typer.exceptions import TyperException

from refit.cli import (
    evaluation_commands,
    pipeline_commands,
    project_commands,
    quarantine_commands,
    registry_commands,
    service_commands,
)
from refit.cli.options import left_behind, note_command, quiet_prefect, usage_error, with_version
from refit.errors import RefitError, Terminated, chain, is_interrupted, machine_fault, message_of, refused_by_the_system
from refit.extras import not_installed
from refit.runtime import environments
from refit.runtime.terminal import guard_logs, say
from registry import refusals

INTERRUPTED = 130  # typer's exit status for Ctrl-C
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000  # Python's default, 700, adds a quarter to the time of our imports

app = typer.Typer(
    name="refit",
    help="Keeps models current: none becomes champion unless shown to be no worse than a stated margin allows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    callback=with_version,
)
_PANELS = {
    "Train, score and watch": pipeline_commands.app,
    "Try something, and leave the champion alone": evaluation_commands.app,
    "Models and their champion": registry_commands.app,
    "Projects": project_commands.app,
    "Servers": service_commands.app,
}
for _panel, _commands in _PANELS.items():
    for _command in _commands.registered_commands:
        _command.rich_help_panel = _panel
    app.add_typer(_commands)
app.add_typer(quarantine_commands.app, name="quarantine", rich_help_panel="Projects")


def main() -> None:
    """Run the console script: errors are one line on standard error; exit status 2 for user errors, 1 for faults."""
    debug = "--debug" in sys.argv[1:]
    note_command(None)
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    guard_logs()
    signal.signal(signal.SIGTERM, Terminated.on_signal)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no child may import a project's `calendar.py` instead of Python's
    quiet_prefect(debug)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters outside of the terminal's encoding must not fail
    try:
        if (status := app(prog_name="refit", standalone_mode=False)) != INTERRUPTED:
            sys.exit(status)
        message: tuple[str, ...] = (_ended("interrupted"),)
    except RefitError as error:
        message, status = error.lines, error.exit_status
        _release_frames(error, debug)
    except TyperException as error:
        message, status = usage_error(error), error.exit_code
    except Terminated:
        message, status = (_ended("ended by SIGTERM"),), 143
    except (KeyboardInterrupt, typer.Abort):
        message, status = (_ended("interrupted"),), INTERRUPTED
    except Exception as error:
        what = f"{type(error).__name__}: {message_of(error)}"
        message, status = (f"{what} (a fault of Refit; --debug shows where)",), 1
        if fault := machine_fault(error):
            message = (f"{fault}; what was finished is kept: mend that, then run again",)
        elif refused := refusals.refusal(error):
            message = (f"{refused}; what was finished is kept",)
        elif is_interrupted(error):
            how, status = ("ended by SIGTERM", 143) if Terminated.was_asked else ("interrupted", INTERRUPTED)
            message = (_ended(how),)
        elif missing := not_installed(error, "this"):
            message, status = missing.lines, missing.exit_status
        elif isinstance(error, OSError) and (refusal := refused_by_the_system(error)):
            message = (refusal,)
        _release_frames(error, debug)
    gc.collect()  # objects in the error's frames must not outlive their library, which would warn on standard error
    for index, text in enumerate(message):
        text = environments.addressed(text)
        say(f"  {text}" if index else f"error: {text}", stderr=True)
    sys.exit(status)


def _ended(how: str) -> str:
    return f"{how}; {left_behind()}"


def _release_frames(error: BaseException, debug: bool) -> None:
    """Clear the frames of an error: Prefect keeps the error, and with it the objects in them.

    With `debug`, print its traceback first, without the secrets that libraries put into their messages.
    """
    if debug:
        for text in "".join(traceback.format_exception(error)).rstrip().split("\n"):
            say(text, stderr=True)
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)
