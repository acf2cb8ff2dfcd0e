"""The scripts of CI, run as a workflow would run them: in a clone, with a team's registry, before and after a merge."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from driving import later_months

from refit.new_project import ci_files
from registry import versions
from registry.store import locate

BIN = Path(sys.executable).parent


def test_the_reference_project_has_the_scripts_that_a_new_project_gets(root: Path, finished: Path) -> None:
    for target, name in ci_files.TARGETS.items():
        new = (finished / target).read_text()
        assert new == ci_files.content(name, ci_files.INSTALL)
        (install,) = {
            line.strip("- ").removeprefix("run: ") for line in _differences((root / target).read_text(), new)
        } or {""}
        assert not install or install.startswith("make setup"), "only the command that installs Refit differs"
        if target.endswith(".sh"):
            assert os.access(finished / target, os.X_OK)


def _differences(one: str, other: str) -> list[str]:
    return [line for line, there in zip(one.splitlines(), other.splitlines(), strict=True) if line != there]


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_the_workflows_only_call_scripts_that_are_there(name: str) -> None:
    text = ci_files.content(name, ci_files.INSTALL)
    jobs = yaml.safe_load(text)
    jobs = jobs.get("jobs", jobs)
    for job in ("judge", "promote", "drift"):
        called = re.findall(r"infra/ci/(\w+\.sh)", yaml.safe_dump(jobs[job]))
        assert called == [f"{job}.sh"]
        assert f"infra/ci/{job}.sh" in ci_files.TARGETS


def test_a_push_that_waits_for_another_run_is_not_cancelled_by_a_schedule_and_no_name_of_a_branch_becomes_a_command(
    root: Path,
) -> None:
    """GitHub cancels what waits in a group when a newer run comes, and puts `${{ ... }}` into a shell's text."""
    for text in (ci_files.content("github.yml", ci_files.INSTALL), (root / ".github/workflows/refit.yml").read_text()):
        workflow = yaml.safe_load(text)
        group = workflow["concurrency"]["group"].replace("${{ github.ref }}", "refs/heads/main")
        push, schedule = (group.replace("${{ github.event_name }}", event) for event in ("push", "schedule"))
        assert push != schedule
        assert "${{" not in push
        commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
        assert [command for command in commands if "${{" in command] == []


def test_no_name_of_a_branch_is_assumed_as_a_repositorys_default_branch(root: Path) -> None:
    for text in (ci_files.content("github.yml", ci_files.INSTALL), (root / ".github/workflows/refit.yml").read_text()):
        workflow = yaml.safe_load(text)
        assert workflow[True]["push"] == {"branches": ["**"]}, "YAML 1.1 reads the key `on` as true"
        assert "github.ref_name == github.event.repository.default_branch" in workflow["jobs"]["promote"]["if"]
    promote = yaml.safe_load(ci_files.content("gitlab.yml", ci_files.INSTALL))["promote"]
    assert "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH" in promote["rules"][0]["if"]


@pytest.mark.parametrize(("branch", "is_clone", "base"), [("trunk", True, "trunk"), ("trunk", False, "main")])
def test_a_judged_change_is_compared_with_the_default_branch_of_its_origin(
    branch: str, is_clone: bool, base: str, root: Path, tmp_path: Path
) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "-b", branch, tmp_path / "origin"], check=True)
    commit = ["git", *author, "commit", "-q", "--allow-empty", "-m", "A project"]
    subprocess.run(commit, cwd=tmp_path / "origin", check=True)
    start = ["clone", "-q", str(tmp_path / "origin")] if is_clone else ["init", "-q"]
    subprocess.run(["git", *start, tmp_path / "change"], check=True)
    (tmp_path / "change/reports").mkdir()
    path = _commands_that_only_speak(tmp_path)
    judge = [root / "infra/ci/judge.sh"]
    done = subprocess.run(judge, cwd=tmp_path / "change", env=path, capture_output=True, text=True, check=True)
    assert f"Metrics as committed in `origin/{base}`, perhaps on older test rows" in done.stdout


def test_a_pipeline_stops_where_nothing_says_where_refit_comes_from(tmp_path: Path) -> None:
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", ci_files.INSTALL], env=path, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "set the CI variable REFIT" in done.stderr
    given = {**path, "REFIT": "git+https://example.org/refit"}
    done = subprocess.run(["sh", "-c", ci_files.INSTALL], env=given, capture_output=True, text=True, check=True)
    assert done.stdout == "install refit[server] @ git+https://example.org/refit\n"


