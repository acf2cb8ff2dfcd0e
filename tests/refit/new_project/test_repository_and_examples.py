"""`refit init`: the git repository of a new project, and projects copied from an example."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import refit_in
from quick import quick

from refit.config import parse
from refit.errors import UserError
from refit.files.yaml_files import read_yaml
from refit.new_project import example_copy, project_folder, repository
from refit.sources import sources


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.ci
def test_a_new_project_is_a_git_repository_that_ignores_what_runs_write(tmp_path: Path) -> None:
    done = refit_in(tmp_path, "init", "demo")
    assert done.returncode == 0, done.stderr
    assert "git add -A && git commit" in done.stdout
    assert git(tmp_path / "demo", "rev-parse", "--show-toplevel") == str(tmp_path / "demo")
    tracked = git(tmp_path / "demo", "ls-files", "--others", "--cached", "--exclude-standard").split("\n")
    assert {"params.yaml", "dvc.yaml", "README.md", "raw/subscriptions.csv", ".dvc/config"} <= set(tracked)
    assert not {"run.yaml", "comparand.json", "warm_start.json"} & set(tracked)
    assert not [name for name in tracked if name.startswith((".refit/", "data/", ".dvc/tmp", ".dvc/cache"))]
    assert "no_scm" not in (tmp_path / "demo/.dvc/config").read_text()


@pytest.mark.parametrize(("configured", "branch"), [("", "main"), ("[init]\n\tdefaultBranch = trunk\n", "trunk")])
def test_the_branch_of_a_new_repository_is_main_where_the_user_has_configured_none(
    configured: str, branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text(configured)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    with repository.made(tmp_path / "demo", wanted=True) as is_made:
        assert is_made
    assert git(tmp_path / "demo", "symbolic-ref", "--short", "HEAD") == branch


@pytest.mark.slow
@pytest.mark.parametrize("is_there", quick([False, True]), ids=["of its own", "that is there"])
def test_the_rows_of_the_user_do_not_get_into_a_repository(is_there: bool, tmp_path: Path) -> None:
    assert refit_in(tmp_path, "init", "generated", "--no-git").returncode == 0
    (tmp_path / "generated/raw/subscriptions.csv").rename(tmp_path / "own.csv")
    if is_there:
        git(tmp_path, "init", "--quiet")
    done = refit_in(tmp_path, "init", "demo", "--csv", "own.csv", "--label", "churned", "--time", "renewal")
    assert done.returncode == 0, done.stderr
    git(tmp_path / "demo", "add", "-A")
    assert "params.yaml" in git(tmp_path / "demo", "ls-files")
    assert "own.csv" not in git(tmp_path / "demo", "ls-files")


@pytest.mark.slow
def test_rows_next_to_the_generated_table_do_not_either(tmp_path: Path) -> None:
    assert refit_in(tmp_path, "init", "demo").returncode == 0
    (tmp_path / "demo/raw/own.csv").write_text("a\n")
    git(tmp_path / "demo", "add", "-A")
    assert git(tmp_path / "demo", "ls-files", "raw") == "raw/subscriptions.csv"


@pytest.mark.slow
def test_a_project_within_a_repository_gets_none_of_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert refit_in(tmp_path, "init", "demo").returncode == 0
    assert not (tmp_path / "demo/.git").exists()


@pytest.mark.slow
def test_no_git_leaves_a_project_without_a_repository(tmp_path: Path) -> None:
    done = refit_in(tmp_path, "init", "demo", "--no-git")
    assert (done.returncode, "git commit" in done.stdout) == (0, False)
    assert not (tmp_path / "demo/.git").exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_project_that_cannot_be_made_leaves_no_repository(is_there: bool, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a\n")
    if is_there:
        (tmp_path / "demo").mkdir()
    assert refit_in(tmp_path, "init", "demo", "--csv", "bad.csv", "--label", "a").returncode == 2
    assert (tmp_path / "demo").exists() == is_there
    assert not is_there or list((tmp_path / "demo").iterdir()) == []


def test_an_example_becomes_a_project_whose_readme_is_true_there(root: Path, tmp_path: Path) -> None:
    done = refit_in(tmp_path, "init", "mine", "--from-example", "churn")
    assert done.returncode == 0, done.stderr
    copied, original = ((folder / "params.yaml").read_text() for folder in (tmp_path / "mine", root / "examples/churn"))
    assert copied.partition("\n")[2] == original.partition("\n")[2]
    assert copied.startswith("# yaml-language-server: $schema=params.schema.json\n")
    assert (tmp_path / "mine/params.schema.json").read_text() == (root / "params.schema.json").read_text()
    assert {"dvc.yaml", "prefect.yaml", "stand_in.py", ".gitignore"} <= {
        each.name for each in (tmp_path / "mine").iterdir()
    }
    readme = (tmp_path / "mine/README.md").read_text()
    assert "refit run\n" in readme
    assert "--project" not in readme
    assert refit_in(tmp_path / "mine", "status").returncode == 0


@pytest.mark.slow
def test_an_example_that_takes_features_from_another_is_made_and_names_it(tmp_path: Path) -> None:
    done = refit_in(tmp_path, "init", "mine", "--from-example", "value_by_kind")
    assert done.returncode == 0, done.stderr
    assert "features come from customer_kinds: run its project first" in done.stdout
    assert "- data/feature_models.json" in (tmp_path / "mine/dvc.yaml").read_text()
    readme = (tmp_path / "mine/README.md").read_text()
    assert "--project examples/" not in readme
    assert "](../" not in readme, "a link to what was not copied"
    first = refit_in(tmp_path / "mine", "run")
    assert first.returncode == 2
    assert "there is no model 'customer_kinds'" in first.stderr


def test_an_unknown_example_is_an_error_with_the_nearest_name_and_makes_nothing(tmp_path: Path) -> None:
    done = refit_in(tmp_path, "init", "mine", "--from-example", "chrun")
    assert done.returncode == 2
    assert "no such example; did you mean 'churn'?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_example_replaces_no_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine\n")
    assert refit_in(tmp_path, "init", ".", "--from-example", "churn").returncode == 2
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]


def test_an_example_whose_rows_are_in_its_folder_brings_them(root: Path, tmp_path: Path) -> None:
    with example_copy.copied("cartpole", tmp_path / "mine"):
        pass
    original = root / "examples/cartpole/episodes.csv"
    assert (tmp_path / "mine/episodes.csv").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", sorted(each.parent.name for each in example_copy.EXAMPLES.glob("*/params.yaml")))
def test_a_copied_example_finds_its_rows_and_its_readme_leads_nowhere_that_is_not_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFIT_SHARED_DATA", raising=False)
    folder = tmp_path / "mine"
    with example_copy.copied(name, folder):
        pass
    for each, source in parse(read_yaml(folder / "params.yaml")).ingest.sources.items():
        if source.kind in ("files", "package") and source.stand_in is None:
            assert sources.find(folder, source, each), "no file, and no script that generates one"
    readme = (folder / "README.md").read_text()
    assert "](../" not in readme
    assert f"examples/{name}/" not in readme


def test_a_file_in_the_place_of_the_folder_is_a_mistake_of_the_user_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("mine\n")
    with (
        pytest.raises(UserError, match="afile: it is a file; name a folder"),
        repository.made(tmp_path / "afile", wanted=True),
    ):
        pass
    assert (tmp_path / "afile").read_text() == "mine\n"


@pytest.mark.slow
def test_a_project_in_a_folder_of_a_repository_gets_the_scripts_of_ci_and_says_who_has_to_call_them(
    tmp_path: Path,
) -> None:
    git(tmp_path, "init", "--quiet")
    description = project_folder.create(tmp_path / "churn", csv=None, time=None, label=None, key=())
    assert {each.name for each in (tmp_path / "churn/infra/ci").iterdir()} == {"judge.sh", "promote.sh", "drift.sh"}
    assert not (tmp_path / "churn/.github").exists()
    (note,) = [text for about, text in description.notes if about == "CI"]
    assert f"the repository's own workflow, in {tmp_path}, has to call them in this folder" in note
