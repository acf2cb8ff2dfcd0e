"""What every command line should have: help in groups, completion, silence, no colours, errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import commands, refit, refit_in

from refit.cli import main, replays
from refit.runtime import run_file, terminal


def test_every_command_is_in_a_group_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = refit(capsys, "--help")
    assert status == 0
    assert "─ Commands ─" not in text, "typer's group of those without one"
    assert [panel for panel in main._PANELS if panel not in text] == []
    assert [path[0] for path in commands(main.app) if f" {path[0]} " not in text] == []


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


def test_explain_with_a_file_in_place_of_a_version_says_how_rows_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = refit(capsys, "explain", "new rows.csv", "--project", str(tmp_path))
    assert status == 2
    assert "`refit explain --row 'new rows.csv'` says" in text


def test_quiet_leaves_results_as_json_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refit_in(tmp_path, "init", "demo").returncode == 0
    project = str(tmp_path / "demo")
    assert refit(capsys, "--quiet", "doctor", "--project", project) == (0, "")
    _, text = refit(capsys, "--quiet", "doctor", "--project", project, "--json")
    assert text.startswith('{"findings"')
    _, text = refit(capsys, "--quiet", "show", "--project", project)
    assert text.startswith("error: no version of demo is champion yet")
    assert refit(capsys, "doctor", "--project", project)[1], "and the next command prints again"


def test_no_colour_is_printed_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal.Terminal().color_system is not None
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.Terminal().no_color


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
