"""A run that copies features from the table before writes the bytes of one that computes all, whatever has changed."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_project import AS_OF, DAYS, KINDS, START, History, Project, Row
from quick import quick

from refit.config import override, parse
from refit.files import artifacts
from tasks.featurize import table_cache


def compare(tmp_path: Path, kind: str, seed: int, rounds: int, *, of_all: bool) -> list[int]:
    """Run with the cache and without after each of several changes; return how many rows the first has copied."""
    history = History(seed, kind)
    one, other = (Project(tmp_path / name, kind, of_all=of_all) for name in ("one", "other"))
    history.first()
    copied, as_of = list[int](), AS_OF
    for number in range(rounds):
        for each in (one, other):
            history.write(each.folder, as_of)
        assert one.run() == (other.run_in_full() if number else other.run()), (kind, seed, number)
        assert other.copied == 0
        copied.append(one.copied)
        history.change(number)
        as_of += timedelta(days=history.chance.choice((0, 0, 2, -1)))
    return copied


@pytest.mark.ci
@pytest.mark.parametrize(("kind", "of_all"), quick([("corrections", False), ("snapshot", True)]))
def test_copied_features_are_those_of_a_full_run_after_any_change(tmp_path: Path, kind: str, of_all: bool) -> None:
    copied = compare(tmp_path, kind, 1, 4, of_all=of_all)
    assert copied[0] == 0
    assert sum(each > 20 for each in copied) >= 2, copied


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("seed", range(2, 8))
def test_copied_features_are_those_of_a_full_run_after_many_changes(tmp_path: Path, kind: str, seed: int) -> None:
    copied = compare(tmp_path, kind, seed, 7, of_all=seed % 2 == 0)
    assert copied[0] == 0
    assert sum(each > 20 for each in copied) >= 3, copied


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Project, History]:
    """A project whose table was computed once, and its history."""
    history, project = History(9, "corrections"), Project(tmp_path / "project", "corrections", of_all=False)
    history.first()
    history.write(project.folder, AS_OF)
    project.run()
    return project, history


@pytest.mark.ci
def test_a_correction_after_all_predictions_computes_no_row_but_its_own(stored: tuple[Project, History]) -> None:
    project, history = stored
    [row] = [row for row in history.newest.values() if row["at"] == max(each["at"] for each in history.newest.values())]
    history.add("2024-08.2", [row | {"value": 100.0, "seq": 1}], arrived=START + timedelta(days=DAYS + 1))
    history.write(project.folder, AS_OF)
    files = project.run()
    rows = pq.read_metadata(project.folder / artifacts.TABLE).num_rows
    assert rows - 1 <= project.copied <= rows
    assert project.run_in_full() == files


@pytest.mark.ci
@pytest.mark.parametrize(
    "change",
    quick(
        [
            lambda row: row | {"value": 100.0},
            lambda row: row | {"who": "bea"},
        ],
        1,
    ),
    ids=["value", "moved to another entity"],
)
def test_what_arrives_at_the_very_moment_of_a_prediction_is_seen_by_it(
    stored: tuple[Project, History], change: Callable[[Row], Row]
) -> None:
    project, history = stored
    of_ada = sorted((row for row in history.newest.values() if row["who"] == "ada"), key=lambda row: row["at"])
    before, predicted = of_ada[-12], of_ada[-10]
    assert timedelta(hours=4) < predicted["at"] - before["at"] < timedelta(days=20)
    known = predicted["at"] + timedelta(hours=1)
    _corrected(project, history, change(before), known)


@pytest.mark.slow
def test_the_features_of_a_row_itself_are_computed_again_where_it_is_of_no_entity(
    stored: tuple[Project, History],
) -> None:
    project, history = stored
    row = next(row for row in history.newest.values() if row["who"] is None)
    _corrected(project, history, row | {"value": 100.0}, row["at"])


def _corrected(project: Project, history: History, row: Row, arrived: datetime) -> None:
    """Correct one row: the table differs from the one before, and is that of a run that copies nothing."""
    history.add("2024-08.2", [row | {"seq": 1}], arrived=arrived)
    history.write(project.folder, AS_OF)
    table = pq.read_table(project.folder / artifacts.TABLE)
    files = project.run()
    assert not pq.read_table(project.folder / artifacts.TABLE).equals(table)
    assert project.copied > 200
    assert project.run_in_full() == files


@pytest.mark.ci
@pytest.mark.parametrize("damage", quick(["torn", "another table", "another list", "no list", "no folder"], 2))
def test_a_damaged_cache_is_not_used_and_is_replaced(stored: tuple[Project, History], damage: str) -> None:
    project, _ = stored
    files, folder = project.run(), project.folder / table_cache.FOLDER
    assert project.copied > 200
    table, inputs = folder / "table.parquet", folder / "inputs.json"
    if damage == "torn":
        table.write_bytes(table.read_bytes()[:-100])
    elif damage == "another table":
        rows = pq.read_table(table)
        pq.write_table(rows.set_column(rows.schema.get_field_index("own"), "own", pa.array([7.0] * len(rows))), table)
    elif damage == "another list":
        inputs.write_text(inputs.read_text().replace(artifacts.sha256(table), "0" * 64))
    elif damage == "no list":
        inputs.unlink()
    else:
        shutil.rmtree(folder)
    assert project.run() == files
    assert project.copied == 0
    assert project.run() == files
    assert project.copied > 200


def _definition(project: Project, history: History) -> None:
    path = project.folder / "features.py"
    path.write_text(path.read_text().replace('"20d"', '"21d"'))


def _param(project: Project, history: History) -> None:
    project.params = parse(
        override(copy.deepcopy(project.raw), {"ingest.sources.orders.events.settled.where": "id > 9"})
    )


def _static(project: Project, history: History) -> None:
    history.add("all.2", [{"who": "cid", "born": 3}], source="people")


def _quarantine(project: Project, history: History) -> None:
    history.batches[3]["excluded"] = [2, 4]


def _removal(project: Project, history: History) -> None:
    history.batches.pop(3)


@pytest.mark.ci
@pytest.mark.parametrize("change", quick([_definition, _param, _static, _quarantine, _removal]))
def test_all_is_computed_where_more_may_differ_than_what_added_rows_touch(
    stored: tuple[Project, History], change: Callable[[Project, History], None]
) -> None:
    project, history = stored
    change(project, history)
    history.write(project.folder, AS_OF)
    files = project.run()
    assert project.copied == 0
    assert project.run_in_full() == files


def test_all_is_computed_by_another_version_of_a_library(
    stored: tuple[Project, History], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = stored
    monkeypatch.setattr(table_cache, "version", lambda name: "0.0.1")
    project.run()
    assert project.copied == 0
