"""Detects input drift: columns further from the reference than the reference's own windows are from each other.

Nothing here opens a file or reads a clock. With many rows every two-sample test gives a small p-value, and days differ
without any drift, so effects are compared with the effects between windows of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from feature_store.sketches import Sketch
from refit.config import DriftParams
from refit.drift.effect_sizes import Effect, gross_sizes, measure
from refit.schemas.drift_decision import ColumnDrift, DayWindow, InputVerdict, Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "WORDS",
    "ReferenceWindows",
    "calibrate",
    "empty_verdict",
    "judge_window",
    "moved",
]

FEWEST_DAYS = 28  # of reference data that a window of the reference is compared with
TOO_VARIED = "windows of the reference differ so much that even half of all rows moved to one value would be usual"
SHOWN = 5  # columns named in one sentence
WORDS: dict[Statistic, str] = {
    "psi": "PSI",
    "wasserstein": "Wasserstein distance",
    "jensen_shannon": "Jensen-Shannon distance",
    "unseen": "share of unseen names",
    "missing": "change of the missing share",
}


@dataclass(frozen=True)
class ReferenceWindows:
    """Counts of the reference's windows, and of the part of the reference that each is compared with.

    `current` and `reference` are counts of shape (windows, layout.width).
    """

    current: NDArray[np.float64]
    reference: NDArray[np.float64]
    lagged: bool

    def __len__(self) -> int:
        return len(self.current)


def calibrate(reference: Sketch, days: int, lag_days: int, *, fewest: int) -> ReferenceWindows:
    """Cut the reference into windows of `days` days, counted back from its end, and pair each as in production.

    A window is paired with the reference days that lie at least `lag_days` before it, at least 28 of them, because a
    model is trained some time before it is used: seasonal changes then do not count as drift. If that leaves fewer than
    `fewest` windows, each is paired with all days outside it, without a lag (`lagged` is false). Windows without rows
    are left out.
    """
    first, end = reference.days[0], reference.days[-1] + 1
    starts = end - np.arange(1, (end - first).astype(int) // days + 1) * days
    inside = (reference.days >= starts[:, None]) & (reference.days < starts[:, None] + days)
    before = reference.days < starts[:, None] - lag_days
    held = inside @ reference.rows > 0
    lagged = held & (before.sum(1) >= FEWEST_DAYS)
    others, chosen = (before, lagged) if lagged.sum() >= fewest else (~inside, held & (~inside @ reference.rows > 0))
    counts = reference.counts.astype(float)
    return ReferenceWindows(inside[chosen] @ counts, others[chosen] @ counts, lagged=bool(lagged.sum() >= fewest))


def empty_verdict(window: DayWindow) -> InputVerdict:
    """The verdict on a window without rows."""
    return _nothing_said(0, f"no row lies in the window from {window.first} to {window.end}: nothing can be said")


def _nothing_said(rows: int, reason: str) -> InputVerdict:
    return InputVerdict(rows=rows, calibrated=False, reference_windows=0, columns=(), breached=False, reasons=(reason,))


def judge_window(reference: Sketch, current: Sketch, window: DayWindow, policy: DriftParams) -> InputVerdict:
    """Find the columns that moved further than they do between windows of the reference, and by a relevant effect.

    An effect's shift d (`Effect.shift`) is compared with the shifts d_i of W windows of the reference. Variation common
    to the rows of a day moves a window by s^2 = mean(d_i^2 - noise_i) beyond sampling; sampling adds this window's own
    noise, which depends on its number of rows. If shifts are normal about 0, d / sqrt(s^2 + noise) is the absolute
    value of a Student t variable with W degrees of freedom: p = 2 (1 - T_W). This is conservative if a shift has
    several directions, because d then varies less about its rms, and anti-conservative if windows are dependent,
    because there are then effectively fewer than W. Three steps compensate: a column's p is the smallest of its effects
    times their number; columns are corrected by Benjamini and Hochberg (1995, Journal of the Royal Statistical Society
    B 57(1)) at `false_discovery`; and an effect breaches only if its shift also reaches that of its `min_effect`.

    Columns that only one of the sketches has, or that have no row in one of them, are not judged.

    Raises:
        ValueError: a column was counted under different layouts.
    """
    inside = current.between(window.first, window.end)
    rows = int(inside.rows.sum())
    if not rows:
        return empty_verdict(window)
    if not len(reference.days):
        return _nothing_said(rows, "no row lies in the reference: nothing can be said")
    lag = int((np.datetime64(window.first) - reference.days[-1]).astype(int)) - 1
    calibration = calibrate(reference, window.days, max(0, lag), fewest=policy.min_reference_windows)
    calibrated = len(calibration) >= policy.min_reference_windows
    measured = list(_measured(reference, inside, calibration, policy))
    rejecting = _rejecting([each.p for each in measured], policy.false_discovery)
    judged = [_judged(each, p, policy, calibrated=calibrated) for each, p in zip(measured, rejecting, strict=True)]
    columns = tuple(sorted(judged, key=lambda column: (-column.severity, column.column)))
    return InputVerdict(
        rows=rows,
        calibrated=calibrated,
        reference_windows=len(calibration),
        columns=columns,
        breached=any(column.breached for column in columns),
        reasons=tuple(_reasons(columns, calibration, policy)),
    )


@dataclass(frozen=True)
class _Measured:
    """A column's effects, and the usual scale of each shift if enough windows of the reference give one."""

    column: str
    kind: Literal["number", "text", "category"]
    effects: Mapping[Statistic, Effect]
    scales: Mapping[Statistic, tuple[float, int]]  # (scale, number of windows)
    gross: Mapping[Statistic, float]  # the size of each effect that a gross change has

    @property
    def p(self) -> float | None:
        """The smallest p of an effect times the number of effects; None if none can be tested."""
        from scipy.special import stdtr

        p_values = []
        for name, (scale, windows) in self.scales.items():
            shift = float(self.effects[name].shift)
            p_values.append(2 * float(stdtr(windows, -shift / scale if scale else -np.inf)) if shift else 1.0)
        return min(1.0, len(p_values) * min(p_values)) if p_values else None


