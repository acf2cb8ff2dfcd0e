"""A frame as pandas reads it predicts exactly what the same values predict as doubles and texts, or is refused."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from refit import learners
from refit.errors import UserError
from refit.files.artifacts import write_manifest
from refit.learners.pyfunc import TableModel, _load_pyfunc, table_of

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
