"""What of a backtest counts as usual: not windows that are low, and nothing where a measure is undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.drift.measures import ScoredRows
from refit.drift.performance import Backtest, _evidence, _reasons, backtest, judge_window, lasting_loss
from refit.metrics.clusters import Estimate
from refit.problems.regression import Regression
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, PerformanceVerdict, WatchedMeasure

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


def test_a_window_in_which_a_measure_is_undefined_is_no_evidence_and_the_others_are() -> None:
    """MAPE with a label of zero."""
    left_out = _evidence("skill", reference([math.nan, *LEVEL], LEVEL[:1] + LEVEL), [verdict(0.1)])
    assert left_out.value == _evidence("skill", reference(LEVEL, LEVEL), [verdict(0.1)]).value > 100
    found = _evidence("brier", reference(LEVEL, LEVEL), [verdict(0.28), measured(0.28), measured(0.1)])
    assert (found.since, found.value > 100) == (2, True)


def measured(brier: float) -> PerformanceVerdict:
    """A window with a second measure."""
    other = WatchedMeasure(name="brier", value=brier, expected=0.28, threshold=0.2, breached=False)
    return verdict(0.28).model_copy(update={"others": (other,)})


def test_only_windows_that_are_low_by_the_gates_metric_are_left_out_of_its_mean() -> None:
    assert reference(LEVEL, LOW).excluded == ()
    low = reference(LOW, LEVEL)
    assert low.excluded == low.windows[-3:]


def test_the_mean_is_said_to_be_of_the_windows_that_count() -> None:
    low = reference(LOW, LEVEL)
    first = next(_reasons(verdict(0.28), "", low, POLICY, estimable=True))
    assert "the mean of the backtest's 6 windows is" in first


def test_windows_in_which_a_metric_is_no_number_are_left_out_and_named() -> None:
    policy = DecisionPolicy.of(DriftParams(), EvaluateParams()).model_copy(update={"metric": "mape"})
    days = np.repeat(np.datetime64("2024-01-01") + np.arange(77), 100)
    labels = np.random.default_rng(0).normal(50, 5, len(days))
    predicted = labels + np.random.default_rng(1).normal(0, 2, len(days))
    labels[5] = 0.0
    usual = backtest(ScoredRows(days, predicted, labels, Regression()), policy)
    window = DayWindow(first=date(2024, 4, 1), end=date(2024, 4, 8))
    now = np.repeat(np.datetime64("2024-04-01") + np.arange(7), 100)
    lost = ScoredRows(now, np.full(700, 55.0), np.random.default_rng(2).normal(50, 5, 700), Regression())
    judged = judge_window(usual, lost, window, policy)
    assert judged.breached
    assert judged.skill is not None
    assert judged.threshold is not None
    assert judged.skill < judged.threshold
    assert "the mean of the backtest's 10 windows" in judged.reasons[0]
    assert judged.reasons[1] == "left out of the backtest, as mape is no finite number there: 2024-01-01 to 2024-01-07"
    evidence = lasting_loss(usual, [judged] * 3, policy, [window] * 3)
    assert evidence is not None
    assert evidence.shown


def test_window_in_which_the_gates_metric_is_no_number_is_not_judged_and_says_so() -> None:
    policy = DecisionPolicy.of(DriftParams(), EvaluateParams()).model_copy(update={"metric": "mape"})
    days = np.repeat(np.datetime64("2024-01-01") + np.arange(70), 100)
    labels = np.random.default_rng(0).normal(50, 5, len(days))
    scored = ScoredRows(days, labels + 1.0, labels, Regression())
    usual = backtest(scored, policy)
    window = DayWindow(first=date(2024, 1, 1), end=date(2024, 1, 8))
    judged = judge_window(usual, replace(scored, labels=np.where(np.arange(7000) == 5, 0.0, labels)), window, policy)
    assert (judged.skill, judged.breached) == (None, False)
    assert judged.reasons[0] == "not judged: skill by mape is no finite number for its labels"
