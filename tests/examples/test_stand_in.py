"""A model made from generated rows: marked wherever its figures are shown, and never in place of one made from real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import check_here, drive

from flows.run_summary import RunSummary
from flows.summary_display import summary_rows
from refit.cli.inspection import champion_summary, context_of, print_champion
from refit.errors import UserError
from refit.files.artifacts import MODEL_CARD
from refit.models import verification
from refit.runtime import registry_store
from refit.runtime.project_code import load
from refit.schemas.snapshot import stand_in_notice
from registry.client import client
from tasks import register

CHEAP = {
    "train.learners.boosting.enabled": False,
    "train.cross_validation.folds": 2,
    "train.tuning.trials": 1,
    "train.tuning.parallel": 1,
    "train.calibration": None,
    "evaluate.permutation_rows": 0,
    "evaluate.explain.rows": 0,
}


@pytest.fixture(scope="module")
def life(example: Callable[[str], Path]) -> dict[str, Any]:
    """The example on its stand-in; on what takes the place of the real file; and on the stand-in once more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "in_fresh_process", check_here)
        return lived(example("churn"))


def lived(project: Path) -> dict[str, Any]:
    settings = {**CHEAP, "ingest.sources.customers.path": "raw/Telco-Customer-Churn.csv"}
    found: dict[str, Any] = {"project": project, "generated": drive(project, overrides=settings)}
    found["card"] = (project / MODEL_CARD).read_text()
    found["shown"] = champion_summary(project)
    (project / "raw").mkdir()
    load(project, "stand_in.py", "").write(project / "raw", rows=1600)
    found["real"] = drive(project, overrides=settings)
    found["real_card"] = (project / MODEL_CARD).read_text()
    shutil.rmtree(project / "raw")
    shutil.rmtree(project / "data/batches/customers")
    found["again"] = drive(project, overrides=settings)
    return found


@pytest.mark.slow
def test_whatever_shows_a_figure_from_generated_rows_says_that_they_are(
    life: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told = life["generated"]
    assert list(told["stand_in"]) == ["customers"]
    what, value = summary_rows(RunSummary.model_validate_json(json.dumps(told)))[0]
    assert what == "data"
    notice = stand_in_notice("customers")
    assert notice.startswith("GENERATED stand-in for customers: no figure")
    assert value.startswith(notice)
    assert "https://github.com/IBM" in value
    assert notice in life["card"]
    print_champion(life["shown"])
    assert "".join(notice.split()) in "".join(capsys.readouterr().out.split()), "folded to the width of a terminal"
    context = context_of(life["project"])
    with registry_store.opened(context) as store:
        run = client(store).get_run(told["mlflow_run_id"])
    assert run.data.tags["stand_in"] == "customers"


@pytest.mark.slow
def test_nothing_made_from_real_rows_is_marked(life: dict[str, Any]) -> None:
    assert life["real"]["stand_in"] == {}
    assert "GENERATED stand-in for" not in life["real_card"]


@pytest.mark.slow
def test_a_model_made_from_real_rows_counts_as_the_first(life: dict[str, Any]) -> None:
    decision = life["real"]["decision"]
    assert life["real"]["model"] == {"name": "churn", "version": "2", "alias": "champion"}
    assert [each["against"] for each in decision["compared"]] == ["baseline"], "generated rows are nothing to beat"
    assert any("GENERATED stand-in and counts as none" in note for note in decision["notes"])
    assert champion_summary(life["project"]).anchor == "2"


@pytest.mark.slow
def test_a_model_made_from_generated_rows_never_replaces_one_made_from_real(life: dict[str, Any]) -> None:
    told = life["again"]
    assert told["model"]["alias"] == "challenger"
    assert not told["decision"]["promote"]
    assert "made from a GENERATED stand-in, the champion from real data" in told["decision"]["reasons"][0]
    assert champion_summary(life["project"]).version == "2"
    with pytest.raises(UserError, match="version 1 of churn was made from a GENERATED stand-in"):
        register.rollback(context_of(life["project"]))
