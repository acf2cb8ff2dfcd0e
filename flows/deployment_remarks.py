"""What `refit up` and `refit deploy` say of a project whose deployments will not do what its user may expect."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from flows.committed_code import uncommitted_remark
from flows.deployments import trains_by_clock
from flows.retraining_policy import never_retrains
from refit.drift.backtest_length import too_few_windows
from refit.runtime import run_file


def remarks(project: Path, *, in_folder: bool = True) -> list[str]:
    """Lines on what the deployments will not do, or will do more often than their params say.

    Args:
        in_folder: whether runs work in `project`, with its code as it is there.
    """
    params = run_file.params_outside(project)
    every = (
        uncommitted_remark(project) if in_folder else "",
        trains_by_clock(project, params),
        too_few_windows(params, datetime.now(UTC)),
        never_retrains(params),
    )
    return [remark for remark in every if remark]
