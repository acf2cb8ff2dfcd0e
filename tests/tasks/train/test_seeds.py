"""Several seeds: how far luck goes, and a candidate that is the mean of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from refit import learners
from refit.errors import UserError
from refit.files import artifacts
from refit.files.artifacts import read_json
from refit.learners.averaged import members_of

FOREST = {
    "name": "forest",
    "kind": "sklearn.ensemble.RandomForestClassifier",
    "params": {"n_estimators": 5, "max_depth": 3, "n_jobs": 1},
}
BASE = {"name": "base", "kind": "baseline"}


def test_each_seed_is_scored_and_the_candidate_has_the_first(project: Any) -> None:
    told = project.run(train__learners=[BASE, FOREST], train__seeds=3)
    forest = told["learners"][1]
    assert len(set(forest["seeds"]["values"])) == 3
    assert forest["seeds"]["values"][0] == pytest.approx(forest["validation"][told["metric"]])
    assert forest["seeds"]["deviation"] == pytest.approx(np.std(forest["seeds"]["values"], ddof=1))
    assert told["learners"][0]["seeds"] is None
    alone = project.run(train__learners=[BASE, FOREST])
    assert (alone["model_digest"], alone["learners"][1]["seeds"]) == (told["model_digest"], None)


def test_an_average_is_stored_loaded_and_predicts_the_mean_of_its_seeds(project: Any) -> None:
    told = project.run(train__learners=[BASE, FOREST], train__seeds=3, train__average=True)
    model = learners.load(project.folder / artifacts.CANDIDATE)
    assert model.digest() == told["model_digest"]
    members = members_of(model)
    assert [member.spec.seed for member in members] == [0, 1, 2]
    rows = pq.read_table(project.folder / artifacts.TABLE)
    each = [member.predict(rows) for member in members]
    assert model.predict(rows).tolist() == np.mean(each, axis=0).tolist()
    assert len({p.tobytes() for p in each}) == 3
    description = read_json(project.folder / artifacts.CANDIDATE / "model.json")
    assert (description["kind"], description["average"]) == (FOREST["kind"], 3)
    again = project.run(train__learners=[BASE, FOREST], train__seeds=3, train__average=True)
    assert again["model_digest"] == told["model_digest"]


def test_an_average_of_one_seed_or_of_a_warm_start_is_refused(project: Any) -> None:
    with pytest.raises(UserError, match="average needs several seeds"):
        project.run(train__average=True)
    with pytest.raises(UserError, match="cannot go on from a champion"):
        project.run(train__average=True, train__seeds=2, train__warm_start="champion")
