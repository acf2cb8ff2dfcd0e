"""DVC remembers: what did not change does not run, what was done before comes back, whatever was killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refit.errors import RefitError, UserError
from refit.runtime import dvc_runner

PIPELINE = """
stages:
  ingest:
    cmd: cp raw.txt rows.txt
    deps: [raw.txt]
    outs: [rows.txt]
  train:
    cmd: cp rows.txt model.txt
    deps: [rows.txt]
    params: [params.yaml: [train.seed]]
    outs: [model.txt]
"""


def made(folder: Path) -> Path:
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "raw.txt").write_text("rows")
    (folder / "params.yaml").write_text("train: {seed: 0}\n")
    dvc_runner.initialise(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return made(tmp_path)


def copy(project: Path, source: str, target: str, calls: list[str]) -> Callable[[], None]:
    def function() -> None:
        calls.append(target)
        (project / target).write_text((project / source).read_text())

    return function


def both(project: Path, calls: list[str]) -> list[str]:
    return [
        dvc_runner.run_stage(project, "ingest", copy(project, "raw.txt", "rows.txt", calls)),
        dvc_runner.run_stage(project, "train", copy(project, "rows.txt", "model.txt", calls)),
    ]


def dvc(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_seam_in_dvc_is_still_there() -> None:
    import dvc.stage.run

    assert callable(dvc.stage.run.cmd_run)


def test_unchanged_stages_do_not_run_and_dvc_agrees(project: Path) -> None:
    calls: list[str] = []
    assert both(project, calls) == ["executed", "executed"]
    assert both(project, calls) == ["unchanged", "unchanged"]
    assert calls == ["rows.txt", "model.txt"]
    assert "up to date" in dvc(project, "status")


def test_only_what_depends_on_a_change_runs_and_the_old_state_is_restored(project: Path) -> None:
    calls: list[str] = []
    both(project, calls)
    (project / "params.yaml").write_text("train: {seed: 1}\n")
    assert set(dvc_runner.stale(project)) == {"train"}
    assert both(project, calls) == ["unchanged", "executed"]
    (project / "params.yaml").write_text("train: {seed: 0}\n")
    assert both(project, calls) == ["unchanged", "restored"]
    assert calls.count("model.txt") == 2


@pytest.mark.ci
def test_a_shell_repro_before_or_after_agrees(project: Path) -> None:
    dvc(project, "repro")
    calls: list[str] = []
    assert both(project, calls) == ["unchanged", "unchanged"]
    (project / "raw.txt").write_text("more rows")
    assert both(project, calls) == ["executed", "executed"]
    assert "didn't change" in dvc(project, "repro")


def test_without_the_seam_the_command_runs_with_the_same_result(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dvc.stage.run

    calls: list[str] = []
    both(project, calls)
    lock_in_process = (project / "dvc.lock").read_text()
    (project / "dvc.lock").unlink()
    monkeypatch.setattr(dvc_runner, "_SEAM", "no_such_name")
    assert (
        dvc_runner.run_stage(project, "ingest", copy(project, "raw.txt", "rows.txt", calls), force=True) == "executed"
    )
    assert (
        dvc_runner.run_stage(project, "train", copy(project, "rows.txt", "model.txt", calls), force=True) == "executed"
    )
    assert calls == ["rows.txt", "model.txt"], "the shell ran, not the function"
    assert (project / "dvc.lock").read_text() == lock_in_process
    assert callable(dvc.stage.run.cmd_run)


@pytest.mark.slow
def test_threads_of_one_process_run_stages_of_several_projects_each_in_its_own_folder(tmp_path: Path) -> None:
    projects = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        projects.append(made(tmp_path / name))
        (projects[-1] / "raw.txt").write_text(f"rows of {name}")
    before, environment = Path.cwd(), dict(os.environ)

    def run(project: Path) -> str:
        def function() -> None:
            time.sleep(0.2)
            assert dict(os.environ) == environment
            Path("rows.txt").write_text((project / "raw.txt").read_text())  # in the folder of its project

        return dvc_runner.run_stage(project, "ingest", function)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, projects)) == ["executed"] * 3
    assert Path.cwd() == before
    for project in projects:
        assert (project / "rows.txt").read_text() == f"rows of {project.name}"
        assert set(dvc_runner.stale(project)) == {"train"}


def test_an_input_that_changes_during_the_stage_is_refused_not_recorded(project: Path) -> None:
    def function() -> None:
        (project / "rows.txt").write_text("rows")
        (project / "raw.txt").write_text("changed meanwhile")

    with pytest.raises(RefitError, match=r"raw\.txt changed while stage ingest ran"):
        dvc_runner.run_stage(project, "ingest", function)
    assert "ingest" in dvc_runner.stale(project)


def test_outputs_that_dvc_deleted_come_back_where_the_stage_fails(project: Path) -> None:
    both(project, [])
    (project / "raw.txt").write_text("wrong rows")
    seen = []

    def fail() -> None:
        seen.append((project / "rows.txt").exists())
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        dvc_runner.run_stage(project, "ingest", fail)
    assert seen == [False], "DVC deletes it first"
    assert (project / "rows.txt").read_text() == "rows"
    assert set(dvc_runner.stale(project)) == {"ingest"}
    (project / "raw.txt").write_text("rows")
    assert dvc_runner.stale(project) == {}


def test_a_query_that_a_signal_ended_is_no_fault_of_the_stage(project: Path) -> None:
    def interrupted() -> None:
        raise RuntimeError("Query interrupted")  # as DuckDB turns Ctrl-C into an error

    with pytest.raises(KeyboardInterrupt):
        dvc_runner.run_stage(project, "ingest", interrupted, force=True)


def test_a_stages_own_error_arrives_as_it_was_raised(project: Path) -> None:
    def function() -> None:
        raise UserError("no rows")

    with pytest.raises(UserError, match="no rows"):
        dvc_runner.run_stage(project, "ingest", function)


def test_a_fault_is_told_in_one_line(project: Path) -> None:
    def function() -> None:
        raise ZeroDivisionError("division\nby zero")

    with pytest.raises(RefitError, match="stage ingest failed: ZeroDivisionError: division by zero"):
        dvc_runner.run_stage(project, "ingest", function)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("dvc.lock", "stages:", "stagesx:"),
        ("dvc.lock", "schema: '2.0'", "schema: 5"),
        ("dvc.yaml", "train:", "train:\n    plots: [1.5]"),
        ("dvc.yaml", "train:", "train:\n    vars: 7"),
    ],
    ids=lambda value: value.split()[-1],
)
def test_what_dvc_makes_of_a_damaged_file_is_told_as_damage_and_not_as_the_stages_fault(
    project: Path, name: str, old: str, new: str
) -> None:
    both(project, [])
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new, 1))
    with pytest.raises(RefitError, match=r"stage \w+: DVC (cannot go on|says: )") as caught:
        both(project, [])
    assert "dvc." in str(caught.value)
    (project / name).write_text(text)
    both(project, [])


@pytest.mark.parametrize(
    ("name", "reader"), [(".dvc/config", dvc_runner.repair), (".dvcignore", dvc_runner.initialise)]
)
def test_a_file_of_dvcs_that_is_not_text_is_named_with_its_line(
    project: Path, name: str, reader: Callable[[Path], object]
) -> None:
    (project / name).write_bytes(b"[core]\n\xff\xfe\n")
    with pytest.raises(UserError, match=rf"{name} line 2 is not UTF-8 text"):
        reader(project)


def test_a_disk_that_is_full_while_a_stage_runs_is_said_in_words(project: Path) -> None:
    def function() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "rows.txt")

    with pytest.raises(RefitError, match=r"stage ingest: the disk is full \(rows.txt\); what was finished is kept"):
        dvc_runner.run_stage(project, "ingest", function)


def test_a_run_killed_within_a_stage_is_taken_up_again(project: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from refit.runtime import dvc_runner\n"
        "dvc_runner.run_stage(Path(sys.argv[1]), 'ingest', lambda: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(project)], check=False)
    assert killed.returncode == -signal.SIGKILL
    dvc_runner.repair(project)
    assert both(project, []) == ["executed", "executed"]


def test_a_torn_lock_file_is_set_aside_and_the_stages_come_back(project: Path) -> None:
    calls: list[str] = []
    both(project, calls)
    (project / "dvc.lock").write_text("schema: '2.0'\nstages: {ingest: {cmd: [")
    assert "torn" in dvc_runner.repair(project)[0]
    assert both(project, calls) == ["restored", "restored"]


@pytest.mark.slow
def test_a_lock_file_nested_without_end_is_named_before_dvc_reads_it(project: Path) -> None:
    (project / "dvc.lock").write_text("a: " + "[" * 100_000 + "]" * 100_000)  # DVC's parser would end the process
    said = r"dvc\.lock line 1: nested deeper than 60 levels, the limit; `refit run` sets it aside"
    with pytest.raises(RefitError, match=said):
        dvc_runner.stale(project)
    with pytest.raises(RefitError, match=said), dvc_runner.cache(project):
        pass


@pytest.mark.parametrize("content", ['{"write": {"', '{"write": {"%s": {"pid": %d, "cmd": "refit run --gone"}}}'])
def test_a_torn_or_stale_read_write_lock_is_removed(project: Path, content: str) -> None:
    path = project / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content % (project / "rows.txt", os.getppid()) if "%" in content else content)
    assert "rwlock" in dvc_runner.repair(project)[0]
    assert both(project, []) == ["executed", "executed"]


@pytest.mark.parametrize("name", ["mine", "50% $HOME #?"])
def test_what_dvc_remembers_of_files_lies_where_no_other_user_can_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def chosen(configured: str | None = None) -> str:
        """As DVC chooses it, but for /var/tmp/dvc."""
        return os.environ.get("DVC_SITE_CACHE_DIR") or configured or str(tmp_path / "shared")

    monkeypatch.setattr("dvc.dirs.site_cache_dir", chosen)
    (tmp_path / name).mkdir()
    project = made(tmp_path / name)
    assert both(project, []) == ["executed", "executed"]
    private = project / ".refit" if name == "mine" else tmp_path / "home/.cache/refit/dvc"
    assert list(private.rglob("hashes/local/cache.db"))
    assert private.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tmp_path.iterdir()} <= {name, "home"}
    assert "DVC_SITE_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("place", ["raw.txt", "raw.txt/deep/pipe.csv"])
def test_a_pipe_among_the_inputs_is_refused_and_not_waited_for(project: Path, place: str) -> None:
    (project / "raw.txt").unlink()
    (project / place).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(project / place)
    for ask in (lambda: both(project, []), lambda: dvc_runner.stale(project)):
        with pytest.raises(UserError, match=f"{place} is a pipe, a socket or a device"):
            ask()
    if place != "raw.txt":
        (project / ".dvcignore").write_text("*.csv\n.refit\n")
        assert "ingest" in dvc_runner.stale(project)


def test_a_folder_that_dvc_does_not_know_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refit init"):
        dvc_runner.stale(tmp_path)
