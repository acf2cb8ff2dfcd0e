"""What decides a stage's result is in its digest: code, the defaults of params, and a project's own files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from refit.config import STAGES, Params, defaults
from refit.runtime.stage_code import PLUMBING, SECTIONS, SOURCE_ROOT, _imports, own_code, stage_code

PARAMS = """
project: {name: demo}
ingest:
  sources:
    rows: {kind: files, path: rows.csv, columns: {id: integer, label: integer}, key: [id]}
featurize:
  label: {source: rows, column: label}
train:
  learners:
    - {name: mine, kind: "mine.py:Mine"}
    - {name: inner, kind: sklearn.ensemble.BaggingClassifier, params: {estimator: {kind: own.models.Tree, params: {}}}}
    - {name: unused, kind: "off.py:Off", enabled: false}
"""
WRITE = "from pathlib import Path; from refit.runtime import run_file; run_file.write(Path({!r}), run_file.RunFile())"


@pytest.fixture(scope="module")
def refit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of Refit's own code, to be changed."""
    copy = tmp_path_factory.mktemp("refit")
    for package in ("refit", "tasks", "feature_store", "registry"):
        shutil.copytree(SOURCE_ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def unchanged(refit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `run.yaml` says of each stage before anything of the copy is changed."""
    return written(refit, tmp_path_factory.mktemp("unchanged"))


def written(refit: Path, project: Path) -> dict[str, dict[str, str]]:
    """What `run.yaml` says of each stage when that code writes it: of all its code, and of its defaults."""
    (project / "params.yaml").write_text(PARAMS)
    code = [sys.executable, "-B", "-c", WRITE.format(str(project))]
    subprocess.run(code, cwd=refit, env={**os.environ, "PYTHONPATH": str(refit)}, check=True)
    found = yaml.safe_load((project / "run.yaml").read_text())
    return {"code": found["code"], "defaults": found["defaults"]}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.ci
@pytest.mark.parametrize(
    ("file", "was", "becomes", "stages"),
    [
        (
            "validate",
            "max_quarantined_share: Share = Field(0.05",
            "max_quarantined_share: Share = Field(0.06",
            {"validate"},
        ),
        ("train", 'Unit("folds")] = Field(5, ge=2', 'Unit("folds")] = Field(4, ge=2', {"train", "evaluate"}),
        pytest.param(
            "featurize",
            "delay_hours: Hours = Field(\n        48",
            "delay_hours: Hours = Field(\n        24",
            {"ingest", "featurize", "train"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "drift",
            'windows: Annotated[int, Unit("windows")] = Field(\n        3',
            'windows: Annotated[int, Unit("windows")] = Field(\n        4',
            set(),
            marks=pytest.mark.slow,
        ),
        ("validate", "more bad rows than this fail the batch", "more rows that are bad fail the batch", set()),
    ],
)
def test_a_default_changed_in_code_makes_the_stages_stale_that_it_decides_and_no_other(
    refit: Path, unchanged: dict[str, Any], tmp_path: Path, file: str, was: str, becomes: str, stages: set[str]
) -> None:
    path = refit / f"refit/config/{file}.py"
    text = path.read_text()
    assert text.count(was) == 1
    path.write_text(text.replace(was, becomes))
    try:
        after = written(refit, tmp_path)
    finally:
        path.write_text(text)
    assert changed(unchanged["defaults"], after["defaults"]) == stages
    assert changed(unchanged["code"], after["code"]) >= stages, "what projects outside of the repository depend on"


def test_every_default_is_digested_for_some_stage_or_decides_no_stage() -> None:
    sections = {field.alias or name for name, field in Params.model_fields.items()}
    digested = {name.split(".")[0] for names in SECTIONS.values() for name in names}
    assert sections - digested == {"drift", "retention", "resources", "notify", "sinks"}
    for section in sections:
        assert defaults(section), section


def test_all_that_a_stage_imports_is_digested_or_named_as_plumbing() -> None:
    for stage in STAGES:
        counted, reached = stage_code(stage), set()
        waiting = [path.relative_to(SOURCE_ROOT).as_posix() for path in (SOURCE_ROOT / f"tasks/{stage}").rglob("*.py")]
        while waiting:
            if (name := waiting.pop()) not in reached and name not in PLUMBING:
                reached.add(name)
                waiting += [] if name.startswith("refit/config/") else _imports(SOURCE_ROOT / name)
        missing = {name for name in reached if not any(name == each or name.startswith(f"{each}/") for each in counted)}
        assert not missing, f"{stage} imports what is in no digest"
    assert all((SOURCE_ROOT / name).is_file() for name in PLUMBING)


def test_a_projects_own_files_count_with_all_of_the_project_that_they_import(tmp_path: Path) -> None:
    (tmp_path / "own/sub").mkdir(parents=True)
    files = {
        "features.py": "import numpy, shared\nfrom own.sub import deep",
        "shared.py": "import features",
        "own/__init__.py": "",
        "own/sub/__init__.py": "",
        "own/sub/deep.py": "from own.other import x",
        "own/other.py": "def broken(:",
        "unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = own_code(tmp_path, ["features.py", "sklearn.svm.SVC", "gone.py:Class", ""])
    assert {path.relative_to(tmp_path).as_posix() for path in found} == set(files) - {"unused.py"}
    assert [path.name for path in own_code(tmp_path, ["shared.py:Class"])][:1] == ["features.py"]
    assert len(own_code(tmp_path, ["own.sub.deep.Class"])) == 4, "a class by its import path, and its packages"


def test_an_empty_name_is_no_file_next_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "churn").mkdir()
    (tmp_path / "churn.py").write_text("")
    assert own_code(tmp_path / "churn", [""]) == []
    monkeypatch.chdir(tmp_path / "churn")
    assert own_code(Path(), [""]) == [], "as in `refit init .`"


@pytest.mark.slow
def test_a_learner_within_a_learner_counts_where_it_is_the_projects_own(refit: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for name in ("mine.py", "off.py", "own/models.py"):
        (tmp_path / name).write_text("")
    before = written(refit, tmp_path)["code"]
    for name, stages in {"mine.py": {"train"}, "off.py": set(), "own/models.py": {"train"}}.items():
        (tmp_path / name).write_text("A = 1")
        after = written(refit, tmp_path)["code"]
        assert changed(before, after) == stages, name
        before = after


def test_files_of_refit_in_a_clone_of_its_repository_count_as_refits_own_unless_they_were_changed(
    tmp_path: Path,
) -> None:
    (tmp_path / "feature_store").mkdir()
    for name in ("feature_store/__init__.py", "feature_store/clocks.py"):
        shutil.copy(SOURCE_ROOT / name, tmp_path / name)
    assert own_code(tmp_path, ["feature_store.clocks"]) == []
    (tmp_path / "feature_store/clocks.py").write_text("ZONES = []")
    assert [path.name for path in own_code(tmp_path, ["feature_store.clocks"])] == ["clocks.py"]
