"""A dimension reduction goes through all six stages: the card draws the map, and scored rows have their coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from driving import drive
from points_project import make_project

from flows.session import watching
from refit.files.artifacts import EVALUATION, MODEL_CARD, read_json
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


def test_a_reduction_goes_through_all_stages_and_places_new_rows(tmp_path: Path) -> None:
    project = make_project(tmp_path, TRAIN)
    summary = drive(project)
    assert summary["model"]["alias"] == "champion", summary["decision"]["reasons"]
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
