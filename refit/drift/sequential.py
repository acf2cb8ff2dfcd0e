"""Detects a lasting loss from all windows together: evidence accumulates where no single window is unusual enough.

An e-process of Bayes factors between normal distributions whose mean and standard deviation are unknown. Its expected
value is 1 while nothing changes, at any time, whatever the two are (Pérez-Ortiz, Lardy, de Heide and Grünwald 2024,
"E-statistics, group invariance and anytime-valid testing", Annals of Statistics 52(4)). The sum over all windows at
which a loss may have begun is a Shiryaev-Roberts e-detector: without a change it takes at least A windows on average
to reach A (Shin, Ramdas and Rinaldo 2023, "E-detectors", New England Journal of Statistics in Data Science).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LossEvidence", "Usual", "evidence_of_loss", "usual"]

Floats = NDArray[np.float64]
Steps = tuple[tuple[tuple[int, int], float], ...]  # stretches, each with its loss in standard deviations

LOSSES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])  # standard deviations of a window; each is as likely as the others
LARGE = LOSSES[3:]  # of two stretches at once
EXCLUDING = 3.0  # evidence from which windows are excluded: in 1 to 2 of 100 references of normal windows
LEAST_KEPT = 2  # windows: a single good one does not make all others low
LEAST_NEWEST = 3  # good windows after bad ones only, which may be luck where bad ones after good ones are a change
_POINTS = 160  # of the integral over the unknown standard deviation
_BOUNDS = 24  # at least so many places where a level may change; all of them in a reference shorter than twice that
_AT_ONCE = 1024  # candidates, to bound memory


@dataclass(frozen=True)
class Usual:
    """The usual level and spread of a number in the windows of a reference, without those that are low themselves.

    >>> reference = usual((0.30, 0.31, 0.29, 0.30, 0.31, 0.18, 0.19, 0.18))
    >>> reference.excluded, round(reference.mean, 3), reference.spread < 0.02
    ((5, 6, 7), 0.302, True)
    """

    values: tuple[float, ...]
    steps: tuple[tuple[int, int], ...] = ()  # stretches [first, end) of windows with a lower level of their own

    @property
    def excluded(self) -> tuple[int, ...]:
        """The windows that are low themselves."""
        return tuple(sorted({index for first, end in self.steps for index in range(first, end)}))

    @property
    def kept(self) -> int:
        """The number of windows of the usual level."""
        return len(self.values) - len(self.excluded)

    @property
    def mean(self) -> float:
        """The mean of the windows that are not low; nan without any."""
        kept = np.delete(np.array(self.values), list(self.excluded))
        return float(kept.mean()) if len(kept) else float("nan")

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the spread."""
        return len(self.values) - int(np.linalg.matrix_rank(self.levels())) if self.values else 0

    @property
    def spread(self) -> float:
        """The standard deviation of windows of one level; nan if there are too few."""
        if self.freedom < 1:
            return float("nan")
        residual = _without(np.array(self.values), self.levels(), np.ones(len(self.values)))
        return float(np.sqrt((residual**2).sum() / self.freedom))

    def levels(self) -> Floats:
        """(windows, levels) 1 where a window has a level."""
        columns = np.ones((len(self.values), 1 + len(self.steps)))
        for place, (first, end) in enumerate(self.steps, start=1):
            columns[:, place] = 0.0
            columns[first:end, place] = 1.0
        return columns


