"""A table of many columns costs what its cells do: work is counted here, no clock is read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from feature_store import sql_guard
from feature_store.definition import Expression, FeatureSet, Source, Spine
from refit.config import STAGES
from refit.evaluation.holdout import Holdout, holdout
from refit.explanations import partial
from refit.files import yaml_files
from refit.learners import Learner, Spec, encoding, make
from refit.new_project import column_reading
from refit.problems import problem_of
from refit.runtime import stage_code
from refit.schemas.evaluation import Importance
from refit.schemas.feature_definitions import Definitions
from refit.storage.columns import numbers
from tasks.evaluate.importance import permutation_importance
from tasks.featurize import foresight
from tasks.featurize.warehouse import Warehouse

ROWS = 120
LOGISTIC, BOOSTING = "sklearn.linear_model.LogisticRegression", "sklearn.ensemble.HistGradientBoostingClassifier"
Counts = dict[str, int]


@contextmanager
def counted(owner: Any, name: str) -> Iterator[Counts]:
    """How often a function is called within; it does what it does."""
    counts, original = {"calls": 0}, getattr(owner, name)

    def call(*args: Any, **named: Any) -> Any:
        counts["calls"] += 1
        return original(*args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield counts


def wide(columns: int) -> pa.Table:
    """Days of rows with gaps and a category, of which the first column decides the label."""
    chance = np.random.default_rng(0)
    cells = {f"x{n}": chance.normal(size=ROWS) for n in range(columns)}
    label = (cells["x0"] > 0).astype(np.int64)
    cells |= {"x1": np.where(cells["x1"] > 1, np.nan, cells["x1"])}
    days = [datetime(2024, 1, 1) + timedelta(days=n // 4) for n in range(ROWS)]  # noqa: DTZ001 - stored without a zone
    colours = chance.choice(["red", "green", "blue"], ROWS)
    return pa.table({"event_time": days, "label": label, "colour": colours, **cells})


def fitted(kind: str, table: pa.Table) -> tuple[Learner, Holdout]:
    features = tuple(name for name in table.column_names if name not in ("event_time", "label"))
    params = {"max_iter": 20}
    learner = make(Spec("one", kind, features, frozenset(["colour"]), params))
    target = problem_of("binary", ())
    learner.fit(table, target.labels(table["label"]))
    return learner, holdout(table, ZoneInfo("UTC"), "day", target)


def importance(learner: Learner, test: Holdout) -> Importance:
    groups = {"a": list(learner.spec.features[:3]), "b": list(learner.spec.features[3:])}
    return permutation_importance(learner, test, groups, metric="log_loss", rows=ROWS, seed=0, confidence=0.95)


@pytest.mark.parametrize("kind", [LOGISTIC, BOOSTING])
def test_importance_encodes_a_column_as_often_whether_there_are_ten_or_fifty(kind: str) -> None:
    for columns in (10, 50):
        learner, test = fitted(kind, wide(columns))
        with counted(encoding.Encoding, "_column") as encoded:
            importance(learner, test)
        assert encoded["calls"] == 3 * (columns + 1), "once intact, once shuffled alone, once with its view"


@pytest.mark.parametrize("kind", [LOGISTIC, BOOSTING])
def test_importance_is_the_same_as_of_rows_that_are_encoded_each_time(kind: str) -> None:
    learner, test = fitted(kind, wide(6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding.Original, "matrix", lambda _, encoder, table: encoder._coded(table))
        expected = importance(learner, test)
    assert importance(learner, test) == expected
    first = expected.features[0]
    assert first.name == "x0"
    assert first.value is not None
    assert first.value > 0


def test_only_the_changed_columns_of_the_very_table_are_taken_from_elsewhere() -> None:
    table = wide(3)
    encoder = encoding.Encoding.learn(table, ("colour", "x0", "x1"), frozenset(["colour"]))
    original, other = encoding.Original(table), table.slice(5, 40)
    expected = encoder.matrix(other)
    with original.changed(table, ["x0"]):
        known = encoder.matrix(table)
        known[:] = 7  # as a learner may
        assert np.array_equal(encoder.matrix(table), encoder._coded(table), equal_nan=True)
        assert np.array_equal(encoder.matrix(other), expected, equal_nan=True)
    assert np.array_equal(encoder.matrix(other), expected, equal_nan=True)


@pytest.mark.parametrize("quoted", [True, False])
def test_looking_for_times_that_lie_ahead_parses_no_column_that_is_none(quoted: bool) -> None:
    def parsed(columns: int) -> int:
        names = [f"x{n}" for n in range(columns)]
        sql = {name: f'"{name}"' if quoted else name for name in names}
        with duckdb.connect() as connection:
            cells = ", ".join(f"1.5 as {name}" for name in names)
            connection.execute(f"create table raw as select {cells}, timestamp '2024-01-01' as event_time")
            cut = Source(table="raw", event_time="event_time", available_at="event_time", columns=sql)
            features = tuple(Expression(name=n, sql=sql[n], description="as it is", missing="never") for n in names)
            spine = Spine(source="cases", key="x0", features=features[1:])
            definitions = Definitions(feature_set=FeatureSet(spine=spine), sources={"cases": cut})
            warehouse = Warehouse(connection, datetime(2024, 6, 1, tzinfo=UTC), ["raw"])
            with counted(sql_guard, "_parsed") as parses:
                assert list(foresight.advice(warehouse, definitions)) == []
            return parses["calls"]

    assert parsed(60) == parsed(10)


def test_one_name_is_a_column_and_a_keyword_or_more_than_a_name_is_none() -> None:
    names = {"x1": "x1", '"a b"': "a b", '"a ""b"""': 'a "b"', '"null"': "null"}
    names |= dict.fromkeys(("null", "x1 + 1", "x1 ", '"a" || "b"', '"a', '"a"."b"', '""', "1"))
    assert {sql: sql_guard.column_of(sql) for sql in names} == names


