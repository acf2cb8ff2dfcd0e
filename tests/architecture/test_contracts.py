"""The house stands as drawn: layers, one stage list, and libraries only where they belong."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from refit.config import STAGES, Params
from refit.new_project.project_folder import pipeline
from refit.runtime.run_file import SECTIONS
from refit.runtime.stage_code import stage_code

PACKAGES = ("flows", "refit", "tasks", "feature_store", "registry")


@functools.cache
def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def importers(root: Path, library: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
        if any(name == library or name.startswith(library + ".") for name in imported(path))
    }


def test_the_import_contracts_hold(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.ci
def test_each_library_is_imported_only_where_it_belongs(root: Path) -> None:
    assert importers(root, "dvc") == {"refit/runtime/dvc_runner.py"}
    assert importers(root, "river") == {"refit/learners/online/river_models.py"}
    assert all(name.startswith("registry/") for name in importers(root, "mlflow"))
    assert all(name.startswith("flows/") or name == "tasks/prefect_tasks.py" for name in importers(root, "prefect"))
    assert all(name.startswith("tasks/validate") for name in importers(root, "great_expectations"))
    assert all(name.startswith("refit/learners/networks/") for name in importers(root, "torch"))


def test_no_module_can_unpickle(root: Path) -> None:
    for library in ("pickle", "cloudpickle", "joblib", "dill"):
        assert importers(root, library) == set(), library


def test_dvc_knows_the_stages_that_params_and_code_know(root: Path) -> None:
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert tuple(pipeline) == STAGES
    assert all(pipeline[stage]["cmd"] == f"refit stage {stage}" for stage in STAGES)
    assert all((root / f"tasks/{stage}/__init__.py").is_file() for stage in STAGES)
    sections = {field.alias or name for name, field in Params.model_fields.items()}
    assert sections == {*SECTIONS, "notify", "sinks"}, "a run has settings of every section, but not of who is told"


def test_each_stage_depends_on_all_of_its_code_and_on_the_pinned_libraries(root: Path) -> None:
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for stage in STAGES:
        declared = pipeline[stage]["deps"]
        assert "constraints.txt" in declared, stage
        ours = {name for name in declared if name.split("/")[0] in PACKAGES}
        assert ours == set(stage_code(stage)), f"dvc.yaml: {stage} names other files than it imports"


def test_each_stage_names_the_overrides_of_every_section_that_it_names(root: Path) -> None:
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for stage in STAGES:
        sections = {name.split(".")[0] for name in pipeline[stage]["params"] if isinstance(name, str)}
        own = next(entry["run.yaml"] for entry in pipeline[stage]["params"] if isinstance(entry, dict))
        assert {name.removeprefix("overrides.") for name in own if name.startswith("overrides.")} == sections, stage


def test_a_new_project_has_the_pipeline_of_the_reference_project_with_a_digest_for_its_code(root: Path) -> None:
    reference, made = yaml.safe_load((root / "dvc.yaml").read_text())["stages"], pipeline(("raw",))
    for stage in STAGES:
        code = {name for name in reference[stage]["deps"] if name.split("/")[0] in PACKAGES} | {"constraints.txt"}
        assert set(made[stage]["deps"]) - {"raw"} == set(reference[stage]["deps"]) - code, stage
        for key in ("cmd", "outs", "metrics", "plots"):
            assert made[stage].get(key) == reference[stage].get(key), (stage, key)
        *made_sections, made_run = made[stage]["params"]
        *sections, run = reference[stage]["params"]
        assert made_sections == sections
        assert set(made_run["run.yaml"]) == {*run["run.yaml"], f"code.{stage}"} - {f"defaults.{stage}"}


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"]])
def test_help_imports_none_of_the_heavy_libraries(command: list[str]) -> None:
    script = (
        "import sys; sys.argv = ['refit', *sys.argv[1:]]\n"
        "from refit.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = 'prefect mlflow dvc great_expectations torch sklearn pandas duckdb pyarrow matplotlib'.split()\n"
        "print('HEAVY', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_no_analytics_switch_is_left_on() -> None:
    script = (
        "import refit, os; print([os.environ[k] for k in ('DO_NOT_TRACK', 'DVC_NO_ANALYTICS', 'GX_ANALYTICS_ENABLED',"
        " 'MLFLOW_DISABLE_TELEMETRY', 'PREFECT_SERVER_ANALYTICS_ENABLED', 'RAY_USAGE_STATS_ENABLED')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['1', '1', 'false', 'true', 'false', '0']"


def test_no_file_grows_beyond_what_a_reader_holds(root: Path) -> None:
    long = {
        path.relative_to(root).as_posix(): lines
        for package in (*PACKAGES, "tests")
        for path in (root / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}