@lru_cache(maxsize=1024)
def usual(values: tuple[float, ...]) -> Usual:
    """The usual level of a reference: stretches of windows that are low by strong evidence are excluded.

    A champion that was trained across a change has bad windows in its backtest, first those of the model before its
    last fit and then its own; they must not count as usual. One stretch, or two of the three parts that two bounds
    make, get levels of their own where the weighted mean of the Bayes factors of all reaches `EXCLUDING`; and so on.
    Values that are not finite do not count.
    """
    x = np.array(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    reference = Usual(tuple(x.tolist()))
    while True:
        evidence, best = 0.0, 0.0
        found: Steps = ()
        for prior, alternatives in _alternatives(reference):
            lower = np.zeros((len(alternatives), len(x)))
            for place, steps in enumerate(alternatives):
                for (first, end), loss in steps:
                    lower[place, first:end] = loss
            factors = _bayes_factors(x, lower, reference.levels(), np.ones(len(x)))
            evidence += prior * float(factors.mean())
            if factors.max() > best:
                best, found = float(factors.max()), alternatives[int(factors.argmax())]
        if evidence < EXCLUDING:
            return reference
        reference = Usual(reference.values, (*reference.steps, *(stretch for stretch, _ in found)))


def _alternatives(reference: Usual) -> list[tuple[float, list[Steps]]]:
    """What may be low, with a prior probability: a change that lasts is what a retraining can answer."""
    ends, dips = (_stretches(reference, at_end=at_end) for at_end in (True, False))
    every = ((0.8, ends), (0.1, dips), (0.1, _parts(reference)))
    return [(prior, alternatives) for prior, alternatives in every if alternatives]


def _stretches(reference: Usual, *, at_end: bool) -> list[Steps]:
    """Stretches of windows of the usual level that leave others: the first or the newest, or others."""
    count, excluded = len(reference.values), set(reference.excluded)
    return [
        (((first, end), float(loss)),)
        for first, end in combinations(_bounds(count), 2)
        if (first == 0 or end == count) is at_end
        and not excluded & set(range(first, end))
        and _enough(count, excluded | set(range(first, end)))
        for loss in LOSSES
    ]


def _parts(reference: Usual) -> list[Steps]:
    """Two of three parts of a reference, with different large losses."""
    count = len(reference.values)
    if reference.steps:
        return []
    losses = [(float(one), float(other)) for one, other in permutations(LARGE, 2)]
    return [
        tuple(zip(two, pair, strict=True))
        for first, second in combinations(_bounds(count)[1:-1], 2)
        for two in combinations(((0, first), (first, second), (second, count)), 2)
        if _enough(count, {index for begin, end in two for index in range(begin, end)})
        for pair in losses
    ]


def _enough(count: int, excluded: set[int]) -> bool:
    """Whether enough windows stay if some are excluded.

    >>> _enough(8, {2, 3, 4, 5, 6, 7}), _enough(8, {0, 1, 2, 3, 4, 5})
    (True, False)
    """
    return count - len(excluded) >= (LEAST_NEWEST if 0 in excluded else LEAST_KEPT)


def _bounds(count: int) -> list[int]:
    """Where stretches may begin and end: between any windows, or on a grid if there are many.

    >>> _bounds(4), len(_bounds(365))
    ([0, 1, 2, 3, 4], 26)
    """
    return [*range(0, count, max(1, count // _BOUNDS)), count]


@dataclass(frozen=True)
class LossEvidence:
    """What all windows together say about a loss.

    `value` is at least A once in A windows on average, at most, while nothing changes.
    """

    value: float
    since: int | None = None  # index of the window at which a loss most likely began
    loss: float = 0.0  # how far the windows since then lie below the usual level, on average


def evidence_of_loss(reference: Usual, values: ArrayLike, variances: ArrayLike | None = None) -> LossEvidence:
    """The evidence that a number has fallen for good in the windows after a reference.

    Args:
        values: (windows,) in production, oldest first.
        variances: (windows,) of each, as multiples of that of a window of the reference; None: 1.

    >>> reference = usual((0.30, 0.31, 0.29, 0.30, 0.31, 0.28, 0.32, 0.30))
    >>> evidence_of_loss(reference, [0.30, 0.31, 0.29]).value < 3
    True
    >>> found = evidence_of_loss(reference, [0.30, 0.27, 0.26])
    >>> found.value > 10, found.since, round(found.loss, 3)
    (True, 1, 0.036)
    """
    production = np.asarray(values, dtype=np.float64)
    if not len(production) or reference.freedom < 1:
        return LossEvidence(0.0)
    before, now = len(reference.values), len(production)
    x = np.concatenate([reference.values, production])
    scale = np.ones(now) if variances is None else np.asarray(variances, dtype=np.float64)
    weights = np.concatenate([np.ones(before), 1 / scale])
    levels = np.zeros((len(x), reference.levels().shape[1]))
    levels[:before], levels[before:, 0] = reference.levels(), 1.0
    low = np.array([np.arange(len(x)) >= before + start for start in range(now)], dtype=np.float64)
    candidates = (low[:, None] * LOSSES[:, None]).reshape(-1, len(x))
    factors = _bayes_factors(x, candidates, levels, weights).reshape(now, len(LOSSES)).mean(axis=1)
    since = int(factors.argmax())
    return LossEvidence(float(factors.sum()), since, reference.mean - float(production[since:].mean()))


def _bayes_factors(x: Floats, lower: Floats, levels: Floats, weights: Floats) -> Floats:
    """(candidates,) how much likelier x is if some windows are lower than if they have the levels alone.

    With flat priors of the levels and of log sigma, x enters by its residuals r alone. Where those of a candidate's
    losses are c, its factor is exp(-c.c / 2) times the mean of exp(-v r.c / |r|) over v^2, which is chi-squared with as
    many degrees of freedom as there are residuals.

    Args:
        lower: (candidates, windows) by how many standard deviations each window is lower.
    """
    r, c = _without(x, levels, weights), _without(lower.T, levels, weights).T
    freedom = len(x) - np.linalg.matrix_rank(levels)
    size = float(np.sqrt(r @ r))
    if freedom < 1 or size <= 1e-9 * max(1.0, float(np.abs(x).max())):  # residuals are but rounding errors
        return np.zeros(len(lower))
    v = np.linspace(0, np.sqrt(freedom) + LOSSES.max() * np.sqrt(freedom) + 8, _POINTS + 1)[1:]
    log_density = (freedom - 1) * np.log(v) - v**2 / 2
    integral = np.empty(len(c))
    for start in range(0, len(c), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        exponents = log_density - (c[part] @ r / size)[:, None] * v
        top = exponents.max(axis=-1)
        integral[part] = np.log(np.exp(exponents - top[:, None]).sum(axis=-1)) + top
    whole = np.log(np.exp(log_density - log_density.max()).sum()) + log_density.max()
    factors: Floats = np.exp(np.minimum(integral - whole - (c**2).sum(axis=1) / 2, 600.0))
    return factors


def _without(values: Floats, levels: Floats, weights: Floats) -> Floats:
    """Residuals of columns after their levels, each scaled to the same variance."""
    root = np.sqrt(weights) if values.ndim == 1 else np.sqrt(weights)[:, None]
    scaled, basis = values * root, levels * np.sqrt(weights)[:, None]
    residuals: Floats = scaled - basis @ np.linalg.lstsq(basis, scaled, rcond=None)[0]
    return residuals
