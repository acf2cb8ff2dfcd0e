"""What cannot be judged counts as neither fine nor breached, and the decision says so; intervals that miss warn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refit.drift.performance import Backtest, backtest
from refit.metrics.clusters import Estimate
from refit.schemas.drift_decision import WatchedCoverage
from refit.schemas.measured import Measured
from tests.refit.drift.test_performance import DAYS, NEXT, POLICY, START, judged, scored
from tests.refit.drift.test_retrain_decision import decided, inputs, performance, says, separation, week


@pytest.fixture(scope="module")
def usual() -> Backtest:
    return backtest(scored(START, DAYS, 1), POLICY)


def test_a_skill_whose_limit_is_below_that_of_a_naive_guess_cannot_be_judged(usual: Backtest) -> None:
    wild = replace(
        usual, skills=tuple(replace(each, value=0.28 + 0.2 * (-1) ** i) for i, each in enumerate(usual.skills))
    )
    calm = scored(NEXT.first, 7, 2)
    verdict = judged(wild, calm)
    assert (verdict.threshold, verdict.breached, verdict.judged, verdict.calibrated) == (None, False, True, True)
    assert list(verdict.cannot_be_judged) == ["roc_auc"], "the Brier score and calibration can be"
    assert "1 of 3 measures of performance cannot be judged: roc_auc (0.3" in (verdict.reasons[0])
    turned = replace(calm, predictions=1 - calm.predictions)
    assert judged(wild, turned).breached, "worse than even that"


@pytest.mark.parametrize(("lost", "unjudged"), [(0.02, True), (0.7, False)])
def test_a_limit_that_params_set_stays_however_low_it_is(usual: Backtest, lost: float, unjudged: bool) -> None:
    wild = replace(
        usual, skills=tuple(replace(each, value=0.28 + 0.2 * (-1) ** i) for i, each in enumerate(usual.skills))
    )
    verdict = judged(wild, scored(NEXT.first, 7, 2), POLICY.model_copy(update={"min_skill_loss": lost}))
    assert bool(verdict.unjudged) is unjudged
    assert (verdict.threshold is None) is unjudged


def test_where_no_measure_can_be_judged_a_window_is_not_judged_either(usual: Backtest) -> None:
    def apart(values: tuple[Estimate, ...], by: float) -> tuple[Estimate, ...]:
        return tuple(replace(each, value=each.value + by * (-1) ** i) for i, each in enumerate(values))

    wild = replace(
        usual, skills=apart(usual.skills, 0.2), others={name: apart(each, 0.5) for name, each in usual.others.items()}
    )
    verdict = judged(wild, scored(NEXT.first, 7, 2))
    assert len(verdict.cannot_be_judged) == 3
    assert verdict.skill is not None
    assert not verdict.judged
    assert not verdict.breached


def test_a_classifier_that_cannot_be_judged_neither_warns_nor_says_that_all_is_well() -> None:
    useless = separation(None).model_copy(update={"auc": 1.0, "unjudged": "it tells all windows apart"})
    decision = decided(inputs=inputs(""), multivariate=useless)
    assert decision.verdict == "ok"
    assert says(decision, "the classifier over all columns cannot be judged: it tells all windows apart")
    assert not says(decision, "1.000")


@pytest.mark.parametrize(("warning", "verdict"), [("", "ok"), ("they hold fewer labels than they state", "warn")])
def test_intervals_that_miss_their_level_are_a_warning(warning: str, verdict: str) -> None:
    coverage = WatchedCoverage(
        first=week(2).first,
        end=week(0).end,
        level=0.9,
        labelled=18_000,
        coverage=Measured(value=0.756, lower=0.74, upper=0.77),
        warning=warning,
    )
    decision = decided(performance=performance(False), coverage=coverage)
    assert decision.verdict == verdict
    assert says(decision, "90 % intervals held 75.6 % of 18,000 labels", warning)


def test_a_breach_before_windows_that_cannot_be_judged_asks_for_nothing() -> None:
    wild = performance(False, False, False, threshold=None, unjudged="it varies too much")
    decision = decided(performance=(*performance(False, True, True), *wild))
    assert decision.verdict == "ok"
    assert not says(decision, "breached")
    later = decided(performance=(*performance(True, False), *wild[:1], *performance(True)))
    assert says(later, "1 of the newest 2 judged windows is breached"), "of three windows, one cannot be judged"
