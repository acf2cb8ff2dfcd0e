"""A stage by name: its function, and what belongs to running it that is not its own work."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from refit.config import STAGES, nearest
from refit.errors import UserError
from refit.runtime import dvc_runner
from refit.runtime.context import Context


def stage_function(stage: str) -> Callable[[Context], None]:
    """The `run` of a stage; its module is imported only now, so that unchanged stages cost nothing."""
    if stage not in STAGES:
        raise UserError(f"stage {stage!r} is unknown{nearest(stage, STAGES)}; the stages are {', '.join(STAGES)}")
    function: Callable[[Context], None] = import_module(f"tasks.{stage}").run
    return function


def run_remembered(stage: str, context: Context, *, force: bool = False) -> dvc_runner.Outcome:
    """Run a stage unless nothing changed since DVC last saw it, in this process.

    Who is in charge is written down before `evaluate`; what else DVC cannot see is asked for where nothing changed.
    """
    if stage == "evaluate":
        from refit.models.incumbent import refresh

        refresh(context)
    if stage == "train":
        from tasks.train import warm_start_file

        warm_start_file.refresh(context)

    def function() -> None:
        stage_function(stage)(context)

    outcome = dvc_runner.run_stage(context.project, stage, function, force=force, say=context.progress)
    if outcome == "unchanged" and (reason := unseen_by_dvc(stage, context)):
        context.progress(f"{stage}: {reason}")
        outcome = dvc_runner.run_stage(context.project, stage, function, force=True)
    return outcome


def unseen_by_dvc(stage: str, context: Context) -> str | None:
    """Why a stage that DVC takes for unchanged must run all the same: it sees neither raw files nor the registry."""
    if stage == "ingest":
        from tasks.ingest import news

        return news(context)
    if stage == "register":
        from tasks.register import needs_rerun

        return needs_rerun(context)
    return None
