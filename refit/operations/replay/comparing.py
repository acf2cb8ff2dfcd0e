"""Compares policies: the best one, their costs, and whether the timing of one beats chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refit.config import CostParams
from refit.evaluation.holdout import tidy, with_interval
from refit.evaluation.prediction_cost import in_money
from refit.operations.replay.policies import Policy
from refit.operations.replay.scoring import Scores, Span, difference
from refit.operations.replay.simulation import Simulation, Simulator, Step
from refit.problems import metric_named
from refit.storage.batches import utc_text

__all__ = ["against_chance", "best_of", "policy_report"]

BLOCK, RESAMPLES = 4, 2000  # consecutive windows are similar, so they are drawn in blocks


def policy_report(
    simulation: Simulation,
    scores: Scores,
    spans: Sequence[Span],
    price: CostParams,
    best: Scores,
    metric: str,
    confidence: float,
) -> dict[str, Any]:
    """The result of a policy, as printed by `--json`."""
    first, later = next(iter(simulation.trained), None), simulation.trained[1:]
    seconds = sum(step.fit.seconds for step in simulation.trained if step.fit)
    cpu = sum(step.fit.cpu_seconds for step in simulation.trained if step.fit)
    return {
        "score": tidy(scores.value),
        "behind_best": with_interval(difference(metric, best, scores), confidence, lowest=-math.inf),
        "trainings": len(simulation.trained),
        "retrainings": len(later),
        "promotions": sum(step.promoted for step in later),
        "refusals": sum(not step.promoted for step in later),
        "train_seconds": round(seconds, 3),
        "train_cost": in_money(cpu, price),
        "first": first and {"as_of": utc_text(first.as_of), "learner": first.fit and first.fit.learner},
        "rows": sum(scores.rows),
        "labelled": sum(scores.labelled),
        "by_window": [_window(index, span, simulation, scores) for index, span in enumerate(spans)],
        "steps": [_step(step) for step in simulation.steps],
    }


def _window(index: int, span: Span, simulation: Simulation, scores: Scores) -> dict[str, Any]:
    step, metric = simulation.steps[index], scores.windows[index]
    champion = step.in_charge
    return {
        "day": f"{span.start:%Y-%m-%d}",
        "start": utc_text(span.start),
        "end": utc_text(span.end),
        "rows": len(span.rows),
        "scored": scores.rows[index],
        "labelled": scores.labelled[index],
        "score": None if metric is None else tidy(metric.value),
        "trained": step.fit is not None,
        "promoted": step.promoted,
        "refused": step.fit is not None and not step.promoted,
        "train_seconds": step.fit.seconds if step.fit else 0.0,
        "in_charge": utc_text(champion.as_of) if champion else None,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "as_of": utc_text(step.as_of),
        "asked": step.retrain,
        "reasons": list(step.reasons),
        "learner": step.fit.learner if step.fit else None,
        "promoted": step.promoted,
        "gate": list(step.gate),
    }


def best_of(policies: Mapping[str, Mapping[str, Any]], metric: str, budget: int | None) -> str | None:
    """The policy with the best score within the budget of retrainings; among equals, the one with fewer retrainings.

    >>> policies = {"never": {"score": 0.7, "retrainings": 0}, "always": {"score": 0.8, "retrainings": 8}}
    >>> best_of(policies, "roc_auc", None), best_of(policies, "roc_auc", 4)
    ('always', 'never')
    """
    sign = metric_named(metric).sign
    allowed = [
        name
        for name, each in policies.items()
        if each["score"] is not None and (budget is None or each["retrainings"] <= budget)
    ]
    return max(allowed, key=lambda name: (sign * policies[name]["score"], -policies[name]["retrainings"]), default=None)


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
        simulator.context.progress(f"{count} random schedules beside {simulation.policy.name}", index, count)
        simulations.append(
            simulator.run(Policy(f"random {index + 1}", "given", simulation.policy.drift, steps), shown=False)
        )
    return simulations


def against_chance(ours: Scores, others: Sequence[Scores], metric: str, confidence: float, seed: int) -> Any:
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
    return {
        "schedules": len(others),
        "scores": [tidy(score) for score in scores],
        "median": tidy(float(np.median(scores))),
        "gain": {"value": tidy(gain(np.arange(count))), "lower": tidy(low), "upper": tidy(high)},
        "block": block,
    }
