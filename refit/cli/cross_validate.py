"""`refit cross-validate`: what training as it is set up is worth, on folds that had no part in any choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.progress_display import shown_on
from flows.session import session
from refit.config import STAGES
from refit.metrics import METRIC_WORDS
from refit.runtime.terminal import Terminal, line

BEFORE = STAGES[: STAGES.index("train")]  # what has to be up to date first


def cross_validate(
    project: Path, *, as_of: str, overrides: Mapping[str, Any], wait_seconds: float, quiet: bool = False
) -> dict[str, Any]:
    """Bring the feature table up to date, train and score on every outer fold; returns what `--json` prints.

    Raises:
        UserError: the params do not stand, or the folds cannot be cut from these rows.
        RefitError: another run holds the project.
    """
    from refit.models import run_logging
    from refit.operations import cross_validation
    from tasks.stages import run_remembered

    with (
        shown_on(Terminal(stderr=True)),
        session(project, as_of=as_of, overrides=overrides, reason="cross-validation", wait_seconds=wait_seconds) as run,
    ):
        for stage in BEFORE:
            with run.stage(stage):
                run.ended(stage, run_remembered(stage, run.context()), 0.0)
        told = cross_validation.run(run.context())
        run_logging.log_cross_validation(run.context(), told)
    if not quiet:
        show(told, Terminal())
    return told


def show(told: Mapping[str, Any], console: Terminal) -> None:
    """Each score with its mean and spread over the folds, and which learners were chosen."""
    asked = told["asked"]
    folds = len(told["folds"])
    console.print()
    console.print(f"{told['model']}: {told['rows']:,} rows, {folds} outer folds ({asked['kind']})", style="bold")
    if told["stand_in"]:
        console.print(
            f"GENERATED stand-in for {', '.join(told['stand_in'])}: no score here means anything", style="bold"
        )
    table = Table("", box=None, pad_edge=False)
    for name in ("mean", "± between folds", "all together", "baseline"):
        table.add_column(name, justify="right")
    for name, mean in told["mean"].items():
        row = (mean, told["deviation"][name], told["together"].get(name), told["baseline"].get(name))
        style = "green" if name == told["metric"] else ""
        table.add_row(
            METRIC_WORDS.get(name, name), *("" if value is None else f"{value:.4f}" for value in row), style=style
        )
    console.print(table)
    chosen = Counter(fold["learner"] for fold in told["folds"])
    console.print(
        line(
            ("Chosen", "bold"),
            f" {', '.join(f'{name} in {count}' for name, count in chosen.most_common())} of {folds}",
        )
    )
    if held := [fold["intervals"] for fold in told["folds"] if fold["intervals"]]:
        coverage, width = (sum(each[name] for each in held) / len(held) for name in ("coverage", "width"))
        console.print(line(("Intervals", "bold"), f" held {coverage:.1%} of the labels; mean width {width:.4g}"))
    console.print(line(("Took", "bold"), f" {told['seconds']:.1f} s; {told['file']}"), soft_wrap=True)
