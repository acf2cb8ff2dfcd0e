"""What people read is what was written: no command obeys a text that comes from data, people, files or events."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import commands, refit
from rich.progress import Progress

from flows.progress_display import LiveScreen, LogScreen, show_progress
from refit.cli import main
from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json
from refit.plain_text import one_line
from refit.runtime.terminal import Terminal, line, print_json
from refit.schemas.artifact import Part
from refit.storage import quarantine
from registry.ledger import Ledger
from registry.store import locate

HOSTILE = (
    "see [/tickets/42] [conceal][link=http://evil.example]:smile: \x1b[31m\x9b2J\x07\r\t\u202e\u2066\u200b\nforged"
)
ONE_LINE = HOSTILE.replace("\n", " ")  # where a line break is refused already


def assert_plain(printed: str) -> None:
    """Nothing that a terminal obeys, and no line that somebody else began."""
    odd = {character for character in printed if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")}
    assert odd <= {"\n"}, printed
    assert not any(each.startswith("forged") for each in printed.splitlines()), printed


# How each command is walked: with hostile texts in its arguments, on a project that is full of them.
WALKS: dict[tuple[str, ...], list[list[str]]] = {
    ("quarantine", "list"): [[], ["--source", HOSTILE], ["--batch", HOSTILE]],  # before others write it
    ("run",): [["--set", f"train.{HOSTILE}=1"], ["--as-of", HOSTILE]],
    ("stage",): [[HOSTILE]],
    ("status",): [[]],
    ("score",): [[HOSTILE], ["2024-01", "--as-of", HOSTILE]],
    ("drift",): [["--as-of", HOSTILE]],
    ("replay",): [
        ["--from", HOSTILE, "--to", "2024-05-01"],
        ["--from", "2024-01-01", "--to", "2024-05-01", "--policies", HOSTILE],
    ],
    ("cross-validate",): [["--set", f"train.seed={HOSTILE}"]],
    ("lr-find",): [[HOSTILE]],
    ("check-learner",): [[HOSTILE], ["a.py:B", "--params", HOSTILE], ["a.py:B", "--task", HOSTILE]],
    ("doctor",): [[]],
    ("params-schema",): [[]],
    ("init",): [["new", "--csv", HOSTILE], ["new", "--horizons", HOSTILE]],
    ("ui",): [["--project", HOSTILE]],
    ("up",): [["--prefect-port", HOSTILE]],
    ("down",): [[]],
    ("deploy",): [["--pool", HOSTILE], ["--pool", "team", "--pull", HOSTILE], ["--pool", "a", "--repository", HOSTILE]],
    ("show",): [[]],
    ("history",): [[]],
    ("compare",): [["1", "1"], ["1", HOSTILE]],
    ("explain",): [["1"], [HOSTILE], ["--row", HOSTILE]],
    ("lineage",): [["1"], [HOSTILE], ["--data", HOSTILE]],
    ("promote",): [[HOSTILE], ["1", "--why", HOSTILE]],
    ("approve",): [[HOSTILE, "--why", HOSTILE], ["1", "--why", HOSTILE], ["--lift", "--why", HOSTILE]],
    ("reject",): [[HOSTILE, "--why", HOSTILE], ["1", "--why", HOSTILE]],
    ("rollback",): [["--to", HOSTILE, "--why", HOSTILE], ["--why", HOSTILE]],
    ("reproduce",): [[HOSTILE]],
    ("export",): [[HOSTILE, "--to", "out"], ["1", "--to", "[/out] \x1b[31m\u202e"]],
    ("sign",): [[HOSTILE]],
    ("repair",): [[]],
    ("gc",): [[]],
    ("quarantine", "release"): [
        [HOSTILE, "2024-01", "1", "--why", HOSTILE],
        ["table", "2024-01", "1", "--why", HOSTILE],
    ],
}


@pytest.fixture
def hostile(project: Path) -> Path:
    """A project whose ledger, quarantine and folder are full of hostile texts."""
    ledger = Ledger.of(locate(project, None))
    (first,) = ledger.entries("demo")
    for number, action in enumerate(("refuse", "rollback")):
        ledger.append(
            replace(
                first,
                key=f"hostile {number}",
                action=action,  # type: ignore[arg-type]
                who=HOSTILE,
                trigger=f"drift; columns {HOSTILE}",
                reasons=(HOSTILE, HOSTILE),
            )
        )
    entry = read_json(project / "data/snapshot.json")["batches"][0]
    refusal = quarantine.Refusal(1, HOSTILE, HOSTILE, HOSTILE, HOSTILE, json.dumps({HOSTILE: HOSTILE}), HOSTILE)
    quarantine.write(project / quarantine.path_of(entry["source"], entry["name"]), [refusal])
    return project.rename(project.with_name("de[mo] [bold]\x1b[31m\u202e"))


@pytest.mark.ci
def test_no_command_obeys_a_text(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(WALKS) == set(commands(main.app)), "a new command is walked too"
    monkeypatch.chdir(hostile)
    shown = {}
    for command, walks in WALKS.items():
        for arguments in walks:
            status, printed = refit(capsys, *command, *arguments)
            assert_plain(printed)
            assert "a fault of Refit" not in printed, printed
            shown[command, tuple(arguments)] = (status, printed)
    for command in (("history",), ("show",), ("quarantine", "list")):
        status, printed = shown[command, ()]
        assert status == 0, printed
        assert "[/tickets/42]" in printed, printed
        assert r"\x1b[31m" in printed, printed


def test_a_summary_a_progress_bar_and_a_log_show_texts_as_they_are() -> None:
    file = io.StringIO()
    terminal = Terminal(file=file, width=200)
    terminal._force_terminal = True
    with show_progress(terminal):
        from flows.progress_display import screen

        assert isinstance(screen(), LiveScreen)
        screen().begin("ingest")
        screen()(HOSTILE)
        screen().end("ingest", "executed", 1.0)
        screen()(HOSTILE)
    assert "[/tickets/42]" in file.getvalue()
    assert "\x1b[31m\x9b" not in file.getvalue()
    assert "\u202e" not in file.getvalue()
    records: list[str] = []
    logger = logging.Logger("log")
    logger.addHandler(
        type("Keep", (logging.Handler,), {"emit": lambda _, record: records.append(record.getMessage())})()
    )
    LogScreen(logger)(HOSTILE)
    LogScreen(logger).end("ingest", HOSTILE, 1.0)
    assert len(records) == 2
    for record in records:
        assert_plain(record)


def test_an_error_is_plain_wherever_it_ends_up() -> None:
    for error in (UserError(HOSTILE), RefitError("2 problems:", HOSTILE, HOSTILE)):
        assert_plain(str(error))
        assert_plain(error.sentence)
        assert "[/tickets/42]" in str(error)


def test_a_styled_part_of_a_line_is_plain_too_and_so_is_a_text_that_somebody_else_made() -> None:
    from rich.text import Text

    file = io.StringIO()
    Terminal(file=file, width=300).print(line((HOSTILE, "bold"), HOSTILE), Text(ONE_LINE))
    assert_plain(file.getvalue())


def test_only_what_is_obeyed_or_unseen_is_escaped() -> None:
    assert one_line("Zoë's 東京 naïve [x] \\ {a} 💡 ½ a b") == "Zoë's 東京 naïve [x] \\ {a} 💡 ½ a b"
    assert one_line("\ud83d") == "\\ud83d"
    assert one_line("a\udcffb") == "a\\xffb", "a byte of a file name"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x200B, 0x2028, 0x2069, 0x3164, 0xFEFF, 0xE0041):
        assert one_line(chr(code)).isascii(), hex(code)
        assert len(one_line(chr(code))) > 1, hex(code)


def test_json_stays_json_where_a_secret_is_hidden_next_to_a_quote(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"cells": ['password=hunter2"', "postgresql://u:hunter2\\@db"], 'pwd=hunter2"': None})
    printed = capsys.readouterr().out
    assert "hunter2" not in printed
    assert json.loads(printed) == {"cells": ['password=***"', "postgresql://u:***@db"], 'pwd=***"': None}


def poisoned(value: Any) -> Any:
    """A report whose every text has a hostile end."""
    if isinstance(value, Part):
        return value.model_copy(update={name: poisoned(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {key: poisoned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(inner) for inner in value)
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


@pytest.mark.slow
def test_the_summary_of_a_run_shows_texts_as_they_are(project: Path) -> None:
    from driving import summary_of

    from flows.summary_display import print_summary

    file = io.StringIO()
    print_summary(poisoned(summary_of(project)), Terminal(file=file, width=80))
    assert_plain(file.getvalue())
    assert "[/tickets/42]" in "".join(file.getvalue().split("\n"))


def test_a_fault_and_a_wrong_option_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ((f"--{ONE_LINE}",), (HOSTILE,), ("show", HOSTILE), ("show", f"--{HOSTILE}")):
        status, printed = refit(capsys, *arguments)
        assert status == 2
        assert_plain(printed)
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1, printed
    (tmp_path / "params.yaml").write_text("project: {}\n")
    write_json(tmp_path / "released.json", {})

    def fault(*_: object) -> None:
        raise ValueError(HOSTILE)

    monkeypatch.setattr("refit.cli.inspection.status", fault)
    status, printed = refit(capsys, "status")
    assert (status, printed.count("\n")) == (1, 1)
    assert_plain(printed)
    assert "a fault of Refit" in printed


def test_a_log_says_now_and_then_how_far_a_long_step_is() -> None:
    lines, logger = io.StringIO(), logging.Logger("far", logging.INFO)
    logger.addHandler(logging.StreamHandler(lines))
    moments = iter([0.0, 1.0, 4.0, 11.0, 11.0, 12.0, 13.0])
    screen = LogScreen(logger, clock=lambda: next(moments))
    for done in (0.0, 1.5, 3.25, 3.5):
        screen("fitting cnn, epochs", done, 8)
    screen("note: it goes on", 0)
    assert lines.getvalue().splitlines() == [
        "fitting cnn, epochs",
        "fitting cnn, epochs: 3.2 of 8",
        "note: it goes on",
    ]


def test_a_terminal_keeps_what_the_next_step_must_not_overwrite() -> None:
    console = Terminal(file=io.StringIO(), width=100)
    with Progress(console=console) as progress:
        live = LiveScreen(progress)
        live.begin("train")
        for what in ("fitting cnn", "note: cnn goes on from its checkpoint after epoch 2", "fitting cnn, epochs"):
            live(what, 1, 8)
    assert "note: cnn goes on from its checkpoint after epoch 2" in console.file.getvalue()  # type: ignore[attr-defined]
