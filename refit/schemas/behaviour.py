"""The results of behavioural tests, as `evaluation.json` has them."""

from __future__ import annotations

from typing import Literal

from refit.schemas.artifact import Part, omitted
from refit.schemas.measured import Measured

__all__ = ["BehaviourResult", "GroupGap"]


class GroupGap(Part):
    """A group's metric, and how far it differs from that of all other rows."""

    group: str
    rows: int
    value: float | None
    gap: Measured
    passed: bool


class BehaviourResult(Part):
    """What a candidate did in one test."""

    name: str
    kind: Literal["invariance", "direction", "examples", "fairness"]
    passed: bool
    sentence: str  # what was measured, what is required
    rows: int  # that were predicted
    share: float | None = omitted(None)  # of the rows that behaved
    worst: tuple[str, ...] = omitted(())  # rows that did not, the worst first
    groups: tuple[GroupGap, ...] = omitted(())
    not_judged: tuple[str, ...] = omitted(())  # groups that are too small
