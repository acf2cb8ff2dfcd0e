"""Refit installed from its wheel, next to a project that has folders of the same names as Refit's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import refit_in

from refit.errors import UserError
from refit.runtime import project_code

PACKAGES = ("flows", "tasks", "feature_store", "registry")


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of the repository installs, in a folder."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (root / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / "source" / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(folder / "source")], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as built:
        built.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def her_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a package of every name that Refit's packages have, none of which Refit may run."""
    folder = tmp_path_factory.mktemp("her") / "churn"
    assert refit_in(folder.parent, "init", str(folder)).returncode == 0
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"OWNER = 'her {name}'\n")
    return folder


def python(*arguments: str, cwd: Path, installed: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    if installed:
        environment["PYTHONPATH"] = str(installed)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.ci
def test_a_wheel_has_every_file_of_the_packages(wheel: Path, root: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "refit", *PACKAGES], cwd=root, capture_output=True, check=True, text=True
    ).stdout
    missing = [name for name in filter(None, tracked.split("\0")) if not (wheel / name).exists()]
    assert missing == []


@pytest.mark.slow
@pytest.mark.parametrize("start", [["-m", "refit"], ["-c", "from refit.cli.main import main; main()"]])
def test_refit_from_a_wheel_works_in_a_project_with_packages_of_the_same_names(
    start: list[str], wheel: Path, her_project: Path
) -> None:
    done = python(*start, "show", cwd=her_project, installed=wheel)
    assert (done.returncode, done.stderr) == (
        2,
        "error: no version of churn is champion yet; `refit run` trains and judges one\n",
    )


@pytest.mark.ci
def test_her_program_keeps_its_own_package_until_it_imports_refit(her_project: Path) -> None:
    program = her_project / "program.py"
    program.write_text("import tasks\nprint(tasks.OWNER)\nimport refit\n")
    done = python(str(program), cwd=her_project)
    assert done.stdout == "her tasks\n"
    assert "Refit has a package 'tasks', and this program has imported another one" in done.stderr


@pytest.mark.ci
def test_a_file_of_the_project_that_imports_such_a_folder_is_an_error_that_says_to_rename_it(her_project: Path) -> None:
    (her_project / "tasks" / "ages.py").write_text("OLDEST = 99\n")
    (her_project / "features.py").write_text("from tasks.ages import OLDEST\n")
    with pytest.raises(UserError, match=r"features.py imports tasks.ages, and tasks is a package of Refit, .*rename"):
        project_code.load(her_project, "features.py", "featurize.definitions")
