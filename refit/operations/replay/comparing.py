"""Compares policies: the best one, their costs, and whether the timing of one beats chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from refit.config import CostParams
from refit.evaluation.holdout import tidy, with_interval
from refit.evaluation.prediction_cost import in_money
from refit.operations.replay.policies import RetrainingPolicy
from refit.operations.replay.scoring import Scores, Span, difference
from refit.operations.replay.simulation import Simulation, Simulator, Step
from refit.problems import metric_named
from refit.schemas.replay_result import AgainstChance, FirstTraining, Gain, PolicyResult, ReplayStep, WindowResult

__all__ = ["Contender", "against_chance", "best_of", "frontier", "knee", "policy_report"]

BLOCK, RESAMPLES = 4, 2000  # consecutive windows are similar, so they are drawn in blocks


def policy_report(
    simulation: Simulation,
    scores: Scores,
    spans: Sequence[Span],
    price: CostParams,
    best: Scores,
    metric: str,
    confidence: float,
) -> PolicyResult:
    """The result of a policy."""
    first, later = next(iter(simulation.trained), None), simulation.trained[1:]
    fits = [step.fit.record for step in simulation.trained if step.fit]
    return PolicyResult(
        score=tidy(scores.value),
        behind_best=Gain(**dict(with_interval(difference(metric, best, scores), confidence, lowest=-math.inf))),
        trainings=len(simulation.trained),
        retrainings=len(later),
        promotions=sum(step.promoted for step in later),
        refusals=sum(not step.promoted for step in later),
        train_seconds=round(sum(fit.seconds for fit in fits), 3),
        train_cost=in_money(sum(fit.cpu_seconds for fit in fits), price),
        first=FirstTraining(as_of=first.as_of, learner=_learner(first)) if first else None,
        rows=sum(scores.rows),
        labelled=sum(scores.labelled),
        by_window=tuple(_window(index, span, simulation, scores) for index, span in enumerate(spans)),
        steps=tuple(map(_step, simulation.steps)),
    )


def _learner(step: Step) -> str | None:
    return step.fit.record.learner if step.fit else None


def _window(index: int, span: Span, simulation: Simulation, scores: Scores) -> WindowResult:
    step, metric = simulation.steps[index], scores.windows[index]
    champion = step.in_charge
    return WindowResult(
        day=span.start.date(),
        start=span.start,
        end=span.end,
        rows=len(span.rows),
        scored=scores.rows[index],
        labelled=scores.labelled[index],
        score=None if metric is None else tidy(metric.value),
        trained=step.fit is not None,
        promoted=step.promoted,
        refused=step.fit is not None and not step.promoted,
        train_seconds=step.fit.record.seconds if step.fit else 0.0,
        champion_as_of=champion.as_of if champion else None,
    )


def _step(step: Step) -> ReplayStep:
    return ReplayStep(
        as_of=step.as_of,
        retrain=step.retrain,
        reasons=step.reasons,
        learner=_learner(step),
        promoted=step.promoted,
        gate=step.gate,
    )


class Contender(NamedTuple):
    """What decides which policy is the best."""

    score: float | None
    retrainings: int


def best_of(policies: Mapping[str, Contender], metric: str, budget: int | None) -> str | None:
    """The policy with the best score within the budget of retrainings; among equals, the one with fewer retrainings.

    >>> policies = {"never": Contender(0.7, 0), "always": Contender(0.8, 8)}
    >>> best_of(policies, "roc_auc", None), best_of(policies, "roc_auc", 4)
    ('always', 'never')
    """
    sign = metric_named(metric).sign
    ranks = {
        name: (sign * each.score, -each.retrainings)
        for name, each in policies.items()
        if each.score is not None and (budget is None or each.retrainings <= budget)
    }
    return max(ranks, key=lambda name: ranks[name], default=None)


def frontier(policies: Mapping[str, Contender], metric: str) -> tuple[str, ...]:
    """The policies that no other one beats with as few retrainings, by their number.

    >>> policies = {"never": Contender(0.7, 0), "drift": Contender(0.69, 2), "always": Contender(0.8, 8)}
    >>> frontier(policies, "roc_auc")
    ('never', 'always')
    """
    sign, chosen = metric_named(metric).sign, list[str]()
    scored = {name: (each.retrainings, -sign * each.score) for name, each in policies.items() if each.score is not None}
    for name in sorted(scored, key=lambda name: scored[name]):
        if not chosen or scored[name][1] < scored[chosen[-1]][1]:
            chosen.append(name)
    return tuple(chosen)


def knee(policies: Mapping[str, Contender], metric: str, budget: int | None = None) -> str | None:
    """The policy of the frontier after which further retrainings bring least: furthest above the line of its ends.

    Both axes are scaled to 0 to 1 (Satopää et al. 2011, "Finding a Kneedle in a haystack"). Of two policies, or
    where each retraining brings more than the one before, it is the best one; None without a score.

    >>> policies = {"never": Contender(0.70, 0), "performance": Contender(0.79, 4), "always": Contender(0.80, 40)}
    >>> knee(policies, "roc_auc")
    'performance'
    """
    allowed = {name: each for name, each in policies.items() if budget is None or each.retrainings <= budget}
    names = frontier(allowed, metric)
    if len(names) < 3:
        return names[-1] if names else None
    x = np.array([allowed[name].retrainings for name in names], dtype=np.float64)
    y = metric_named(metric).sign * np.array([allowed[name].score for name in names], dtype=np.float64)
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return names[len(names) - 1 - int(above[::-1].argmax())]


def schedules(simulator: Simulator, simulation: Simulation, count: int, seed: int) -> list[Simulation]:
    """Simulations of random schedules with as many retrainings as `simulation`, after the same first model."""
    trained_steps = [index for index, step in enumerate(simulation.steps) if step.fit]
    later = np.arange(trained_steps[0] + 1, len(simulation.steps)) if trained_steps else np.zeros(0, np.int64)
    if not 1 < len(trained_steps) <= len(later):
        return []  # it never retrained, or always did: no other schedule has the same number
    random = np.random.default_rng(seed)
    drawn = [frozenset(map(int, random.choice(later, len(trained_steps) - 1, replace=False))) for _ in range(count)]
    simulations = []
    for index, steps in enumerate(drawn):
        simulator.context.progress(f"{count} random schedules against {simulation.policy.name}", index, count)
        simulations.append(
            simulator.run(RetrainingPolicy(f"random {index + 1}", "given", simulation.policy.drift, steps), shown=False)
        )
    return simulations


def against_chance(
    ours: Scores, others: Sequence[Scores], metric: str, confidence: float, seed: int
) -> AgainstChance | None:
    """Compare a policy with random schedules of the same number of trainings; None if there are no such schedules.

    The interval of the gain over their median uses moving blocks of windows (Künsch 1989, "The jackknife and the
    bootstrap for general stationary observations", Annals of Statistics 17). It is missing if there are fewer than two
    blocks, since every draw would then be the same.
    """
    if not others:
        return None
    sign = metric_named(metric).sign
    labelled = np.array(ours.labelled, float)
    values = np.array([[math.nan if left is None else left.value for left in each.windows] for each in (ours, *others)])
    is_scored = np.isfinite(values).all(0) & (labelled > 0)
    values, weights = sign * values[:, is_scored], labelled[is_scored]
    count, block = values.shape[1], min(BLOCK, values.shape[1])
    if not count:
        return None

    def gain(rows: Any) -> float:
        means = (values[:, rows] * weights[rows]).sum(1) / weights[rows].sum()
        return float(means[0] - np.median(means[1:]))

    random = np.random.default_rng(seed)
    starts = random.integers(0, count - block + 1, (RESAMPLES, -(-count // block)))
    resampled = [gain((start[:, None] + np.arange(block)).ravel()[:count]) for start in starts]
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    if count < 2 * BLOCK:
        low = high = math.nan
    scores = [each.value for each in others]
    return AgainstChance(
        schedules=len(others),
        scores=tuple(tidy(score) for score in scores),
        median=tidy(float(np.median(scores))),
        gain=Gain(value=tidy(gain(np.arange(count))), lower=tidy(low), upper=tidy(high)),
        block=block,
    )
