"""Which policy did best, what it cost, and whether its timing beats chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refit.config import CostParams
from refit.evaluation.holdout import tidy, with_interval
from refit.evaluation.prediction_cost import in_money
from refit.metrics import METRICS
from refit.operations.replay.policies import Policy
from refit.operations.replay.scoring import Scores, Span, difference
from refit.operations.replay.simulation import Life, Step, World
from refit.storage.batches import utc_text

__all__ = ["against_chance", "best_of", "told"]

BLOCK, RESAMPLES = 4, 2000  # windows that follow each other are alike: they are drawn together


def told(
    life: Life,
    scores: Scores,
    spans: Sequence[Span],
    price: CostParams,
    best: Scores,
    metric: str,
    confidence: float,
) -> dict[str, Any]:
    """What a policy came to, as `--json` has it."""
    first, later = next(iter(life.trained), None), life.trained[1:]
    seconds = sum(step.fit.seconds for step in life.trained if step.fit)
    cpu = sum(step.fit.cpu_seconds for step in life.trained if step.fit)
    return {
        "score": tidy(scores.value),
        "behind_best": with_interval(difference(metric, best, scores), confidence, lowest=-math.inf),
        "trainings": len(life.trained),
        "retrainings": len(later),
        "promotions": sum(step.promoted for step in later),
        "refusals": sum(not step.promoted for step in later),
        "train_seconds": round(seconds, 3),
        "train_cost": in_money(cpu, price),
        "first": first and {"as_of": utc_text(first.as_of), "learner": first.fit and first.fit.learner},
        "rows": sum(scores.rows),
        "labelled": sum(scores.labelled),
        "by_window": [_window(place, span, life, scores) for place, span in enumerate(spans)],
        "steps": [_step(step) for step in life.steps],
    }


def _window(place: int, span: Span, life: Life, scores: Scores) -> dict[str, Any]:
    step, found = life.steps[place], scores.windows[place]
    charge = step.in_charge
    return {
        "day": f"{span.start:%Y-%m-%d}",
        "start": utc_text(span.start),
        "end": utc_text(span.end),
        "rows": len(span.rows),
        "scored": scores.rows[place],
        "labelled": scores.labelled[place],
        "score": None if found is None else tidy(found.value),
        "trained": step.fit is not None,
        "promoted": step.promoted,
        "refused": step.fit is not None and not step.promoted,
        "train_seconds": step.fit.seconds if step.fit else 0.0,
        "in_charge": utc_text(charge.as_of) if charge else None,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "as_of": utc_text(step.as_of),
        "asked": step.asked,
        "reasons": list(step.reasons),
        "learner": step.fit.learner if step.fit else None,
        "promoted": step.promoted,
        "gate": list(step.gate),
    }


def best_of(policies: Mapping[str, Mapping[str, Any]], metric: str, budget: int | None) -> str | None:
    """The policy with the best score among those that keep the budget of retrainings; of equal ones the thriftier.

    >>> found = {"never": {"score": 0.7, "retrainings": 0}, "always": {"score": 0.8, "retrainings": 8}}
    >>> best_of(found, "roc_auc", None), best_of(found, "roc_auc", 4)
    ('always', 'never')
    """
    sign = METRICS[metric].sign
    allowed = [
        name
        for name, each in policies.items()
        if each["score"] is not None and (budget is None or each["retrainings"] <= budget)
    ]
    return max(allowed, key=lambda name: (sign * policies[name]["score"], -policies[name]["retrainings"]), default=None)


def schedules(world: World, life: Life, count: int, seed: int) -> list[Life]:
    """Lives under schedules at random, with as many retrainings as `life` had, after the same first model."""
    places = [place for place, step in enumerate(life.steps) if step.fit]
    later = np.arange(places[0] + 1, len(life.steps)) if places else np.zeros(0, np.int64)
    if not 1 < len(places) <= len(later):
        return []  # it never trained again, or always did: there is no other schedule of as many
    random = np.random.default_rng(seed)
    drawn = [frozenset(map(int, random.choice(later, len(places) - 1, replace=False))) for _ in range(count)]
    lives = []
    for place, steps in enumerate(drawn):
        world.context.progress(f"{count} random schedules beside {life.policy.name}", place, count)
        lives.append(world.live(Policy(f"random {place + 1}", "given", life.policy.drift, steps), shown=False))
    return lives


def against_chance(ours: Scores, others: Sequence[Scores], metric: str, confidence: float, seed: int) -> Any:
    """A policy beside schedules at random of the same number of trainings; None where there are none to compare with.

    The interval of the gain over their median is none where the windows give less than two blocks, which would always
    be drawn alike; else it is from moving blocks of windows (Künsch 1989, "The jackknife and the
    bootstrap for general stationary observations", Annals of Statistics 17).
    """
    if not others:
        return None
    sign = METRICS[metric].sign
    labelled = np.array(ours.labelled, float)
    values = np.array([[math.nan if left is None else left.value for left in each.windows] for each in (ours, *others)])
    known = np.isfinite(values).all(0) & (labelled > 0)
    values, weights = sign * values[:, known], labelled[known]
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
