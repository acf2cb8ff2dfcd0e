"""The lines of a run's summary on what the candidate found, what it was compared with, and its behavioural tests."""

from __future__ import annotations

from collections.abc import Mapping

from flows.run_summary import IntervalSummary, RunSummary
from refit.evaluation.interval_coverage import shortfall
from refit.plain_text import number
from refit.problems import kind_of, metric_named
from refit.reports.model_card.by_task import view_of
from refit.runtime import environments
from refit.schemas.evaluation import Evaluation
from refit.schemas.measured import Measured

# Checks of the gate, by the beginnings of their names.
_OF_THE_MODEL = ("floor", "ceiling", "behaviour")  # more test rows would show the same
_OF_THE_ROWS = ("rows", "labels", "clusters", "gain over", "better than", "naive", "slice")


def findings(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what the candidate found, such as segments, in the sentences of its model card; none if labels tell it."""
    kind = kind_of(evaluation.task)
    needs_label = kind.labelled and not kind.optional_label
    return () if needs_label else tuple(view_of(evaluation.task).summary(evaluation))


def format_opponents(summary: RunSummary) -> str:
    """Format the score of each naive opponent on the test rows; the gate's is the best one on validation rows."""
    scores = (
        f"{each.words} {number(each.score.value)}" + (" (best on validation: the gate's)" if each.best else "")
        for each in summary.opponents
    )
    return f"{summary.decision.metric}: {' · '.join(scores)}"


def format_behaviour(summary: RunSummary) -> str:
    """Format how many behavioural tests were passed, and which were not."""
    failed = [each.name for each in summary.behaviour if not each.passed]
    passed = f"{len(summary.behaviour) - len(failed)} of {len(summary.behaviour)} tests passed"
    return f"{passed}; failed: {', '.join(failed)}" if failed else passed


def format_searches(summary: RunSummary) -> str:
    """Format the number of trials of each tuned learner; empty if none was tuned."""
    tuned = [learner for learner in summary.learners if learner.trials]
    return " · ".join(
        f"{each.name} {each.trials} trials, {each.pruned} given up early, {each.search_seconds:.1f} s" for each in tuned
    )


def format_reduction(summary: RunSummary) -> str:
    """Format the candidate's error reduction against the champion on the test rows; empty if there is none."""
    share = summary.error_reduction.value if summary.error_reduction else None
    metric = summary.decision.metric
    return "" if share is None else f"{100 * share:+.1f} % of what the champion lacks to a perfect {metric}"


def format_test(summary: RunSummary) -> str:
    """Format which rows judged: those of a window of time, or those that a rule kept apart."""
    test = summary.windows.test
    if summary.split:
        return f"{test.rows:,} test rows, kept apart by a rule: {summary.split}"
    return f"test window {test.start:%Y-%m-%d} to {test.end:%Y-%m-%d}, {test.rows:,} rows"


def next_steps(summary: RunSummary) -> str:
    """Name the commands that help next: none of them spends another look at the same test rows."""
    if summary.model.awaits_approval:
        version = summary.model.version
        return _commands("ui", f'approve {version} --why "..."', f'reject {version} --why "..."')
    if summary.decision.promote:
        return _commands("show", "ui", "drift, as new rows come", "up --detach, to do it unattended")
    commands, advice = _commands(f"explain {summary.model.version}", "ui"), _advice(summary)
    return f"{commands}; {advice}" if advice else commands


def _advice(summary: RunSummary) -> str:
    """Say what helps after a refusal, by the checks that failed; empty if their own sentences say it."""
    decision = summary.decision
    failed = {check.name for check in decision.checks if not check.passed}
    if failed & {"change", "different"}:
        return "it brings no change: other rows to learn from, features or learners make another candidate"
    compared = (*decision.compared, *decision.slices, *((decision.naive,) if decision.naive else ()))
    is_worse = any(not each.passed and each.upper is not None and each.upper <= each.must_exceed for each in compared)
    again = "each further run on these test rows needs more confidence"
    if is_worse or any(name.startswith(_OF_THE_MODEL) for name in failed):
        return f"other rows to learn from, features or learners can make a better candidate, while {again}"
    if all(name.startswith(_OF_THE_ROWS) for name in failed):
        longer = "featurize.split.test" if summary.split else "featurize.windows.test"
        return f"more rows or a larger {longer} can show what these test rows cannot, while {again}"
    return ""


def _commands(*words: str) -> str:
    """Commands of Refit for this environment, side by side.

    >>> with environments.working_in("staging"):
    ...     _commands("show", "ui")
    'refit --env staging show · refit --env staging ui'
    """
    return " · ".join(map(environments.command, words))


def metric_label(name: str, measured: Mapping[str, Measured]) -> str:
    """Return a metric's name, with its unit or the threshold that it depends on."""
    if name == "accuracy" and "accuracy_at_half" in measured:
        return "accuracy at each model's threshold"
    words = {"accuracy_at_half": "accuracy at .5"}.get(name, name)
    return f"{words} in %" if metric_named(name).percent else words


def format_interval(measured: Measured | None, scale: float = 1, digits: int = 4) -> str:
    """Format a value and the larger half of its interval, which is asymmetric where the metric's range cuts it off.

    >>> format_interval(Measured(value=0.893, lower=0.883, upper=0.902), 100, 1)
    '89.3 ± 1.0'
    """
    if measured is None or measured.value is None:
        return "–"
    value = f"{scale * measured.value:.{digits}f}"
    if measured.lower is None or measured.upper is None:
        return value
    reach = max(measured.value - measured.lower, measured.upper - measured.value)
    return f"{value} ± {scale * reach:.{digits}f}"


def format_coverage(intervals: IntervalSummary) -> str:
    """Format the level, the coverage and the mean width of prediction intervals."""
    coverage = format_interval(intervals.coverage, 100, 1)
    width = "–" if intervals.width.value is None else f"{intervals.width.value:.4g}"
    text = f"{100 * intervals.level:.4g} % intervals held {coverage} % of the labels; mean width {width}"
    missed = shortfall(intervals.coverage, intervals.level)
    return f"{text}; warning: {missed}" if missed else text
