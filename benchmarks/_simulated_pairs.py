"""Draws simulated test windows and models of a known quality, for the benchmarks of the gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.signal import lfilter

from refit.gate.comparison import Sample
from refit.metrics.clusters import Clusters
from refit.problems import metric_named, problem_of

Floats = NDArray[np.float64]

COMMON = 0.8  # what two models of one project misjudge alike


@dataclass(frozen=True)
class Window:
    """A test window, and how its rows are put in clusters."""

    days: int = 30
    rows: int = 60  # a day
    uneven: bool = False  # days of very different size
    alike: float = 0.6  # a day's own misjudgement by a model, in addition to that of each row
    cluster: str = "day"
    task: str = "binary"
    serial: float = 0.0  # correlation of a day's own misjudgement with that of the day before
    season: float = 0.0  # share of its variance that repeats every week
    step: int = 1  # days from one day with rows to the next: 7 in weekly data

    def __str__(self) -> str:
        return f"{self.days} x {self.rows}{' (uneven)' if self.uneven else ''}"


@dataclass(frozen=True)
class Drawn:
    sample: Sample
    days: NDArray[np.int64]
    scores: tuple[Floats, ...]


def draw(random: np.random.Generator, window: Window, *spreads: float | Floats, common: float = 0.0) -> Drawn:
    """Labels and predictions; models with equal spread (a number, or one for each row) are exchangeable."""
    count = window.days
    sizes = random.permutation(np.linspace(0.2, 1.8, count) * window.rows).astype(int) if window.uneven else window.rows
    day = np.repeat(np.arange(count), sizes)

    def misjudged(spread: float | Floats) -> Floats:
        wrong: Floats = spread * (random.normal(size=len(day)) + window.alike * day_effects(random, window)[day])
        return wrong

    truth = random.normal(size=len(day)) + random.normal(0, 0.6, count)[day]
    labels, predicted = TASKS[window.task](random, truth)
    seen = truth + misjudged(common) if common else truth
    scores = tuple(predicted(seen + misjudged(spread)) for spread in spreads)
    clusters = (
        Clusters.rows(len(day))
        if window.cluster == "row"
        else Clusters.by_day((window.step * day).astype("datetime64[D]"))
    )
    return Drawn(Sample(labels, clusters, problem_of(window.task)), day, scores)


def day_effects(random: np.random.Generator, window: Window) -> Floats:
    """What a model misjudges on each day alike: an AR(1) process and a week, both of unit variance.

    The week of each model begins on a day of its own, so that models differ but are equally good.
    """
    new = random.normal(size=window.days)
    if window.serial:
        new[1:] *= math.sqrt(1 - window.serial**2)
        new = lfilter([1.0], [1.0, -window.serial], new)
    if not window.season:
        return new
    week = math.sqrt(2) * np.sin(2 * np.pi * (np.arange(window.days) + random.integers(7)) / 7)
    return np.asarray(math.sqrt(1 - window.season) * new + math.sqrt(window.season) * week)


def _binary(random: np.random.Generator, truth: Floats) -> tuple[NDArray[Any], Callable[[Floats], Floats]]:
    labels = (random.random(len(truth)) < 1 / (1 + np.exp(1.2 - 1.3 * truth))).astype(np.int64)
    return labels, lambda seen: 1 / (1 + np.exp(-seen))


def _multiclass(random: np.random.Generator, truth: Floats) -> tuple[NDArray[Any], Callable[[Floats], Floats]]:
    """Three classes along one line, the middle one between the others."""

    def shares(seen: Floats) -> Floats:
        raw = np.exp(np.stack([-1.3 * seen, np.full(len(seen), 0.4), 1.3 * seen], axis=1))
        found: Floats = raw / raw.sum(axis=1, keepdims=True)
        return found

    labels = (random.random(len(truth))[:, None] > shares(truth).cumsum(axis=1)).sum(axis=1)
    return np.minimum(labels, 2), shares


def _regression(random: np.random.Generator, truth: Floats) -> tuple[NDArray[Any], Callable[[Floats], Floats]]:
    """Numbers with errors of heavy tails (Student's t, 4 degrees of freedom)."""
    return 100 + 10 * truth + 8 * random.standard_t(4, len(truth)), lambda seen: 100 + 10 * seen


TASKS: dict[str, Any] = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}


@cache
def true_value(metric: str, spread: float, common: float = 0.0, task: str = "binary", season: float = 0.0) -> float:
    """What a model scores in truth: on 1,200,000 rows, the same ones (in luck, too) for every spread."""
    window = Window(days=10_003 if season else 10_000, task=task, season=season)
    drawn = [draw(np.random.default_rng(seed), window, spread, common=common) for seed in (1, 2)]
    return float(np.mean([problem_of(task).score(metric, each.sample.labels, each.scores[0]) for each in drawn]))


def true_loss(metric: str, worse: float, better: float, task: str = "binary", season: float = 0.0) -> float:
    values = (true_value(metric, spread, task=task, season=season) for spread in (better, worse))
    return metric_named(metric).gain(*values)


@cache
def qualities() -> tuple[Any, Any]:
    """The true ROC AUC of a model with a spread of its own, and the other way round."""
    spreads = np.linspace(0.0, 2.4, 13)
    values = np.array([true_value("roc_auc", float(spread), COMMON) for spread in spreads])
    return PchipInterpolator(spreads, values), PchipInterpolator(values[::-1], spreads[::-1])


def quality_of(spread: float) -> float:
    return float(qualities()[0](spread))


def spread_of(quality: float) -> float:
    return float(qualities()[1](quality))
