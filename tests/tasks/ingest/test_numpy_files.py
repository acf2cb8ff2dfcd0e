"""NumPy's .npy and .npz: arrays by the names of their columns, read in pieces and without pickle."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from refit.errors import UserError

IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
VECTORS = np.arange(8, dtype=np.float64).reshape(4, 2) / 4


def npz(*, packed: bool = False, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


ARRAYS: dict[str, Any] = {
    "picture": IMAGES,
    "embedding": VECTORS,
    "kind": np.array(["a", "b", "a", "é"]),
    "cost": np.array([0.5, 1.5, np.nan, 2.5], np.float32),
    "at": np.array(["2018-01-31T10:00", "2018-01-31T11:00", "2018-01-31T12:00", "2018-01-31T13:00"], "datetime64[s]"),
}


@pytest.fixture
def project(project: Any) -> Any:
    """Arrays of four rows in one .npz."""
    project.zone, project.period = "UTC", "day"
    project.source = {
        "kind": "files",
        "path": "raw/arrays.npz",
        "columns": {
            "picture": "image(2, 3)",
            "embedding": "vector(2)",
            "kind": "text",
            "cost": "number",
            "at": "timestamp",
            "line": "integer",
        },
        "line_column": "line",
        "key": ["line"],
        "event_time": "at",
    }
    project.put("arrays.npz", npz(**ARRAYS))
    return project


def rows(project: Any, *columns: str) -> list[tuple[Any, ...]]:
    project.ingest()
    return [tuple(row[name] for name in columns) for batch in project.stored() for row in project.batch(batch)]


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_of_a_npz_are_columns_by_their_names(project: Any, *, packed: bool) -> None:
    project.source["nulls"] = ["", "NA", "nan"]
    project.put("arrays.npz", npz(packed=packed, **ARRAYS))
    assert rows(project, "line", "picture", "embedding", "kind", "cost") == [
        (number + 1, IMAGES[number].tobytes(), VECTORS[number].tolist(), kind, cost)
        for number, (kind, cost) in enumerate(zip("abaé", [0.5, 1.5, None, 2.5], strict=True))
    ]


@pytest.mark.parametrize("declared", ["auto", "numpy"])
def test_the_array_of_a_npy_is_the_one_column(project: Any, declared: str) -> None:
    project.source |= {
        "path": "raw/vectors.npy",
        "format": declared,
        "columns": {"embedding": "vector(2)", "line": "integer"},
        "event_time": "timestamp '2018-01-31'",
    }
    project.put("vectors.npy", npy(VECTORS.astype(np.float32)))
    assert rows(project, "line", "embedding") == [(n + 1, row.tolist()) for n, row in enumerate(VECTORS)]


def test_a_vector_with_a_missing_number_is_set_aside(project: Any) -> None:
    project.put("arrays.npz", npz(**{**ARRAYS, "embedding": np.where(VECTORS == 0.5, np.nan, VECTORS)}))
    project.source["nulls"] = ["", "NA", "nan"]
    project.ingest()
    assert [line[0] for line in project.uncast(project.stored()[0])] == [2]


def cut(content: bytes, name: str) -> bytes:
    """The archive with one array cut short, and its checksum right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info)[: -1 if info.filename == name else None])
    return stream.getvalue()


BAD = {
    "a text": (b"hello, this is text", "raw/arrays.npz is one array, and columns declares 5"),
    "half": (npz(**ARRAYS)[:-30], "cannot be unpacked"),
    "an array too few": (npz(**{k: v for k, v in ARRAYS.items() if k != "kind"}), "column 'kind' is missing"),
    "an array too many": (npz(**ARRAYS, more=VECTORS), "column 'more' is not declared"),
    "lengths that differ": (npz(**{**ARRAYS, "kind": ARRAYS["kind"][:3]}), "different numbers of rows (picture 4"),
    "another size": (npz(**{**ARRAYS, "picture": IMAGES.reshape(4, 3, 2)}), "a row is 3 x 2, the column 'picture' is"),
    "fractions": (npz(**{**ARRAYS, "picture": IMAGES / 255}), "holds float64 values, an image holds uint8"),
    "a matrix": (npz(**{**ARRAYS, "kind": VECTORS}), "kind: a row is 2, the column 'kind' is text"),
    "objects": (npz(**{**ARRAYS, "kind": np.array([{}, 1, None, ()], object)}), "which need pickle"),
    "a single value": (npz(**{**ARRAYS, "kind": np.array(7)}), "is a single value"),
    "no rows": (npz(**{name: array[:0] for name, array in ARRAYS.items()}), "has no rows"),
    "Fortran order": (npz(**{**ARRAYS, "embedding": np.asfortranarray(VECTORS)}), "numpy.ascontiguousarray"),
    "a short array": (cut(npz(**ARRAYS), "picture.npy"), "picture ends within the 4 rows that its header states"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_are_not_what_was_declared_are_named_in_one_line(project: Any, name: str) -> None:
    content, words = BAD[name]
    project.put("arrays.npz", content)
    message = project.fails(UserError)
    assert message.startswith("raw/arrays.npz")
    assert words in message
    assert project.stored() == []


@pytest.mark.slow
def test_an_array_that_unpacks_to_many_times_its_size_is_refused(project: Any) -> None:
    zeros = np.zeros((300, 1024, 1024), np.uint8)
    project.put("arrays.npz", npz(packed=True, picture=zeros))
    project.source["columns"] = {"picture": "image(1024, 1024)", "line": "integer"}
    project.source["event_time"] = "timestamp '2018-01-31'"
    assert "unpacks to more than 200 times its" in project.fails(UserError)
