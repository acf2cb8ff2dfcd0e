"""An anomaly detector goes through all six stages, chosen without labels, and judged by them where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from driving import drive, states
from points_project import PARAMS, make_project, write_month

from flows.session import watching
from refit.config import parse
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD, TRAINING, read_json
from refit.gate.comparison import Sample, single
from refit.metrics.clusters import Clusters
from refit.problems.anomaly import Anomaly
from tasks import featurize, ingest, score, train, validate

TRAIN: dict[str, Any] = {
    "task": "anomaly",
    "seed": 0,
    "learners": [
        {"name": "distance", "kind": "baseline"},
        {"name": "forest", "kind": "sklearn.ensemble.IsolationForest", "params": {"budget": 0.03}},
        {
            "name": "neighbours",
            "kind": "sklearn.neighbors.LocalOutlierFactor",
            "params": {"n_neighbors": 60, "budget": 0.03},
        },
    ],
}


def label(column: str | None) -> dict[str, Any]:
    return {
        "label": {"source": "points", "column": column, "delay_hours": 0},
        "exclude": ["place"] if column else ["place", "odd"],
    }


@pytest.mark.parametrize("column", ["odd", None])
def test_a_detector_goes_through_all_stages_with_a_label_that_only_judges_or_without_one(
    column: str | None, tmp_path: Path
) -> None:
    project = make_project(tmp_path, TRAIN, odd=0.03, between=True, featurize=label(column))
    summary = drive(project)
    assert summary["model"]["alias"] == "champion", summary["decision"]["reasons"]
    training, evaluation = read_json(project / TRAINING), read_json(project / EVALUATION)
    assert training["learner"] in ("forest", "neighbours")
    decision = read_json(project / DECISION)
    assert decision["metric"] == ("roc_auc" if column else "log_volume")
    assert all(("monte_carlo_error" in each) == (column is None) for each in decision["compared"])
    ours = evaluation["metrics"]["candidate"]
    card = (project / MODEL_CARD).read_text()
    assert "How little room the usual rows take" in card
    if column is None:
        assert ours["roc_auc"]["value"] is None
        assert evaluation["budgets"] == {}
        write_month(project, 6, odd=0.03, between=True)
        drive(project)
        gains = {each["against"]: each for each in read_json(project / DECISION)["compared"]}
        assert abs(gains["champion"]["estimate"]) < 0.2 < gains["baseline"]["lower"]
        assert 0 < gains["champion"]["monte_carlo_error"] < 0.025  # a quarter of the margin
        return
    assert ours["roc_auc"]["value"] > 0.95
    assert ours["recall_at_budget"]["value"] > 0.5
    assert "What a budget finds" in card
    assert states(drive(project)) == ["unchanged"] * 6
    file = tmp_path / "new.csv"
    file.write_text("id,at,x,y,place,odd\n1,2024-06-01,0.1,0.1,left,\n2,2024-06-01,40,-40,left,\n")
    with watching(project, trigger="test", wait_seconds=0) as context:
        score.run(context, str(file), out=tmp_path / "out.parquet")
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored["prediction"].to_pylist() == ["usual", "anomaly"]
    assert {"log_volume", "flagged"} <= set(scored.column_names)


def test_a_label_may_be_named_or_left_out() -> None:
    for column in ("odd", None):
        params = parse(PARAMS | {"train": TRAIN, "featurize": label(column)})
        assert params.featurize.label.column == column
        assert params.train.metric == "log_volume"
        assert params.evaluate.gate.metric == ("log_volume" if column is None else "roc_auc")


def test_rows_that_nobody_has_judged_are_learned_from_like_all_others(tmp_path: Path) -> None:
    digests, rows = [], []
    for name, blank in (("all", False), ("half", True)):
        (tmp_path / name).mkdir()
        project = make_project(tmp_path / name, TRAIN, odd=0.03, between=True, featurize=label("odd"))
        if blank:
            for path in (project / "raw").iterdir():
                lines = path.read_text().splitlines()
                judged = [line.rsplit(",", 1)[0] + "," if place % 2 else line for place, line in enumerate(lines)]
                path.write_text("\n".join(judged) + "\n")
        with watching(project, trigger="test", wait_seconds=0) as context:
            for stage in (ingest, validate, featurize, train):
                stage.run(context)
        training = read_json(project / TRAINING)
        digests.append(training["model_digest"])
        rows.append(training["rows"])
        scores = {each["name"]: each["validation"] for each in training["learners"]}["forest"]
        assert scores["roc_auc"] > 0.9
        assert scores["log_volume"] is not None
    assert digests[0] == digests[1]
    assert rows[0] == rows[1]


def test_labelled_metrics_are_of_the_rows_with_a_label() -> None:
    random = np.random.default_rng(0)
    labels = np.where(random.random(300) < 0.2, 1.0, 0.0)
    predicted = np.column_stack([labels + random.normal(size=300), np.zeros(300), random.random(300) < 0.1])
    gaps = np.where(random.random(300) < 0.5, np.nan, labels)
    there = ~np.isnan(gaps)
    clusters = np.arange(300) // 10
    for metric in ("roc_auc", "average_precision", "precision_at_budget", "recall_at_budget"):
        whole = single(metric, Sample(gaps, Clusters.of(clusters), Anomaly()), predicted)
        part = single(metric, Sample(labels[there], Clusters.of(clusters[there]), Anomaly()), predicted[there])
        assert (whole.value, whole.standard_error) == (part.value, part.standard_error)
        assert np.isnan(Anomaly().score(metric, np.full(300, np.nan), predicted))
    assert Anomaly().has_variation(gaps)[1].endswith(f"; {300 - there.sum()} others have no label")
    assert Anomaly().labels(Anomaly().to_column(gaps)).tolist()[:5] == pytest.approx(gaps.tolist()[:5], nan_ok=True)
