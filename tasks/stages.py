"""Looks up a stage by name and runs it unless nothing that it depends on has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol

from refit.config import STAGES, nearest
from refit.errors import UserError
from refit.runtime import dvc_runner
from refit.runtime.context import Context


class StageRun(Protocol):
    """What a stage needs from its run."""

    force: bool

    def context(self) -> Context: ...
    def stage(self, stage: str) -> AbstractContextManager[None]: ...
    def ended(self, stage: str, outcome: dvc_runner.Outcome, seconds: float) -> None: ...


def run_in(run: StageRun, stage: str) -> dvc_runner.Outcome:
    """Run a stage as part of a run, which shows it and notes how it ended."""
    started = time.monotonic()
    with run.stage(stage):
        outcome = run_remembered(stage, run.context(), force=run.force)
    run.ended(stage, outcome, time.monotonic() - started)
    return outcome


def stage_function(stage: str) -> Callable[[Context], None]:
    """Return the `run` function of a stage; imports its module late, so that unchanged stages cost nothing."""
    if stage not in STAGES:
        raise UserError(f"stage {stage!r} is unknown{nearest(stage, STAGES)}; the stages are {', '.join(STAGES)}")
    function: Callable[[Context], None] = import_module(f"tasks.{stage}").run
    return function


def run_remembered(
    stage: str, context: Context, *, force: bool = False, work: Callable[[Context], None] | None = None
) -> dvc_runner.Outcome:
    """Run a stage in this process, unless nothing has changed since its last run under DVC.

    The champions of other models that compute features are written to a file before `featurize`, the current champion
    before `evaluate`. Changes that DVC cannot see are looked for where it sees none.

    Args:
        work: does the stage's work on another machine, and brings its outputs here; the stage's function if None.
    """
    if stage == "evaluate":
        from refit.models.incumbent import refresh

        refresh(context)
    if stage == "featurize":
        from refit.models import feature_models

        feature_models.refresh(context)
    if stage == "train":
        from tasks.train import warm_start_file

        warm_start_file.refresh(context)

    def function() -> None:
        (work or stage_function(stage))(context)

    outcome = dvc_runner.run_stage(context.project, stage, function, force=force, say=context.progress)
    if outcome == "unchanged" and (reason := unseen_by_dvc(stage, context)):
        context.progress(f"{stage}: {reason}")
        outcome = dvc_runner.run_stage(context.project, stage, function, force=True)
    return outcome


def unseen_by_dvc(stage: str, context: Context) -> str | None:
    """Return why a stage that DVC takes for unchanged must run, or None; DVC sees no raw files and no registry."""
    if stage == "ingest":
        from tasks.ingest import stale_reason

        return stale_reason(context)
    if stage == "register":
        from tasks.register import needs_rerun

        return needs_rerun(context)
    return None
