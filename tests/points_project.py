"""A small project of points in a plane, for kinds of problems that need no label."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from refit.new_project.project_folder import IGNORED, pipeline
from refit.runtime import dvc_runner

CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
COLUMNS = {"id": "integer", "at": "timestamp", "x": "number", "y": "number", "place": "text", "odd": "integer"}
PARAMS: dict[str, Any] = {
    "project": {"name": "groups", "timezone": "UTC"},
    "ingest": {
        "period": "month",
        "sources": {
            "points": {"kind": "files", "path": "raw/*.csv", "columns": COLUMNS, "key": ["id"], "event_time": "at"}
        },
    },
    "featurize": {
        "label": {"source": "points", "delay_hours": 0},
        "exclude": ["place", "odd"],
        "keep": ["place"],
    },
    "evaluate": {"gate": {"max_loss": 0.1, "min_gain_over_baseline": 0.1, "min_rows": 100}},
    "validate": {},
    "register": {},
    "cost": {},
    "registry": {"trusted_types": []},
}


def write_month(
    project: Path,
    month: int,
    weights: tuple[float, ...] = (0.5, 0.3, 0.2),
    rows: int = 240,
    odd: float = 0.0,
    *,
    between: bool = False,
) -> None:
    """Points around the three centres; a share of them far from all, or between two of them."""
    random, start = np.random.default_rng(month), datetime(2024, month, 1, tzinfo=UTC)
    with (project / f"raw/{month}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            group, is_odd = random.choice(3, p=weights), random.random() < odd
            x, y = CENTRES[group] + random.normal(0, 0.7, 2) + (random.choice([-15, 15], 2) if is_odd else 0.0)
            if is_odd and between:
                x, y = 4.5 + random.normal(0, 0.5, 2)
            at = start + timedelta(hours=29 * 24 * number / rows)
            place = "left" if group else "right"
            writer.writerow((1000 * month + number, f"{at:%Y-%m-%d %H:%M}", f"{x:.4f}", f"{y:.4f}", place, int(is_odd)))


def make_project(
    folder: Path,
    train: dict[str, Any],
    *,
    months: int = 5,
    odd: float = 0.0,
    between: bool = False,
    **sections: Any,
) -> Path:
    """A project with its first months, ready to run."""
    project = folder / "groups"
    (project / "raw").mkdir(parents=True)
    for month in range(1, months + 1):
        write_month(project, month, odd=odd, between=between)
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS | sections | {"train": train}))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    return project
