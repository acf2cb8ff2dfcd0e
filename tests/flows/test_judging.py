"""`refit run --judge-only`: what it says where there is nothing to judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
from commands import refit_in
from driving import copy_project

from flows.judging import Judgement, lines
from refit.files.artifacts import DECISION
from refit.schemas.gate_decision import Decision
from registry.ledger import Entry, Ledger
from registry.store import locate
from tasks.register import Prospects


@pytest.mark.ci
def test_a_candidate_that_is_champion_is_not_judged_against_the_models_before_it(
    finished: Path, tmp_path: Path
) -> None:
    done = refit_in(copy_project(finished, tmp_path / "demo"), "run", "--judge-only")
    assert done.returncode == 0, done.stderr
    assert "nothing would change: this candidate is version 1, the champion" in done.stdout
    assert "would be promoted" not in done.stdout
    assert "nothing was registered, and the gate does not count this look at the test window" in done.stdout
    assert re.search(r"(?m)^validation roc_auc +0\.\d+$", done.stdout), "what to choose by"


def test_what_is_judged_without_a_champion_names_the_registry_that_has_none(finished: Path) -> None:
    """A pipeline without the variable of the team's registry would judge against nothing, and seem to pass."""
    first_run = Decision.read(finished / DECISION)
    said = lines(finished, Judgement(first_run, None, Prospects(), registry="sqlite:////ci/.refit/mlflow.db"))
    assert said[0] == "would be promoted, against the baseline alone: no champion in sqlite:////ci/.refit/mlflow.db"


@pytest.mark.ci
def test_a_promotion_that_was_cut_off_is_left_to_a_run_that_may_promote(finished: Path, tmp_path: Path) -> None:
    project = copy_project(finished, tmp_path / "demo")
    ledger = Ledger.of(locate(project, None, {}))
    cut_off = Entry("k", "2024-01-01T00:00:00Z", "ann", "run", "promote", "demo", "1", "2", ("better",))
    ledger.begin(cut_off)
    done = refit_in(project, "run", "--judge-only")
    assert done.returncode == 0, done.stderr
    assert ledger.pending("demo") == cut_off


@pytest.mark.parametrize(
    ("champion", "prospects", "promoted"),
    [
        (None, Prospects(), True),
        ("1", Prospects(), False),
        (None, Prospects(waits=True), False),
        (None, Prospects(objections=("rejected by ann",)), False),
    ],
    ids=["nothing against it", "is the champion", "waits for a person", "a person refused it"],
)
def test_a_script_that_reads_the_judgement_takes_no_other_candidate_for_a_promoted_one(
    champion: str | None, prospects: Prospects, promoted: bool
) -> None:
    yes = Decision.model_construct(promote=True)
    printed = Judgement(yes, champion, prospects, "sqlite:///mlflow.db").to_json()
    assert printed["would_be_promoted"] is promoted
    assert (printed["champion"], printed["waits"]) == (champion, prospects.waits)
    assert printed["objections"] == [*prospects.objections]
    assert cast(dict[str, object], printed["decision"])["promote"] is True
