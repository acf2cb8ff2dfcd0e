"""Simulations of luck that lasts over days, and of many looks at one test window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from _gate_runs import ALPHA, NOISE, OPEN, OWN, STEPS, WORSE, line, promoted, share, table
from _simulated_pairs import COMMON, Floats, Window, day_effects, draw, quality_of, spread_of, true_loss
from scipy.special import stdtrit

from refit.config import GateParams
from refit.gate.comparison import gain
from refit.metrics.serial_correlation import DaysError, error_of_mean
from refit.problems import metric_named

MODES: tuple[Any, ...] = ("superiority", "non_inferiority")
WRONG: Mapping[str, tuple[str, str]] = {
    "binary": ("roc_auc", "log_loss"),
    "regression": ("mae", "rmse"),
    "multiclass": ("log_loss", "f1_macro"),
}
LASTING = {
    "0": Window(),
    ".3": Window(serial=0.3),
    ".5": Window(serial=0.5),
    ".7": Window(serial=0.7),
    ".5 and a week": Window(serial=0.5, season=0.5),
}


def short_windows(runs: int, seed: int) -> None:
    """One normal value a day, at the whole alpha: errors by the days' correlation, and what allowing for it costs."""
    rhos = (0.0, 0.3, 0.5, 0.7)
    table("days", *(f"ρ {rho:g}" for rho in rhos), ".7, as if independent", "power lost", "bounds wider by", "of 90 %")
    for count in (10, 14, 20, 30, 60, 90):
        cells = []
        for rho in rhos:
            wrong, naive, _ = _normal(runs, seed, Window(days=count, serial=rho), 0.0)
            cells.append(share(wrong, runs))
        ours, theirs, wider = _normal(runs, seed + 1, Window(days=count), 2.49 / math.sqrt(count))
        lost = f"{1 - ours / max(theirs, 1):.0%} of {theirs / runs:.0%}"
        line(count, *cells, share(naive, runs), lost, *(f"{each:.2f}" for each in np.quantile(wider, (0.5, 0.9))))


def far_apart(runs: int, seed: int) -> None:
    """Wrong promotions by luck that lasts from step to step, where a step is a day, a week or a month."""
    rhos = (0.0, 0.5, 0.7)
    table("mode", "task", "metric", "30 steps of", *(f"ρ {rho:g}" for rho in rhos), "as if independent, .7")
    for step in (1, 7, 30):
        cells = [_normal(runs, seed, Window(serial=rho, step=step), 0.0)[:2] for rho in rhos]
        wrong = [share(ours, runs) for ours, _ in cells]
        line("the whole 5 %", "", "one normal value", f"{step} days", *wrong, share(cells[-1][1], runs))
        for task, metric in (("regression", "mae"), ("binary", "log_loss")):
            policy = OPEN.model_copy(update={"mode": "superiority", "metric": metric})
            windows = [Window(serial=rho, step=step, task=task) for rho in rhos]
            cells = [_promotions(runs, seed, window, policy, (NOISE, NOISE)) for window in windows]
            wrong = [share(ours, runs) for ours, _ in cells]
            words = metric_named(metric).words
            line("superiority", task, words, f"{step} days", *wrong, share(cells[-1][1], runs))


def _normal(runs: int, seed: int, window: Window, mean: float) -> tuple[int, int, list[float]]:
    """How often the mean of the days is above its bound, as it is and for independent days, and their ratios."""
    random, ours, naive, wider = np.random.default_rng(seed), 0, 0, []
    for _ in range(runs):
        values = mean + day_effects(random, window)
        reach = _error(values, window.step).reach(ALPHA)
        independent = float(stdtrit(window.days - 1, 1 - ALPHA)) * values.std(ddof=1) / math.sqrt(window.days)
        ours += values.mean() > reach
        naive += values.mean() > independent
        wider.append(reach / independent)
    return ours, naive, wider


def _error(values: Floats, step: int) -> DaysError:
    error = error_of_mean(values, step * np.arange(len(values)), float(len(values)))
    assert error is not None
    return error


