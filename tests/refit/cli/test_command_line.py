"""What every command line should have: help in groups, completion, silence, no colours, errors that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import commands, refit, refit_in

from refit.cli import main, replays
from refit.runtime import run_file, terminal

ROOT = Path(__file__).resolve().parents[3]


def test_every_command_is_in_a_group_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = refit(capsys, "--help")
    assert status == 0
    assert "─ Commands ─" not in text, "typer's group of those without one"
    assert [panel for panel in main._PANELS if panel not in text] == []
    assert [path[0] for path in commands(main.app) if f" {path[0]} " not in text] == []


WITHOUT_JSON = {("params-schema",): "what it prints is one JSON document already"}


@pytest.mark.ci
def test_every_command_prints_json_or_there_is_a_reason_why_not() -> None:
    def options(command: tuple[str, ...]) -> set[str]:
        node: Any = typer.main.get_command(main.app)
        for name in command:
            node = node.commands[name]
        return {option for each in node.params for option in each.opts}

    without = {command for command in commands(main.app) if "--json" not in options(command)}
    assert without == WITHOUT_JSON.keys()


@pytest.mark.ci
def test_init_and_stage_as_json_say_what_they_made_and_nothing_else(tmp_path: Path) -> None:
    made = refit_in(tmp_path, "init", "my demo", "--json")
    assert made.returncode == 0, made.stderr
    description = json.loads(made.stdout)
    assert description["next"] == "cd 'my demo' && refit run"
    assert "git" in {note["about"] for note in description["notes"]}
    assert all(note["about"] and note["text"] for note in description["notes"])
    ran = refit_in(tmp_path / "my demo", "stage", "ingest", "--json")
    assert json.loads(ran.stdout).keys() == {"stage", "seconds"}
    assert json.loads(refit_in(tmp_path / "my demo", "down", "--json").stdout) == {"ended": []}


def test_a_shell_completes_commands() -> None:
    asked = {"_REFIT_COMPLETE": "complete_bash", "COMP_WORDS": "refit re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "refit"], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["replay", "reject", "reproduce", "repair"]


def test_explain_alone_says_what_it_explains(tmp_path: Path) -> None:
    done = refit_in(tmp_path, "explain")
    assert done.returncode == 2
    assert "refit explain VERSION" in done.stderr
    assert "refit explain --row KEY" in done.stderr


def test_explain_of_a_version_draws_no_picture_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = refit(capsys, "explain", "3", "--out", str(tmp_path / "why.png"), "--project", str(tmp_path))
    assert status == 2
    assert "a picture is drawn of a row (--row KEY)" in text


def test_explain_with_a_file_in_place_of_a_version_says_how_rows_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = refit(capsys, "explain", "new rows.csv", "--project", str(tmp_path))
    assert status == 2
    assert "`refit explain --row 'new rows.csv'` says" in text


@pytest.mark.slow
def test_quiet_leaves_results_as_json_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refit_in(tmp_path, "init", "demo").returncode == 0
    project = str(tmp_path / "demo")
    assert refit(capsys, "--quiet", "doctor", "--project", project) == (0, "")
    _, text = refit(capsys, "--quiet", "doctor", "--project", project, "--json")
    assert text.startswith('{"findings"')
    _, text = refit(capsys, "--quiet", "show", "--project", project)
    assert text.startswith("error: no version of demo is champion yet")
    assert refit(capsys, "doctor", "--project", project)[1], "and the next command prints again"


WHILE_IMPORTING = """
import os, signal, sys

class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "refit.cli.options":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
module, _, function = sys.argv.pop(1).partition(":")
getattr(__import__(module, fromlist=[function]), function)()
"""


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path: Path) -> None:
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["refit"]
    command = [sys.executable, "-c", WHILE_IMPORTING, script, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (130, "error: interrupted; nothing was begun\n", "")


def test_no_colour_is_printed_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal.Terminal().color_system is not None
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.Terminal().no_color


@pytest.mark.ci
def test_a_port_of_the_pages_that_is_in_use_is_an_error(tmp_path: Path) -> None:
    from flows.services.processes import listen_from

    assert refit_in(tmp_path, "init", "demo").returncode == 0
    with listen_from(8600) as taken:
        port = taken.getsockname()[1]
        done = refit_in(tmp_path / "demo", "ui", "--prefect-port", str(port))
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert "--prefect-port" in done.stderr


def test_a_replay_without_dates_is_of_the_later_half_of_the_data_in_whole_periods(finished: Path) -> None:
    params = run_file.params_of(finished)
    assert replays._period(finished, params, "month", None, None) == ("2024-06-01", "2024-11-01")
    assert replays._period(finished, params, "week", "2024-10-01", None) == ("2024-10-01", "2024-10-28")
