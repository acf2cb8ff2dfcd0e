"""A retraining that could only fail, for want of labelled rows in its windows, is held back whatever asks for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from refit.config import DriftParams, Params, parse
from refit.drift.retrain_decision import DriftEvidence, EmptyWindow, decide
from refit.schemas.drift_decision import LastingLoss
from tasks.drift.observations import empty_window

NOW = datetime(2013, 12, 4, tzinfo=UTC)
DUE = DriftEvidence(as_of=NOW, trained_as_of=NOW - timedelta(days=90), new_labelled=18_000)
LOSS = LastingLoss(evidence=900, limit=90, measure="roc_auc", since=date(2013, 10, 1), loss=0.1)
LOST = replace(DUE, trained_as_of=NOW - timedelta(days=9), lasting=LOSS)


@pytest.mark.parametrize("newest", [date(2013, 9, 30), None])
@pytest.mark.parametrize(("evidence", "cause"), [(DUE, "schedule"), (LOST, "performance")], ids=["age", "loss"])
def test_an_empty_window_turns_any_retraining_into_a_warning(
    evidence: DriftEvidence, cause: str, newest: date | None
) -> None:
    assert decide(evidence, DriftParams()).verdict == "retrain"
    empty = EmptyWindow("validation", date(2013, 11, 1), newest)
    decision = decide(replace(evidence, empty=empty), DriftParams())
    assert (decision.verdict, decision.causes) == ("warn", (cause,))
    words = "no row with a label lies in the validation window of a retraining now, which ends 2013-10-31"
    assert decision.blocked == (f"{words}; the newest row with a label is of 2013-09-30" if newest else words,)


def test_an_empty_window_alone_asks_for_nothing() -> None:
    empty = EmptyWindow("test", date(2013, 12, 1), None)
    assert decide(replace(DUE, trained_as_of=NOW, empty=empty), DriftParams()).verdict == "ok"


@pytest.mark.parametrize(
    ("newest", "empty"),
    [
        ("2024-08-31", None),
        ("2024-07-31", EmptyWindow("test", date(2024, 9, 1), date(2024, 7, 31))),
        ("2024-05-31", EmptyWindow("validation", date(2024, 8, 1), date(2024, 5, 31))),
    ],
)
def test_the_first_empty_window_is_found_by_where_the_labels_end(newest: str, empty: EmptyWindow | None) -> None:
    labelled = np.arange("2024-01-01", np.datetime64(newest) + 1, dtype="datetime64[D]").astype("datetime64[us]")
    assert empty_window(labelled, datetime(2024, 9, 10, tzinfo=UTC), params()) == empty


def test_rows_without_any_label_leave_the_training_window_empty() -> None:
    labelled = np.array([], dtype="datetime64[us]")
    empty = EmptyWindow("train", date(2024, 7, 1), None)
    assert empty_window(labelled, datetime(2024, 9, 10, tzinfo=UTC), params()) == empty


def test_windows_that_a_split_draws_from_all_rows_are_empty_only_without_any() -> None:
    labelled = np.array(["2020-01-01"], dtype="datetime64[us]")
    drawn = params(split={"test": 0.2, "validation": 0.2, "seed": 0})
    assert empty_window(labelled, datetime(2024, 9, 10, tzinfo=UTC), drawn) is None


def params(**featurize: Any) -> Params:
    """Whole months: the test window is August, the validation window July."""
    source = {"kind": "files", "path": "s.csv", "columns": {"id": "integer", "at": "timestamp"}, "key": ["id"]}
    windows = {} if featurize else {"windows": {"test": 1, "validation": 1, "training": None}}
    return parse(
        {
            "project": {"name": "demo", "timezone": "UTC"},
            "ingest": {"period": "month", "sources": {"s": {**source, "event_time": "at"}}},
            "featurize": {"label": {"source": "s", "column": "id", "delay_hours": 48}, **windows, **featurize},
            "train": {"learners": [{"name": "base", "kind": "baseline"}]},
        }
    )
