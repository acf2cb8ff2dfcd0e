"""Images on the model card, where the test rows have a class that the learner has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from flows.run_options import RunOptions
from flows.session import session
from refit.config import STAGES
from refit.files.artifacts import MODEL_CARD
from refit.new_project.project_folder import IGNORED, pipeline
from refit.reports.model_card import image_charts
from refit.runtime import dvc_runner
from tasks.stages import run_remembered
from tests.tasks.drift.test_watch_images import PARAMS


@pytest.mark.slow
def test_images_of_a_class_that_only_the_test_rows_have_are_drawn_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, lines = tmp_path / "stripes", ["id,at,picture,level,kind"]
    (project / "raw").mkdir(parents=True)
    for number in range(240):
        day, kind = number // 2, "b" if number % 2 else "new" if number % 12 == 0 and number >= 120 else "a"
        pixels = np.random.default_rng(number).integers(0, 40, (8, 8)).astype(np.uint8)
        pixels[:, {"b": 1, "a": 2, "new": 6}[kind]] += 150
        Image.fromarray(pixels).save(project / f"raw/{number}.png")
        lines.append(f"{number},2024-0{1 + day // 30}-{1 + day % 30 % 28:02}T00:00:00,{number}.png,1,{kind}")
    (project / "raw/pictures.csv").write_text("\n".join(lines) + "\n")
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(())}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    drawn, draw = [], image_charts.draw
    monkeypatch.setattr(image_charts, "draw", lambda best, worst, name: drawn.extend(worst) or draw(best, worst, name))
    settings = {"evaluate.permutation_rows": 0, "evaluate.explain.rows": 0}
    with session(project, RunOptions(overrides=settings)) as run:
        for stage in STAGES[: STAGES.index("register")]:
            run_remembered(stage, run.context())
    test = pq.read_table(project / "reports/predictions.parquet")
    assert "new" in {str(label) for label in test["label"].to_pylist()}
    worst = {image.label for image in drawn if not image.right}
    assert "new" in worst
    assert {image.prediction.split()[0] for image in drawn} <= {"a", "b"}
    assert "images_picture" in (project / MODEL_CARD).read_text()