def _measured(
    reference: Sketch, current: Sketch, calibration: ReferenceWindows, policy: DriftParams
) -> Iterator[_Measured]:
    before, now, slices = reference.totals(), current.totals(), reference.layout.slices()
    for name, column in reference.layout.columns.items():
        if name not in now or not now[name].sum() or not before[name].sum():
            continue
        if current.layout.columns[name] != column:
            raise ValueError(f"column {name!r} was counted in different ways; count rows by the reference's layout")
        effects = {
            key: effect for key, effect in measure(column, before[name], now[name]).items() if np.isfinite(effect.size)
        }
        columns, scales = slices[name], {}
        windows = measure(column, calibration.reference[:, columns], calibration.current[:, columns])
        for key, effect in effects.items():
            there = np.isfinite(windows[key].size)
            if there.sum() >= policy.min_reference_windows:
                usual = float(np.mean((windows[key].shift ** 2 - windows[key].noise)[there]))
                scales[key] = (math.sqrt(max(usual, 0.0) + float(effect.noise)), int(there.sum()))
        gross = gross_sizes(column, before[name], float(now[name][:-1].sum()))
        yield _Measured(name, column.kind, effects, scales, gross)


def _rejecting(p: Sequence[float | None], rate: float) -> list[float]:
    """For each column, the largest p at which Benjamini and Hochberg would reject it, given the others' p.

    >>> _rejecting([0.001, 0.02, 0.8, None], 0.06)
    [0.04, 0.04, 0.06, 0.06]
    """
    tested = sorted(each for each in p if each is not None)
    step = rate / max(len(tested), 1)
    rejected = max((rank for rank, each in enumerate(tested, start=1) if each <= step * rank), default=0)
    return [step * (rejected + (each is None or each > step * rejected)) for each in p]


def _judged(measured: _Measured, rejecting: float, policy: DriftParams, *, calibrated: bool) -> ColumnDrift:
    """Compare a column's effects with the thresholds for a breach: rejected, and of a relevant size.

    An effect cannot be judged if what is usual in the reference lies beyond the size of a gross change, unless it is
    larger than even that.
    """
    from scipy.special import stdtrit

    thresholds: dict[Statistic, float | None] = {}
    unjudged: dict[Statistic, str] = {}
    breached = False
    for name, effect in measured.effects.items():
        relevant = getattr(policy.min_effect, name) ** (0.5 if name == "psi" else 1.0)
        usual = 0.0
        if name in measured.scales:
            scale, windows = measured.scales[name]
            usual = -scale * float(stdtrit(windows, rejecting / len(measured.scales) / 2))
        least = max(relevant, usual)
        limit, reached = float(effect.size_at(least)), bool(effect.shift >= least)
        if usual > relevant and limit >= measured.gross[name] and not reached:
            thresholds[name], unjudged[name] = None, TOO_VARIED
            continue
        thresholds[name] = limit if math.isfinite(limit) else None
        breached |= reached and (name in measured.scales or not calibrated)
    sizes = {name: float(effect.size) for name, effect in measured.effects.items()}
    return ColumnDrift(
        column=measured.column,
        kind=measured.kind,
        effects=sizes,
        thresholds=thresholds,
        p=measured.p,
        breached=breached,
        unjudged=unjudged,
    )


def moved(columns: Sequence[ColumnDrift]) -> str:
    """The number of columns that moved, of those that can be judged, the worst of them, and what cannot be judged."""
    breached = [column for column in columns if column.breached]
    judged = [column for column in columns if column.comparisons or not column.unjudged]
    text = f"{len(breached)} of {len(judged)} columns moved" + (
        f": {'; '.join(map(_format_drift, breached[:SHOWN]))}" if breached else ""
    )
    return "; ".join([text, *_not_judged(columns)])


def _not_judged(columns: Sequence[ColumnDrift]) -> Iterator[str]:
    """The number of measures that cannot be judged, of which columns, and why."""
    unjudged = [column for column in columns if column.unjudged]
    if not unjudged:
        return
    named = ", ".join(
        f"{each.column} ({', '.join(WORDS[name] for name in each.unjudged)})" for each in unjudged[:SHOWN]
    )
    more = f" and {len(unjudged) - SHOWN} other columns" if len(unjudged) > SHOWN else ""
    count, of = sum(len(each.unjudged) for each in columns), sum(len(each.effects) for each in columns)
    yield f"{count} of {of} measures of columns cannot be judged: {named}{more}: {TOO_VARIED}"


def _reasons(columns: Sequence[ColumnDrift], calibration: ReferenceWindows, policy: DriftParams) -> Iterator[str]:
    """The columns that moved, and how the comparison was calibrated."""
    yield moved(columns)
    if len(calibration) < policy.min_reference_windows:
        yield (
            f"uncalibrated: the reference holds {len(calibration)} windows of this length, "
            f"{policy.min_reference_windows} are needed; held against the least effects alone"
        )
    elif not calibration.lagged:
        yield (
            f"held against {len(calibration)} windows of the reference, each against all of its other days: it is too "
            "short to leave the lag between training and use"
        )


def _format_drift(column: ColumnDrift) -> str:
    if (effect := column.largest) is None:
        return column.column
    return f"{column.column} ({WORDS[effect.statistic]} {effect.size:.3f}, from {effect.limit:.3f} on)"
