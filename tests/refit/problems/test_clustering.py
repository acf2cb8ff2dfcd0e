"""A clustering goes through all six stages, keeps the champion's names, is scored, explained and watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from driving import drive, states
from points_project import make_project, write_month

from flows.run_options import RunOptions
from flows.session import session, watching
from refit import learners
from refit.errors import UserError
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD, TRAINING, read_json
from refit.operations.replay.fits import Fits
from refit.operations.replay.history import history
from tasks import score
from tasks.drift import watch
from tasks.score import reasons

TRAIN: dict[str, Any] = {
    "task": "clustering",
    "metric": "silhouette",
    "seed": 0,
    "learners": [
        {"name": "one_cluster", "kind": "baseline"},
        {
            "name": "k_means",
            "kind": "sklearn.cluster.KMeans",
            "params": {"n_init": 3},
            "search": {"n_clusters": {"choices": [2, 3, 5]}},
        },
    ],
    "tuning": {"sampler": "grid"},
}


GATE = {"metric": "negative_log_likelihood", "max_loss": 0.1, "min_gain_over_baseline": 0.1, "min_rows": 100}
EVALUATE = {"slices": ["place"], "gate": GATE}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A first training, the same again, and one in which another segment has become the largest."""
    project = make_project(tmp_path_factory.mktemp("clustering"), TRAIN, evaluate=EVALUATE)
    told: dict[str, Any] = {"project": project, "first": drive(project)}
    told["training"], told["evaluation"] = read_json(project / TRAINING), read_json(project / EVALUATION)
    told["decision"], told["card"] = read_json(project / DECISION), (project / MODEL_CARD).read_text()
    told["again"] = drive(project)
    for month in range(6, 10):
        write_month(project, month, (0.05, 0.05, 0.9), rows=460)
    told["later"] = drive(project)
    told["later training"], told["later evaluation"] = read_json(project / TRAINING), read_json(project / EVALUATION)
    write_month(project, 10, (0.05, 0.05, 0.9), rows=460)
    with watching(project, trigger="test", wait_seconds=0) as context:
        told["drift"] = watch.run(context, as_of="2024-10-28")
    return told


@pytest.mark.slow
def test_a_clustering_goes_through_all_stages_and_its_number_of_segments_is_chosen(life: dict[str, Any]) -> None:
    assert life["first"]["model"]["alias"] == "champion"
    assert life["decision"]["metric"] == "negative_log_likelihood"
    assert life["training"]["learner"] == "k_means"
    chosen = next(each for each in life["training"]["learners"] if each["name"] == "k_means")
    assert chosen["params"]["n_clusters"] == 3
    assert [each["asked"] for each in chosen["segments"]["divisions"]] == [2, 3, 5]
    assert chosen["segments"]["chosen"] == 3
    assert states(life["again"]) == ["unchanged"] * 6


@pytest.mark.slow
def test_the_card_describes_the_segments_in_words_and_draws_them(life: dict[str, Any]) -> None:
    card = life["card"]
    for words in ("How many segments", "A map of the segments", "Shares of the segments", "It divides the rows into 3"):
        assert words in card
    assert "mostly place &#39;right&#39;" in card
    shares = {each["name"]: each["share"]["value"] for each in life["evaluation"]["segments"]}
    assert shares == pytest.approx({"segment 1": 0.5, "segment 2": 0.3, "segment 3": 0.2}, abs=0.1)
    first, *segments = life["first"]["findings"]  # the summary of the run says them, too
    assert first.startswith("It divides the rows into 3 segments, stable")
    assert len(segments) == 3
    assert "mostly place 'right'" in " ".join(segments)


