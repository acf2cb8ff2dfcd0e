"""Predictions in a database's table, in files and in Delta: each window of a version once, whatever is killed."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from servers import BUCKET, aws_server, execute, postgresql, postgresql_server  # noqa: F401

from refit.config import Params, parse
from refit.config.sinks import SinkParams
from refit.errors import UserError
from refit.runtime import run_file
from refit.runtime.context import Context
from registry.versions import Version
from tasks import score
from tasks.score import sinks

DATABASE = SinkParams(kind="database", url="${PREDICTIONS_URL}", table="predictions")


def predictions(rows: int, version: str = "3", value: float = 0.5) -> pa.Table:
    """Predictions as users get them."""
    moment = datetime(2013, 12, 1, 6, tzinfo=UTC)
    return pa.table(
        {
            "id": [str(each) for each in range(rows)],
            "event_time": pa.array([moment] * rows, pa.timestamp("us")),
            "prediction": [value] * rows,
            "predicted_label": [1] * rows,
            "items": [["a", "b"]] * rows,
            "model": ["demo"] * rows,
            "model_version": [version] * rows,
        }
    )


def deliver(
    project: Path, targets: Sequence[SinkParams], window: str, table: pa.Table, version: str = "3"
) -> tuple[str, ...]:
    return sinks.deliver(project, targets, window, Version("demo", version, None, "2013-12-01", {}), table)


@pytest.fixture
def rows_in_table(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:  # noqa: F811
    """The windows, versions, predictions and numbers of rows in the table."""
    monkeypatch.setenv("PREDICTIONS_URL", postgresql)
    query = "select score_window, model_version, prediction, count(*) from predictions group by 1, 2, 3 order by 1, 2"
    return lambda: execute(postgresql, query)


@pytest.mark.slow
def test_a_window_that_is_scored_again_replaces_its_rows_and_no_others(
    rows_in_table: Callable[[], list[Any]], tmp_path: Path
) -> None:
    (place,) = deliver(tmp_path, [DATABASE], "2013-11", predictions(12_000))
    assert place.startswith("postgresql://127.0.0.1:")
    assert place.endswith(" predictions")
    assert "refit@" not in place
    deliver(tmp_path, [DATABASE], "2013-12", predictions(3))
    deliver(tmp_path, [DATABASE], "2013-11", predictions(2, "4"), "4")
    deliver(tmp_path, [DATABASE], "2013-11", predictions(5, value=0.75))
    assert rows_in_table() == [("2013-11", "3", 0.75, 5), ("2013-11", "4", 0.5, 2), ("2013-12", "3", 0.5, 3)]


@pytest.mark.ci
def test_what_is_killed_between_deleting_and_inserting_has_changed_nothing(
    rows_in_table: Callable[[], list[Any]], tmp_path: Path
) -> None:
    deliver(tmp_path, [DATABASE], "2013-11", predictions(5))
    code = (
        "import os, signal, sys; sys.path[:0] = sys.argv[1:]; from pathlib import Path; from sqlalchemy import Table\n"
        "from test_sinks import DATABASE, deliver, predictions\n"
        "Table.insert = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "deliver(Path('.'), [DATABASE], '2013-11', predictions(7))"
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), str(here.parents[2])]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows_in_table() == [("2013-11", "3", 0.5, 5)]
    deliver(tmp_path, [DATABASE], "2013-11", predictions(7))
    assert rows_in_table() == [("2013-11", "3", 0.5, 7)]


def test_two_machines_that_deliver_one_window_at_once_leave_it_once(
    rows_in_table: Callable[[], list[Any]], tmp_path: Path
) -> None:
    failures: list[BaseException] = []

    def write() -> None:
        try:
            deliver(tmp_path, [DATABASE], "2013-11", predictions(50))
        except BaseException as error:
            failures.append(error)

    for _ in range(3):
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rows_in_table() == [("2013-11", "3", 0.5, 50)]
    assert not failures


def test_a_table_that_lacks_a_column_or_a_database_that_refuses_is_one_line(
    rows_in_table: Callable[[], list[Any]],
    postgresql: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(postgresql, "create table narrow (id text, model text, model_version text, score_window text)")
    narrow = DATABASE.model_copy(update={"table": "narrow"})
    with pytest.raises(UserError, match=r"has no column event_time, prediction, predicted_label, items, which"):
        deliver(tmp_path, [narrow], "2013-11", predictions(1))
    monkeypatch.setenv("PREDICTIONS_URL", postgresql.replace("refit@", "nobody:hunter2-of-ours@"))
    with pytest.raises(UserError, match=r"check that the server is reachable, user and password") as caught:
        deliver(tmp_path, [DATABASE], "2013-11", predictions(1))
    assert "hunter2" not in str(caught.value)


def test_a_window_without_a_row_left_has_none_in_the_database_and_makes_no_table(
    rows_in_table: Callable[[], list[Any]], tmp_path: Path
) -> None:
    deliver(tmp_path, [DATABASE], "2013-11", predictions(0))
    with pytest.raises(Exception, match="does not exist"):
        rows_in_table()
    deliver(tmp_path, [DATABASE], "2013-11", predictions(5))
    deliver(tmp_path, [DATABASE], "2013-12", predictions(3))
    deliver(tmp_path, [DATABASE], "2013-11", predictions(0))
    assert rows_in_table() == [("2013-12", "3", 0.5, 3)]


def test_of_two_first_deliveries_to_sqlite_the_later_one_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDICTIONS_URL", f"sqlite:///{tmp_path}/sink.db")
    create = sqlalchemy.Table.create

    def overtaken(table: sqlalchemy.Table, connection: Any) -> None:
        monkeypatch.setattr(sqlalchemy.Table, "create", create)
        deliver(tmp_path, [DATABASE], "2013-12", predictions(3))
        create(table, connection)

    monkeypatch.setattr(sqlalchemy.Table, "create", overtaken)
    deliver(tmp_path, [DATABASE], "2013-11", predictions(5))
    with sqlite3.connect(tmp_path / "sink.db") as database:
        counts = database.execute("select score_window, count(*) from predictions group by 1 order by 1").fetchall()
    assert counts == [("2013-11", 5), ("2013-12", 3)]


@pytest.mark.parametrize(
    ("arguments", "is_one"),
    [((1050, "Tabelle 'predictions' gibt es schon"), True), ((1045, "access denied"), False), ((), False)],
    ids=["mysql made a table", "mysql refused", "no arguments"],
)
def test_a_conflict_is_told_from_a_refusal_whatever_the_driver_says(arguments: tuple[Any, ...], is_one: bool) -> None:
    assert sinks._is_conflict(sqlalchemy.exc.DBAPIError("insert", {}, Exception(*arguments))) is is_one


@pytest.mark.parametrize("path", ["s3://${KEY}:${SECRET}@bucket/preds", "${STORE}"])
@pytest.mark.parametrize("kind", ["files", "delta"])
def test_keys_in_the_address_of_a_store_are_not_printed(
    kind: Literal["files", "delta"], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "delta":
        pytest.importorskip("deltalake")
    values = {"KEY": "AKIA1", "SECRET": "top secret", "STORE": "s3://AKIA1:top secret@bucket/preds/"}
    for name, value in {**values, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)  # a blank in it: no library can read the address, and each quotes it
    with pytest.raises(UserError) as caught:
        deliver(tmp_path, [SinkParams(kind=kind, path=path)], "2013-11", predictions(1))
    assert path in str(caught.value)
    assert not re.search("AKIA1|top|secret@", str(caught.value)), str(caught.value)


def test_where_files_are_is_told_as_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hunter2"
    (folder / "score_window=2013-11").mkdir(parents=True)
    monkeypatch.setenv("SECRET", "hunter2")
    sink = SinkParams(kind="files", path=f"file://{tmp_path}/${{SECRET}}/")
    (place,) = deliver(tmp_path, [sink], "2013-11", predictions(5))
    assert place == f"file://{tmp_path}/${{SECRET}}/score_window=2013-11/demo-v3.parquet"
    assert pq.read_table(next(folder.rglob("*.parquet")), partitioning=None).num_rows == 5


def test_a_table_that_cannot_be_written_leaves_the_earlier_object_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "score_window=2013-11").mkdir()
    sink = SinkParams(kind="files", path=f"file://{tmp_path}")
    deliver(tmp_path, [sink], "2013-11", predictions(5))
    months = pa.array([pa.MonthDayNano([1, 0, 0])] * 3)  # which Parquet does not hold
    with pytest.raises((NotImplementedError, UserError)):
        deliver(tmp_path, [sink], "2013-11", predictions(3).append_column("months", months))
    assert pq.read_table(next(tmp_path.rglob("*.parquet")), partitioning=None).num_rows == 5


@pytest.mark.slow
def test_files_and_delta_hold_each_window_once_on_this_machine_and_in_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltalake = pytest.importorskip("deltalake")
    with aws_server() as environ:
        for name, value in {**environ, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        for root in ("out", f"s3://{BUCKET}/out"):
            targets = [SinkParams(kind="files", path=f"{root}/files"), SinkParams(kind="delta", path=f"{root}/delta")]
            for window, count in (("2013-11", 5), ("2013-12", 3), ("2013-11", 4)):
                places = deliver(tmp_path, targets, window, predictions(count))
            assert places == (f"{root}/files/score_window=2013-11/demo-v3.parquet", f"delta:{root}/delta")
            address = root if "://" in root else str(tmp_path / root)
            delta = deltalake.DeltaTable(f"{address}/delta")
            counts = pa.table(delta.scan())["score_window"].value_counts().to_pylist()
            assert {each["values"]: each["counts"] for each in counts} == {"2013-11": 4, "2013-12": 3}
            store, path = pyarrow.fs.FileSystem.from_uri(f"{address}/files")
            assert pyarrow.dataset.dataset(path, filesystem=store, partitioning="hive").count_rows() == 7
            assert deliver(tmp_path, targets, "2013-11", predictions(0)) == places
            left = pa.table(deltalake.DeltaTable(f"{address}/delta").scan())["score_window"].to_pylist()
            assert left == ["2013-12"] * 3, "nothing of the window is left"
            assert pyarrow.dataset.dataset(path, filesystem=store, partitioning="hive").count_rows() == 3


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "database", "url": "postgresql://u:secret@h/d", "table": "t"}, "url"),
        ({"kind": "database", "url": "${X}"}, "needs `table`"),
        ({"kind": "files", "path": "out", "table": "t"}, "has no `table`"),
        ({"kind": "delta"}, "needs `path`"),
        ({"kind": "database", "url": "${X}", "table": "t; drop table x"}, "table"),
    ],
    ids=["literal", "table", "extra", "path", "name"],
)
def test_a_sink_that_cannot_be_one_is_refused_in_params(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SinkParams.model_validate(section)
    assert "sinks" in Params.model_fields


def test_a_score_run_delivers_the_table_that_it_writes(project: Path) -> None:
    params = run_file.params_of(project).model_dump(mode="json", by_alias=True)
    params["sinks"] = [{"kind": "files", "path": "out"}]
    told = score.run(Context(project, parse(params)), "2024-05")
    assert told.sinks == (f"out/score_window=2024-05/{told.model}-v1.parquet",)
    written = pq.read_table(told.out)
    delivered = pq.read_table(project / told.sinks[0], partitioning=None)
    assert delivered.drop_columns([sinks.WINDOW]).to_pylist() == written.to_pylist()
