"""The commands: one line for a mistake, one JSON object for a machine, and no traceback for anybody."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tomllib
import weakref
from contextlib import suppress
from pathlib import Path

import pytest
from commands import refit_in
from quick import quick

from refit.cli import main, pipeline_commands, registry_commands
from refit.errors import Terminated, UserError
from refit.runtime import provenance

ROOT = Path(__file__).resolve().parents[3]


def process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command as users start it; most tests call it in this process (`refit_in`), which imports nothing again."""
    return subprocess.run(
        [sys.executable, "-m", "refit", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_the_script_and_the_module_are_the_same_thing(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("refit")
    by_script = subprocess.run([script, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert by_script.stdout == process("--help", cwd=tmp_path).stdout


def test_the_version_is_the_one_that_a_model_records(tmp_path: Path) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert process("--version", cwd=tmp_path).stdout == f"refit {declared}\n"
    assert provenance.release() == declared


@pytest.mark.ci
@pytest.mark.parametrize(
    ("sent", "status", "words"),
    quick([(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 130, "interrupted")]),
    ids=["SIGTERM", "SIGINT"],
)
def test_a_command_that_is_asked_to_end_within_a_query_says_so_and_is_no_fault(
    sent: signal.Signals, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    def query(**_: object) -> int:
        with suppress(Terminated, KeyboardInterrupt):
            signal.raise_signal(sent)
        raise RuntimeError("Query interrupted")  # all that DuckDB leaves of what a signal raised

    monkeypatch.setattr(main, "app", query)
    monkeypatch.setattr(Terminated, "was_asked", False)
    try:
        with pytest.raises(SystemExit) as ended:
            main.main()
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(f"error: {words}; what was finished is kept")


@pytest.mark.parametrize(
    ("command", "said"),
    [("show", "the command only reads"), ("score", "what was finished is kept"), ("init", "no project was made")],
)
def test_a_command_that_is_ended_says_what_it_leaves(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise Terminated

    for module in (registry_commands, pipeline_commands):
        monkeypatch.setattr(module, "project_at", ended)
    monkeypatch.setattr("refit.new_project.project_folder.create", ended)
    argument = {"score": ["2024-01"], "init": [str(tmp_path / "new")]}.get(command, [])
    done = refit_in(tmp_path, command, *argument)
    assert (done.returncode, done.stderr.split(", ")[0].strip()) == (143, f"error: ended by SIGTERM; {said}")
    assert not list(tmp_path.iterdir())


@pytest.mark.ci
def test_a_folder_without_a_project_is_the_users_mistake(tmp_path: Path) -> None:
    for command in ("run", "status", "show"):
        assert_one_line(process(command, cwd=tmp_path), 2, "no params.yaml", "refit init")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.sed=1", ("train.sed", "did you mean 'seed'")),
        ("train.seed", ("expected section.key=value",)),
        ("trian.seed=1", ("trian: unknown key", "did you mean 'train'")),
        ("train.seed=many", ("train.seed", "'many'")),
        ("train.metric=auc", ("train.metric", "'roc_auc'")),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(project: Path, setting: str, words: tuple[str, ...]) -> None:
    assert_one_line(refit_in(project, "run", "--set", setting), 2, *words)


def test_an_unknown_learner_is_named_with_the_nearest(project: Path) -> None:
    kind = "train.learners.boosting.kind=sklearn.linear_model.Logistic"
    from refit.runtime import run_file

    run_file.write(project, run_file.RunFile(overrides=dict([kind.split("=")])))
    done = refit_in(project, "stage", "train")
    assert_one_line(done, 2, "sklearn.linear_model.Logistic", "did you mean", "LogisticRegression")


def test_an_unknown_stage_is_named_with_the_nearest(project: Path) -> None:
    assert_one_line(refit_in(project, "stage", "trane"), 2, "'trane'", "did you mean 'train'")


def test_a_held_project_says_who_holds_it(project: Path) -> None:
    hold = "import sys; from pathlib import Path; from refit.runtime.lock import project_lock\n"
    hold += "with project_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(project)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        done = refit_in(project, "stage", "ingest")
        holder.communicate("")
    assert_one_line(done, 1, f"pid {holder.pid}", "--wait")


@pytest.mark.slow
def test_show_and_status_answer_a_machine_on_the_last_line(project: Path) -> None:
    shown = json.loads(process("show", "--json", cwd=project).stdout.splitlines()[-1])
    assert (shown["model"], shown["version"]) == ("demo", "1")
    assert shown["kpis"]["currency"] == "USD"
    assert min(value for name, value in shown["kpis"].items() if name != "currency") > 0
    told = json.loads(process("status", "--json", cwd=project).stdout.splitlines()[-1])
    assert told == {"stale": {}, "held_by": None}


def test_a_project_in_another_folder_is_named_by_option(project: Path, tmp_path: Path) -> None:
    done = refit_in(tmp_path, "status", "--project", str(project))
    assert done.returncode == 0
    assert done.stdout.count("up to date") == 6
    (project / "dvc.lock").unlink()
    assert refit_in(tmp_path, "status", "--project", str(project)).stdout.count("it has not run yet") == 6


def test_the_doctor_finds_a_project_in_order_and_a_broken_one(project: Path) -> None:
    done = refit_in(project, "doctor")
    assert done.returncode == 0, done.stdout
    assert "champion of demo: version 1" in done.stdout
    (project / "params.yaml").write_text("project: [")
    broken = refit_in(project, "doctor")
    assert broken.returncode == 1
    assert "not valid YAML" in broken.stdout


def test_quarantine_is_listed_and_a_release_needs_a_reason(project: Path) -> None:
    assert "empty" in refit_in(project, "quarantine", "list").stdout
    assert_one_line(refit_in(project, "quarantine", "release", "table", "2024-01", "3"), 2, "--why")


@pytest.mark.slow
def test_promoting_a_version_that_is_not_there_names_those_that_are(project: Path) -> None:
    assert_one_line(process("promote", "7", cwd=project), 2, "7")


def test_an_as_of_that_is_no_time_is_refused_before_anything_is_written(project: Path) -> None:
    from driving import drive

    before = (project / "run.yaml").read_text()
    with pytest.raises(UserError, match="'yesterday' is no time"):
        drive(project, as_of="yesterday")
    assert (project / "run.yaml").read_text() == before


def test_a_date_in_a_setting_is_named_like_any_other_wrong_value(project: Path) -> None:
    assert_one_line(refit_in(project, "run", "--set", "ingest.period=2024-01-01"), 2, "ingest.period", "'2024-01-01'")


def test_a_broken_params_file_is_told_by_its_line_also_to_status(project: Path) -> None:
    (project / "params.yaml").write_text("train: {seed: 1}\ntrain: {seed: 2}\n")
    assert_one_line(refit_in(project, "status"), 2, "line 2", "given twice")


def test_the_doctor_notices_a_champion_whose_stored_files_were_changed(project: Path) -> None:
    stored = next((project / ".refit/mlartifacts").rglob("model.skops"))
    stored.write_bytes(stored.read_bytes() + b"x")
    done = refit_in(project, "doctor")
    assert done.returncode == 1
    assert "model.skops" in done.stdout.replace("\n", "")  # a line breaks anywhere in a long path


@pytest.mark.ci
def test_a_lost_ledger_is_said_to_be_lost_and_a_broken_one_to_be_broken(project: Path) -> None:
    (project / ".refit/ledger.db").unlink()
    shown = refit_in(project, "show").stdout
    assert "not recorded" in shown
    assert "None" not in shown
    assert re.search(r"^cost +training \S+ USD · 1,000 predictions", shown, re.M)
    assert re.search(r"^predictions +one row \S+ ms", shown, re.M)
    assert "has no promotion: it was lost" in " ".join(shown.split())
    found = refit_in(project, "doctor", "--json")
    assert found.returncode == 1  # the registry knows how many lines it had
    assert "it was lost" in found.stdout
    assert "the registry knows of line 1, but the ledger has none" in found.stdout
    assert "the registry knows of line 1" in refit_in(project, "show").stderr

    (project / ".refit/ledger.db").write_bytes(b"this is no database" * 100)
    assert_one_line(process("show", cwd=project), 1, ".refit/ledger.db cannot be used", "not a database")
    assert "ledger.db cannot be used" in refit_in(project, "doctor", "--json").stdout


@pytest.mark.slow
def test_a_torn_snapshot_is_one_line_for_a_stage_and_for_the_quarantine_and_a_run_mends_it(project: Path) -> None:
    from driving import drive

    (project / "data/snapshot.json").write_text('{"batches": []}')
    words = ("snapshot.json is damaged or was changed", "`refit run` writes it again")
    assert_one_line(refit_in(project, "stage", "validate"), 1, *words)
    assert_one_line(refit_in(project, "quarantine", "list"), 1, *words)
    drive(project)
    assert "empty" in refit_in(project, "quarantine", "list").stdout


def test_releases_that_are_none_are_refused_at_once(project: Path) -> None:
    (project / "released.json").write_text("[]")
    for command in ("run", "status"):
        assert_one_line(refit_in(project, command), 2, "released.json holds no list of releases", "restore it")


def test_a_reported_error_keeps_nothing_alive_that_its_frames_held() -> None:
    class Held: ...

    kept: list[weakref.ref[Held]] = []

    def failing() -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise UserError("no")

    try:
        failing()
    except UserError as error:
        wrapped = ValueError("wrapped")  # what Prefect keeps
        wrapped.__cause__, error.__context__ = error, wrapped  # such knots come out of DVC
    main._release_frames(wrapped, debug=False)
    assert kept[0]() is None
