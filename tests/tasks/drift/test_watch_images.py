"""Images that change as a whole are noticed by their embeddings, where no column of the table has changed."""

from __future__ import annotations

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
                "columns": {"id": "integer", "at": "timestamp", "picture": "image(8, 8)", "kind": "text"},
                "key": ["id"],
                "event_time": "at",
            }
        },
    },
    "featurize": {"label": {"source": "pictures", "column": "kind", "delay_hours": 0}},
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
    random, lines = np.random.default_rng(first), ["id,at,picture,kind"]
    for number in range(12 * first, 12 * (first + days)):
        kind = int(random.integers(0, 2))
        pixels = random.integers(0, 40, (8, 8)).astype(np.uint8)
        pixels[:, 1 + kind] += 150
        pixels[1] += 60
        name = f"{number}.png"
        Image.fromarray(pixels[::-1] if mirrored else pixels).save(folder / name)
        at = datetime(START.year, START.month, START.day) + timedelta(hours=2 * number)  # noqa: DTZ001
        lines.append(f"{number},{at.isoformat()},{name},{'ab'[kind]}")
    (folder / f"from_{first}.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_mirrored_images_are_noticed_and_others_are_not(mirrored: bool, tmp_path: Path) -> None:
    project = tmp_path / "stripes"
    (project / "raw").mkdir(parents=True)
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(())}))
    (project / ".gitignore").write_text(IGNORED)
    write_days(project / "raw", 0, DAYS, mirrored=False)
    dvc_runner.initialise(project)
    summary = drive(project)
    assert summary["model"]["alias"] == "champion", summary["decision"]
    write_days(project / "raw", DAYS, NEW, mirrored=mirrored)
    drive(project, as_of=str(START + timedelta(days=DAYS + NEW)))
    with session(project) as run:
        decision = watch.run(run.context(), as_of=str(START + timedelta(days=DAYS + NEW)))
    separation = decision.multivariate
    assert separation is not None, decision.reasons
    assert (separation.auc > 0.8) == mirrored, decision.reasons
