"""A model trained soon after a loss began is followed up; one from before it is not, and a newer loss takes over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from refit.config import DriftParams
from refit.drift.retrain_decision import DriftEvidence, decide
from refit.schemas.drift_decision import LastingLoss

NOW = datetime(2013, 12, 4, tzinfo=UTC)


def following(began: int, trained: int) -> DriftEvidence:
    """A loss that began and a newest model that was trained some days ago; the champion learned from older rows."""
    return DriftEvidence(
        as_of=NOW,
        trained_as_of=NOW - timedelta(days=trained),
        new_labelled=18_000,
        changed=NOW.date() - timedelta(days=began),
        learned_from=NOW.date() - timedelta(days=400),
    )


def test_a_model_from_before_a_loss_is_not_followed_up() -> None:
    assert decide(following(began=9, trained=20), DriftParams()).verdict == "ok"
    assert decide(following(began=9, trained=6), DriftParams()).since == date(2013, 11, 25)


def test_the_days_since_a_loss_are_those_of_the_projects_zone() -> None:
    """The loss began on 26 November in Tokyo, the training was on the 30th; a decision of the evening in UTC."""
    evidence = replace(
        following(began=8, trained=0),
        as_of=datetime(2013, 12, 3, 20, tzinfo=UTC),
        trained_as_of=datetime(2013, 11, 30, 6, tzinfo=UTC),
    )
    assert decide(evidence, DriftParams()).verdict == "ok"
    assert decide(replace(evidence, zone=ZoneInfo("Asia/Tokyo")), DriftParams()).verdict == "retrain"


def test_a_new_loss_is_the_one_that_is_followed_even_if_an_older_one_asks_too() -> None:
    newer = LastingLoss(evidence=50, limit=13, measure="roc_auc", since=date(2013, 11, 20), loss=0.05)
    decision = decide(replace(following(began=60, trained=40), lasting=newer), DriftParams())
    assert any("20 days after the loss of 2013-10-05 began" in reason for reason in decision.reasons)
    assert decision.since == date(2013, 11, 20)
