"""What a run may see, by its `as_of`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from refit.errors import UserError

Month = Callable[..., str]


@pytest.fixture
def quarter(project: Any, month: Month) -> Any:
    project.put("a.csv", month(1) + month(2, header=False) + month(3, range(1, 20), header=False))
    return project


@pytest.mark.parametrize(
    ("as_of", "moment", "names", "pending"),
    [
        ("latest", "2013-03-01T05:00:00Z", ["2013-01", "2013-02"], 19),
        ("2013-02-01", "2013-02-01T05:00:00Z", ["2013-01"], 47),
        ("2013-02-01T00:00:01", "2013-02-01T05:00:01Z", ["2013-01", "2013-02"], 19),
        ("2013-02-01T00:00:00+01:00", "2013-01-31T23:00:00Z", ["2013-01"], 47),
        ("2013-03-02", "2013-03-02T05:00:00Z", ["2013-01", "2013-02", "2013-03.1"], 0),
        ("2019-07-01", "2019-07-01T04:00:00Z", ["2013-01", "2013-02", "2013-03.1"], 0),
    ],
)
def test_a_run_sees_the_periods_that_began_before_its_as_of(
    quarter: Any, as_of: str, moment: str, names: list[str], pending: int
) -> None:
    quarter.as_of(as_of)
    snapshot = quarter.ingest()
    assert snapshot["as_of"] == moment
    assert [batch["name"] for batch in snapshot["batches"]] == names
    assert snapshot["pending"] == {"trips": pending}
    assert sum(batch["read"] for batch in snapshot["batches"]) + pending == 28 + 28 + 19


def test_another_as_of_costs_no_reading_and_gives_another_digest(quarter: Any) -> None:
    first = quarter.ingest()
    quarter.as_of("2013-02-01")
    second = quarter.ingest()
    assert quarter.said == ["trips: unchanged"]
    assert first["digest"] != second["digest"]
    quarter.as_of("latest")
    assert quarter.ingest() == first


def test_latest_stays_where_it_is_while_an_incomplete_period_grows(quarter: Any, month: Month) -> None:
    before = quarter.ingest()
    quarter.put("a.csv", month(1) + month(2, header=False) + month(3, range(1, 25), header=False))
    after = quarter.ingest()
    assert (after["as_of"], after["batches"]) == (before["as_of"], before["batches"])


def test_latest_follows_the_source_of_the_label_alone(quarter: Any, month: Month) -> None:
    quarter.others["other"] = {**quarter.source, "path": "other.csv"}
    (quarter.path / "other.csv").write_text(month(7) + month(8, header=False))
    snapshot = quarter.ingest()
    assert snapshot["as_of"] == "2013-03-01T05:00:00Z"
    assert snapshot["pending"] == {"trips": 19, "other": 56}


@pytest.mark.parametrize("as_of", ["2012-06-01", "2013-01-01"])
def test_an_as_of_before_all_data_names_what_there_is(quarter: Any, as_of: str) -> None:
    quarter.as_of(as_of)
    said = quarter.fails(UserError)
    assert f"as_of {as_of} lies before the first batch; trips has 2013-01-01 to 2013-04-01" in said


@pytest.mark.parametrize("as_of", ["yesterday", "2013-13-01", "newest", "''"])
def test_an_as_of_that_is_no_time_says_how_to_write_one(quarter: Any, as_of: str) -> None:
    quarter.as_of(as_of)
    assert "write latest, a date such as 2013-11-03" in quarter.fails(UserError)


def test_latest_of_data_without_a_complete_period_says_what_is_missing(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 20)))
    said = project.fails(UserError)
    assert "no month of trips is complete yet: its newest row is of 2013-01-19 07:00" in said
    assert "ends 2013-02-01 00:00; give --as-of DATE, or wait" in said


def test_a_label_without_a_source_is_named_before_anything_is_read(quarter: Any) -> None:
    context = quarter.context
    quarter.source["event_time"] = None
    assert "the label's source needs an event_time" in quarter.fails(UserError)
    assert context().params.featurize.label.source == "trips"
    assert quarter.stored() == []
