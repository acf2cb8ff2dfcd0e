"""Margins that follow labels: they hold where plain ones fall short, and no label counts before it is known."""

from __future__ import annotations

import numpy as np
import pytest

from refit.config.train import IntervalParams
from refit.learners.adaptive import adaptive_margins
from refit.learners.intervals import Intervals, fit_intervals, score, widen

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2024-01-01", "us")


def series(count: int, drift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A prediction that says 0 for every hour, and labels whose spread and level drift away from the 500th on."""
    random = np.random.default_rng(seed)
    along = np.clip(np.arange(count) - 500, 0, None) / (count - 500)
    labels = random.normal(size=count) * (1 + 2 * drift * along) + 2 * drift * along
    return np.zeros((count, 2)), labels


def taught(band: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, rate: float = 0.02) -> Intervals:
    within = None if groups is None else "horizon"
    asked = IntervalParams(adaptive=True, rate=rate, within=within)
    return fit_intervals(band[:500], labels[:500], np.full(500, "") if groups is None else groups[:500], asked)


def walked(
    told: Intervals, band: np.ndarray, labels: np.ndarray, delay: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Margins for the rows after the 500th, hour by hour, with labels known so many hours after."""
    hours = START + np.arange(500, len(labels)) * HOUR
    named = np.full(len(labels), "") if groups is None else groups
    return adaptive_margins(
        told, band[500:], named[500:], labels[500:], predicted_at=hours, known_at=hours + delay * HOUR
    )


def held(band: np.ndarray, labels: np.ndarray, margins: np.ndarray) -> float:
    return float(np.mean(score(widen(band[500:], margins), labels[500:]) <= 0))


@pytest.mark.parametrize("delay", [1, 24, 168])
def test_on_a_drifting_series_plain_intervals_fall_short_and_adaptive_ones_hold(delay: int) -> None:
    band, labels = series(6000, drift=1.0)
    told = taught(band, labels)
    assert held(band, labels, told.margins(np.full(5500, ""))) < 0.7
    margins = walked(told, band, labels, delay)
    assert held(band, labels, margins) == pytest.approx(0.9, abs=0.02)
    newest = score(widen(band[-1000:], margins[-1000:]), labels[-1000:]) <= 0
    assert newest.mean() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("delay", [1, 168])
def test_where_nothing_drifts_following_labels_costs_little_width_however_late_they_come(delay: int) -> None:
    """With the full rate for each of 168 labels at once, the level swings between its ends and 84 % are held."""
    band, labels = series(6000, drift=0.0)
    told = taught(band, labels)
    margins = walked(told, band, labels, delay)
    assert held(band, labels, margins) == pytest.approx(0.9, abs=0.015)
    assert margins.mean() == pytest.approx(1.645, rel=0.08)


def test_a_label_that_is_known_late_changes_no_interval_before_then() -> None:
    band, labels = series(900, drift=0.0)
    told, hours = taught(band, labels), START + np.arange(400) * HOUR
    known_at = hours + HOUR
    known_at[100] = hours[300]
    rows = {"band": band[500:], "groups": np.full(400, ""), "predicted_at": hours, "known_at": known_at}
    without = adaptive_margins(told, labels=labels[500:], **rows)
    planted = labels.copy()
    planted[600] = 1e6  # what came of row 100 of these is enormous, and known 200 hours late
    late = adaptive_margins(told, labels=planted[500:], **rows)
    assert late[:300].tolist() == without[:300].tolist()
    assert late[300:].tolist() != without[300:].tolist()
    rows["known_at"] = np.where(np.arange(400) == 100, hours + HOUR, known_at)
    assert adaptive_margins(told, labels=planted[500:], **rows)[101:300].tolist() != without[101:300].tolist()


def test_rows_and_labels_may_come_in_any_order_and_unknown_labels_teach_nothing() -> None:
    band, labels = series(900, drift=1.0)
    told, hours = taught(band, labels), START + np.arange(400) * HOUR
    rows = {"band": band[500:], "groups": np.full(400, ""), "labels": labels[500:], "predicted_at": hours}
    found = adaptive_margins(told, **rows, known_at=hours + HOUR)
    order = np.random.default_rng(0).permutation(400)
    mixed = adaptive_margins(told, **{name: each[order] for name, each in rows.items()}, known_at=(hours + HOUR)[order])
    assert mixed.tolist() == found[order].tolist()
    never = adaptive_margins(told, **rows, known_at=np.full(400, np.datetime64("NaT", "us")))
    assert len(set(never.tolist())) == 1
    assert never[0] == told.common.value


def test_rows_predicted_at_one_moment_learn_nothing_from_each_other() -> None:
    band, labels = series(900, drift=1.0)
    told, days = taught(band, labels), START + np.arange(400) // 20 * 24 * HOUR
    rows = {"band": band[500:], "groups": np.full(400, ""), "labels": labels[500:], "predicted_at": days}
    found = adaptive_margins(told, **rows, known_at=days).reshape(20, 20)  # known as soon as they happen
    assert (found == found[:, :1]).all()
    assert len(np.unique(found)) > 5


def test_each_group_follows_its_own_labels() -> None:
    band, labels = series(6000, drift=0.0)
    groups = np.resize(np.array(["near", "far"]), 6000)
    labels[500:][groups[500:] == "far"] *= 3
    told = taught(band, labels, groups)
    margins = walked(told, band, labels, 1, groups)
    assert margins[groups[500:] == "near"].mean() == pytest.approx(1.645, rel=0.1)
    for name in ("near", "far"):
        rows = np.flatnonzero(groups[500:] == name)
        assert np.mean(np.abs(labels[500:][rows]) <= margins[rows]) == pytest.approx(0.9, abs=0.02)
