"""An anomaly detector goes through all six stages, chosen without labels, and judged by them where there are any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, states
from points_project import PARAMS, make_project, write_month

from flows.session import watching
from refit.config import GateParams, parse
from refit.evaluation.evidence import evidence
from refit.evaluation.holdout import holdout
from refit.evaluation.scored import Scored
from refit.evaluation.slices import too_small
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD, TRAINING, read_json
from refit.gate.comparison import Sample, gain, single
from refit.gate.promotion import decide
from refit.metrics.clusters import Clusters
from refit.problems.anomaly import Anomaly
from refit.schemas.incumbent import Incumbent, TrainedModel
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


@pytest.mark.slow
@pytest.mark.parametrize("column", ["odd", pytest.param(None, marks=pytest.mark.slow)])
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


@pytest.mark.slow
def test_rows_without_a_label_are_learned_from_like_all_others(tmp_path: Path) -> None:
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
    for metric in ("precision_at_budget", "recall_at_budget"):
        assert np.isnan(Anomaly().score(metric, np.zeros(300), predicted)), (
            "without a label column no row is an anomaly"
        )
    assert Anomaly().has_variation(gaps)[1].endswith(f"; {300 - there.sum()} others have no label")
    assert Anomaly().labels(Anomaly().to_column(gaps)).tolist()[:5] == pytest.approx(gaps.tolist()[:5], nan_ok=True)


START = datetime(2024, 3, 1, tzinfo=UTC)


def reasons(labels: np.ndarray[Any, Any], metric: str) -> str:
    """What the gate finds wrong with a detector that knows the anomalies, on rows of fifty days in order of time."""
    times = [START + timedelta(days=50 * place / len(labels)) for place in range(len(labels))]
    table = pa.table({"event_time": times, "label": Anomaly().to_column(labels)})
    test = holdout(table, ZoneInfo("UTC"), "day", Anomaly())
    random = np.random.default_rng(0)
    ours = np.column_stack([np.nan_to_num(labels) + random.random(len(labels)) / 9, np.zeros(len(labels))])
    chance = np.column_stack([random.random(len(labels)), np.zeros(len(labels))])
    judged = evidence(
        test,
        Scored({"candidate": ours, "baseline": chance}, {}, {}),
        {metric: 1.0},
        candidate=TrainedModel(model_digest="new", seen_until=START),
        test_start=START,
        incumbent=Incumbent(model="points"),
        gate=(gate := GateParams(metric=metric)),
        pending=400,
    )
    assert judged.pending == (400 if metric == "roc_auc" else 0), "rows without a label are judged by volumes too"
    return "; ".join(decide(judged, gate).reasons) if not decide(judged, gate).promote else ""


def test_the_gate_counts_the_rows_and_days_with_a_label_where_labels_judge() -> None:
    labels = np.where(np.arange(5000) % 10 == 0, 1.0, 0.0)
    assert "5,000 test rows" not in reasons(labels, "log_volume")
    assert reasons(labels, "roc_auc") == ""
    few = np.full(5000, np.nan)
    few[:30] = labels[:30]
    refused = reasons(few, "roc_auc")
    assert "30 test rows with a label (4,970 have none), the gate needs 2,000" in refused
    assert "1.0 clusters by day" in refused
    early = np.where(np.arange(5000) < 2500, labels, np.nan)
    assert reasons(early, "roc_auc") == ""
    usual = np.where(labels == 1, np.nan, labels)
    assert "0 positive and 4,500 negative rows; both are needed" in reasons(usual, "roc_auc")
    assert "0 test rows with a label (5,000 have none)" in reasons(np.full(5000, np.nan), "roc_auc")


def test_the_clusters_of_a_comparison_are_those_with_a_label() -> None:
    random = np.random.default_rng(0)
    labels = np.where(random.random(3000) < 0.2, 1.0, 0.0)
    days = np.datetime64("2024-03-01") + np.arange(3000) // 50
    gaps = np.where((np.arange(3000) // 50) % 3 == 0, labels, np.nan)
    there = ~np.isnan(gaps)
    ours, theirs = (np.column_stack([labels + noise * random.normal(size=3000)]) for noise in (1, 2))
    whole = gain("roc_auc", Sample(gaps, Clusters.of(days), Anomaly()), ours, theirs)
    part = gain("roc_auc", Sample(labels[there], Clusters.of(days[there]), Anomaly()), ours[there], theirs[there])
    assert whole == part
    assert whole.interval(0.95) == part.interval(0.95)


def test_a_part_of_the_rows_is_large_enough_by_its_labels_where_labels_judge() -> None:
    labels = np.where(np.arange(1000) < 150, np.arange(1000) % 2, np.nan)
    part = Sample(labels, Clusters.rows(1000), Anomaly())
    assert too_small(part, "roc_auc") == "it has 150 test rows with a label, 200 are needed"
    assert too_small(part, "log_volume") == ""
    assert "0 of its 1,000 test rows are positive" in too_small(
        Sample(np.zeros(1000), part.clusters, Anomaly()), "roc_auc"
    )
