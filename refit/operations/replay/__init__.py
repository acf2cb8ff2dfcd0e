"""Lives through months of the past under several policies of retraining, and tells what each would have been worth."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from refit.config import Params
from refit.errors import UserError
from refit.operations.replay import comparing
from refit.operations.replay.history import history
from refit.operations.replay.policies import Policy
from refit.operations.replay.scoring import Scores, Span, no_change, scores_of, spans_of
from refit.operations.replay.simulation import Life, Parts, World
from refit.problems.windows import Period, earliest_as_of, period_start, shift
from refit.runtime.context import Context
from refit.storage.snapshots import moment_of

__all__ = ["Asked", "bounds_of", "run"]

MOST_STEPS = 2000


@dataclass(frozen=True)
class Asked:
    """What is to be lived through."""

    start: str
    end: str
    every: Period
    policies: tuple[Policy, ...]
    metric: str
    budget: int | None = None  # most retrainings that the best policy may need
    random: int = 0  # schedules at random that each policy is compared with


def run(context: Context, asked: Asked) -> dict[str, Any]:
    """Live through the time that was asked for under each policy; the result is as `--json` prints it.

    At each bound of `every`, as soon as the labels of the time before it are due, a policy decides on what is known
    then. Each row is scored by whoever is in charge when it is predicted. Nothing of the project changes: all that is
    written lies in `.refit/replay`.

    Raises:
        UserError: the time is too short, lies in the future, or holds too little to learn from.
    """
    began, parts = time.monotonic(), Parts()
    params = context.params
    bounds = bounds_of(asked, params, context.now())
    delay = timedelta(hours=params.featurize.label.delay_hours)
    with parts("rows and features"):
        past = history(context, bounds[-1], min(bounds[-1] + delay, context.now()))
    if not past.between(bounds[0], bounds[-1]).any():
        raise UserError(
            f"no row lies between --from {asked.start} and --to {asked.end}; the newest before is of {past.days[-1]}: "
            "give an earlier --from"
        )
    world = World(context, past, [bound + delay for bound in bounds[:-1]], parts)
    lives = {policy.name: world.live(policy) for policy in asked.policies}
    _require_a_model(lives, past.event_time[0], params)
    with parts("scores"):
        spans = spans_of(past, bounds, params.project.zone)
        scores = {name: scores_of(past, life, spans, asked.metric) for name, life in lives.items()}
    best = comparing.best_of(_bare(lives, scores), asked.metric, asked.budget)
    chance = {name: _chance(world, life, scores[name], spans, asked) for name, life in lives.items() if asked.random}
    against = scores[best] if best else next(iter(scores.values()))
    confidence = params.evaluate.confidence
    return {
        "model": params.project.name,
        "from": asked.start,
        "to": asked.end,
        "every": asked.every,
        "metric": asked.metric,
        "confidence": confidence,
        "currency": params.cost.currency,
        "policies": {
            name: {
                **comparing.told(life, scores[name], spans, params.cost, against, asked.metric, confidence),
                **({"random": chance[name]} if asked.random else {}),
            }
            for name, life in lives.items()
        },
        "no_change": no_change(past, spans, next(iter(scores.values())).rows) if asked.metric == "accuracy" else None,
        "budget": asked.budget,
        "best": best,
        "trained_now": world.fits.trained,
        "parts": parts.seconds,
        "seconds": round(time.monotonic() - began, 3),
    }


def bounds_of(asked: Asked, params: Params, now: datetime) -> list[datetime]:
    """The bounds of the windows: `from`, each local midnight at which a period begins, and `to`.

    Raises:
        UserError: they are no times, are the wrong way round, or lie in the future.
    """
    if params.featurize.split:
        raise UserError("a replay needs windows of time; featurize.split draws them by chance: leave it out")
    start, end = (
        moment_of(text, params, name=option, also="") for option, text in (("--from", asked.start), ("--to", asked.end))
    )
    if start >= end:
        raise UserError(f"--from {asked.start} is not before --to {asked.end}")
    if end > now:
        raise UserError(f"--to {asked.end} lies in the future: a replay lives through what has happened")
    zone = params.project.zone
    bounds, bound = [start], period_start(start, asked.every, zone)
    while (bound := shift(bound, 1, asked.every)).astimezone(UTC) < end:
        bounds.append(bound.astimezone(UTC))
        if len(bounds) > MOST_STEPS:
            raise UserError(f"that is more than {MOST_STEPS:,} steps of a {asked.every}; give a longer --every")
    return [*bounds, end]


def _require_a_model(lives: dict[str, Life], first: Any, params: Params) -> None:
    """Some model was in charge at some time, or there is nothing to compare."""
    if any(step.in_charge for life in lives.values() for step in life.steps):
        return
    step = next(iter(lives.values())).steps[-1]
    why = "; ".join(step.gate or step.reasons[1:])
    earliest = earliest_as_of(datetime.fromisoformat(str(first)[:19]).replace(tzinfo=UTC), params)
    when = "" if earliest <= step.as_of else f"; the earliest moment for one is {earliest:%Y-%m-%d %H:%M}: a later --to"
    raise UserError(f"no model could take charge in that time ({why}){when}")


def _bare(lives: dict[str, Life], scores: dict[str, Scores]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "score": value if math.isfinite(value := scores[name].value) else None,
            "retrainings": max(0, len(life.trained) - 1),
        }
        for name, life in lives.items()
    }


def _chance(world: World, life: Life, ours: Scores, spans: Sequence[Span], asked: Asked) -> Any:
    """The policy beside as many trainings at random times."""
    seed, confidence = world.context.params.train.seed, world.context.params.evaluate.confidence
    others = comparing.schedules(world, life, asked.random, seed)
    scores = [scores_of(world.history, other, spans, asked.metric) for other in others]
    return comparing.against_chance(ours, scores, asked.metric, confidence, seed)
