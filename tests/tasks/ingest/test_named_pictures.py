"""Tables whose image column holds names of files, encoded pictures or plain pixels."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from refit.errors import UserError
from tasks import ingest
from tasks.score.input_rows import read_rows

GREY = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
PIXELS = GREY.tobytes()


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def project(project: Any) -> Any:
    """A table of names of pictures of 2 x 3, two of them in a folder next to it."""
    project.zone, project.period = "UTC", "day"
    project.source = {
        "kind": "files",
        "path": "raw/names.csv",
        "columns": {"id": "integer", "picture": "image(2, 3)", "kind": "text"},
        "key": ["id"],
        "event_time": "timestamp '2018-01-31'",
    }
    project.put("pictures/a.png", png(GREY))
    project.put("pictures/b.png", png(255 - GREY))
    project.put("names.csv", "id,picture,kind\n1,pictures/a.png,cat\n2,pictures/b.png,dog\n")
    return project


def rows(project: Any) -> list[tuple[Any, ...]]:
    project.ingest()
    return [(row["id"], row["picture"], row["kind"]) for row in project.batch("2018-01-31")]


def faults(project: Any) -> list[tuple[Any, ...]]:
    """(file, column, value, reason) of what was set aside."""
    project.ingest()
    return [line[1:] for line in project.uncast("2018-01-31")]


def test_names_in_a_csv_are_replaced_by_their_pictures(project: Any) -> None:
    assert rows(project) == [(1, PIXELS, "cat"), (2, (255 - GREY).tobytes(), "dog")]


def test_names_in_parquet_are_replaced_by_their_pictures(project: Any) -> None:
    table = pa.table({"id": [1, 2], "picture": ["pictures/a.png", None], "kind": ["cat", "dog"]})
    pq.write_table(table, project.path / "raw/names.parquet")
    project.source["path"] = "raw/names.parquet"
    assert rows(project) == [(1, PIXELS, "cat"), (2, None, "dog")]


@pytest.mark.parametrize("kind", [pa.binary(), pa.struct({"bytes": pa.binary(), "path": pa.string()})])
def test_pictures_and_pixels_within_parquet_are_read(project: Any, kind: pa.DataType) -> None:
    cells: list[Any] = [png(GREY), PIXELS, b"hello"]
    if pa.types.is_struct(kind):
        cells = [{"bytes": cell, "path": "a.png"} for cell in cells]
    table = pa.table({"id": [1, 2, 3], "picture": pa.array(cells, kind), "kind": ["cat"] * 3})
    pq.write_table(table, project.path / "raw/names.parquet")
    project.source["path"] = "raw/names.parquet"
    assert rows(project) == [(1, PIXELS, "cat"), (2, PIXELS, "cat")]
    assert faults(project) == [("raw/names.parquet", "picture", "5 bytes", "is no PNG or JPEG")]


OUT = "leads out of the folder of names.csv"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pictures/c.png", "does not exist"),
        ("pictures", "is no regular file, or a link out of the folder of names.csv"),
        ("link.png", "is no regular file, or a link out of the folder of names.csv"),
        ("folder/secret.png", "is no regular file, or a link out of the folder of names.csv"),
        ("../secret.png", OUT),
        ("pictures/../../secret.png", OUT),
        ("/etc/hostname", OUT),
        ("x" * 300, "does not exist"),
        ("pictures/bad.png", "is truncated or damaged"),
        ("pictures/wide.png", "is 2 x 4, the column is image(2, 3)"),
    ],
)
def test_a_name_without_a_picture_in_the_folder_is_set_aside_with_its_whole_row(
    project: Any, name: str, reason: str
) -> None:
    (project.path / "secret.png").write_bytes(png(GREY))
    (project.path / "raw/link.png").symlink_to("../secret.png")
    (project.path / "raw/folder").symlink_to("..")
    project.put("pictures/bad.png", png(GREY)[:40])
    project.put("pictures/wide.png", png(np.zeros((2, 4), np.uint8)))
    project.put("names.csv", f"id,picture,kind\n1,pictures/a.png,cat\n2,{name},dog\n")
    assert faults(project) == [("raw/names.csv", "picture", name, reason)]
    (line,) = pq.read_table(project.path / "data/batches/trips/2018-01-31.uncast.parquet").to_pylist()
    assert line["row"] == f'{{"id":"2","picture":"{name}","kind":"dog"}}'


def test_a_missing_name_is_a_missing_picture_and_set_aside_only_if_required(project: Any) -> None:
    project.put("names.csv", "id,picture,kind\n1,pictures/a.png,cat\n2,,dog\n")
    assert rows(project) == [(1, PIXELS, "cat"), (2, None, "dog")]
    for old in (project.path / "data/batches/trips").glob("*"):
        old.unlink()
    project.source["required"] = ["picture"]
    assert faults(project) == [("raw/names.csv", "picture", None, "is required and missing")]


def test_a_picture_that_arrives_or_changes_later_is_noticed(project: Any) -> None:
    project.put("names.csv", "id,picture,kind\n1,pictures/a.png,cat\n2,pictures/c.png,dog\n")
    assert [line[2] for line in faults(project)] == ["pictures/c.png"]
    assert ingest.stale_reason(project.context()) is None
    project.put("pictures/c.png", png(GREY))
    assert ingest.stale_reason(project.context()) == "trips has new data in raw/names.csv"
    project.ingest()
    assert [row["id"] for batch in project.stored() for row in project.batch(batch)] == [1, 2]
    project.put("pictures/a.png", png(GREY // 2))
    assert ingest.stale_reason(project.context()) is not None
    assert "1 changed" in project.fails(UserError)


def test_an_untouched_table_and_its_pictures_are_not_read_again(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.ingest()
    files = project.files()
    from refit.sources import sources

    monkeypatch.setattr(sources, "read", None)
    project.ingest()
    assert project.files() == files


def test_a_pipe_among_the_pictures_is_not_waited_for(project: Any) -> None:
    os.mkfifo(Path(project.path) / "raw/pictures/c.png")
    project.put("names.csv", "id,picture,kind\n1,pictures/a.png,cat\n2,pictures/c.png,dog\n")
    assert [line[2] for line in faults(project)] == ["pictures/c.png"]


def test_names_in_a_table_to_score_are_replaced_by_their_pictures(project: Any) -> None:
    project.put("new.csv", "id,picture\n3,pictures/b.png\n")
    read = read_rows(project.context(), "trips", project.path / "raw/new.csv")
    assert read.rows["picture"].to_pylist() == [(255 - GREY).tobytes()]
    project.put("new.csv", "id,kind\n3,cat\n")
    assert read_rows(project.context(), "trips", project.path / "raw/new.csv").rows["picture"].to_pylist() == [None]