@pytest.mark.slow
def test_the_next_training_keeps_the_names_and_the_card_shows_how_shares_moved(life: dict[str, Any]) -> None:
    """By size alone, what was segment 3 would now be segment 1."""
    assert life["later training"]["started_from"]["version"] == "1"
    shares = {each["name"]: each for each in life["later evaluation"]["segments"]}
    assert shares["segment 3"]["share"]["value"] > 0.7
    assert all(each["same"] > 0.9 for each in shares.values())
    assert shares["segment 3"]["champion"] > 0.7
    assert life["later evaluation"]["gains"]["champion"]["negative_log_likelihood"]["value"] > 0


@pytest.mark.slow
def test_drift_is_quiet_although_the_segments_of_the_champion_were_renamed(life: dict[str, Any]) -> None:
    """The model fitted before the candidate, on fewer rows, numbers its segments by their sizes."""
    assert life["later"]["model"]["alias"] == "champion", life["later"]["decision"]["reasons"]
    newest = life["drift"].windows[-1].inputs
    assert newest.calibrated
    (prediction,) = (each for each in newest.columns if each.column == "prediction")
    assert prediction.effects["jensen_shannon"] < 0.1, "half of the reference would have other names"
    assert not [each.column for each in newest.columns if each.breached]


@pytest.mark.slow
def test_a_replay_compares_the_segments_of_one_fit(life: dict[str, Any]) -> None:
    project, as_of = life["project"], datetime(2024, 6, 1, tzinfo=UTC)
    with watching(project, trigger="test", wait_seconds=0) as context:
        past = history(context, as_of, as_of + timedelta(days=60))
        fit = Fits(context, past).at(as_of, None)
    model = learners.load(fit.folder / "model")
    np.testing.assert_array_equal(fit.unseen, model.predict(past.seen_by(as_of, 0).take(fit.held_back)))


@pytest.mark.slow
def test_scored_rows_have_their_segment_and_an_explanation(life: dict[str, Any], tmp_path: Path) -> None:
    project, file = life["project"], tmp_path / "new.csv"
    file.write_text("id,at,x,y,place,odd\n1,2024-10-01,6.0,0.1,left,0\n2,2024-10-01,40,40,left,0\n")
    with watching(project, trigger="test", wait_seconds=0) as context:
        told = score.run(context, str(file), out=tmp_path / "out.parquet")
        why = reasons.run(context, str(file))
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored["prediction"].to_pylist()[0] == "segment 2"
    assert sum((told.called or {}).values()) == 2
    assert {"negative_log_likelihood", "silhouette", "distance"} <= set(scored.column_names)
    assert scored["negative_log_likelihood"][1].as_py() > 100
    odd = why.rows[1]
    assert odd.total == pytest.approx(odd.prediction)
    assert odd.predicted_class is not None
    assert {feature.name for feature in odd.features} == {"x", "y"}


ONE_FEATURE = TRAIN["learners"][1] | {"exclude": ["y"]}  # y stays in the table


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [{"featurize.exclude": ["place", "odd", "y"]}, {"train.learners": [ONE_FEATURE]}], ids=["all", "own"]
)
def test_a_champion_of_other_features_is_not_compared_by_a_density_of_them(
    life: dict[str, Any], overrides: dict[str, Any]
) -> None:
    project = life["project"]
    with session(project, RunOptions(overrides=overrides)) as run:
        from tasks.stages import run_remembered

        for stage in ("ingest", "validate", "featurize", "train", "evaluate"):
            run_remembered(stage, run.context())
    decision = read_json(project / DECISION)
    assert decision["promote"] is False
    assert any("its features are others" in reason for reason in decision["reasons"])


@pytest.mark.slow
def test_features_that_say_nothing_end_the_training_in_a_line(life: dict[str, Any]) -> None:
    with (
        pytest.raises(UserError, match="feature 'place' is a text or a category, and only numbers"),
        session(life["project"], RunOptions(overrides={"featurize.exclude": ["odd"], "featurize.keep": []})) as run,
    ):
        from tasks.stages import run_remembered

        for stage in ("featurize", "train"):
            run_remembered(stage, run.context())
