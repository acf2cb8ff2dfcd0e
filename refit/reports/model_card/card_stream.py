"""What the model card says of a learner of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refit.schemas.online_state import Alarm
from refit.schemas.prequential_report import PrequentialReport


@dataclass(frozen=True)
class StreamRow:
    """Some steps, and what each model reached on them."""

    name: str
    steps: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class ShownStream:
    """The section of the card."""

    measure: str
    words: str
    rows: tuple[StreamRow, ...]
    alarms: tuple[Alarm, ...]
    no_alarm: str


def shown(report: PrequentialReport | None) -> ShownStream | None:
    """The section on a stream; None for other learners."""
    if report is None:
        return None
    rows = (
        StreamRow("training", report.learned_steps, report.learned),
        StreamRow("test", report.test_steps, report.test),
        StreamRow("both", report.learned_steps + report.test_steps, report.whole),
    )
    words = (
        "It predicts each step before it learns it, and learns it once its label is known. No change predicts the "
        "label known last. The gate compares models that learn nothing on the test rows, as they would be used until "
        f"the next training; rolling means there are over {report.window:,} steps."
    )
    if report.problem:
        words += f" It could not go on learning the test rows: {report.problem}."
    measure = "mean absolute error" if report.measure == "mae" else "accuracy"
    return ShownStream(measure, words, rows, report.alarms, "No drift detector has raised an alarm, or none watches.")
