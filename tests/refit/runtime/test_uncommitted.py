"""What runs by itself runs code that can be named."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flows.deployment_remarks import remarks
from flows.run_options import RunOptions
from flows.session import session
from refit.cli import doctor
from refit.errors import UserError
from refit.runtime import provenance
from refit.runtime.stage_code import own_code


def git(folder: Path, *arguments: str) -> None:
    identity = {
        f"GIT_{who}_{what}": "refit@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **identity}, check=True, capture_output=True)


@pytest.fixture
def committed(project: Path) -> Path:
    """The finished project in a repository of its own, all of it committed."""
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "as it is")
    return project


def test_a_clean_tree_may_run_and_so_may_one_with_new_data_and_outputs(committed: Path) -> None:
    assert provenance.uncommitted_code(committed) == ()
    (committed / "raw/november.csv").write_text("subscription\n")
    (committed / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (committed / "reports/extra.yaml").write_text("a: 1\n")
    (committed / "README.md").write_text("another word\n")
    git(committed, "rm", "--cached", "--quiet", ".gitignore")
    assert provenance.uncommitted_code(committed) == (), "even where nothing is ignored any more"


def test_changed_new_and_deleted_code_is_named(committed: Path) -> None:
    (committed / "params.yaml").write_text((committed / "params.yaml").read_text() + "\n")
    (committed / "my features.py").write_text("FEATURES = 1\n")
    (committed / "dvc.yaml").unlink()
    assert provenance.uncommitted_code(committed) == ("dvc.yaml", "my features.py", "params.yaml")


def test_a_project_inside_a_repository_answers_for_all_of_it(committed: Path, tmp_path: Path) -> None:
    (committed / ".git").rename(tmp_path / ".git")
    git(tmp_path, "add", "--all", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one level up")
    (tmp_path / "shared.py").write_text("x = 1\n")
    (committed / "models/loose.py").write_text("x = 1\n")
    assert provenance.uncommitted_code(committed) == ("shared.py",)


def test_a_run_that_asks_for_committed_code_is_refused_before_anything_changes(committed: Path) -> None:
    (committed / "new.py").write_text("x = 1\n")
    before = (committed / "run.yaml").read_bytes()
    said = r"not committed: new\.py; .*commit or stash it.*allow_uncommitted=true"
    with (
        pytest.raises(UserError, match=said),
        session(committed, RunOptions(allow_uncommitted=False, overrides={"train.seed": 5})),
    ):
        pass
    assert (committed / "run.yaml").read_bytes() == before
    with session(committed, RunOptions(allow_uncommitted=True)):
        pass


def test_what_keeps_deployed_trainings_from_starting_is_said_before_one_does_not_start(committed: Path) -> None:
    def said() -> list[str]:
        findings = [each.what for each in doctor.examine(committed) if "not committed" in each.what]
        assert findings == [each for each in remarks(committed) if "not committed" in each], "`refit up` says the same"
        return findings

    assert said() == []
    text = (committed / "prefect.yaml").read_text()
    (committed / "prefect.yaml").write_text(text + "# another word\n")
    (remark,) = said()
    assert remark.startswith("deployed trainings do not start (each ends as NotStarted): prefect.yaml not committed")
    assert "git commit" in remark
    (committed / "prefect.yaml").write_text(text.replace("allow_uncommitted: false", "allow_uncommitted: true"))
    assert said() == [], "then they start"
    (committed / "prefect.yaml").write_text("deployments: [")
    assert any("prefect.yaml" in each for each in remarks(committed)[:1])


def test_code_that_git_is_told_to_ignore_or_that_lies_behind_a_link_is_not_committed_code(
    committed: Path, tmp_path: Path
) -> None:
    (committed / ".gitignore").write_text((committed / ".gitignore").read_text() + "\ndvc.yaml\n")
    git(committed, "rm", "--cached", "--quiet", "dvc.yaml")
    (committed / "params.yaml").rename(tmp_path / "params.yaml")
    (committed / "params.yaml").symlink_to(tmp_path / "params.yaml")
    git(committed, "commit", "--quiet", "--all", "-m", "hidden")
    assert provenance.uncommitted_code(committed) == ()
    said = r"not committed: dvc\.yaml, params\.yaml; "
    with pytest.raises(UserError, match=said), session(committed, RunOptions(allow_uncommitted=False)):
        pass


def test_a_learner_in_a_folder_of_outputs_is_not_committed_code(committed: Path) -> None:
    (committed / "models/mine.py").write_text("class Mine: ...\n")
    assert provenance.uncommitted_code(committed) == ()
    assert provenance.untracked(committed, own_code(committed, ["models/mine.py:Mine"])) == ("models/mine.py",)


def test_outside_of_git_it_runs_and_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.progress_display import show_progress
    from refit.runtime.terminal import Terminal

    with show_progress(Terminal(stderr=True)), session(project, RunOptions(allow_uncommitted=False)):
        pass
    assert "is not in git" in capsys.readouterr().err
