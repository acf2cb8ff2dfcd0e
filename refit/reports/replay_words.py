"""Says in sentences what a replay shows: a policy is called the best only where the intervals show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from refit.plain_text import number
from refit.runtime import environments
from refit.schemas.replay_result import ReplayResult

__all__ = ["recommendation", "verdict"]


def verdict(result: ReplayResult) -> str:
    """The headline."""
    within = "" if result.budget is None else f" with at most {result.budget} retrainings"
    if result.best is None:
        has_scores = any(policy.score is not None for policy in result.policies.values())
        return f"No policy keeps the budget of {result.budget} retrainings." if has_scores else "No policy had a score."
    best = result.policies[result.best]
    score = f"{number(best.score)} with {best.retrainings} retrainings"
    if result.not_worse:
        return f"No policy is shown to be the best{within}. {result.best} has the best score: {score}."
    return f"{result.best} did best{within}: {score}."


def recommendation(result: ReplayResult) -> str:
    """The policy at the knee, how far it is behind the best, and what `--recommend` did."""
    assert result.knee is not None
    knee = result.policies[result.knee]
    text = f"{result.knee}, {number(knee.score)} with {knee.retrainings} retrainings"
    if result.best and result.knee != result.best:
        gap = knee.behind_best
        text += f"; {number(gap.value)} behind {result.best}"
        if gap.lower is not None:
            shown = "which is more than chance" if gap.lower > 0 else "not shown to be worse"
            text += f" ({number(gap.lower)} to {number(gap.upper)}: {shown})"
    if result.knee.partition(":")[0] == "never":
        text += "; with it no model retrains by itself"
    if result.recommended is None:
        return f"{text}; --recommend writes it to {environments.own_name()}"
    settings = ", ".join(f"{key}: {value}" for key, value in _flat(result.recommended))
    return f"{text}; {environments.own_name()}: drift: {settings or 'it is so already'}"


def _flat(settings: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """Keys with dots, and values."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", each) for inner, each in _flat(value))
        else:
            yield key, value
