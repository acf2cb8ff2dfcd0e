"""Refit without torch, which only networks need: the main job runs, and everything else names the extra in one line."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import refit_in

from refit.learners.families import FAMILIES

BLOCKED = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
"""
EXTRA = "needs torch, which is not installed; install it next to Refit: uv pip install -c constraints.txt -e '.[torch]'"
IMPORT_TORCH = {kind for kind, entry in FAMILIES.items() if "networks" in entry or "torch" in entry}
TORCH_KINDS = IMPORT_TORCH - {"policy"}  # which names the extra `rl`, and that brings torch


def without_torch(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_the_core_requires_no_torch_and_development_does(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert not [line for line in project["dependencies"] if line.startswith("torch")]
    assert "torch" in project["optional-dependencies"]["dev"][0]


def test_every_kind_of_network_names_the_extra_and_nothing_else_needs_it(root: Path) -> None:
    code = (
        "from refit.learners.families import FAMILIES, family\n"
        "for kind in FAMILIES:\n"
        "    try: family(kind)\n"
        "    except Exception as error: print(kind, type(error).__name__, error, sep='\\t')"
    )
    done = without_torch(code, cwd=root)
    assert done.returncode == 0, done.stderr
    lines = {line.split("\t")[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == TORCH_KINDS
    for kind, line in lines.items():
        assert line.startswith(f"{kind}\tUserError\tlearner '{kind}' {EXTRA}"), line


@pytest.fixture(scope="module")
def fresh_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without") / "churn"
    assert refit_in(folder.parent, "init", str(folder)).returncode == 0
    return folder


RUN = "from refit.cli.main import main; main()"


@pytest.mark.slow
def test_the_main_job_runs_without_torch(fresh_project: Path) -> None:
    done = without_torch(RUN, "run", cwd=fresh_project)
    assert done.returncode == 0, done.stderr
    assert "version 1 is champion" in done.stdout


@pytest.mark.slow
def test_a_run_with_a_network_says_which_extra_it_needs(fresh_project: Path) -> None:
    network = "train.learners=[{name: net, kind: mlp}, {name: base, kind: baseline}]"
    done = without_torch(RUN, "run", "--set", network, cwd=fresh_project)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert EXTRA in errors[0]
    assert done.stderr.count("\n") == 1, "and no stage began"
