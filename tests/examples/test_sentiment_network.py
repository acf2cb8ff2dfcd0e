"""A pretrained transformer through all stages: champion, explained, reproduced, scoring without its folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import check_here, drive, states
from tiny_transformer import write_folder

from flows.session import context_of, session
from refit.cli.running import reproduce
from refit.errors import RefitError
from refit.files.artifacts import MODEL_CARD, TRAINING, read_json
from refit.models import verification
from tasks import score
from tasks.register import lineage

pytestmark = pytest.mark.slow
TINY = {
    "train.start_from": "../tiny",
    "train.cross_validation.folds": 2,
    "train.learners.words.enabled": False,
    "train.learners.frozen.enabled": False,
    "train.learners.lora.enabled": True,
    "train.learners.lora.params.learning_rate": 0.01,
    "evaluate.gate.min_gain_over_baseline": 0.0,
    "evaluate.permutation_rows": 40,
    "evaluate.explain.rows": 3,
}


@pytest.fixture(scope="module")
def life(example: Callable[[str], Path]) -> dict[str, Any]:
    """The example on its stand-in, started from a tiny transformer; then again, unchanged."""
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "in_fresh_process", check_here)
        patch.setenv("REFIT_SHARED_DATA", "/nowhere")
        project = example("sentiment_network")
        folder = write_folder(project.parent / "tiny")
        first, second = (drive(project, overrides=TINY) for _ in range(2))
        made_again = reproduce(project, "1", wait_seconds=0)
        shutil.move(folder, project.parent / "elsewhere")
        with session(project) as run:
            scores = score.run(run.context(), "2015-05-29", as_of="latest")
        return {
            "project": project,
            "first": first,
            "second": second,
            "reproduced": made_again,
            "scores": scores,
            "folder": folder,
        }


def test_it_becomes_champion_and_a_second_run_is_unchanged(life: dict[str, Any]) -> None:
    assert life["first"]["model"]["alias"] == "champion", life["first"]["decision"]["reasons"]
    assert read_json(life["project"] / TRAINING)["learner"] == "lora"
    assert states(life["second"]) == ["unchanged"] * 6


def test_its_parent_is_recorded_and_named(life: dict[str, Any]) -> None:
    parent = read_json(life["project"] / TRAINING)["started_from"]["parent"]
    assert (parent["model"], parent["source"], parent["pretrained"]) == ("tiny", "../tiny", True)
    (named,) = lineage.lineage(context_of(life["project"]), "1").parents
    assert (str(named).partition(",")[0], named.state) == ("pretrained tiny in ../tiny", "pretrained")
    assert "pretrained tiny" in " ".join(lineage.explain(context_of(life["project"]), "1"))


def test_it_is_made_again_bit_for_bit(life: dict[str, Any]) -> None:
    assert [each.what for each in life["reproduced"] if not each.same] == []


def test_the_champion_scores_without_the_folder_and_has_a_card(life: dict[str, Any]) -> None:
    assert life["scores"].rows.scored > 0
    assert "lora" in (life["project"] / MODEL_CARD).read_text()


def test_without_its_folder_it_is_not_made_again(life: dict[str, Any]) -> None:
    with pytest.raises(RefitError, match=r"tiny is not a folder that .* nor a Hugging Face folder"):
        reproduce(life["project"], "1", wait_seconds=0)
