"""Finds after how many steps series repeat themselves, from the part of their history that models learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_SERIES = 100  # that are looked at
MOST_STEPS = 20_000  # of a series, the newest ones
FEWEST_STEPS = 12
LEAST = 4  # cycles that the steps must cover, two in each half
CLEAR = 0.3  # autocorrelation of a cycle at least
STANDS_OUT = 0.1  # above the steps before it, and above shorter cycles that it is a multiple of
MOST = 3  # cycles


def repetitions(connection: Any, step_seconds: int, learned: float) -> tuple[int, ...]:
    """The cycles of the series in the table `s` (series, began, value), in steps.

    Args:
        learned: steps from the first row of all series, of which those that follow are not looked at.
    """
    rows = connection.execute(
        f"""
        select series, list(floor(epoch(began - first) / {step_seconds} + 0.5)::bigint order by began),
            list(value::double order by began)
        from (select *, min(began) over () as first from s where value is not null)
        where epoch(began - first) / {step_seconds} < {learned}
        group by series order by count(*) desc, series limit {MOST_SERIES}"""
    ).fetchall()
    series = []
    for _, positions, values in rows:
        steps = np.array(positions) - positions[-1] + min(positions[-1] - positions[0], MOST_STEPS - 1)
        wanted = steps >= 0
        regular = np.full(int(steps[-1]) + 1, np.nan)
        regular[steps[wanted]] = np.array(values)[wanted]
        series.append(regular)
    return cycles(series)


def cycles(series: Sequence[Floats]) -> tuple[int, ...]:
    """The cycles that series have in common, in steps, the shortest first.

    They are clear maxima of the autocorrelation, which is the inverse Fourier transform of the periodogram, averaged
    over the series, and clear in both halves: what wanders without a cycle has maxima too, by chance. A longer
    cycle counts only if it is clearer than the shorter ones, and than its neighbours at their distance.

    Args:
        series: values of each series, one a step; nan where a step is missing.

    >>> steps = np.arange(24 * 7 * 6)
    >>> cycles([np.sin(steps * 2 * np.pi / 24) + 2.0 * (steps // 24 % 7 > 4)])
    (24, 168)
    """
    long = [values for values in series if len(values) >= FEWEST_STEPS]
    if not long:
        return ()
    reach = int(np.median([len(values) for values in long])) // LEAST + 2
    common = _common(long, reach)
    halves = [_common([np.array_split(values, 2)[half] for values in long], reach) for half in (0, 1)]
    periods: list[int] = []
    for lag in range(2, min(map(len, (common, *halves))) - 1):
        if min(half[lag] for half in halves) < CLEAR:
            continue
        if common[lag] < CLEAR or common[lag] <= common[lag - 1] or common[lag] < common[lag + 1]:
            continue
        if common[lag] < common[1:lag].min() + STANDS_OUT or not all(
            _is_clearer(common, lag, each) for each in periods
        ):
            continue
        periods.append(lag)
    clearest = sorted(periods, key=lambda lag: -common[lag])[:MOST]
    return tuple(sorted({_snapped(each, [other for other in clearest if other > each]) for each in clearest}))


def _common(series: Sequence[Floats], reach: int) -> Floats:
    """(lags,) the mean autocorrelation of the longest series, up to a lag that they must reach."""
    correlations = [_autocorrelation(values, reach) for values in series]
    most = max(map(len, correlations))
    return np.asarray(np.mean([each for each in correlations if len(each) == most], axis=0))


def _is_clearer(common: Floats, lag: int, shorter: int) -> bool:
    """Whether a lag is clearer than a shorter cycle, and than the lags one such cycle before and after it."""
    neighbours = [common[each] for each in (lag - shorter, lag + shorter) if each < len(common)]
    return bool(common[lag] > common[shorter] + STANDS_OUT / 2 and common[lag] >= max(neighbours))


def _snapped(cycle: int, longer: Sequence[int]) -> int:
    """A cycle that goes into a longer one a whole number of times, if it nearly does: a slope moves its maximum.

    >>> _snapped(23, [168]), _snapped(17, [168])
    (24, 17)
    """
    for other in longer:
        times = round(other / cycle)
        if times > 1 and other % times == 0 and abs(other // times - cycle) <= max(1, cycle // 20):
            return other // times
    return cycle


def _autocorrelation(values: Floats, reach: int) -> Floats:
    """(lags,) correlation of values with those some steps later, without their trend; missing ones do not count."""
    known = np.isfinite(values)
    steps = np.arange(len(values))
    slope, start = np.polyfit(steps[known], values[known], 1) if known.sum() > 1 else (0.0, 0.0)
    rest = np.where(known, values - start - slope * steps, 0.0)
    size = 2 * len(values)
    transform, there = np.fft.rfft(rest, size), np.fft.rfft(known.astype(np.float64), size)
    lags = min(len(values), reach)
    products = np.fft.irfft(np.abs(transform) ** 2, size)[:lags]
    pairs = np.maximum(np.round(np.fft.irfft(np.abs(there) ** 2, size)[:lags]), 1)
    variance = products[0] / pairs[0]
    return np.asarray(products / pairs / variance if variance > 0 else np.zeros(lags))
