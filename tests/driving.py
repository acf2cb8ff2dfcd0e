"""Drives a project: through its six stages without Prefect, which costs seconds to start, and on into later months."""

from __future__ import annotations

import csv
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from flows.run_options import RunOptions
from flows.run_summary import RunSummary
from flows.session import session
from flows.summary_display import summarise
from refit.config import STAGES
from refit.models import verification
from registry import relocation
from registry.store import locate
from tasks.stages import run_remembered


def drive(project: Path, **settings: Any) -> dict[str, Any]:
    """The flow's six calls without Prefect, which costs seconds to start; what `refit run --json` prints."""
    return summary_of(project, **settings).to_json()


def summary_of(project: Path, **settings: Any) -> RunSummary:
    """The same, as the object that is shown."""
    with session(project, RunOptions(**settings)) as run:
        for stage in STAGES:
            run.ended(stage, run_remembered(stage, run.context(), force=run.force), 0.0)
        return summarise(run)


def copy_project(project: Path, copy: Path) -> Path:
    """A copy of a project, at home at a path of its own."""
    shutil.copytree(project, copy, symlinks=True)
    relocation.settle(locate(copy, None))
    return copy


def check_here(
    folder: Path, *, manifest: str, tolerance: float, trusted_types: tuple[str, ...], project: Path
) -> float:
    """What `verification.in_fresh_process` checks, in this process: what is checked is the same, seconds are saved."""
    verification.check_stored(folder, manifest)
    return verification.check_golden(folder, tolerance, trusted_types)


def states(told: dict[str, Any]) -> list[str]:
    """How the six stages ended, as one letter each: executed, restored, unchanged."""
    return [told["stages"][stage]["state"] for stage in STAGES]


def later_months(project: Path, *, turned: bool) -> None:
    """Two months more, like the two before; `turned`: what used to stay now leaves, and the other way round."""
    rows = list(csv.DictReader((project / "raw/subscriptions.csv").open()))
    found = []
    for row in rows:
        if (day := date.fromisoformat(row["renewal"])) >= date(2024, 9, 1):
            label = {"yes": "no", "no": "yes"}[row["churned"]] if turned else row["churned"]
            moved = (day + timedelta(days=61)).isoformat()
            found.append(row | {"subscription": f"L{row['subscription']}", "renewal": moved, "churned": label})
    with (project / "raw/later.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(found)
