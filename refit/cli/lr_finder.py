"""`refit lr-find`: a learning rate for a network, from its loss at growing rates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flows.progress_display import show_progress
from flows.run_options import RunOptions, Trigger
from flows.session import session
from refit.operations.lr_finder import RangeTest
from refit.runtime.terminal import Terminal, line


def find(
    project: Path, options: RunOptions, learner: str, *, lowest: float, highest: float, steps: int, quiet: bool = False
) -> RangeTest:
    """Bring the feature table up to date and test the rates.

    Raises:
        UserError: the params or the arguments are invalid, or the learner is no network.
        RefitError: another run holds the project.
    """
    from refit.cli.cross_validate import EARLIER_STAGES
    from refit.operations import lr_finder
    from tasks.stages import run_remembered

    with (
        show_progress(Terminal(stderr=True)),
        session(project, replace(options, trigger=Trigger("lr-find")), may_promote=False, keeps_settings=True) as run,
    ):
        lr_finder.check(run.context().params, learner, lowest=lowest, highest=highest, steps=steps)  # before the stages
        for stage in EARLIER_STAGES:
            with run.stage(stage):
                run.ended(stage, run_remembered(stage, run.context()), 0.0)
        result = lr_finder.run(run.context(), learner, lowest=lowest, highest=highest, steps=steps)
    if not quiet:
        console = Terminal()
        console.print(
            line(
                f"{learner}: the loss is lowest at a learning rate of {result.lowest:.1e} and grows beyond; ",
                (f"learning_rate: {result.suggestion:g}", "bold"),
                " is a tenth of it",
            )
        )
        console.print(f"The curve: {result.chart}")
    return result
