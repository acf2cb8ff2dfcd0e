"""How far two distributions are apart, from their counts alone: sizes of effects, which more rows do not inflate.

Counts lie along the last axis as `feature_store.sketches` lays them out, what is missing last. Axes before it are kept,
so that many windows are compared at once. What is not defined, with no value on one side, is nan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from feature_store.sketches import Column, Numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Effect", "Statistic", "jensen_shannon", "measure", "psi", "unseen", "wasserstein"]

Statistic = Literal["psi", "wasserstein", "jensen_shannon", "unseen", "missing"]


@dataclass(frozen=True)
class Effect:
    """An effect's size, and the floor that sampling alone puts under it.

    PSI and Jensen-Shannon distance add up what differs over many bins: with few rows they are far from zero without
    any drift. `shift` is on a scale where twice the shift is twice the number, with that floor taken off: the root of
    PSI less its floor, and of the squared distance less its floor. The other effects are linear, and are their shift.
    """

    statistic: Statistic
    size: Floats
    floor: Floats

    @property
    def shift(self) -> Floats:
        found: Floats = np.sqrt(np.maximum(self.size**self._power - self.floor, 0.0))
        return found

    def size_at(self, shift: float) -> Floats:
        """The effect that has this shift, with the same floor."""
        found: Floats = (shift**2 + self.floor) ** (1 / self._power)
        return found

    @property
    def _power(self) -> int:
        return 1 if self.statistic == "psi" else 2


def measure(column: Column, reference: ArrayLike, current: ArrayLike) -> dict[Statistic, Effect]:
    """Every effect of a column: for a number PSI and Wasserstein distance, for a category PSI, Jensen-Shannon distance
    and the share of unseen names, for both the difference of the missing shares.

    Args:
        reference: counts, missing last. Shape (..., column.size).
        current: the same of the rows to judge.
    """
    before, now = np.asarray(reference, float), np.asarray(current, float)
    missing = np.abs(_shares(now)[..., -1] - _shares(before)[..., -1])
    before, now = before[..., :-1], now[..., :-1]
    bins = ((before + now) > 0).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.maximum(bins - 1, 0) * (1 / before.sum(-1) + 1 / now.sum(-1))
    none = np.zeros_like(missing)
    found = [Effect("psi", psi(before, now), noise)]
    if isinstance(column, Numbers):
        found.append(Effect("wasserstein", wasserstein(column, before, now), none))
    else:
        found.append(Effect("jensen_shannon", jensen_shannon(before, now), noise / (8 * math.log(2))))
        found.append(Effect("unseen", unseen(before, now), none))
    return {effect.statistic: effect for effect in [*found, Effect("missing", missing, none)]}


def psi(reference: Floats, current: Floats) -> Floats:
    """Population stability index: the sum of (p - q) ln(p / q) over bins, with shares p now and q in the reference.

    Half a row is added to each bin that either side has, so that an empty one does not make it infinite. Under one
    distribution it is about (bins - 1) (1/n + 1/m), for n and m rows (Yurdakul and Naranjo 2020, "Statistical
    properties of the population stability index", Journal of Risk Model Validation 14(4)).

    >>> float(psi(np.array([500.0, 500.0]), np.array([800.0, 200.0])).round(2))
    0.41
    """
    used = (reference + current) > 0
    p, q = _shares(current + used / 2), _shares(reference + used / 2)
    terms = np.where(used, (p - q) * np.log(np.where(used, p, 1.0) / np.where(used, q, 1.0)), 0.0)
    return _defined(terms.sum(-1), reference, current)


def jensen_shannon(reference: Floats, current: Floats) -> Floats:
    """Jensen-Shannon distance: the root of the divergence in bits, 0 (alike) to 1 (nothing in common).

    Squared it is about (bins - 1) (1/n + 1/m) / (8 ln 2) under one distribution (Lin 1991, "Divergence measures based
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
    """The share of rows under a name that the reference has nowhere.

    >>> float(unseen(np.array([6.0, 2.0, 0.0]), np.array([4.0, 0.0, 1.0])))
    0.2
    """
    return _defined(np.where(reference > 0, 0.0, _shares(current)).sum(-1), reference, current)


def wasserstein(column: Numbers, reference: Floats, current: Floats) -> Floats:
    """Wasserstein-1 distance in units of the reference's std: the area between both cumulative shares.

    Within a bin values are taken as spread evenly, and those outside of the bins as lying at their edge: far outliers
    count little here, and fully in PSI. Where the reference is constant it is nan.
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


def _shares(counts: Floats) -> Floats:
    """Shares of their sum; where that is 0, all 0."""
    total = counts.sum(-1, keepdims=True)
    return counts / np.where(total > 0, total, 1.0)


def _entropy_terms(share: Floats, middle: Floats) -> Floats:
    there = share > 0
    return np.where(there, share * np.log2(np.where(there, share, 1.0) / np.where(there, middle, 1.0)), 0.0)


def _defined(size: Floats, reference: Floats, current: Floats) -> Floats:
    return np.where((reference.sum(-1) > 0) & (current.sum(-1) > 0), size, np.nan)
