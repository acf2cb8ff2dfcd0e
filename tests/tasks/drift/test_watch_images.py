"""Images that change as a whole are noticed by their embeddings, where no column of the table has changed."""

from __future__ import annotations

import copy
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from driving import drive
from PIL import Image

from flows.session import session
from refit.new_project.project_folder import IGNORED, pipeline
from refit.runtime import dvc_runner
from refit.schemas.drift_decision import DriftDecision
from tasks.drift import watch

START, DAYS, NEW = date(2024, 1, 1), 121, 14
PARAMS: dict[str, Any] = {
    "project": {"name": "stripes", "timezone": "UTC"},
    "ingest": {
        "period": "month",
        "sources": {
            "pictures": {
                "kind": "files",
                "path": "raw/*.csv",
                "columns": {
                    "id": "integer",
                    "at": "timestamp",
                    "picture": "image(8, 8)",
                    "level": "number",
                    "kind": "text",
                },
                "key": ["id"],
                "event_time": "at",
            }
        },
    },
    "featurize": {"label": {"source": "pictures", "column": "kind", "delay_hours": 0}, "exclude": ["level"]},
    "train": {
        "task": "multiclass",
        "metric": "accuracy",
        "seed": 0,
        "learners": [
            {"name": "base", "kind": "baseline"},
            {"name": "net", "kind": "mlp", "params": {"hidden": [8], "epochs": 6, "batch_rows": 32}},
        ],
    },
    "evaluate": {"gate": {"min_rows": 100}},
    "validate": {},
    "register": {},
    "cost": {},
    "registry": {"trusted_types": []},
}


def write_days(folder: Path, first: int, days: int, *, mirrored: bool) -> None:
    """Twelve pictures a day: a stripe in the second or third column, and a brighter row."""
    random, lines = np.random.default_rng(first), ["id,at,picture,level,kind"]
    for number in range(12 * first, 12 * (first + days)):
        kind = int(random.integers(0, 2))
        pixels = random.integers(0, 40, (8, 8)).astype(np.uint8)
        pixels[:, 1 + kind] += 150
        pixels[1] += 60
        name = f"{number}.png"
        Image.fromarray(pixels[::-1] if mirrored else pixels).save(folder / name)
        at = datetime(START.year, START.month, START.day) + timedelta(hours=2 * number)  # noqa: DTZ001
        lines.append(f"{number},{at.isoformat()},{name},{kind + random.normal(0, 0.2):.3f},{'ab'[kind]}")
    (folder / f"from_{first}.csv").write_text("\n".join(lines) + "\n")


def watched(project: Path, params: dict[str, Any], *, mirrored: bool) -> DriftDecision:
    """What the drift check says of the newest two weeks, of which the champion has seen nothing."""
    (project / "raw").mkdir(parents=True)
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(())}))
    (project / ".gitignore").write_text(IGNORED)
    write_days(project / "raw", 0, DAYS, mirrored=False)
    dvc_runner.initialise(project)
    summary = drive(project)
    assert summary["model"]["alias"] == "champion", summary["decision"]
    write_days(project / "raw", DAYS, NEW, mirrored=mirrored)
    drive(project, as_of=str(START + timedelta(days=DAYS + NEW)))
    with session(project) as run:
        return watch.run(run.context(), as_of=str(START + timedelta(days=DAYS + NEW)))


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_mirrored_images_are_noticed_and_others_are_not(mirrored: bool, tmp_path: Path) -> None:
    decision = watched(tmp_path / "stripes", PARAMS, mirrored=mirrored)
    separation = decision.multivariate
    assert separation is not None, decision.reasons
    assert (separation.auc > 0.8) == mirrored, decision.reasons


@pytest.mark.slow
def test_images_that_the_champion_excludes_are_watched_too(tmp_path: Path) -> None:
    params = copy.deepcopy(PARAMS)
    params["featurize"]["exclude"] = []
    line = {"name": "line", "kind": "sklearn.linear_model.LogisticRegression", "exclude": ["picture"]}
    params["train"]["learners"][1] = line
    decision = watched(tmp_path / "stripes", params, mirrored=True)
    separation = decision.multivariate
    assert separation is not None, decision.reasons
    assert separation.auc > 0.8, decision.reasons
    newest = {column.column: column.effects for column in decision.newest_columns}
    assert newest["picture.mean"]["missing"] == 0
