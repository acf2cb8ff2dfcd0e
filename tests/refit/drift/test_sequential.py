"""Evidence of a lasting loss: rare while nothing changes, quick where skill is lost; bad weeks are not usual."""

from __future__ import annotations

import numpy as np
import pytest

from refit.drift.sequential import Usual, _parts, evidence_of_loss, usual

CALM = (0.30, 0.31, 0.29, 0.30, 0.31, 0.28, 0.32, 0.30)


def drawn(seed: int, count: int) -> tuple[float, ...]:
    return tuple(np.random.default_rng(seed).normal(0.3, 0.01, count).tolist())


def test_evidence_averages_the_number_of_windows_while_nothing_changes() -> None:
    """The detector is a sum of as many e-values as there are windows, each with mean 1."""
    values = [evidence_of_loss(usual(drawn(seed, 8)), drawn(seed + 1000, 2)).value for seed in range(300)]
    assert 1.0 < np.mean(values) < 4.0
    assert np.mean(np.array(values) >= 26) < 0.03


def test_small_losses_that_no_single_window_shows_add_up() -> None:
    once = evidence_of_loss(usual(CALM), [0.282])
    often = evidence_of_loss(usual(CALM), [0.282] * 8)
    assert once.value < 5
    assert often.value > 30
    assert often.since == 0
    assert often.loss == pytest.approx(0.019, abs=0.001)


def test_the_evidence_says_when_the_loss_began() -> None:
    assert evidence_of_loss(usual(CALM), [0.30, 0.31, 0.30, 0.22, 0.21]).since == 3


def test_better_windows_are_no_evidence_of_a_loss() -> None:
    assert evidence_of_loss(usual(CALM), [0.40, 0.41]).value < 1


def test_the_scale_and_the_level_of_a_number_do_not_matter() -> None:
    ours = evidence_of_loss(usual(CALM), [0.27, 0.28]).value
    scaled = evidence_of_loss(usual(tuple(100 * each - 7 for each in CALM)), [20.0, 21.0]).value
    assert scaled == pytest.approx(ours)


def test_a_window_of_larger_variance_says_less() -> None:
    full = evidence_of_loss(usual(CALM), [0.26])
    thin = evidence_of_loss(usual(CALM), [0.26], [4.0])
    assert thin.value < full.value / 3


@pytest.mark.parametrize("newest", [2, 4, 6])
def test_the_bad_weeks_of_a_champion_that_straddles_a_change_are_not_usual(newest: int) -> None:
    good, bad = drawn(1, 8 - newest), tuple(each - 0.15 for each in drawn(2, newest))
    reference = usual((*good, *bad))
    assert reference.excluded == tuple(range(8 - newest, 8))
    assert reference.mean == pytest.approx(np.mean(good))
    assert reference.spread < 0.03


def test_two_levels_are_told_from_one_another_and_from_the_usual_one() -> None:
    """Good weeks, then those of a model from before the change, then those of one that has seen a part of it."""
    reference = usual((0.453, 0.471, 0.156, 0.16, 0.155, 0.342, 0.314, 0.312))
    assert reference.excluded == (2, 3, 4, 5, 6, 7)
    assert reference.freedom == 5


def test_weeks_that_only_vary_all_count() -> None:
    kept = [not usual(drawn(seed, 8)).excluded for seed in range(200)]
    assert np.mean(kept) >= 0.94  # 2 % of 500 others are shortened


def test_nothing_can_be_said_of_equal_numbers_or_of_none() -> None:
    assert evidence_of_loss(usual((0.3,) * 8), [0.3]).value == 0
    assert evidence_of_loss(usual(CALM), []).value == 0
    assert not usual((0.3, float("nan"))).excluded


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_lucky_window_does_not_make_all_others_low(place: int) -> None:
    lucky = (*CALM[:place], 0.40, *CALM[place + 1 :])
    assert not usual(lucky).excluded


@pytest.mark.parametrize("seed", range(6))
def test_two_lucky_windows_at_the_end_do_not_make_all_others_low(seed: int) -> None:
    """Those of a fit that is really better are three: good ones before bad ones are a change, and two of them do."""
    level = drawn(seed, 8)
    assert usual((*level[:6], *(each + 0.08 for each in level[6:]))).excluded == ()
    assert usual((*level[:5], *(each + 0.15 for each in level[5:]))).excluded == (0, 1, 2, 3, 4)


def test_a_year_of_daily_windows_is_judged_on_few_candidates() -> None:
    """In memory that does not grow with the square of the windows; the step is found on the grid."""
    parts = _parts(Usual(drawn(1, 365)))
    assert len(parts) <= 25 * 24 // 2 * 3 * 6
    excluded = usual((*drawn(1, 300), *(each - 0.15 for each in drawn(2, 65)))).excluded
    assert excluded == tuple(range(300, 365))
