"""An anomaly detector goes through all six stages, chosen without labels, and judged by them where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from driving import drive, states
from points_project import PARAMS, make_project, write_month

from flows.session import watching
from refit.config import parse
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD, TRAINING, read_json
from tasks import score

TRAIN: dict[str, Any] = {
    "task": "anomaly",
    "seed": 0,
    "learners": [
        {"name": "distance", "kind": "baseline"},
        {"name": "forest", "kind": "sklearn.ensemble.IsolationForest", "params": {"budget": 0.03}},
        {"name": "neighbours", "kind": "sklearn.neighbors.LocalOutlierFactor", "params": {"budget": 0.03}},
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
        second = drive(project)
        assert {each["against"] for each in read_json(project / DECISION)["compared"]} == {
            "champion",
            "anchor",
            "baseline",
        }
        assert second["model"]["alias"] == "champion", second["decision"]["reasons"]
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
