"""Shared by the commands of `refit`: options, the project's folder, and parsing of settings and JSON."""

from __future__ import annotations

import atexit
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from refit.errors import UserError
from refit.files.permissions import close, tighten
from refit.files.yaml_files import read_value
from refit.runtime import environments, terminal
from refit.runtime.terminal import print_json, say
from registry.secrets import redacted

if TYPE_CHECKING:
    from pydantic import JsonValue

    from refit.runtime.run_file import Overrides

Project = Annotated[Path, typer.Option("--project", help="the project's folder")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object as the last line of standard output")]
Debug = Annotated[bool, typer.Option("--debug", help="show tracebacks and the libraries' own logs")]
AsOf = Annotated[str, typer.Option("--as-of", help="date or time of the run, in the project's zone; or `latest`")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="section.key=value, for this run only; repeatable")]
Wait = Annotated[float, typer.Option("--wait", help="seconds to wait for another run of this project to end")]
Why = Annotated[
    str | None,
    typer.Option("--why", help="the reason, kept in the ledger", callback=lambda text: text and redacted(text)),
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="default: the first free one")]

HERE = Path()


WITHOUT_EFFECT = frozenset({"show", "history", "explain", "lineage", "compare", "status", "doctor", "params-schema"})
_command: str | None = None  # that this process was asked for


def left_behind() -> str:
    """What the command of this process leaves when it is ended, in words."""
    if _command in WITHOUT_EFFECT:
        return "the command only reads"
    if _command == "init":
        return "no project was made"
    return "what was finished is kept, the same command goes on from there"


def note_command(name: str | None) -> None:
    """Note which command this process was asked for."""
    global _command
    _command = name


def _show_version(requested: bool) -> None:
    if requested:
        from refit.runtime.provenance import release

        say(f"refit {release()}")
        raise typer.Exit


def _be_quiet(requested: bool) -> None:
    terminal.QUIET = requested


def _work_in(environment: str | None) -> None:
    if environment is not None:
        os.environ[environments.VARIABLE] = environment  # for child processes too


def with_version(
    context: typer.Context,
    environment: Annotated[
        str | None,
        typer.Option(
            "--env", callback=_work_in, help="environment: lay params.NAME.yaml over params.yaml; default: REFIT_ENV"
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", callback=_be_quiet, help="no progress and no summary; errors and --json alone"),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="show Refit's version and exit")
    ] = False,
) -> None:
    """What `refit` itself takes before a command."""
    note_command(context.invoked_subcommand)


def project_at(folder: Path) -> Path:
    """Return the project in a folder, and use its servers from now on.

    Raises:
        UserError: the folder holds no project.
    """
    if not (folder / "params.yaml").is_file():
        raise UserError(
            f"{folder.resolve()} has no params.yaml; `refit init DIR` makes a project, --project DIR names one"
        )
    from flows.services.service_state import use_own_server

    close(folder)
    atexit.register(tighten, folder.resolve())  # what the command makes is private too
    use_own_server(folder.resolve())
    return folder.resolve()


def assignments(texts: list[str]) -> Overrides:
    """Parse `section.key=value` texts into a mapping.

    Raises:
        UserError: a text has another form.
    """
    settings: dict[str, JsonValue] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or "." not in path.strip("."):
            raise UserError(f"--set {text}: expected section.key=value, e.g. --set train.seed=1")
        settings[path.strip()] = read_value(value)
    return settings


def print_outcome(sentence: str, *, as_json: bool) -> None:
    """Print what a command did."""
    sentence = environments.addressed(sentence)
    print_json({"outcome": sentence}) if as_json else say(sentence)


def json_object(option: str, text: str) -> dict[str, object]:
    """Parse the JSON object given to an option.

    Raises:
        UserError: the text is no JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option} {text}: {error}; expected JSON such as '{{\"max_depth\": 3}}'") from None
    if not isinstance(value, dict):
        raise UserError(f"{option} {text}: expected a JSON object such as '{{\"max_depth\": 3}}'")
    return value


def usage_error(error: TyperException) -> tuple[str, ...]:
    """Return what is wrong with a command line, with a pointer to its help; empty if help was printed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "refit"
    return (f"{message}; see `{command} --help`",) if (message := error.format_message().rstrip(".")) else ()


def quiet_prefect(debug: bool) -> None:
    """Silence Prefect's log, which would repeat the screen's messages with tracebacks."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "DEBUG" if debug else "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # a busy machine starts slowly