@pytest.mark.slow
def test_a_project_in_a_folder_of_a_repository_gets_no_workflow_of_its_own(tmp_path: Path) -> None:
    from refit.new_project.project_folder import create

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    create(tmp_path / "churn", csv=None, time=None, label=None, key=())
    assert not (tmp_path / "churn/.github").exists()
    assert (tmp_path / "churn/infra/ci/judge.sh").exists(), "what a workflow at the top calls"


@pytest.mark.ci
def test_commands_run_refits_modules_in_a_project_that_has_others_of_their_names(root: Path, tmp_path: Path) -> None:
    """Without `-P`, `python -m` takes them from the folder that it runs in."""
    files = [*(root / "infra").rglob("*"), *(root / "refit/new_project/ci").iterdir(), *(root / "docs").rglob("*.md")]
    texts = [file.read_text(errors="replace") for file in files if file.is_file()]
    of_ours = r"python[^`\n]*? -m (?:flows|registry|refit|tasks)[.\w]*"
    commands = {command for text in texts for command in re.findall(of_ours, text)}
    assert "python -P -m flows.checkouts" in commands
    assert {command for command in commands if " -P " not in command} == set()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/snapshot.json").write_text("{}")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/__init__.py").touch()
    for name in ("judge.sh", "promote.sh", "drift.sh"):
        (first,) = re.findall(r"^python .*flows\.checkouts", (root / "infra/ci" / name).read_text(), re.MULTILINE)
        environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", first], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_why_metrics_cannot_be_compared_with_the_base_is_in_the_jobs_log(root: Path, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    path = _commands_that_only_speak(tmp_path)
    judge = [root / "infra/ci/judge.sh", "origin/trunk"]
    done = subprocess.run(judge, cwd=tmp_path, env=path, capture_output=True, text=True, check=True)
    assert "(DVC cannot compare them with `origin/trunk`; this job's log says why)" in done.stdout
    assert done.stderr == "unknown revision\n"


@pytest.mark.parametrize(
    ("rows", "said"), [("", "None has changed."), ("| metrics.json | auc | .7 | .8 | .1 |", "| .1 |")]
)
def test_metrics_that_are_the_same_are_no_empty_table(root: Path, tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "reports").mkdir()
    table = "\n".join(["| Path | Metric | base | workspace | Change |", "|---|---|---|---|---|", *filter(None, [rows])])
    path = _commands_that_only_speak(tmp_path, dvc=f"cat <<'END'\n{table}\nEND")
    judge = [root / "infra/ci/judge.sh", "origin/trunk"]
    done = subprocess.run(judge, cwd=tmp_path, env=path, capture_output=True, text=True, check=True)
    assert said in done.stdout
    assert ("| Path |" in done.stdout) is bool(rows)


def _commands_that_only_speak(folder: Path, dvc: str = "echo unknown revision >&2; exit 255") -> dict[str, str]:
    for name, script in {"python": "", "refit": "echo judged", "dvc": dvc}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.slow
def test_a_pull_request_is_judged_and_registers_nothing_and_main_promotes(finished: Path, tmp_path: Path) -> None:
    project, registry = tmp_path / "main", f"sqlite:///{tmp_path / 'team/mlflow.db'}"
    made = ("data", "models", "reports", ".refit", "dvc.lock", "run.yaml", "comparand.json", "warm_start.json")
    shutil.copytree(finished, project, symlinks=True, ignore=shutil.ignore_patterns(*made, "__pycache__"))
    (tmp_path / "team").mkdir()
    (project / ".dvc/config").write_text(
        f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {tmp_path / 'dvc'}\n"
    )
    store = locate(project, registry, {})

    def script(folder: Path, *command: str, status: int = 0) -> str:
        environ = {**os.environ, "MLFLOW_TRACKING_URI": registry, "PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def git(folder: Path, *arguments: str) -> None:
        script(folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments)

    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "A project")
    script(project, "infra/ci/promote.sh")
    assert versions.registered(store, "demo").aliases["champion"] == "1"
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "What main was made from")

    change = tmp_path / "change"
    git(tmp_path, "clone", "-q", str(project), str(change))
    later_months(change, turned=False)
    git(change, "add", "--force", "raw/later.csv")
    git(change, "commit", "-q", "-m", "Two months more")
    said = script(change, "infra/ci/judge.sh", "origin/main")
    assert (change / "reports/pull_request.md").read_text() in said
    assert "against version 1" in said
    assert "nothing was registered" in said
    assert "| reports/metrics.json |" in said, "dvc metrics diff --md"
    assert (change / "reports/model_card.html").is_file()
    assert versions.registered(store, "demo").aliases == {"champion": "1", "challenger": "1"}
    assert versions.version(store, "demo", "2") is None

    script(change, "infra/ci/promote.sh")
    assert versions.version(store, "demo", "2") is not None
    assert '"verdict"' in script(change, "infra/ci/drift.sh")
