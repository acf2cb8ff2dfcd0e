"""A dimension reduction goes through all six stages: the card draws the map, and scored rows have their coordinates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from driving import drive
from points_project import make_project

from flows.session import watching
from refit import learners
from refit.evaluation.details.reduction import details
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.files.artifacts import CANDIDATE, EVALUATION, MODEL_CARD, TABLE, UNSEEN, read_json
from refit.gate.comparison import Sample
from refit.metrics.clusters import Clusters
from refit.problems import problem_of
from refit.problems.contract import of_column
from refit.problems.reduction import mean_square
from tasks import score
from tasks.score import reasons

TRAIN: dict[str, Any] = {
    "task": "reduction",
    "seed": 0,
    "learners": [
        {"name": "mean", "kind": "baseline"},
        {"name": "pca", "kind": "sklearn.decomposition.PCA", "params": {"n_components": 1}},
    ],
}


@pytest.mark.slow
def test_a_reduction_goes_through_all_stages_and_places_new_rows(tmp_path: Path) -> None:
    project = make_project(tmp_path, TRAIN)
    summary = drive(project)
    assert summary["model"]["alias"] == "champion", summary["decision"]["reasons"]
    candidate, held_out = learners.load(project / CANDIDATE), pq.read_table(project / TABLE)
    held_out = held_out.filter(pc.equal(held_out["window"], "validation")).sort_by("event_time")
    reference = of_column(pq.read_table(project / CANDIDATE / UNSEEN)["prediction"])
    np.testing.assert_array_equal(reference, candidate.predict(held_out))  # another fit has other axes
    evaluation, card = read_json(project / EVALUATION), (project / MODEL_CARD).read_text()
    assert evaluation["restored"]["value"] > 0.5
    assert evaluation["coloured_by"] == "place"
    for words in ("The map, by place", "of the variance", "Neighbours on the map can be trusted by"):
        assert words in card
    file = tmp_path / "new.csv"
    file.write_text("id,at,x,y,place,odd\n1,2024-06-01,0.1,0.1,left,\n2,2024-06-01,6,,left,\n")
    with watching(project, trigger="test", wait_seconds=0) as context:
        score.run(context, str(file), out=tmp_path / "out.parquet")
        why = reasons.run(context, str(file))
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored["prediction"].to_pylist() == scored["component_1"].to_pylist()
    assert why.rows[0].total == pytest.approx(why.rows[0].prediction)  # of the reconstruction error


def test_the_share_of_the_variance_is_that_of_the_rows_also_where_the_baseline_is_as_good() -> None:
    problem, values = problem_of("reduction"), np.random.default_rng(0).normal(3, [1, 5], (200, 2))
    table, labels = pa.table({"x": values[:, 0], "y": values[:, 1]}), np.zeros(200, dtype=np.int64)
    predicted = np.zeros((200, 4))
    predicted[:, 0] = mean_square(values - values.mean(axis=0)) / 4
    test = Holdout(table, labels, np.array([]), Sample(labels, Clusters.rows(200), problem), problem)
    learner: Any = SimpleNamespace(spec=SimpleNamespace(features=("x", "y")))
    measured = details(test, Scored({"candidate": predicted, "baseline": predicted}, {}, {}, candidate=learner), 0.95)
    assert measured.restored.value == pytest.approx(0.75)
