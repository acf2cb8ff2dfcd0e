"""What of a backtest counts as usual: not windows that are low, and nothing where a measure is undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta

from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.drift.performance import Backtest, _evidence, _reasons
from refit.metrics.clusters import Estimate
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, PerformanceVerdict

LEVEL = [0.28 + 0.001 * (-1) ** i for i in range(9)]
LOW = [*LEVEL[:-3], *(each - 0.2 for each in LEVEL[-3:])]
POLICY = DecisionPolicy.of(DriftParams(), EvaluateParams())


def estimates(values: Sequence[float]) -> tuple[Estimate, ...]:
    return tuple(Estimate(value, 0.001, 6.0) for value in values)


def reference(skills: Sequence[float], brier: Sequence[float]) -> Backtest:
    first = date(2013, 9, 2)
    weeks = (first + timedelta(weeks=i) for i in range(len(skills)))
    windows = tuple(DayWindow(first=week, end=week + timedelta(days=7)) for week in weeks)
    return Backtest(windows, 2_000.0, estimates(skills), tuple(skills), None, {"brier": estimates(brier)})


def verdict(skill: float) -> PerformanceVerdict:
    return PerformanceVerdict(
        metric="roc_auc",
        rows=2_000,
        labelled=2_000,
        value=0.5 + skill,
        skill=skill,
        lower=None,
        upper=None,
        expected=0.28,
        spread=0.001,
        threshold=0.2,
        estimated=None,
        suspected=False,
        breached=False,
        reasons=(),
    )


def test_a_measure_that_is_undefined_in_a_window_is_no_evidence() -> None:
    """MAPE with a label of zero."""
    assert _evidence("skill", reference([math.nan, *LEVEL[1:]], LEVEL), [verdict(0.1)]).value == 0.0
    assert _evidence("skill", reference(LEVEL, LEVEL), [verdict(0.1)]).value > 100


def test_only_windows_that_are_low_by_the_gates_metric_are_left_out_of_its_mean() -> None:
    assert reference(LEVEL, LOW).excluded == ()
    low = reference(LOW, LEVEL)
    assert low.excluded == low.windows[-3:]


def test_the_mean_is_said_to_be_of_the_windows_that_count() -> None:
    low = reference(LOW, LEVEL).usual("skill")
    first = next(_reasons(verdict(0.28), "", low, POLICY, estimable=True))
    assert "the mean of the backtest's 6 windows is" in first
