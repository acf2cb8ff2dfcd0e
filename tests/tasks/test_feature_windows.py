"""Which rows the stage `featurize` puts into which window, by their times, their labels and a split."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.compute as pc
import pytest
from quick import quick

from refit.config import override, parse
from refit.config.windows import earliest_as_of
from refit.config.windows import windows as windows_at
from refit.errors import UserError
from refit.files import artifacts
from refit.schemas.validated import Validated
from tasks import featurize
from tasks.featurize.labels import known_labels
from tasks.featurize.warehouse import open_warehouse
from tests.tasks.orders import RAW, Project, described, orders, projects_in, table_of


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects_in(tmp_path)


def test_windows_are_whole_local_months_before_the_newest_known_label(project: Project) -> None:
    context = project()
    featurize.run(context)
    windows = described(context)["windows"]
    # 31 December in Berlin less ten days: November is the last whole month. Summer time ended in October.
    assert [(w["start"], w["end"]) for w in (windows["train"], windows["validation"], windows["test"])] == [
        ("2018-12-31T23:00:00Z", "2019-09-30T22:00:00Z"),
        ("2019-09-30T22:00:00Z", "2019-10-31T23:00:00Z"),
        ("2019-10-31T23:00:00Z", "2019-11-30T23:00:00Z"),
    ]
    for row in table_of(context).to_pylist():
        span = windows[row["window"]]
        assert span["start"] <= row["event_time"].strftime("%Y-%m-%dT%H:%M:%SZ") < span["end"]
    for name, span in windows.items():
        labels = table_of(context).filter(pc.equal(table_of(context)["window"], name))["label"]
        assert (span["rows"], span["positive"]) == (len(labels), pc.sum(labels).as_py())


@pytest.mark.parametrize("delay_hours", quick([0, 0.5, 48, 239, 240, 360, 720], 1, 3, 4))
def test_no_row_is_learned_from_whose_label_came_after_the_next_window_opened(
    project: Project, delay_hours: float
) -> None:
    """Compared with every order: what was known where a window opens, of all rows of one time alike."""
    context = project({"featurize.label.delay_hours": delay_hours})
    featurize.run(context)
    windows, chosen = described(context)["windows"], table_of(context).to_pylist()
    as_of = described(context)["as_of"]
    opens = {"train": windows["validation"]["start"], "validation": windows["test"]["start"], "test": as_of}
    for name, span in windows.items():
        start, end = (datetime.fromisoformat(span[bound][:-1]) for bound in ("start", "end"))
        inside = [row for row in orders() if row["returned"] is not None and start <= row["ordered"] < end]
        by = datetime.fromisoformat(opens[name][:-1])
        wait = timedelta(hours=max(delay_hours, 240))
        known = [row["id"] for row in inside if row["ordered"] + wait <= by]
        assert [row["id"] for row in chosen if row["window"] == name] == known
        assert span.get("late", 0) == (len(inside) - len(known) if name != "test" else 0)
        assert len(known) > 0.45 * len(inside), "a long delay moves the window, and does not empty it"
        if name != "test":
            assert span.get("until", span["end"]) <= f"{by - timedelta(hours=delay_hours):%Y-%m-%dT%H:%M:%SZ}"


def test_the_earliest_as_of_leaves_rows_to_learn_from_whatever_the_delay() -> None:
    zone = ZoneInfo("America/New_York")
    first = datetime(2013, 1, 1, 6, tzinfo=UTC)
    for period in ("day", "week", "month"):
        for hours in (0, 1, 48, 84, 400, 720, 1500):
            changed = {"ingest.period": period, "featurize.label.delay_hours": hours, "project.timezone": str(zone)}
            params = parse(override(RAW, changed))
            delay = timedelta(hours=hours)
            train, validation, test = windows_at(earliest_as_of(first, params), params)
            assert first < train.until(delay) <= train.end <= train.opens == validation.start
            assert validation.start < validation.until(delay) <= validation.end <= validation.opens == test.start
            assert train.until(delay) <= train.opens - delay


def test_training_can_be_limited_to_some_months_and_test_be_longer(project: Project) -> None:
    context = project({"featurize.windows": {"test": 2, "validation": 1, "training": 3}})
    featurize.run(context)
    windows = described(context)["windows"]
    assert windows["train"]["start"] == "2019-05-31T22:00:00Z"
    assert windows["test"]["start"] == "2019-09-30T22:00:00Z"


def test_a_split_puts_rows_into_windows_by_chance_and_none_ever_changes_sides(project: Project) -> None:
    split = {"featurize.split": {"test": 0.25, "validation": 0.15}}
    context, later = project(split, as_of="2019-08-31T23:00:00Z"), project(split, name="later")
    sides = []
    for each in (context, later):
        featurize.run(each)
        sides.append(dict(zip(*(table_of(each)[name].to_pylist() for name in ("id", "window")), strict=True)))
    assert sides[0].items() < sides[1].items()
    counts = Counter(sides[1].values())
    assert counts["test"] / len(sides[1]) == pytest.approx(0.25, abs=0.04)
    assert counts["validation"] / len(sides[1]) == pytest.approx(0.15, abs=0.04)
    info = described(later)
    assert info["split"] == "0.25 of the rows, seed 0"
    assert len({(span["start"], span["end"]) for span in info["windows"].values()}) == 1


def test_a_split_by_a_column_keeps_its_rows_together_and_may_leave_out_validation(project: Project) -> None:
    split = {"test": 0.3, "validation": 0, "by": "customer", "seed": 4}
    context = project({"featurize.split": split, "train.cross_validation": {"folds": 3}})
    featurize.run(context)
    customer = {row["id"]: row["customer"] for row in orders()}  # some rows have none: each goes by its own key
    sides = {(customer[row["id"]], row["window"]) for row in table_of(context).to_pylist() if customer[row["id"]]}
    assert len(sides) == len({name for name, _ in sides})
    assert {side for _, side in sides} == {"train", "test"}


def test_labels_are_counted_as_known_pending_and_none(project: Project) -> None:
    context = project({"featurize.label.delay_hours": 0})
    featurize.run(context)
    counts, rows = described(context)["labels"], orders()
    as_of = datetime(2019, 12, 31, 23, tzinfo=UTC).replace(tzinfo=None)
    seen = [row for row in rows if row["ordered"] < as_of and row["ordered"] - timedelta(hours=1) <= as_of]
    pending = [row for row in seen if row["ordered"] + timedelta(days=10) > as_of]
    none = [row for row in seen if row not in pending and row["returned"] is None]
    assert counts == {
        "known": len(seen) - len(pending) - len(none),
        "pending": len(pending),
        "none": len(none),
        "pending_test": sum(row["ordered"] >= as_of.replace(day=1, hour=0) for row in pending),
    }
    assert pending
    assert none


@pytest.mark.parametrize(("delay_hours", "days"), [(0.5, 10), (240, 10), (288, 12)])
def test_a_label_counts_once_it_is_there_and_the_delay_of_all_rows_has_passed(
    project: Project, delay_hours: float, days: int
) -> None:
    context = project({"featurize.label.delay_hours": delay_hours})
    validated = Validated.read(context.path(artifacts.VALIDATED))
    with open_warehouse(context.project, validated, context.params) as warehouse:
        found = known_labels(warehouse, context.params, "id", datetime.max.replace(tzinfo=UTC))
    assert found.num_rows > 500
    waited = {known - at for known, at in zip(*(found[n].to_pylist() for n in ("known_at", "event_time")), strict=True)}
    assert waited == {timedelta(days=days)}


def test_an_as_of_too_early_names_the_earliest_that_works(project: Project) -> None:
    with pytest.raises(UserError, match=r"train window.*the earliest --as-of.* is 2019-04-11T00:00") as caught:
        featurize.run(project(as_of="2019-03-20T00:00:00Z"))
    assert "\n" not in str(caught.value)
    featurize.run(project(as_of="2019-04-10T22:00:00Z"))
    with pytest.raises(UserError, match="2019-04-11"):
        featurize.run(project(as_of="2019-04-10T21:59:00Z"))
