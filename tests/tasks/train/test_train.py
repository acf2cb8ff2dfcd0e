"""The stage `train`: what it leaves, and which learner it chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.learners import load, make
from refit.problems import problem_of


def test_the_candidate_says_everything_needed_to_predict(trained: Any) -> None:
    project, training = trained
    folder = project.candidate
    learner = load(folder)
    assert learner.digest() == training["model_digest"]
    assert learner.threshold == training["threshold"]
    copies = (artifacts.FEATURE_SET, artifacts.PROFILE, artifacts.PROFILE_COUNTS)
    made = {"model.json", "model.skops", artifacts.UNSEEN, artifacts.REFERENCE}
    assert set(artifacts.check_manifest(folder)) == {*made, *(path.name for path in copies)}
    assert all((folder / path.name).read_bytes() == (project.folder / path).read_bytes() for path in copies)
    unseen = pq.read_table(folder / artifacts.UNSEEN)
    assert unseen.column_names == ["event_time", "prediction", "label"]
    assert unseen.num_rows == training["rows"]["validation"]
    p = learner.predict(project.rows("test"))
    assert problem_of("binary").score("roc_auc", project.rows("test")["label"].to_numpy(), p) > 0.75


def test_training_tells_what_the_other_stages_read(trained: Any) -> None:
    project, training = trained
    table = project.table.slice(0, 750)
    assert training["seen_until"] == "2024-04-01T00:00:00Z"
    assert training["baseline"]["rate"] == pytest.approx(pc.mean(table["label"]).as_py())
    assert training["rows"] == {"train": 600, "validation": 150}
    assert training["refit_rows"] == 750
    assert len(training["inputs"]) == 64
    assert [learner["name"] for learner in training["learners"]] == ["base_rate", "logistic", "boosting"]
    for learner in training["learners"]:
        assert {"roc_auc", "log_loss", "brier", "accuracy"} <= set(learner["validation"]) & set(learner["training"])
        assert learner["not_chosen"] is None
        assert learner["seconds"] >= 0
        assert learner["peak_memory_mb"] >= 0
    base_rate, logistic, boosting = training["learners"]
    assert base_rate["size_curve"] == base_rate["curve"] == logistic["curve"] == []
    assert [point["rows"] for point in logistic["size_curve"]] == [60, 180, 600]
    assert boosting["iterations"] in [point["iteration"] for point in boosting["curve"]]
    assert boosting["size_curve"][-1]["validation"] == boosting["validation"]["roc_auc"]
    assert boosting["verdict"].split(":")[0] in {"overfit", "underfit", "balanced"}


def test_the_best_learner_on_validation_is_the_candidate(trained: Any) -> None:
    _, training = trained
    best = max(training["learners"], key=lambda learner: learner["validation"]["roc_auc"])
    assert training["learner"] == best["name"] != "base_rate"


def test_the_candidate_is_fitted_on_both_windows_with_the_iterations_that_validation_fixed(
    project: Any, learners: Any
) -> None:
    training = project.run(train__learners=[learners["boosting"]])
    both = pa.concat_tables([project.rows("train"), project.rows("validation")])
    spec = load(project.candidate).spec
    by_hand = make(spec)
    by_hand.fit(both, both["label"].to_numpy(), iterations=training["learners"][0]["iterations"])
    by_hand.threshold = training["threshold"]
    assert by_hand.digest() == training["model_digest"]
    assert training["learners"][0]["iterations"] < learners["boosting"]["params"]["max_iter"]


def test_a_second_training_replaces_the_first_one_whole(project: Any, learners: Any) -> None:
    project.run()
    training = project.run(train__learners=[learners["base_rate"]])
    assert training["learner"] == "base_rate"
    assert set(artifacts.check_manifest(project.candidate)) == {
        "features.json",
        "model.json",
        "profile.json",
        "profile.parquet",
        artifacts.UNSEEN,
        artifacts.REFERENCE,
    }
    assert sorted(path.name for path in project.models.iterdir()) == ["candidate", "training.json"]


def test_of_equal_learners_the_first_by_name_is_chosen(project: Any, learners: Any) -> None:
    twins = [learners["logistic"] | {"name": name} for name in ("zeta", "alpha", "beta")]
    assert project.run(train__learners=twins)["learner"] == "alpha"


def test_where_lower_is_better_the_lowest_is_chosen(project: Any) -> None:
    training = project.run(train__metric="log_loss")
    best = min(training["learners"], key=lambda learner: learner["validation"]["log_loss"])
    assert training["learner"] == best["name"] != "base_rate"


@pytest.mark.slow
def test_a_learner_without_a_safe_format_is_compared_and_never_chosen(project: Any, learners: Any) -> None:
    process = {
        "name": "process",
        "kind": "sklearn.gaussian_process.GaussianProcessClassifier",
        "params": {
            "kernel": {"kind": "sklearn.gaussian_process.kernels.PairwiseKernel"},
            "max_iter_predict": 5,
            "optimizer": None,
        },
    }
    training = project.run(train__learners=[learners["base_rate"], process])
    compared = training["learners"][1]
    assert compared["validation"]["roc_auc"] > 0.6
    assert "it holds types that are not trusted: sklearn.gaussian_process" in compared["not_chosen"]
    assert training["learner"] == "base_rate"
    with pytest.raises(UserError, match="no learner can be stored without pickle, so there is no candidate: process"):
        project.run(train__learners=[process])
    trusted = compared["not_chosen"].split(": ")[1].split(" (")[0].split(", ")
    allowed = project.run(train__learners=[learners["base_rate"], process], registry={"trusted_types": trusted})
    assert allowed["learner"] == "process"
    with pytest.raises(RefitError, match="not trusted"):
        load(project.candidate)
    load(project.candidate, trusted_types=tuple(trusted))


def test_what_a_library_warns_of_is_kept(project: Any, learners: Any) -> None:
    hasty = learners["logistic"] | {"params": {"max_iter": 1}}
    training = project.run(train__learners=[hasty])
    assert any("failed to converge" in warning for warning in training["learners"][0]["warnings"])


def test_progress_tells_of_every_learner_and_of_the_refit(project: Any) -> None:
    said: list[str] = []
    project.run(said)
    for name in ("base_rate", "logistic", "boosting"):
        assert f"fitting {name}" in said
    assert any(note.endswith("on 750 rows") for note in said)


def test_folds_in_time_are_cut_by_when_the_table_says_that_each_label_became_known(project: Any) -> None:
    asked = {
        "train__cross_validation": {"kind": "time", "folds": 3, "gap_hours": 0},
        "train__learners": [{"name": "b", "kind": "baseline"}],
    }
    project.run(**asked)
    unknown = pa.array(np.full(project.table.num_rows, np.datetime64("2025-01-01", "us")))
    project.write(project.table.append_column("label_known_at", unknown))
    with pytest.raises(UserError, match="the fitted rows of fold 1 of 3 are 0"):
        project.run(**asked)


def test_a_learner_does_not_see_what_it_excludes(project: Any, learners: Any) -> None:
    hidden = {**learners["boosting"], "name": "unseeing", "exclude": ["stre*", "colour"]}
    training = project.run(train__learners=[hidden, learners["boosting"]])
    unseeing, boosting = (learner["validation"]["roc_auc"] for learner in training["learners"])
    assert unseeing < 0.65 < boosting, "noise is all that is left"
    project.run(train__learners=[hidden])
    candidate = load(project.candidate)
    assert candidate.spec.features == ("noise",)
    assert not candidate.spec.categorical
    rows = project.rows("test")
    assert np.array_equal(candidate.predict(rows), candidate.predict(rows.select(["noise"])))


@pytest.mark.parametrize(
    ("exclude", "problem"),
    [
        (["nose"], r"learners\[0\].exclude: 'nose' matches no feature; did you mean 'noise'"),
        (["*"], "leaves no feature"),
    ],
)
def test_an_exclusion_of_nothing_or_of_everything_is_refused(
    project: Any, learners: Any, exclude: list[str], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        project.run(train__learners=[{**learners["boosting"], "exclude": exclude}])
