"""Rows without a label: a part of the feature table of their own, known in time, and never judged."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from refit.config import override, parse
from refit.config.windows import windows
from refit.errors import UserError
from refit.files import artifacts
from refit.reports.model_card.wording import labels as wording
from refit.runtime.context import Context, Progress, silent
from refit.schemas.feature_table import FeatureTable
from tasks import featurize
from tests.tasks.orders import FEATURES, RAW, orders, write_batches

USE = {"featurize.label.use_unlabelled": True}
SPLIT = {"featurize.split": {"test": 0.2, "validation": 0.2}}
AS_OF = "2019-12-31T23:00:00Z"
DELAY = timedelta(days=10)


def featurized(
    folder: Path,
    changes: Mapping[str, Any],
    rows: list[dict[str, Any]] | None = None,
    features: str = FEATURES,
    progress: Progress = silent,
) -> Context:
    folder.mkdir()
    (folder / "features.py").write_text(features)
    write_batches(folder, rows or orders(), AS_OF)
    context = Context(folder, parse(override(copy.deepcopy(RAW), dict(changes))), progress=progress)
    featurize.run(context)
    return context


def table_of(context: Context) -> pa.Table:
    return pq.read_table(context.path(artifacts.TABLE))


def without_labels(table: pa.Table) -> pa.Table:
    return table.filter(pc.ends_with(table["window"], " unlabelled"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return featurized(tmp_path_factory.mktemp("plain") / "project", {})


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return featurized(tmp_path_factory.mktemp("used") / "project", USE)


def moments(context: Context) -> dict[str, tuple[datetime, datetime]]:
    """The end of each window that is learned from, and when the next one opens, in UTC without a zone."""
    found = windows(datetime.fromisoformat(AS_OF), context.params)[:2]
    assert all(span.opens for span in found)
    return {span.name: (span.end.replace(tzinfo=None), span.opens.replace(tzinfo=None)) for span in found if span.opens}


@pytest.mark.slow
def test_rows_without_a_label_are_kept_as_windows_of_their_own(used: Context, plain: Context) -> None:
    kept = without_labels(table_of(used))
    assert set(kept["window"].to_pylist()) == {"train unlabelled", "validation unlabelled"}
    assert kept["label"].null_count == kept["label_known_at"].null_count == len(kept)
    labelled = table_of(used).filter(pc.is_valid(table_of(used)["label"]))
    assert labelled.equals(table_of(plain)), "rows with a label are what they are without the others"


def test_a_row_is_without_a_label_if_none_was_known_when_the_next_window_opened(used: Context) -> None:
    """By brute force: also a late one, whose label came afterwards, and which is shown without it."""
    spans, expected = moments(used), set[int]()
    first = windows(datetime.fromisoformat(AS_OF), used.params)[1].start
    assert first is not None
    for row in orders():
        name = "train" if row["ordered"] < spans["train"][0] else "validation"
        end, opens = spans[name]
        if row["ordered"] >= end or (name == "validation" and row["ordered"] < first.replace(tzinfo=None)):
            continue
        if row["returned"] is None or row["ordered"] + DELAY > opens or row["ordered"] >= min(end, opens - DELAY):
            expected.add(row["id"])
    kept = without_labels(table_of(used))
    assert set(kept["id"].to_pylist()) == expected
    outcomes = {row["id"]: row["returned"] for row in orders()}
    assert {outcomes[key] is None for key in kept["id"].to_pylist()} == {True, False}, "both sorts are among them"


def test_no_row_without_a_label_is_of_the_test_window_or_later(used: Context) -> None:
    test = FeatureTable.read(used.path(artifacts.FEATURE_SET)).windows.test
    kept = without_labels(table_of(used))
    assert pc.max(kept["event_time"]).as_py() < test.start.replace(tzinfo=None)
    assert pc.max(kept["prediction_time"]).as_py() <= test.start.replace(tzinfo=None)
    in_test = [row for row in orders() if row["returned"] is None and row["ordered"] >= test.start.replace(tzinfo=None)]
    assert in_test, "some rows of the test window have none"


def test_later_rows_change_neither_rows_without_a_label_nor_their_features(used: Context, tmp_path: Path) -> None:
    """Neither their number nor their values: rows from the test window on are left out, or given other outcomes."""
    opens = moments(used)["validation"][1]
    earlier = [row for row in orders() if row["ordered"] < opens]
    tested = [{**row, "returned": not row["returned"], "price": 1.0} for row in orders() if row["ordered"] >= opens]
    again = featurized(tmp_path / "changed", USE, earlier + tested)
    assert without_labels(table_of(again)).equals(without_labels(table_of(used)))
    with pytest.raises(UserError, match="test window"):
        featurized(tmp_path / "gone", USE, earlier)


def test_a_row_that_was_predicted_only_after_the_next_window_opened_is_left_out(tmp_path: Path) -> None:
    later = FEATURES.replace("event_time - interval 30 minute", "event_time + interval 5 day")
    context = featurized(tmp_path / "later", USE, features=later)
    kept, spans = without_labels(table_of(context)), moments(context)
    for name, (_, opens) in spans.items():
        predicted = kept.filter(pc.equal(kept["window"], f"{name} unlabelled"))["prediction_time"]
        assert opens - timedelta(days=1) < pc.max(predicted).as_py() <= opens


def test_classes_are_those_of_labelled_rows(tmp_path: Path) -> None:
    texts = {"featurize.label.column": "customer", "train.task": "multiclass", "train.metric": "accuracy"}
    context = featurized(tmp_path / "texts", USE | texts)
    features = FeatureTable.read(context.path(artifacts.FEATURE_SET))
    assert features.labels.unlabelled > 0
    assert features.classes == tuple(sorted(f"c{n}" for n in range(30)))


def test_nothing_is_measured_on_rows_without_a_label(used: Context, plain: Context) -> None:
    """Windows, classes, columns, hints of leaks and the profile are those of the labelled rows."""
    first, second = (artifacts.read_json(each.path(artifacts.FEATURE_SET)) for each in (plain, used))
    kept = len(without_labels(table_of(used)))
    assert kept > 30
    assert second["labels"] == first["labels"] | {"unlabelled": kept}
    assert second["table"]["rows"] == first["table"]["rows"] + kept
    assert "unlabelled" not in first["labels"], "a file of a project that keeps none is as it was"
    assert {name for name in first if first[name] != second[name]} == {"labels", "table"}
    for file in (artifacts.PROFILE, artifacts.PROFILE_COUNTS):
        assert used.path(file).read_bytes() == plain.path(file).read_bytes()


def test_windows_by_chance_keep_the_rows_that_are_not_in_the_test_window(tmp_path: Path) -> None:
    context = featurized(tmp_path / "split", USE | SPLIT)
    kept = without_labels(table_of(context))
    assert set(kept["window"].to_pylist()) == {"train unlabelled", "validation unlabelled"}
    outcomes = {row["id"]: row["returned"] for row in orders()}
    assert {outcomes[key] for key in kept["id"].to_pylist()} == {None}
    labels = FeatureTable.read(context.path(artifacts.FEATURE_SET)).labels
    assert labels.no_label > labels.unlabelled > 0, "those of the test window are counted and left out"


def test_a_project_in_which_every_row_has_a_label_is_told(tmp_path: Path) -> None:
    shown: list[str] = []
    rows = [{**row, "returned": bool(row["returned"])} for row in orders()]
    context = featurized(tmp_path / "all", USE | SPLIT, rows, progress=lambda text, *_: shown.append(text))
    assert FeatureTable.read(context.path(artifacts.FEATURE_SET)).labels.unlabelled == 0
    assert "no row of training and validation is without a label: use_unlabelled keeps none" in shown


def test_rows_without_a_label_are_rehearsed_too(used: Context) -> None:
    assert featurize.rehearse(used) == []


def test_the_card_counts_rows_without_a_label(used: Context, plain: Context) -> None:
    first, second = (FeatureTable.read(each.path(artifacts.FEATURE_SET)).labels for each in (plain, used))
    assert "not learned from" in wording(first)
    assert f"{second.unlabelled:,} rows without a label, of training and validation" in wording(second)
