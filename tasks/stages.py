"""A stage by name: its function, and what belongs to running it that is not its own work."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from tasks import memory
from tasks.context import Context
from tasks.errors import UserError
from tasks.params import STAGES, nearest


def stage_function(stage: str) -> Callable[[Context], None]:
    """The `run` of a stage; its module is imported only now, so that unchanged stages cost nothing."""
    if stage not in STAGES:
        raise UserError(f"stage {stage!r} is unknown{nearest(stage, STAGES)}; the stages are {', '.join(STAGES)}")
    function: Callable[[Context], None] = import_module(f"tasks.{stage}").run
    return function


def run_remembered(stage: str, context: Context, *, force: bool = False) -> memory.Outcome:
    """Run a stage unless nothing changed since DVC last saw it, in this process.

    Who is in charge is written down before `evaluate`; what else DVC cannot see is asked for where nothing changed.
    """
    if stage == "evaluate":
        from tasks.comparand import refresh

        refresh(context)
    if stage == "train":
        from tasks import warm_start

        warm_start.refresh(context)

    def function() -> None:
        stage_function(stage)(context)

    outcome = memory.run_stage(context.project, stage, function, force=force, say=context.progress)
    if outcome == "unchanged" and (reason := unseen_by_dvc(stage, context)):
        context.progress(f"{stage}: {reason}")
        outcome = memory.run_stage(context.project, stage, function, force=True)
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
