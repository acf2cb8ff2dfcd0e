"""The lines of a run's summary on what the candidate was compared with, and on its behavioural tests."""

from __future__ import annotations

from collections.abc import Mapping

from flows.run_summary import RunSummary
from refit.problems import metric_named
from refit.schemas.measured import Measured


def format_opponents(summary: RunSummary) -> str:
    """Format the score of each naive opponent on the test rows; the gate's is the best one on validation rows."""
    scores = (
        f"{each.words} {'–' if each.score.value is None else f'{each.score.value:.4f}'}"
        + (" (best on validation: the gate's)" if each.best else "")
        for each in summary.opponents
    )
    return f"{summary.decision.metric}: {' · '.join(scores)}"


def format_behaviour(summary: RunSummary) -> str:
    """Format how many behavioural tests were passed, and which were not."""
    failed = [each.name for each in summary.behaviour if not each.passed]
    passed = f"{len(summary.behaviour) - len(failed)} of {len(summary.behaviour)} tests passed"
    return f"{passed}; failed: {', '.join(failed)}" if failed else passed


def metric_label(name: str, measured: Mapping[str, Measured]) -> str:
    """Return a metric's name, with its unit or the threshold that it depends on."""
    if name == "accuracy" and "accuracy_at_half" in measured:
        return "accuracy at each model's threshold"
    words = {"accuracy_at_half": "accuracy at .5"}.get(name, name)
    return f"{words} in %" if metric_named(name).percent else words
