"""The stage `evaluate`: the same rows for all, a decision with reasons, and reports that say the same each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Evaluate = Callable[..., dict[str, Any]]


def test_a_first_candidate_that_beats_the_baseline_is_promoted(evaluated: Evaluate) -> None:
    found = evaluated()
    assert found["decision"]["promote"], found["decision"]["reasons"]
    assert set(found["metrics"]) == {"candidate", "baseline"}
