"""A candidate that is many models, through all that the stage does with a learner."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from refit.files.artifacts import UNSEEN
from refit.learners import load
from refit.learners.averaged import Averaged
from refit.learners.calibrated import Calibrated
from refit.learners.per_group import PerGroup
from refit.schemas.training import Training

BOOSTING = {
    "kind": "sklearn.ensemble.HistGradientBoostingClassifier",
    "params": {"max_iter": 5, "min_samples_leaf": 5},
}
BY_COLOUR: dict[str, Any] = {"by": "colour", "min_rows": 60, **BOOSTING}
COLOURS = {"name": "colours", "kind": "per_group", "params": BY_COLOUR}
SEARCHED = {**COLOURS, "search": {"params.max_leaf_nodes": {"choices": [3, 9]}}}


def test_the_training_says_how_many_models_there_are_with_rows_and_score_of_each(project: Any) -> None:
    said: list[str] = []
    models = Training.from_json(project.run(said, train__learners=[COLOURS]), "").chosen.models
    assert models is not None
    assert models.by == "colour"
    assert sum(model.rows for model in models.models) == 750
    unseen, colours = pq.read_table(project.candidate / UNSEEN), project.rows("validation")["colour"]
    for model in models.models:
        own = unseen.filter(pc.equal(colours, model.value))
        assert model.unseen_rows == len(own)
        assert model.validation == roc_auc_score(own["label"].to_numpy() == 1, own["prediction"].to_numpy())
    assert said.count("fitting the models of colours") == 2 * 4, "for the validation window, and the last fit"


def test_a_value_that_the_pooled_model_predicted_has_no_score(project: Any) -> None:
    counts = Counter(project.rows("train")["colour"].to_pylist())
    fewest = min(counts, key=counts.__getitem__)
    params = {**BY_COLOUR, "min_rows": counts[fewest] + 1}
    models = Training.from_json(project.run(train__learners=[{**COLOURS, "params": params}]), "").chosen.models
    assert models is not None
    assert {model.value: model.validation is None for model in models.models} == {
        value: value == fewest for value in counts
    }


@pytest.mark.ci
def test_search_folds_calibration_and_seeds_reach_the_models(project: Any) -> None:
    training = project.run(
        train__learners=[{"name": "base_rate", "kind": "baseline"}, SEARCHED],
        train__cross_validation={"kind": "stratified", "folds": 2},
        train__calibration="sigmoid",
        train__seeds=2,
        train__average=True,
    )
    (_, report) = training["learners"]
    assert {len(trial["steps"]) for trial in report["tuning"]["trials"]} == {2}
    learner = load(project.candidate)
    assert isinstance(learner, Calibrated)
    assert isinstance(learner.inner, Averaged)
    leaves = report["params"]["params"]["max_leaf_nodes"]
    for member in learner.inner.members:
        assert isinstance(member, PerGroup)
        assert {model.spec.params["max_leaf_nodes"] for model in member.models.values()} == {leaves}
    first, second = (member.models["red"].spec.seed for member in learner.inner.members)  # type: ignore[attr-defined]
    assert first != second
    assert len(report["models"]["models"]) == 3


@pytest.mark.slow
def test_two_workers_make_the_candidate_of_one(project: Any) -> None:
    params = {"train__learners": [SEARCHED], "train__cross_validation": {"kind": "stratified", "folds": 2}}
    alone = project.run(**params)
    side_by_side = project.run(**params, resources__workers=2)
    assert side_by_side["model_digest"] == alone["model_digest"]
    assert np.array_equal(side_by_side["learners"][0]["folds"], alone["learners"][0]["folds"])
    assert not [*(project.folder / "data").glob(".fits*")]
