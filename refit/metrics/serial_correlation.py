"""The error of a mean over days whose luck may last: weather and campaigns carry over from one day to the next.

The days' values follow y = weekday + u + e: each weekday has a level, u is an AR(1) process with correlation rho of
one day with the next (of days as far apart as most are: a week in weekly data), e is new on every day. The restricted
likelihood (Patterson and Thompson 1971, Biometrika 58(3)) is free of the levels; with the usual flat priors of the mean
and of log sigma, the mean is a mixture of Student's t over rho and the share of e, weighted by what the days say about
the two (Zellner and Tiao 1964, JASA 59(307)). Even odds that days are independent keep the price low where they are.
docs/gate.md has the error rates at fixed rho.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

__all__ = ["DaysError", "error_of_mean"]

_LASTING = list(product(np.linspace(0.1, 0.9, 9), (0.0, 0.25, 0.5)))  # rho, and the share of the variance that is new
RHO, NEW = np.array([(0.0, 0.0), *_LASTING]).T
PRIOR = np.where(RHO == 0, 0.5, 0.5 / len(_LASTING))  # the days are as likely independent as not
WEEK = 7  # days
WEEKS, EFFECTIVE_WEEKS = 4, 3  # from so many of each weekday on, the weekdays have levels of their own


@dataclass(frozen=True, eq=False)
class DaysError:
    """What the days tell about the error of their mean: how probable each dependence is, and the error with it."""

    odds: Floats  # (dependences,)
    errors: Floats  # (dependences,) standard errors of the mean
    freedom: float  # degrees of freedom
    step: float = 1.0  # days from one to the next, as most lie apart: 7 in weekly data

    @property
    def correlation(self) -> float:
        """The expected correlation of a day with the one a step later, weekdays removed."""
        return float(self.odds @ (RHO * (1 - NEW)))

    @property
    def independence(self) -> float:
        """The probability that the days are independent."""
        return float(self.odds[0])

    def reach(self, alpha: float) -> float:
        """The distance below the estimate that the true mean exceeds with probability `alpha`; above, alike.

        >>> days = error_of_mean(np.sin(np.arange(40.0) ** 2), np.arange(40), effective=40.0)
        >>> days.reach(0.01) > days.reach(0.05) > 0
        True
        """
        from scipy.optimize import brentq
        from scipy.special import stdtr, stdtrit

        def excess(distance: float) -> float:
            return float(self.odds @ stdtr(self.freedom, -distance / self.errors)) - alpha

        ends = float(stdtrit(self.freedom, 1 - alpha)) * np.array([self.errors.min(), self.errors.max()])
        return float(brentq(excess, *(ends * (1 - 1e-9, 1 + 1e-9)), xtol=1e-15 * ends[1], rtol=1e-12))


def error_of_mean(
    values: Floats, days: NDArray[np.int64] | Floats, effective: float, *, weekly: bool = True
) -> DaysError | None:
    """The error of the mean of one value a day; None if the values do not vary beyond their weekdays.

    Args:
        values: of the days, in order of time.
        days: number of each day, ascending; over a longer step than is usual among them, less luck carries over.
        effective: number of equally large days with the same information (Kish), for the degrees of freedom.
        weekly: whether each weekday may have a level; not if the values are of stretches of days.
    """
    if not np.isfinite(values).all():
        return None
    model, centred = _model(days.astype(np.float64).tobytes(), effective, weekly), values - values.mean()
    news = model.news(centred[:, None])[:, :, 0]
    news = news - np.einsum("dnp,dp->dn", model.levels, np.einsum("dnp,dn->dp", model.levels, news))
    squares = np.einsum("dn,dn->d", news, news)
    if not squares.min() > 1e-20 * (centred @ centred):
        return None
    count, columns = model.levels.shape[1:]
    likelihood = np.log(PRIOR) - model.log_determinant / 2 - (count - columns) / 2 * np.log(squares)
    odds = np.exp(likelihood - likelihood.max())
    errors = np.sqrt(squares / (count - columns) * model.variance_of_mean)
    return DaysError(odds / odds.sum(), errors, max(1.0, effective - columns), model.step)


@dataclass(frozen=True)
class _Filter:
    """Kalman's filter of AR(1) processes seen through noise: one for each dependence, of unit variance."""

    carried: Floats  # (dependences, n) correlation of u with that of the day before
    weight: Floats  # (dependences, n) of a day's news in what is expected of u on that day
    scale: Floats  # (dependences, n) 1 / standard deviation of the news

    def news(self, values: Floats) -> Floats:
        """(dependences, n, columns) what columns of (n, columns) bring that the days before did not tell, scaled."""
        news = np.empty((*self.carried.shape, values.shape[1]))
        expected = np.zeros((len(self.carried), values.shape[1]))
        for day, value in enumerate(values):
            expected *= self.carried[:, day, None]
            news[:, day] = value - expected
            expected += self.weight[:, day, None] * news[:, day]
        news *= self.scale[:, :, None]
        return news


@dataclass(frozen=True)
class _Model(_Filter):
    """All that depends on the days alone: every metric and slice of a test window has it in common."""

    levels: Floats  # (dependences, n, p) orthonormal basis of the news of the weekdays' levels, or of one level
    log_determinant: Floats  # (dependences,) of the days' correlations and of the levels' precision
    variance_of_mean: Floats  # (dependences,) where a day has unit variance
    step: float  # days from one to the next, as most lie apart


@lru_cache(maxsize=64)
def _model(packed: bytes, effective: float, weekly: bool) -> _Model:
    days = np.frombuffer(packed)
    apart = np.diff(days)
    usual = max(1.0, float(np.median(apart)))
    carried = np.concatenate([np.zeros((len(RHO), 1)), RHO[:, None] ** (apart / usual)], axis=1)
    weight, spread = np.empty_like(carried), np.empty_like(carried)
    uncertain, luck, total = np.zeros(len(RHO)), np.zeros(len(RHO)), np.full(len(RHO), float(len(days)))
    for day, step in enumerate(carried.T):
        uncertain = step**2 * uncertain + (1 - NEW) * (1 - step**2)
        spread[:, day] = uncertain + NEW
        weight[:, day] = uncertain / spread[:, day]
        uncertain = uncertain * (1 - weight[:, day])
        luck = step * luck
        total += 2 * luck
        luck += 1 - NEW
    kalman = _Filter(carried, weight, 1 / np.sqrt(spread))
    weekdays = _weekdays(days % WEEK, effective) if weekly and usual < WEEK else np.ones((len(days), 1))
    levels, triangles = np.linalg.qr(kalman.news(weekdays))
    diagonals = np.abs(np.diagonal(triangles, axis1=1, axis2=2))
    log_determinant = np.log(spread).sum(axis=1) + 2 * np.log(diagonals).sum(axis=1)
    return _Model(carried, weight, kalman.scale, levels, log_determinant, total / len(days) ** 2, usual)


def _weekdays(of_days: Floats, effective: float) -> Floats:
    """(n, p) one column for each weekday if there are enough days of each, else one for all."""
    weekdays = np.unique(of_days)
    if len(of_days) < WEEKS * len(weekdays) or effective < EFFECTIVE_WEEKS * len(weekdays):
        return np.ones((len(of_days), 1))
    return np.asarray(of_days[:, None] == weekdays, dtype=np.float64)
