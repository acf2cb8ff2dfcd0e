"""A frame as pandas reads it predicts exactly what the same values predict as doubles and texts, or is refused."""

from __future__ import annotations

import base64
import io
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from refit import learners
from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.files.artifacts import write_manifest
from refit.learners.pyfunc import TableModel, _load_pyfunc, _type_of, table_of
from refit.storage.arrays import images, sequences, vectors

BIG = 2**53 + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    spec = learners.Spec("logistic", "sklearn.linear_model.LogisticRegression", ("visits", "code"), frozenset(["code"]))
    learner = learners.make(spec)
    rows = pa.table({"visits": [float(n % 20) for n in range(200)], "code": ["01", "1", None, "b"] * 50})
    learner.fit(rows, np.array([n % 20 > 9 for n in range(200)], dtype=np.int64))
    learner.save(made)
    write_manifest(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> TableModel:
    return _load_pyfunc(str(folder))


def predicted(model: TableModel, visits: Any, code: Any = None) -> list[float]:
    code = pd.Series(["01"] * len(visits)) if code is None else code
    return list(np.asarray(model.predict(pd.DataFrame({"visits": visits, "code": code}))))


WHOLE = {
    "int64": pd.Series([3, 12]),
    "int8": pd.Series([3, 12], dtype="int8"),
    "uint64": pd.Series([3, 12], dtype="uint64"),
    "Int64": pd.Series([3, 12], dtype="Int64"),
    "Float64": pd.Series([3, 12], dtype="Float64"),
    "float32": pd.Series([3, 12], dtype="float32"),
    "arrow": pd.Series([3, 12], dtype="int64[pyarrow]"),
    "arrow decimal": pd.Series([Decimal(3), Decimal(12)], dtype=pd.ArrowDtype(pa.decimal128(9, 2))),
    "Decimal": pd.Series([Decimal("3"), Decimal("12.0")]),
    "category": pd.Series([3, 12], dtype="category"),
    "object": pd.Series([3, 12.0], dtype=object),
    "sparse": pd.Series([3, 12], dtype=pd.SparseDtype("int64")),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_number_of_any_type_predicts_what_it_does_as_a_double(model: TableModel, kind: str) -> None:
    assert predicted(model, WHOLE[kind]) == predicted(model, pd.Series([3.0, 12.0]))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "object", "int64[pyarrow]", "category"])
def test_a_missing_number_of_any_type_is_missing(model: TableModel, dtype: str) -> None:
    assert predicted(model, pd.Series([3, None], dtype=dtype)) == predicted(model, pd.Series([3.0, np.nan]))


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object", "category", "bool[pyarrow]"])
def test_a_flag_of_any_type_is_zero_or_one(model: TableModel, dtype: str) -> None:
    assert predicted(model, pd.Series([True, False], dtype=dtype)) == predicted(model, pd.Series([1.0, 0.0]))


@pytest.mark.parametrize("dtype", ["object", "str", "string", "category", "string[pyarrow]"])
def test_a_text_of_any_type_is_that_text(model: TableModel, dtype: str) -> None:
    codes = pd.Series(["01", "1", None, "new"])
    visits = pd.Series([3.0] * 4)
    assert predicted(model, visits, codes.astype(dtype)) == predicted(model, visits, codes)


def test_what_read_csv_gives_is_taken(model: TableModel) -> None:
    frame = pd.read_csv(io.StringIO("code,more,visits\nb,1,3\nc,2,12\n"))
    assert str(frame["visits"].dtype) == "int64"
    assert len(model.predict(frame)) == 2


