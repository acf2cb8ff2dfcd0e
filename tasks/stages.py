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

    What DVC cannot see is asked for here: who is in charge, before `evaluate`; whether the registry still holds what
    the receipt says, after `register`.
    """
    if stage == "evaluate":
        from tasks.comparand import refresh

        refresh(context)

    def function() -> None:
        stage_function(stage)(context)

    outcome = memory.run_stage(context.project, stage, function, force=force)
    if stage == "register" and outcome == "unchanged":
        from tasks.register import needs_rerun

        if reason := needs_rerun(context):
            context.progress(f"register: {reason}")
            outcome = memory.run_stage(context.project, stage, function, force=True)
    return outcome
