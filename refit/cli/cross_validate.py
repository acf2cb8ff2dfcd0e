"""`refit cross-validate`: nested cross-validation of the configured training, tuning included."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from flows.progress_display import show_progress
from flows.run_options import RunOptions, Trigger
from flows.session import session
from refit.config import STAGES
from refit.plain_text import number
from refit.problems import metric_words
from refit.runtime.terminal import Terminal, line
from refit.schemas.cross_validation import CrossValidation
from refit.schemas.snapshot import stand_in_notice

EARLIER_STAGES = STAGES[: STAGES.index("train")]  # which have to be up to date first


def cross_validate(project: Path, options: RunOptions, *, quiet: bool = False) -> CrossValidation:
    """Bring the feature table up to date, train and score on every outer fold; return what `--json` prints.

    Raises:
        UserError: the params are invalid, or these rows cannot be split into the folds.
        RefitError: another run holds the project.
    """
    from refit.models import run_logging
    from refit.operations import cross_validation
    from tasks.stages import run_remembered

    with (
        show_progress(Terminal(stderr=True)),
        session(
            project, replace(options, trigger=Trigger("cross-validation")), may_promote=False, keeps_settings=True
        ) as run,
    ):
        for stage in EARLIER_STAGES:
            with run.stage(stage):
                run.ended(stage, run_remembered(stage, run.context()), 0.0)
        report = cross_validation.run(run.context())
        run_logging.log_cross_validation(run.context(), report)
    if not quiet:
        print_report(report, Terminal())
    return report


def print_report(report: CrossValidation, console: Terminal) -> None:
    """Print each score with its mean and spread over the folds, and the chosen learners."""
    folds = len(report.folds)
    console.print()
    console.print(f"{report.model}: {report.rows:,} rows, {folds} outer folds ({report.folding.kind})", style="bold")
    if report.stand_in:
        console.print(stand_in_notice(", ".join(report.stand_in)), style="bold")
    table = Table("", box=None, pad_edge=False)
    for name in ("mean", "± between folds", "all together", "baseline"):
        table.add_column(name, justify="right")
    for name, mean in report.mean.items():
        values = (mean, report.deviation[name], report.pooled.get(name), report.baseline.get(name))
        style = "green" if name == report.metric else ""
        table.add_row(metric_words(name), *("" if value is None else number(value) for value in values), style=style)
    console.print(table)
    chosen = Counter(each.learner for each in report.folds)
    console.print(
        line(
            ("Chosen", "bold"),
            f" {', '.join(f'{name} in {count}' for name, count in chosen.most_common())} of {folds}",
        )
    )
    if intervals := [each.intervals for each in report.folds if each.intervals]:
        coverage = sum(each.coverage for each in intervals) / len(intervals)
        width = sum(each.width or math.inf for each in intervals) / len(intervals)
        console.print(line(("Intervals", "bold"), f" held {coverage:.1%} of the labels; mean width {width:.4g}"))
    console.print(line(("Took", "bold"), f" {report.seconds:.1f} s; {report.file}"), soft_wrap=True)