def lasting_luck(runs: int, seed: int) -> None:
    """Wrong promotions if what a model misjudges on a day carries over to the next, and what allowing for it costs."""
    table("mode", "task", "metric", "days", *(f"days correlate by {name}" for name in LASTING), "as if independent, .7")
    cases = [(mode, task, metric, 30) for mode in MODES for task, names in WRONG.items() for metric in names]
    cases += [("superiority", "binary", "log_loss", days) for days in (20, 60, 90)]
    cases += [("non_inferiority", "binary", "log_loss", 60)]
    for mode, task, metric, days in cases:
        rates = {}
        for name, lasting in LASTING.items():
            window = replace(lasting, task=task, days=days)
            worse = NOISE if mode == "superiority" else WORSE
            margin = true_loss(metric, worse, NOISE, task, window.season)
            policy = OPEN.model_copy(update={"mode": mode, "metric": metric, "max_loss": margin})
            rates[name] = _promotions(runs, seed, window, policy, (worse, NOISE))
        shares = [share(ours, runs) for ours, _ in rates.values()]
        line(mode, task, metric_named(metric).words, days, *shares, share(rates[".7"][1], runs))
    table("days", "true gain in ROC AUC", "promoted", "as if independent", "power lost", "and by the first look")
    for days, gained in ((30, 0.0125), (60, 0.0088), (90, 0.0072)):
        better = (spread_of(quality_of(OWN) + gained), OWN)
        window = Window(days=days, rows=150)
        policy = OPEN.model_copy(update={"mode": "superiority", "first_look": 0.999_999})  # the looks cost apart
        ours, naive = _promotions(runs, seed, window, policy, better, COMMON)
        first, _ = _promotions(runs, seed, window, OPEN.model_copy(update={"mode": "superiority"}), better, COMMON)
        lost = (f"{1 - each / max(naive, 1):.1%}" for each in (ours, first))
        line(days, f"{gained:+.4f}", share(ours, runs), share(naive, runs), *lost)


def _promotions(
    runs: int, seed: int, window: Window, policy: GateParams, spreads: tuple[float, float], common: float = 0.0
) -> tuple[int, int]:
    """How often the gate promotes, and how often it would if it took days as independent."""
    random, ours, naive = np.random.default_rng(seed), 0, 0
    for _ in range(runs):
        drawn = draw(random, window, *spreads, common=common)
        measured = gain(policy.metric, drawn.sample, *drawn.scores)
        ours += promoted(policy, drawn.sample, measured)
        naive += promoted(
            policy.model_copy(update={"first_look": 0.999_999}), drawn.sample, replace(measured, days=None)
        )
    return ours, naive


def looks(chains: int, seed: int) -> None:
    """Thirty candidates, each equal to the champion, judged one after the other on one test window."""
    table(
        "candidates",
        "any wrong promotion by the first",
        "by the third",
        "by the 10th",
        "by the 30th",
        "without the rule",
    )
    policy = OPEN.model_copy(update={"mode": "superiority", "metric": "brier"})
    for name, common in (("each apart", 0.0), ("much alike", 2 * NOISE)):
        wrong, naive = np.zeros((chains, STEPS), bool), np.zeros((chains, STEPS), bool)
        for chain in range(chains):
            random = np.random.default_rng([seed, chain])
            drawn = draw(random, Window(), NOISE, *[NOISE] * STEPS, common=common)
            champion, *candidates = drawn.scores
            for look, candidate in enumerate(candidates):
                measured = gain(policy.metric, drawn.sample, candidate, champion)
                wrong[chain, look] = promoted(policy, drawn.sample, measured, looks=look)
                naive[chain, look] = promoted(policy, drawn.sample, measured)
        anyone = [int(wrong[:, :count].any(axis=1).sum()) for count in (1, 3, 10, STEPS)]
        line(name, *(share(count, chains) for count in anyone), share(int(naive.any(axis=1).sum()), chains))
