"""Replays the past under several retraining policies, and reports what each would have achieved."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from refit.config import Params
from refit.config.windows import Period, earliest_as_of, period_start, shift
from refit.errors import UserError
from refit.evaluation.holdout import tidy
from refit.operations.replay import comparing
from refit.operations.replay.history import history
from refit.operations.replay.policies import RetrainingPolicy
from refit.operations.replay.scoring import ACCURACIES, Scores, Span, no_change, scores_of, spans_of
from refit.operations.replay.simulation import Parts, Simulation, Simulator
from refit.runtime.context import Context
from refit.schemas.replay_result import AgainstChance, ReplayResult
from refit.storage.snapshots import moment_of

__all__ = ["ReplayOptions", "bounds_of", "run"]

MOST_STEPS = 2000


@dataclass(frozen=True)
class ReplayOptions:
    """The period to replay, the policies, and how they are compared."""

    start: str
    end: str
    every: Period
    policies: tuple[RetrainingPolicy, ...]
    metric: str
    budget: int | None = None  # maximum number of retrainings of the best policy
    random: int = 0  # number of random schedules to compare each policy with


def run(context: Context, options: ReplayOptions) -> ReplayResult:
    """Replay the requested period under each policy.

    At each bound of `every`, once the labels of the time before it are due, each policy decides from what is known by
    then. Each row is scored by the champion at the time of its prediction. The project does not change: all files are
    written to `.refit/replay`.

    Raises:
        UserError: the period is too short, lies in the future, or has too few rows to learn from.
    """
    began, parts = time.monotonic(), Parts()
    params = context.params
    bounds = bounds_of(options, params, context.now())
    delay = timedelta(hours=params.featurize.label.delay_hours)
    with parts("rows and features"):
        past = history(context, bounds[-1], min(bounds[-1] + delay, context.now()))
    if not past.between(bounds[0], bounds[-1]).any():
        raise UserError(
            f"no row lies between --from {options.start} and --to {options.end}; the newest before is of "
            f"{past.days[-1]}: give an earlier --from"
        )
    simulator = Simulator(context, past, [bound + delay for bound in bounds[:-1]], parts)
    simulations = {policy.name: simulator.run(policy) for policy in options.policies}
    _require_a_model(simulations, past.event_time[0], params)
    with parts("scores"):
        spans = spans_of(past, bounds, params.project.zone)
        scores = {name: scores_of(past, simulation, spans, options.metric) for name, simulation in simulations.items()}
    contenders = _contenders(simulations, scores)
    best = comparing.best_of(contenders, options.metric, options.budget)
    against = scores[best] if best else next(iter(scores.values()))
    confidence = params.evaluate.confidence
    results = {}
    for name, simulation in simulations.items():
        result = comparing.policy_report(
            simulation, scores[name], spans, params.cost, against, options.metric, confidence
        )
        if options.metric == "accuracy_at_half":
            at_own = scores_of(past, simulation, spans, "accuracy").value
            result = result.model_copy(update={"at_own_threshold": tidy(at_own)})
        if options.random:
            chance = _chance(simulator, simulation, scores[name], spans, options)
            result = result.model_copy(update={"random": chance})
        results[name] = result
    return ReplayResult(
        model=params.project.name,
        start=options.start,
        end=options.end,
        every=options.every,
        metric=options.metric,
        confidence=confidence,
        currency=params.cost.currency,
        policies=results,
        no_change=no_change(past, spans, next(iter(scores.values())).rows) if options.metric in ACCURACIES else None,
        budget=options.budget,
        best=best,
        frontier=comparing.frontier(contenders, options.metric),
        knee=comparing.knee(contenders, options.metric, options.budget),
        trained_now=simulator.fits.trained,
        parts=parts.seconds,
        seconds=round(time.monotonic() - began, 3),
    )


def bounds_of(options: ReplayOptions, params: Params, now: datetime) -> list[datetime]:
    """The bounds of the windows: `from`, each local midnight at which a period begins, and `to`.

    Raises:
        UserError: they are not times, are in the wrong order, or lie in the future.
    """
    if params.featurize.split:
        raise UserError("a replay needs windows of time; featurize.split draws them by chance: leave it out")
    start, end = (
        moment_of(text, params, name=option, also="")
        for option, text in (("--from", options.start), ("--to", options.end))
    )
    if start >= end:
        raise UserError(f"--from {options.start} is not before --to {options.end}")
    if end > now:
        raise UserError(f"--to {options.end} lies in the future: a replay lives through what has happened")
    zone = params.project.zone
    bounds, bound = [start], period_start(start, options.every, zone)
    while (bound := shift(bound, 1, options.every)).astimezone(UTC) < end:
        bounds.append(bound.astimezone(UTC))
        if len(bounds) > MOST_STEPS:
            raise UserError(f"that is more than {MOST_STEPS:,} steps of a {options.every}; give a longer --every")
    return [*bounds, end]


def _require_a_model(simulations: dict[str, Simulation], first: Any, params: Params) -> None:
    """Check that some policy had a champion at some time; otherwise there is nothing to compare."""
    if any(step.in_charge for simulation in simulations.values() for step in simulation.steps):
        return
    step = next(iter(simulations.values())).steps[-1]
    why = "; ".join(step.gate or step.reasons[1:])
    earliest = earliest_as_of(datetime.fromisoformat(str(first)[:19]).replace(tzinfo=UTC), params)
    when = "" if earliest <= step.as_of else f"; the earliest moment for one is {earliest:%Y-%m-%d %H:%M}: a later --to"
    raise UserError(f"no model could be promoted in that time ({why}){when}")


def _contenders(simulations: dict[str, Simulation], scores: dict[str, Scores]) -> dict[str, comparing.Contender]:
    return {
        name: comparing.Contender(
            score=value if math.isfinite(value := scores[name].value) else None,
            retrainings=max(0, len(simulation.trained) - 1),
        )
        for name, simulation in simulations.items()
    }


def _chance(
    simulator: Simulator, simulation: Simulation, ours: Scores, spans: Sequence[Span], options: ReplayOptions
) -> AgainstChance | None:
    """Compare the policy with the same number of trainings at random times."""
    seed, confidence = simulator.context.params.train.seed, simulator.context.params.evaluate.confidence
    others = comparing.schedules(simulator, simulation, options.random, seed)
    scores = [scores_of(simulator.history, other, spans, options.metric) for other in others]
    return comparing.against_chance(ours, scores, options.metric, confidence, seed)
