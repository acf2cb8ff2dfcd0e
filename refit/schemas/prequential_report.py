"""How well a learner of a stream predicted each step before it learned it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from refit.schemas.artifact import Part, UtcTime, omitted
from refit.schemas.online_state import Alarm

__all__ = ["PrequentialPoint", "PrequentialReport"]


class PrequentialPoint(Part):
    """The errors of each model around a step, and up to it."""

    time: UtcTime | None
    step: int
    rolling: Mapping[str, float]  # mean over the newest steps, by model
    cumulative: Mapping[str, float]  # mean over all steps so far


class PrequentialReport(Part):
    """How a learner predicted each step before it learned it, next to what needs no learning.

    Models: `prequential` (it goes on learning), `no_change` (the label known last), and on test rows `candidate` and
    `champion`, which learn nothing more.
    """

    measure: Literal["accuracy", "mae"]
    window: int  # steps of a rolling mean on test rows
    learned_steps: int  # judged ones while it learned its training rows
    learned: Mapping[str, float]  # by model, over these steps
    learned_points: tuple[PrequentialPoint, ...]
    test_steps: int
    test: Mapping[str, float]
    whole: Mapping[str, float]  # over both
    test_points: tuple[PrequentialPoint, ...]
    alarms: tuple[Alarm, ...]
    problem: str = omitted("")  # why it could not go on learning the test rows; then `prequential` is not among them