def test_types_are_asked_for_in_few_statements_and_an_error_stays_with_its_expression() -> None:
    with duckdb.connect() as connection:
        connection.execute("create table t as select 1.5::double as x, 'a' as name")
        good = ["x", "name", "x > 1"] * 100
        assert sql_guard.types_of(connection, good, "t") == ["DOUBLE", "VARCHAR", "BOOLEAN"] * 100
        odd = ["x", "y", "x), (name", "name -- why", "x +", "name"]
        types = sql_guard.types_of(connection, odd, "t")
        assert types[0] == "DOUBLE"
        assert types[2] == "DOUBLE", "as by itself; what is more than one expression is refused elsewhere"
        assert types[5] == "VARCHAR"
        assert all(isinstance(types[place], duckdb.Error) for place in (1, 3, 4))
        assert "y" in str(types[1])


def test_plain_decimals_are_read_as_any_other_texts_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    mixed = ["-0.5", "+12.25", "0.00001", "2024.0101", "1234.567", "99999999.5", "0.1234567", "-1.0"]
    mixed += [f"{value:.4f}" for value in chance.normal(size=40)]
    near = {"decimal": mixed, "zero": [*mixed, "007.5"], "whole": [*mixed, "12"], "long": [*mixed, "1" * 17 + ".5"]}
    near |= {"bare": [*mixed, "5."], "power": [*mixed, "1e5"], "space": [*mixed, " 1.5"], "mark": [*mixed, "1_0.5"]}

    def read() -> dict[str, column_reading.Column]:
        with duckdb.connect() as connection:
            columns = column_reading.named_columns(connection, list(near))
            return {
                column.name: column_reading.read_column(
                    connection, column, pa.chunked_array([near[column.name]]), delimiter=","
                )
                for column in columns
            }

    with counted(column_reading, "_count_rows") as queries:
        found = read()
    assert queries["calls"] >= len(near) - 1
    assert found["decimal"].type == "number"
    monkeypatch.setattr(column_reading, "_are_plain_decimals", lambda _: False)
    assert read() == found


