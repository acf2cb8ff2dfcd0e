"""`refit gc` on a whole project: what stays still runs, is shown, put back and made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from driving import drive, states

from refit.cli import doctor, running
from refit.models import model_cache
from refit.operations import retention
from registry import versions
from registry.client import client
from registry.store import locate

pytestmark = pytest.mark.slow  # a project with a past takes long to make

COLUMN = "train.learners.logistic.params.C"


def gc(project: Path, *, delete: bool = False) -> dict[str, Any]:
    return retention.as_json(running.collect(project, delete=delete, wait_seconds=0), deleted=delete)


def errors(project: Path) -> list[str]:
    return [finding.what for finding in doctor.examine(project) if finding.level == "error"]


def test_with_the_default_params_a_young_project_has_nothing_to_delete(project: Path) -> None:
    found = gc(project, delete=True)
    assert (found["items"], found["left_alone"]) == ([], [])
    assert found["versions_kept"] == {"1": "challenger, champion"}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.slow
def test_the_doctor_notices_a_lost_alias_and_a_deleted_version_and_repair_heals_both(project: Path) -> None:
    mlflow = client(locate(project, None))
    mlflow.delete_registered_model_alias("demo", "champion")
    (lost,) = errors(project)
    assert "its alias was deleted; `refit repair` puts it back" in lost
    running.repair(project, wait_seconds=0)
    assert errors(project) == []
    mlflow.delete_model_version("demo", "1")
    (lost,) = errors(project)
    assert "its version was deleted; `refit repair` registers it again" in lost
    assert running.repair(project, wait_seconds=0).endswith("champion again as version 2")
    assert errors(project) == []
    assert states(drive(project)) == ["unchanged"] * 5 + ["executed"]
    assert states(drive(project)) == ["unchanged"] * 6
    assert running.reproduce(project, "2", wait_seconds=0)[-1].same


@pytest.mark.slow
def test_what_stays_is_shown_put_back_made_again_and_restored_and_the_rest_is_gone(project: Path) -> None:
    lenient = {"evaluate.gate.max_loss": 0.5, "evaluate.gate.min_gain_over_baseline": 0.0}
    for strength in (0.5, 0.6, 0.7, 0.8):
        told = drive(project, overrides={COLUMN: strength, **lenient})
    assert told["model"]["version"] == "5"
    params = project / "params.yaml"
    params.write_text(params.read_text() + "retention: {versions: 1}\n")
    listed = gc(project)
    assert listed["versions_kept"] == {"1": "anchor", "4": "previous", "5": "challenger, champion"}
    assert [item["what"] for item in listed["items"] if item["kind"] == "version"] == ["2 (logistic)", "3 (logistic)"]
    assert [item["kind"] for item in listed["items"] if item["kind"] == "cache"] == ["cache"]
    deleted = gc(project, delete=True)
    assert (deleted["items"], deleted["deleted"]) == (listed["items"], True)
    assert gc(project)["items"] == []
    assert errors(project) == []
    assert states(drive(project, overrides={COLUMN: 0.8, **lenient})) == ["unchanged"] * 6
    shutil.rmtree(project / "data")  # all of it comes back from DVC's cache
    assert states(drive(project, overrides={COLUMN: 0.7, **lenient}))[3] == "restored"
    told = running.rollback(project, None, why=None, wait_seconds=0)
    assert told == "demo version 5 is champion again in place of version 4"
    for number in ("1", "4", "5"):
        assert running.reproduce(project, number, wait_seconds=0)[-1].same
    assert versions.version(locate(project, None), "demo", "3") is None
    assert not list((project / model_cache.MODELS).glob("3-*"))
