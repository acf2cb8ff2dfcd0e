"""Effect sizes between two distributions, computed from counts; they do not grow with the number of rows.

Counts lie along the last axis in the layout of `feature_store.sketches`, with missing values last. Leading axes are
preserved, so that many windows are compared at once. Undefined effects, with no value on one side, are nan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feature_store.sketches import Column, Numbers
from refit.schemas.drift_decision import Statistic

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Effect", "gross_sizes", "jensen_shannon", "measure", "psi", "unseen", "wasserstein"]


@dataclass(frozen=True)
class Effect:
    """An effect's size, and the size that sampling alone produces.

    `shift` is on a linear scale. PSI and Jensen-Shannon distance sum differences over many bins, so with few rows they
    are far from zero without any drift. Their shift is the root of the excess of PSI, or of the squared distance, over
    its `floor`, its mean if both samples have the same distribution. The other effects equal their shift.

    Args:
        noise: mean square of the shift if both samples have the same distribution and rows are independent.
    """

    statistic: Statistic
    size: Floats
    floor: Floats
    noise: Floats

    @property
    def shift(self) -> Floats:
        shift: Floats = np.sqrt(np.maximum(self.size**self._power - self.floor, 0.0))
        return shift

    def size_at(self, shift: float) -> Floats:
        """The effect size that corresponds to a shift, with the same floor."""
        size: Floats = (shift**2 + self.floor) ** (1 / self._power)
        return size

    @property
    def _power(self) -> int:
        return 1 if self.statistic == "psi" else 2


def measure(column: Column, reference: ArrayLike, current: ArrayLike) -> dict[Statistic, Effect]:
    """Measure every effect of a column.

    For a number these are PSI and Wasserstein distance, for a category PSI, Jensen-Shannon distance and the share of
    unseen names, for both the difference of the missing shares.

    Args:
        reference: counts, missing last. Shape (..., column.size).
        current: the same for the current rows.
    """
    before, now = np.asarray(reference, float), np.asarray(current, float)
    none = np.zeros(np.broadcast_shapes(before.shape, now.shape)[:-1])
    missing_now, missing_before = _shares(now)[..., -1], _shares(before)[..., -1]
    noise = _variance(missing_now, now.sum(-1)) + _variance(missing_before, before.sum(-1))
    missing = Effect("missing", np.abs(missing_now - missing_before), none, noise)
    before, now = before[..., :-1], now[..., :-1]
    sampling = _inverse(before.sum(-1)) + _inverse(now.sum(-1))
    bins = np.maximum(((before + now) > 0).sum(-1) - 1, 0)
    floor, noise = bins * sampling, np.sqrt(2 * bins) * sampling  # mean and std of chi-squared, scaled by sampling
    effects = [Effect("psi", psi(before, now), floor, noise)]
    if isinstance(column, Numbers):
        noise = _spread(column, before + now) ** 2 * sampling
        effects.append(Effect("wasserstein", wasserstein(column, before, now), none, noise))
    else:
        bits = 8 * math.log(2)
        effects.append(Effect("jensen_shannon", jensen_shannon(before, now), floor / bits, noise / bits))
        share = unseen(before, now)
        effects.append(Effect("unseen", share, none, _variance(share, now.sum(-1))))
    return {effect.statistic: effect for effect in [*effects, missing]}


def gross_sizes(column: Column, reference: ArrayLike, rows: float) -> dict[Statistic, float]:
    """The size of each effect where half of all rows have moved to one value, the one that makes it largest.

    A threshold beyond it means nothing: it would take so gross a change for usual. For the missing share, half of the
    rows that have a value lose it, or half of the others gain one.

    Args:
        reference: counts, missing last. Shape (column.size,).
        rows: with a value, in the window that is compared.

    >>> numbers = Numbers((0.0, 1.0), (0.0, 1.0), 1.0, 0.5)
    >>> sizes = gross_sizes(numbers, [0, 500, 500, 0, 0], 1000)
    >>> round(sizes["missing"], 2), round(sizes["wasserstein"], 2)
    (0.5, 0.5)
    """
    before = np.asarray(reference, float)
    shares, bins = _shares(before[:-1]), len(before) - 1
    moved = rows * np.column_stack([(shares + np.eye(bins)) / 2, np.zeros(bins)])
    sizes = {name: float(effect.size.max()) for name, effect in measure(column, before, moved).items()}
    missing = float(_shares(before)[-1])
    return sizes | {"missing": max(missing, 1 - missing) / 2}


def psi(reference: Floats, current: Floats) -> Floats:
    """Population stability index: the sum of (p - q) ln(p / q) over bins, with shares p now and q in the reference.

    Half a row is added to each bin that either side uses, so that an empty bin does not make it infinite. Without drift
    it is about (bins - 1) (1/n + 1/m), for n and m rows (Yurdakul and Naranjo 2020, "Statistical
    properties of the population stability index", Journal of Risk Model Validation 14(4)).

    >>> float(psi(np.array([500.0, 500.0]), np.array([800.0, 200.0])).round(2))
    0.41
    """
    used = (reference + current) > 0
    p, q = _shares(current + used / 2), _shares(reference + used / 2)
    terms = np.where(used, (p - q) * np.log(np.where(used, p, 1.0) / np.where(used, q, 1.0)), 0.0)
    return _defined(terms.sum(-1), reference, current)


def jensen_shannon(reference: Floats, current: Floats) -> Floats:
    """Jensen-Shannon distance: the root of the divergence in bits, 0 (identical) to 1 (disjoint).

    Without drift, its square is about (bins - 1) (1/n + 1/m) / (8 ln 2) (Lin 1991, "Divergence measures based
    on the Shannon entropy", IEEE Transactions on Information Theory 37(1); the floor is the chi-squared one of its
    second-order term).

    >>> float(jensen_shannon(np.array([3.0, 0.0]), np.array([0.0, 5.0])))
    1.0
    """
    p, q = _shares(current), _shares(reference)
    middle = (p + q) / 2
    divergence = sum(_entropy_terms(side, middle).sum(-1) for side in (p, q)) / 2
    return _defined(np.sqrt(np.clip(divergence, 0.0, 1.0)), reference, current)


def unseen(reference: Floats, current: Floats) -> Floats:
    """The share of rows with a name that does not occur in the reference.

    >>> float(unseen(np.array([6.0, 2.0, 0.0]), np.array([4.0, 0.0, 1.0])))
    0.2
    """
    return _defined(np.where(reference > 0, 0.0, _shares(current)).sum(-1), reference, current)


def wasserstein(column: Numbers, reference: Floats, current: Floats) -> Floats:
    """Wasserstein-1 distance in units of the reference's std: the area between both cumulative shares.

    Values within a bin are assumed to spread evenly, and values outside the bins to lie at their edge: far outliers
    count little here, and fully in PSI. The distance is nan if the reference is constant.
    """
    if not column.std:
        return np.full(np.broadcast_shapes(reference.shape, current.shape)[:-1], np.nan)
    lows, highs = np.array(column.lows), np.array(column.highs)
    gap = np.cumsum(_shares(current) - _shares(reference), axis=-1)[..., :-1]  # of the cumulative shares after each bin
    left, right = gap[..., :-1], gap[..., 1:]
    height = np.abs(left) + np.abs(right)
    crossing = (left**2 + right**2) / np.where(height > 0, height, 1.0)
    within = (highs - lows) * np.where(left * right < 0, crossing, height) / 2
    between = (lows[1:] - highs[:-1]) * np.abs(right[..., :-1])
    return _defined((within.sum(-1) + between.sum(-1)) / column.std, reference, current)


def _spread(column: Numbers, counts: Floats) -> Floats:
    """The integral of sqrt(F (1 - F)) in units of the reference's std, where F is the cumulative share.

    Its square times (1/n + 1/m) bounds the mean square of the Wasserstein distance between two samples of one
    distribution, whose cumulative shares differ by sqrt(F (1 - F) (1/n + 1/m)) (Minkowski's inequality).
    """
    if not column.std:
        return np.zeros(counts.shape[:-1])
    share = np.cumsum(_shares(counts), axis=-1)[..., :-1]
    height = np.sqrt(np.clip(share * (1 - share), 0.0, None))
    lows, highs = np.array(column.lows), np.array(column.highs)
    within = (highs - lows) * (height[..., :-1] + height[..., 1:]) / 2
    between = (lows[1:] - highs[:-1]) * height[..., 1:-1]
    spread: Floats = (within.sum(-1) + between.sum(-1)) / column.std
    return spread


def _variance(share: Floats, rows: Floats) -> Floats:
    return share * (1 - share) * _inverse(rows)


def _inverse(rows: Floats) -> Floats:
    return 1 / np.maximum(rows, 1.0)


def _shares(counts: Floats) -> Floats:
    """Counts as shares of their sum; all 0 if the sum is 0."""
    total = counts.sum(-1, keepdims=True)
    return counts / np.where(total > 0, total, 1.0)


def _entropy_terms(share: Floats, middle: Floats) -> Floats:
    there = share > 0
    return np.where(there, share * np.log2(np.where(there, share, 1.0) / np.where(there, middle, 1.0)), 0.0)


def _defined(size: Floats, reference: Floats, current: Floats) -> Floats:
    return np.where((reference.sum(-1) > 0) & (current.sum(-1) > 0), size, np.nan)