def test_decimals_that_are_said_to_be_the_time_are_read_as_one() -> None:
    texts = pa.chunked_array([[f"{1_704_067_200 + 3_600 * n}.5" for n in range(40)]])
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        [column] = column_reading.named_columns(connection, ["t"])
        assert column_reading.read_column(connection, column, texts, delimiter=",").formats == ()
        assert column_reading.read_column(connection, column, texts, delimiter=",", is_time=True).formats


def test_no_query_is_needed_for_a_column_of_plain_decimals() -> None:
    with duckdb.connect() as connection, counted(column_reading, "_count_rows") as queries:
        [column] = column_reading.named_columns(connection, ["x"])
        texts = pa.chunked_array([[f"{value:.4f}" for value in np.random.default_rng(0).normal(size=40)]])
        assert column_reading.read_column(connection, column, texts, delimiter=",").type == "number"
    assert queries["calls"] == 0


def test_rows_of_a_wide_table_are_explained_in_blocks_that_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    table = wide(6)
    learner, _ = fitted(BOOSTING, table)
    rows, features = table.select(learner.spec.features), learner.spec.features[:4]
    with counted(type(learner), "predict") as calls:
        together = partial.partial_dependence(learner, rows, features)
    assert calls["calls"] == 1
    monkeypatch.setattr(partial, "MOST_CELLS", 20 * rows.num_rows * rows.num_columns)
    with counted(type(learner), "predict") as calls:
        assert partial.partial_dependence(learner, rows, features) == together
    assert 1 < calls["calls"] <= len(features)


def test_a_column_of_doubles_is_taken_as_it_is_without_a_copy() -> None:
    table = pa.table({"x": [1.0, None, 3.0]})
    taken = numbers(table, "x")
    assert taken.buffers()[1].address == table.column("x").chunk(0).buffers()[1].address


def test_infinite_and_missing_numbers_are_nan_whatever_chunks_they_lie_in() -> None:
    table = pa.table({"x": pa.chunked_array([[1.0, np.inf], [None, -np.inf, 5.0]]), "n": [1, 2, 3, None, 5]})
    matrix = encoding.Encoding(("x", "n"), {}).matrix(table)
    assert np.array_equal(matrix, [[1, 1], [np.nan, 2], [np.nan, 3], [np.nan, np.nan], [5, 5]], equal_nan=True)


def test_a_params_file_is_parsed_once_in_a_process_and_each_reader_has_its_own_copy(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("ingest: {columns: {only_here: number}}")
    with counted(yaml_files._Loader, "get_single_data") as parsed:
        yaml_files.read_yaml(tmp_path / "params.yaml")["ingest"]["columns"].clear()
        again = yaml_files.read_yaml(tmp_path / "params.yaml")
        assert again == {"ingest": {"columns": {"only_here": "number"}}}
        assert parsed["calls"] == 1
        (tmp_path / "params.yaml").write_text("ingest: {columns: {other: number}}")
        assert yaml_files.read_yaml(tmp_path / "params.yaml") == {"ingest": {"columns": {"other": "number"}}}


def test_a_file_of_refit_is_parsed_once_for_all_stages() -> None:
    for each in (stage_code.stage_code, stage_code._imports):
        each.cache_clear()
    seen: list[Path] = []
    original = stage_code._imported
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_code, "_imported", lambda path: [seen.append(path), original(path)][1])
        for stage in STAGES:
            stage_code.stage_code(stage)
    assert seen
    assert len(seen) == len(set(seen))


def test_the_collector_of_cycles_runs_seldom_while_a_command_imports_its_libraries() -> None:
    code = (
        "import gc, sys; from refit.cli import main; sys.argv = ['refit', '--help']\n"
        "try: main.main()\n"
        "finally: print(gc.get_threshold()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert int(done.stdout.splitlines()[-1]) == 50_000