REFUSED = {
    "a whole number that no double holds": (pd.Series([3, BIG]), None, rf"column 'visits', row 1: {BIG} .*2\^53"),
    "the same, nullable": (pd.Series([BIG, None], dtype="Int64"), None, r"row 0: .*2\^53"),
    "the same, Decimal": (pd.Series([Decimal(BIG)]), None, r"row 0: .*2\^53"),
    "one beyond every double": (pd.Series([10**400], dtype=object), None, r"row 0: .*2\^53"),
    "a text for a number": (pd.Series([3, "12"], dtype=object), None, r"row 1: '12' \(str\) is no number"),
    "a time for a number": (pd.Series(pd.to_datetime(["2024-01-01"])), None, r"row 0: .* is no number"),
    "a complex number": (pd.Series([1j]), None, r"row 0: .* is no number"),
    "a number for a text": (pd.Series([3.0]), pd.Series([1]), r"column 'code', row 0: 1 \(int\) is no text"),
    "a flag for a text": (pd.Series([3.0]), pd.Series([True]), r"column 'code', row 0: True \(bool\) is no text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_become_another_value_is_refused_in_one_line(model: TableModel, name: str) -> None:
    visits, code, expected = REFUSED[name]
    with pytest.raises(UserError, match=expected) as said:
        predicted(model, visits, code)
    assert "\n" not in str(said.value)


def test_a_whole_number_beyond_2_53_that_a_double_holds_is_taken(model: TableModel) -> None:
    assert predicted(model, pd.Series([-(2**63)])) == predicted(model, pd.Series([-float(2**63)]))
    assert predicted(model, pd.Series([2**60])) == predicted(model, pd.Series([float(2**60)]))


def test_a_column_that_is_there_twice_or_not_at_all_is_refused(model: TableModel) -> None:
    with pytest.raises(UserError, match="column 'visits' is there 2 times"):
        model.predict(pd.DataFrame([[1, 2, "b"]], columns=["visits", "visits", "code"]))
    with pytest.raises(UserError, match="feature 'visits' is missing"):
        model.predict(pd.DataFrame({"code": ["b"]}))


def test_converting_changes_neither_rows_nor_order(model: TableModel) -> None:
    frame = pd.DataFrame({"visits": [3, 1, 2], "code": ["b", None, "1"]}, index=[7, 7, 1])
    table = table_of(frame, model._learner)
    assert table.to_pydict() == {"visits": [3.0, 1.0, 2.0], "code": ["b", None, "1"]}


ARRAYS = {
    "picture": ArrayColumn(kind="image", shape=(2, 3, 1)),
    "vector": ArrayColumn(kind="vector", shape=(3,)),
    "steps": ArrayColumn(kind="sequence", shape=(4, 2)),
}
CELLS = {
    "picture": [bytes(range(6)), bytes(6)],
    "vector": [[0.5, 1.0, None], None],
    "steps": [[[0.5, 1.0], [2.0, None]], []],
}
GIVEN: dict[str, tuple[str, list[Any]]] = {
    "bytes": ("picture", CELLS["picture"]),
    "base64, as MLflow writes it into JSON": (
        "picture",
        [base64.encodebytes(each).decode() for each in CELLS["picture"]],
    ),
    "a picture's pixels": ("picture", [np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((2, 3, 1), np.int64)]),
    "lists of pixels": ("picture", [[[0, 1, 2], [3, 4, 5]], [0] * 6]),
    "lists": ("vector", CELLS["vector"]),
    "arrays": ("vector", [np.array([0.5, 1.0, np.nan], np.float32), None]),
    "lists of lists": ("steps", CELLS["steps"]),
    "arrays of arrays": ("steps", [np.array([[0.5, 1.0], [2.0, np.nan]]), np.empty((0, 2))]),
}


def of_arrays(name: str) -> SimpleNamespace:
    return SimpleNamespace(spec=learners.Spec("net", "mlp", (name,), arrays=ARRAYS))


@pytest.mark.parametrize("given", GIVEN)
def test_a_cell_that_is_an_array_is_read_as_in_a_table(given: str) -> None:
    name, cells = GIVEN[given]
    read: Any = {"picture": images, "vector": vectors, "steps": sequences}[name]
    expected = pa.table({name: CELLS[name]}).cast(pa.schema({name: _type_of(ARRAYS[name])}))
    table = table_of(pd.DataFrame({name: pd.Series(cells, dtype=object)}), of_arrays(name))  # type: ignore[arg-type]
    ours, theirs = (read(each, name, ARRAYS[name]) for each in (table, expected))
    for one, other in zip(ours, theirs, strict=True):  # rows; of sequences the values and the lengths
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "cell", "complaint"),
    [
        ("picture", "no base64!", r"'no base64!' \(str\) is no image\(2, 3, 1\): a text is its bytes in base64"),
        ("picture", np.full((2, 3), 256), r"is no image\(2, 3, 1\): its bytes, or an array of whole numbers from 0 to"),
        ("picture", np.zeros((3, 2), np.uint8), r"an array of shape \(3, 2\) is no image\(2, 3, 1\)"),
        ("vector", "1, 2, 3", r"'1, 2, 3' \(str\) is no list of numbers, as vector\(3\) has it"),
        ("vector", [1.0, "2", 3.0], r"'2' \(str\) is no number"),
        ("steps", [1.0, 2.0], r"1.0 \(float\) is no list of numbers, as sequence\(4, 2\) has it"),
        ("steps", 7.0, r"7.0 \(float\) is no list of steps"),
    ],
)
def test_a_cell_that_is_no_array_of_its_kind_is_refused_in_one_line(name: str, cell: Any, complaint: str) -> None:
    frame = pd.DataFrame({name: pd.Series([cell], dtype=object)})
    with pytest.raises(UserError, match=f"column '{name}', row 0: .*{complaint}") as raised:
        table_of(frame, of_arrays(name))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_predictions_of_several_numbers_have_named_columns() -> None:
    spec = learners.Spec("odd", "sklearn.ensemble.IsolationForest", ("x",), task="anomaly", metric="log_volume")
    rows = pa.table({"x": np.random.default_rng(0).normal(size=200)})
    learner = learners.make(spec)
    learner.fit(rows, np.zeros(200))
    predicted: Any = TableModel(learner).predict(rows.to_pandas())
    assert list(predicted.columns) == ["score", "log_volume", "flagged"]
    np.testing.assert_array_equal(predicted.to_numpy(), learner.predict(rows))
