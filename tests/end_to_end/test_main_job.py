"""The main job on a small generated project: what runs, what does not, and that every front door agrees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driving import drive, states
from quick import quick

from refit.cli import doctor, inspection
from refit.errors import RefitError, UserError
from refit.files.artifacts import DECISION, RECEIPT, TRAINING, read_json
from refit.runtime import run_file
from refit.runtime.context import Context

UNCHANGED = ["unchanged"] * 6


def dvc(project: Path, *arguments: str) -> str:
    active = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, env=active, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def champion(project: Path) -> dict[str, Any]:
    return inspection.champion_summary(project).to_json()


def ledger_lines(project: Path) -> int:
    import sqlite3

    with sqlite3.connect(project / ".refit/ledger.db") as connection:
        return int(connection.execute("select count(*) from ledger").fetchone()[0])


@pytest.mark.ci
def test_the_first_run_makes_a_model_champion_that_beats_the_baseline(finished: Path) -> None:
    decision, receipt = read_json(finished / DECISION), read_json(finished / RECEIPT)
    assert decision["promote"] is True
    assert (receipt["version"], receipt["alias"]) == ("1", "champion")
    assert champion(finished)["version"] == "1"


@pytest.mark.ci
def test_a_second_run_finds_six_stages_unchanged_and_registers_nothing(project: Path) -> None:
    lines = ledger_lines(project)
    told = drive(project)
    assert states(told) == UNCHANGED
    assert told["model"] == {"name": "demo", "version": "1", "alias": "champion"}
    assert ledger_lines(project) == lines
    assert inspection.status(project) == {}


@pytest.mark.slow
def test_rows_read_are_accepted_quarantined_or_pending(project: Path) -> None:
    rows = drive(project)["rows"]
    assert rows["read"] == rows["accepted"] + rows["quarantined"] + rows["pending"] > 8000


@pytest.mark.slow
def test_a_changed_seed_runs_what_depends_on_it_and_the_old_seed_restores_it(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("seed: 0", "seed: 1"))
    assert states(drive(project))[:4] == ["unchanged", "unchanged", "unchanged", "executed"]
    params.write_text(text)
    told = drive(project)
    assert states(told)[:4] == ["unchanged", "unchanged", "unchanged", "restored"]
    assert told["model"]["version"] == "1", "the candidate is the first model again, not a new version of it"


@pytest.mark.slow
def test_an_override_is_for_one_run_and_leaves_params_alone(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    told = drive(project, overrides={"train.seed": 1})
    assert told["stages"]["train"]["state"] == "executed"
    assert (project / "params.yaml").read_text() == before
    assert "up to date" in dvc(project, "status")
    assert drive(project)["stages"]["train"]["state"] == "restored"


@pytest.mark.slow
def test_dvc_repro_before_and_after_agrees_and_moves_no_alias(project: Path) -> None:
    assert "up to date" in dvc(project, "repro")
    assert "up to date" in dvc(project, "status")
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("max_iter: 60", "max_iter: 40"))
    dvc(project, "repro")
    assert champion(project)["version"] == "1"
    assert read_json(project / RECEIPT)["alias"] == "challenger"
    told = drive(project)
    assert states(told)[:5] == ["unchanged"] * 5
    assert told["decision"]["promote"] is (told["model"]["alias"] == "champion")


@pytest.mark.slow
def test_a_bare_repro_judges_against_the_present_champion(project: Path) -> None:
    dvc(project, "repro", "--force", "--single-item", "evaluate")
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("seed: 0", "seed: 5"))
    dvc(project, "repro")
    assert read_json(project / DECISION)["comparand"]["version"] == "1"
    assert "up to date" in dvc(project, "status")


@pytest.mark.ci
@pytest.mark.parametrize(
    ("command", "words"),
    quick([("dag", "| evaluate |"), ("metrics show", "roc_auc"), ("plots show", "index.html")]),
)
def test_the_researchers_commands_work(project: Path, command: str, words: str) -> None:
    assert words in dvc(project, *command.split())


@pytest.mark.slow
def test_the_researcher_sees_which_params_differ_from_the_last_commit(project: Path) -> None:
    for arguments in (["init"], ["add", "."], ["commit", "-m", "as it was"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=project, check=True)
    (project / ".dvc/config").write_text("")  # it was made outside of git
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("seed: 0", "seed: 5"))
    difference = json.loads(dvc(project, "params", "diff", "--json"))
    assert difference["params.yaml"] == {"train.seed": {"old": 0, "new": 5, "diff": 5}}


@pytest.mark.slow
def test_an_earlier_as_of_hides_later_batches_and_their_rows_are_pending(project: Path) -> None:
    told = drive(project, as_of="2024-09-01")
    assert told["as_of"].startswith("2024-09-01")
    assert told["rows"]["pending"] > 1000
    assert told["windows"]["test"]["start"].startswith("2024-07-01")
    assert told["decision"]["promote"] is False, "the champion has seen these months"
    assert champion(project)["version"] == "1"


@pytest.mark.slow
def test_the_summary_of_a_restored_run_is_as_complete_as_that_of_an_executed_one(project: Path) -> None:
    first, second = drive(project, force=True), drive(project)
    for key in ("rows", "features", "learners", "metrics", "model", "snapshot"):
        assert first[key] == second[key], key


@pytest.mark.slow
def test_a_forced_run_gives_the_same_model_and_no_second_version(project: Path) -> None:
    before = read_json(project / TRAINING)["model_digest"]
    told = drive(project, force=True)
    assert states(told) == ["executed"] * 6
    assert read_json(project / TRAINING)["model_digest"] == before
    assert told["model"]["version"] == "1"


@pytest.mark.slow
def test_an_as_of_that_leaves_nothing_to_train_on_is_refused_and_changes_nothing(project: Path) -> None:
    with pytest.raises(UserError, match=r"as_of|as-of"):
        drive(project, as_of="2024-01-15")
    assert champion(project)["version"] == "1"
    assert states(drive(project))[-1] == "unchanged"


def test_a_wrong_param_is_refused_before_anything_is_written(project: Path) -> None:
    before = (project / "run.yaml").read_text()
    with pytest.raises(UserError, match="did you mean 'seed'"):
        drive(project, overrides={"train.sed": 1})
    assert (project / "run.yaml").read_text() == before


@pytest.mark.ci
def test_a_new_batch_costs_only_itself(project: Path) -> None:
    header = (project / "raw/subscriptions.csv").read_text().splitlines()[0]
    rows = [
        f"N{day:02d}{n:03d},2024-11-{day:02d},basic,DE,{n % 30 + 1},9.5,{n % 4},{n % 25},{'yes' if n % 4 > 2 else 'no'}"
        for day in range(1, 31)
        for n in range(28)
    ]
    (project / "raw/november.csv").write_text("\n".join([header, *rows]) + "\n")
    before = {path: path.stat().st_mtime_ns for path in (project / "data/batches/table").iterdir()}
    told = drive(project)
    assert told["batches"] == 11
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()), "old batches were left alone"
    assert told["as_of"].startswith("2024-12-01")


@pytest.mark.slow
def test_rows_of_a_month_under_way_train_nothing_until_it_is_over(project: Path) -> None:
    header = (project / "raw/subscriptions.csv").read_text().splitlines()[0]
    rows = [
        f"N{n},2024-11-{n % 9 + 1:02d},basic,DE,{n % 30 + 1},9.5,0,3,{'yes' if n % 4 > 2 else 'no'}" for n in range(300)
    ]
    (project / "raw/november.csv").write_text("\n".join([header, *rows]) + "\n")
    told = drive(project)
    assert told["rows"]["pending"] == 300
    assert told["stages"]["train"]["state"] == "unchanged"
    assert told["model"] == {"name": "demo", "version": "1", "alias": "champion"}
    assert states(drive(project)) == ["unchanged"] * 6


def test_a_changed_batch_is_refused_with_both_digests(project: Path) -> None:
    table = project / "raw/subscriptions.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(",no", ",yes") if lines[1].endswith("no") else lines[1].replace(",yes", ",no")
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"2024-01.*[0-9a-f]{8}.*[0-9a-f]{8}"):
        drive(project)
    assert champion(project)["version"] == "1"


@pytest.mark.slow
def test_a_missing_champion_is_noticed_not_replaced(project: Path) -> None:
    import sqlite3

    with sqlite3.connect(project / ".refit/mlflow.db") as connection:
        connection.execute("delete from registered_model_aliases where alias = 'champion'")
    with pytest.raises(RefitError, match="champion"):
        drive(project, overrides={"train.seed": 9})


def test_show_as_json_says_which_version_is_champion_and_why(finished: Path) -> None:
    found = json.loads(json.dumps(champion(finished), default=str))
    for key in ("model", "version", "aliases", "metrics", "snapshot", "git_commit", "decision"):
        assert key in found, key


def test_a_look_at_the_project_changes_nothing(project: Path) -> None:
    before = times_of_files(project)
    inspection.status(project)
    doctor.examine(project)
    Context(project=project, params=run_file.params_of(project))
    assert times_of_files(project) == before


def times_of_files(project: Path) -> dict[str, int]:
    """When each file was written, but those in which DVC records what it saw."""
    own = (".dvc/", ".refit/dvc/")
    files = {str(path.relative_to(project)): path for path in project.rglob("*") if path.is_file()}
    return {name: path.stat().st_mtime_ns for name, path in files.items() if not name.startswith(own)}


@pytest.mark.slow
def test_a_change_of_the_projects_own_feature_definitions_is_seen(project: Path) -> None:
    (project / "features.py").write_text(
        "from feature_store.definition import Expression, FeatureSet, Spine\n"
        "calls = Expression(name='calls', sql='support_calls')\n"
        "FEATURES = FeatureSet(spine=Spine(source='cases', key='subscription', features=(calls,)))\n"
    )
    own = {"featurize.definitions": "features.py"}
    assert drive(project, overrides=own)["features"] == 1
    text = (project / "features.py").read_text()
    (project / "features.py").write_text(
        text.replace("features=(calls,)", "features=(calls, logins)").replace(
            "FEATURES", "logins = Expression(name='logins', sql='logins')\nFEATURES", 1
        )
    )
    assert set(inspection.status(project)) >= {"featurize"}
    assert drive(project, overrides=own)["features"] == 2
