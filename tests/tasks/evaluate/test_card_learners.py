"""What the model card says about folds and searches for arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from markupsafe import escape

from refit.files import artifacts
from refit.reports.model_card import learner_charts
from refit.reports.model_card.card_learners import searches
from refit.schemas.evaluation import Evaluation
from refit.schemas.training import LearnerReport, TuningReport

Evaluate = Callable[..., dict[str, Any]]

MORE: dict[str, Any] = {"steps": [], "problem": "", "took": {}}
TRIALS = [
    {"params": {"C": 1.0, "penalty": "l2"}, "state": "complete", "value": 0.70, "seconds": 1.0, **MORE},
    {"params": {"C": 0.123456, "penalty": "l1"}, "state": "complete", "value": 0.78, "seconds": 1.5, **MORE},
    {"params": {"C": 9.0, "penalty": "l1"}, "state": "pruned", "value": None, "seconds": 0.5, **MORE},
]


def told_of(small_project: Any) -> None:
    """Let the candidate's training have folds and a search."""
    path = small_project.path(artifacts.TRAINING)
    training = artifacts.read_json(path)
    (learner,) = training["learners"]
    learner["folds"] = [{"roc_auc": score, "log_loss": 0.5} for score in (0.70, 0.75, 0.80)]
    learner["tuning"] = {"best": 1, "importance": {"C": 0.25, "penalty": 0.75}, "trials": TRIALS}
    artifacts.write_json(path, training)


@pytest.mark.slow
def test_the_card_tells_scores_by_fold_and_how_a_search_went(drawn: Evaluate, small_project: Any) -> None:
    told_of(small_project)
    found = drawn()
    page = small_project.path(artifacts.MODEL_CARD).read_text()
    assert "the mean of 3 folds" in page
    assert "± 0.0500" in page
    (dots,) = learner_charts.folds.draw(Evaluation.from_json(found, "evaluation.json")).axes[0].patches
    assert {x for x, _ in dots.get_path().vertices} == {0.70, 0.75, 0.80}
    assert "logistic: 3 trials" in page
    words = " ".join(page.split())
    assert "2 finished, 1 given up after some folds, in 3 s of computing" in words
    assert "The best is trial 1 with 0.7800" in words
    shown = re.findall(r'<tr><th scope="row">(C|penalty)</th>\s*<td class="n">([^<]*)</td>', page)
    assert shown == [("penalty", "l1"), ("C", "0.1235")]


def test_trials_that_were_given_up_after_some_epochs_are_counted_as_such() -> None:
    by_epoch = {**TRIALS[2], "epochs": [[1, 0.5], [2, 0.52]]}
    report = TuningReport.model_validate_json(json.dumps({"best": 1, "importance": {}, "trials": [*TRIALS, by_epoch]}))
    (shown,) = searches([LearnerReport.model_construct(name="one", tuning=report)])
    assert shown.states == "2 finished, 1 given up after some folds, 1 given up after some epochs"


@pytest.mark.ci
def test_the_card_and_the_decision_say_how_many_models_the_candidate_is(drawn: Evaluate, small_project: Any) -> None:
    models = [
        {"value": "<north>", "rows": 1200, "unseen_rows": 90, "validation": 0.7},
        {"value": "south", "rows": 5000, "unseen_rows": 0, "validation": None},
    ]
    path = small_project.path(artifacts.TRAINING)
    training = artifacts.read_json(path)
    training["learners"][0]["models"] = {"by": "shop", "models": models, "pooled_values": 3, "pooled_rows": 700}
    artifacts.write_json(path, training)
    drawn()
    sentence = (
        '2 values of shop have their own models, of 1,200 ("<north>") to 5,000 ("south") rows; 3 others, with 700 '
        "rows, and new ones share one of all rows"
    )
    page = " ".join(small_project.path(artifacts.MODEL_CARD).read_text().split())
    assert str(escape(sentence)) in page
    rows = re.findall(r'<th scope="row">([^<]*)</th> <td class="n">([\d,]+)</td><td class="n">(\d+)</td>', page)
    assert rows == [("south", "5,000", "0"), ("&lt;north&gt;", "1,200", "90")]
    decision = artifacts.read_json(small_project.path(artifacts.DECISION))
    assert sentence in decision["notes"]


def test_a_card_without_folds_or_a_search_has_no_word_of_them(evaluated: Evaluate, small_project: Any) -> None:
    evaluated()
    page = small_project.path(artifacts.MODEL_CARD).read_text()
    assert "on the validation window" in page
    assert "trials</h3>" not in page
    assert "each fold" not in page


def test_the_best_so_far_only_ever_gets_better() -> None:
    tuning = TuningReport.model_validate_json(json.dumps({"best": 0, "importance": {}, "trials": TRIALS}))
    learner = LearnerReport.model_construct(name="one", tuning=tuning)
    for metric, so_far in (("roc_auc", [0.70, 0.78]), ("log_loss", [0.70, 0.70])):
        figure = learner_charts.tuning.draw(Evaluation.model_construct(learners=(learner,), learning_metric=metric))
        (line,) = (line for line in figure.axes[0].lines if line.get_label() == "best so far")
        assert list(line.get_ydata()) == so_far, metric
