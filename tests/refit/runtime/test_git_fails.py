"""Where a project is in git and git fails, nothing that runs by itself takes it for a project outside of git."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.run_options import RunOptions
from flows.session import session
from refit.errors import RefitError
from refit.runtime import dvc_files, dvc_runner, provenance

IDENTITY = {f"GIT_{who}_{what}": "refit@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **IDENTITY, "LC_ALL": "C"}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, and a project in a folder of it."""
    top = tmp_path / "top"
    (top / "project").mkdir(parents=True)
    (top / "project/params.yaml").write_text("a: 1\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "top")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "all")
    return top


def without_an_owner(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        os.chown(path, 65534, 65534)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty HEAD": (lambda top: (top / ".git/HEAD").write_text(""), "not a git repository"),
    "HEAD of garbage": (lambda top: (top / ".git/HEAD").write_text("x\n"), "not a git repository"),
    "no HEAD": (lambda top: (top / ".git/HEAD").unlink(), "not a git repository"),
    "a broken branch": (lambda top: (top / ".git/refs/heads/main").write_text("x\n"), "appears to be broken"),
    "a branch of nothing": (lambda top: (top / ".git/refs/heads/main").write_text("1" * 40 + "\n"), "bad object HEAD"),
    "no objects": (lambda top: shutil.rmtree(top / ".git/objects"), "not a git repository"),
    "a broken index": (lambda top: (top / ".git/index").write_bytes(b"x" * 99), "index"),
    "a broken config": (lambda top: (top / ".git/config").write_text("[core"), "bad config"),
    "an empty .git": (lambda top: (shutil.rmtree(top / ".git"), (top / ".git").mkdir()), "not a git repository"),
    "a .git that leads nowhere": (
        lambda top: (shutil.rmtree(top / ".git"), (top / ".git").write_text("gitdir: /nowhere\n")),
        "not a git repository",
    ),
    "a link that leads nowhere": (
        lambda top: (shutil.rmtree(top / ".git"), (top / ".git").symlink_to("nowhere")),
        "not a git repository",
    ),
}
if os.geteuid() == 0:
    FAULTS["an owner that is somebody else"] = (without_an_owner, "dubious ownership.*safe.directory")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_repository_that_git_cannot_read_is_refused_in_its_own_words(repository: Path, fault: str) -> None:
    damage, words = FAULTS[fault]
    damage(repository)
    with pytest.raises(RefitError, match=rf"is in git, and git fails there: .*{words}") as error:
        provenance.uncommitted_code(repository / "project")
    assert "\n" not in str(error.value)
    with pytest.raises(RefitError, match=words):
        provenance.commit(repository / "project")


def test_a_damaged_repository_within_another_is_not_taken_for_that_one(repository: Path) -> None:
    git(repository / "project", "init", "--quiet")
    (repository / "project/.git/HEAD").unlink()
    with pytest.raises(RefitError, match=r"git passes over .*project/\.git and takes .*top for the repository"):
        provenance.uncommitted_code(repository / "project")
    with pytest.raises(RefitError, match="git passes over"):
        provenance.commit_hash(repository / "project")


def test_a_machine_without_git_refuses_too(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RefitError, match=r"git fails there: .*No such file"):
        provenance.uncommitted_code(repository / "project")


def test_variables_that_mean_another_repository_change_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(repository, "rev-parse", "HEAD")
    (repository / "project/params.yaml").write_text("a: 2\n")
    git(tmp_path, "init", "--quiet", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere/.git/index"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository))
    assert provenance.commit_hash(repository / "project") == head
    assert provenance.uncommitted_code(repository / "project") == ("project/params.yaml",)
    assert b"+a: 2" in (provenance.commit(repository / "project").patch or b"")
    outside = tmp_path / "outside"
    outside.mkdir()
    assert provenance.uncommitted_code(outside) is None


def test_a_setting_that_means_another_tree_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    git(repository, "config", "core.worktree", str(tmp_path / "elsewhere"))
    with pytest.raises(RefitError, match="git passes over"):
        provenance.uncommitted_code(repository / "project")


def test_a_repository_without_commits_is_one(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    assert provenance.commit_hash(tmp_path) is None
    assert provenance.uncommitted_code(tmp_path) == ("params.yaml",)


def test_a_worktree_and_a_submodule_are_repositories(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    (tmp_path / "tree/new.py").write_text("x = 1\n")
    assert provenance.uncommitted_code(tmp_path / "tree/project") == ("new.py",)
    shutil.rmtree(repository / ".git/worktrees")
    with pytest.raises(RefitError, match="git fails there"):
        provenance.uncommitted_code(tmp_path / "tree/project")


def test_code_of_a_submodule_or_of_a_repository_within_is_code(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(repository), "library")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "library"), "sub")
    git(repository, "commit", "--quiet", "-m", "with a submodule")
    assert provenance.uncommitted_code(repository / "project") == ()
    (repository / "sub/learner.py").write_text("x = 1\n")
    assert provenance.uncommitted_code(repository / "project") == ("sub",)
    git(repository, "init", "--quiet", "project/own")
    (repository / "project/own/features.py").write_text("x = 1\n")
    assert provenance.uncommitted_code(repository / "project") == ("project/own/", "sub")


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_code_that_git_was_told_not_to_look_at_is_named(repository: Path, flag: str) -> None:
    git(repository, "update-index", flag, "project/params.yaml")
    (repository / "project/params.yaml").write_text("a: 2\n")
    assert provenance.uncommitted_code(repository / "project") == ("project/params.yaml",)


@pytest.mark.parametrize("allow", [True, False])
def test_no_run_begins_where_git_fails(project: Path, *, allow: bool) -> None:
    (project / ".git").mkdir()
    before = (project / "run.yaml").read_bytes()
    with (
        pytest.raises(RefitError, match="git fails there"),
        session(project, RunOptions(allow_uncommitted=allow, overrides={"train.seed": 5})),
    ):
        pass
    assert (project / "run.yaml").read_bytes() == before
    with pytest.raises(RefitError, match="git fails there"):
        dvc_files.in_git(project)


def test_show_does_not_deny_a_repository_without_commits(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from refit.cli.inspection import champion_summary, print_champion

    git(project, "init", "--quiet")
    print_champion(champion_summary(project))
    assert "or had no commit yet" in " ".join(capsys.readouterr().out.split())


def test_a_project_that_was_copied_out_of_its_repository_runs(project: Path) -> None:
    config = project / ".dvc/config"
    config.write_text(config.read_text().replace("    no_scm = true\n", ""))
    assert "no_scm" not in config.read_text()
    assert dvc_runner.stale(project) == {}
