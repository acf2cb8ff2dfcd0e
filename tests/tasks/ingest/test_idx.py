"""IDX, the format of MNIST: images from one file, labels from the file next to it, in batches of bounded size."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.sources import sources
from refit.storage.batches import LINE, manifests
from tasks import ingest
from tasks.ingest import casting
from tasks.score.input_rows import read_rows

DATA = Path(os.environ.get("REFIT_SHARED_DATA", Path(__file__).parents[4] / "shared/data"))
IMAGES = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
LABELS = np.array([7, 2, 1, 0, 4], np.uint8)
TYPES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(values: np.ndarray[Any, Any]) -> bytes:
    header = struct.pack(">BBBB", 0, 0, TYPES[values.dtype.name], values.ndim)
    return (
        header
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.astype(values.dtype.newbyteorder(">")).tobytes()
    )


@pytest.fixture
def project(project: Any) -> Any:
    """Five images of 3 x 2, and their labels."""
    project.zone, project.period = "UTC", "day"
    project.source = {
        "kind": "files",
        "path": "raw/*-images-idx3-ubyte",
        "format": "idx",
        "columns": {"picture": "image(3, 2)", "kind": "integer", "file": "text", "line": "integer"},
        "file_column": "file",
        "line_column": "line",
        "key": ["file", "line"],
        "event_time": "timestamp '2018-01-31'",
    }
    project.put("train-images-idx3-ubyte", idx(IMAGES))
    project.put("train-labels-idx1-ubyte", idx(LABELS))
    return project


def batches_of(project: Any) -> Iterator[pa.RecordBatch]:
    """What the reader yields, before anything is cast."""
    source = project.context().params.ingest.sources["trips"]
    (file,) = sources.find(project.path, source, "ingest.sources.trips")
    return sources.read(file, source, "ingest.sources.trips")


def taken(project: Any, *columns: str) -> list[tuple[Any, ...]]:
    project.ingest()
    return [tuple(row[name] for name in columns or ("picture", "kind")) for row in project.batch("2018-01-31")]


ROWS = [(image.tobytes(), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]


def test_images_come_with_the_labels_next_to_them(project: Any) -> None:
    assert taken(project) == ROWS
    assert taken(project, "file", "line")[:2] == [("train-images-idx3-ubyte", 1), ("train-images-idx3-ubyte", 2)]


@pytest.mark.parametrize(("images", "labels"), [(".gz", ".gz"), ("", ".gz"), (".gz", "")])
def test_either_file_may_be_in_gzip(project: Any, images: str, labels: str) -> None:
    for kind, values, suffix in (("images-idx3", IMAGES, images), ("labels-idx1", LABELS, labels)):
        (project.path / f"raw/train-{kind}-ubyte").unlink()
        project.put(f"train-{kind}-ubyte{suffix}", gzip.compress(idx(values)) if suffix else idx(values))
    project.source["path"] = "raw/*images*"
    assert taken(project) == ROWS


def test_names_of_the_published_data_sets_lead_from_images_to_labels(project: Any) -> None:
    project.source["path"] = "raw/*images*"
    for name in ("emnist-letters-train-{}-idx{}-ubyte", "t10k-{}.idx{}-ubyte"):
        project.put(name.format("images", 3), idx(IMAGES))
        project.put(name.format("labels", 1), idx(LABELS))
    assert taken(project) == 3 * ROWS


def test_images_without_a_declared_label_need_no_labels(project: Any) -> None:
    del project.source["columns"]["kind"]
    (project.path / "raw/train-labels-idx1-ubyte").unlink()
    context = project.context()
    assert [row["picture"] for row in (ingest.take_in(context), project.batch("2018-01-31"))[1]] == [
        picture for picture, _ in ROWS
    ]


def test_images_in_colour_and_vectors_of_every_number_type_are_read(project: Any) -> None:
    colour = np.arange(2 * 3 * 2 * 3, dtype=np.uint8).reshape(2, 3, 2, 3)
    project.source["columns"]["picture"] = "image(3, 2, 3)"
    project.put("train-images-idx3-ubyte", idx(colour))
    project.put("train-labels-idx1-ubyte", idx(LABELS[:2].astype(np.int32)))
    assert taken(project) == [(image.tobytes(), int(label)) for image, label in zip(colour, LABELS, strict=False)]
    project.source["columns"]["picture"] = "vector(2)"
    for number, kind in enumerate(TYPES):
        project.source["event_time"] = f"timestamp '2018-02-{number + 1:02d}'"
        project.put("train-images-idx3-ubyte", idx(np.array([[1, 2], [3, 4]], kind)))
        for old in (project.path / "data/batches/trips").glob("*"):
            old.unlink()
        project.ingest()
        assert [row["picture"] for row in project.batch(f"2018-02-{number + 1:02d}")] == [[1.0, 2.0], [3.0, 4.0]]


def test_changed_labels_are_noticed_and_contradict_what_was_read(project: Any) -> None:
    project.ingest()
    assert ingest.stale_reason(project.context()) is None
    project.put("train-labels-idx1-ubyte", idx(LABELS[::-1].copy()))
    assert ingest.stale_reason(project.context()) == "trips has new data in raw/train-images-idx3-ubyte"
    assert "batch trips/2018-01-31 has changed" in project.fails(UserError)


def test_labels_that_arrive_or_go_are_noticed(project: Any) -> None:
    labels = project.path / "raw/train-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.unlink()
    assert project.fails(UserError) == (
        "raw/train-images-idx3-ubyte: column 'kind' is read from the labels next to it, and there is no "
        "train-labels-idx1-ubyte; fetch it, or take the column out of ingest.sources.trips.columns"
    )
    labels.write_bytes(content)
    project.ingest()
    labels.unlink()
    assert ingest.stale_reason(project.context()) is not None


def test_an_untouched_file_is_not_read_again(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (project.path / "raw").iterdir():
        os.utime(path)
    project.ingest()
    files = project.files()
    monkeypatch.setattr(sources, "read", None)
    project.ingest()
    assert project.files() == files


FIVE = "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (FIVE, b"PK\x03\x04" + bytes(40), "is no IDX file: it starts with 50 4b 03 04, 00 00, a type (08 for bytes)"),
        (FIVE, idx(IMAGES)[:20], "ends within the 5 rows that its header states; it is not complete: fetch the file"),
        (FIVE, idx(IMAGES)[:6], "ends within its header"),
        (FIVE, b"\0\0", "ends within its first four bytes"),
        (FIVE, idx(IMAGES) + b"\0", "goes on after the 5 rows, the last that its header states"),
        (FIVE, gzip.compress(idx(IMAGES))[:-9], "cannot be unpacked (Compressed file ended before"),
        (FIVE, gzip.compress(idx(IMAGES))[:-8] + bytes(8), "cannot be unpacked (CRC check failed"),
        (FIVE, idx(IMAGES.reshape(5, 2, 3)), "a row is 2 x 3, the column 'picture' is image(3, 2); correct ingest.so"),
        (FIVE, idx(LABELS), "a row is a single value, the column 'picture' is image(3, 2)"),
        (FIVE, idx(IMAGES.astype(np.float32)), "holds float32 values, an image holds uint8 (0 to 255)"),
        (FIVE, idx(IMAGES[:4]), "train-labels-idx1-ubyte holds 5 labels, raw/train-images-idx3-ubyte 4 rows; fetch"),
        (FIVE, idx(IMAGES[:0]), "has no rows"),
        ("train-labels-idx1-ubyte", idx(IMAGES), "has 3 dimensions, a file of labels has one; fetch the right file"),
        ("train-labels-idx1-ubyte", idx(LABELS)[:-1], "ends within the 5 rows that its header states"),
        ("train-labels-idx1-ubyte", idx(LABELS) + b"7", "goes on after the 5 rows"),
    ],
)
def test_a_file_that_is_not_what_was_declared_is_named_in_one_line(
    project: Any, name: str, content: bytes, words: str
) -> None:
    project.put(name, content)
    message = project.fails(UserError)
    assert message.startswith("raw/train-")
    assert words in message
    assert project.stored() == []


def test_a_header_that_states_the_impossible_costs_no_memory(project: Any) -> None:
    project.source["columns"]["picture"] = "image(10000, 10000)"
    del project.source["columns"]["kind"]
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 10_000, 10_000)
    project.put(FIVE, header)
    assert "ends within the 4,294,967,295 rows" in project.fails(UserError)


@pytest.mark.slow
def test_a_gzip_that_unpacks_to_many_times_its_size_is_refused(project: Any) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 300, 1024, 1024)
    content = b"".join([packer.compress(header), *(packer.compress(zeros) for _ in range(300)), packer.flush()])
    project.put(FIVE, content)
    project.source["columns"] = {"picture": "image(1024, 1024)", "file": "text", "line": "integer"}
    with pytest.raises(UserError, match=r"unpacks to more than 200 times its .*\.max_unpacked_ratio in params.yaml"):
        for _ in batches_of(project):
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": {"file": "text", "line": "integer", "kind": "text"}}, "columns has 0 and 1 of them"),
        (
            {"columns": {"file": "text", "line": "integer", "kind": "text", "more": "text", "x": "image(3, 2)"}},
            "format idx gives one column image(...) or vector(...) and at most one other, the label; columns has 1 ",
        ),
        ({"resize": True}, "`resize` is for PNG and JPEG"),
        ({"format": "idxs"}, "did you mean 'idx'?"),
    ],
)
def test_columns_that_the_format_cannot_have_are_refused_with_the_params(
    project: Any, change: dict[str, Any], words: str
) -> None:
    project.source |= change
    with pytest.raises(UserError) as caught:
        project.context()
    assert words in "\n".join(caught.value.args)


def test_a_pin_of_one_file_is_refused_where_two_are_read(project: Any) -> None:
    project.source["sha256"] = "0" * 64
    assert project.fails(UserError) == (
        "ingest.sources.trips.sha256 names one file, and raw/train-images-idx3-ubyte is read with "
        "train-labels-idx1-ubyte; drop sha256"
    )


def test_a_large_file_comes_in_batches_of_bounded_size(project: Any) -> None:
    rows = 12_000
    images = np.random.default_rng(0).integers(0, 256, (rows, 3, 2), np.uint8)
    project.put(FIVE, idx(images))
    project.put("train-labels-idx1-ubyte", idx(np.arange(rows, dtype=np.int32)))
    batches = list(batches_of(project))
    assert [batch.num_rows for batch in batches] == [5_000, 5_000, 2_000]
    table = pa.Table.from_batches(batches)
    assert table[LINE].to_pylist() == list(range(1, rows + 1))
    assert b"".join(table["picture"].to_pylist()) == images.tobytes()
    assert table["kind"].to_pylist() == list(range(rows))


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="MNIST is not here; REFIT_SHARED_DATA names its folder")
def test_mnist_is_read_as_it_is_published(project: Any) -> None:
    project.source |= {"path": f"{DATA}/mnist/t10k-images-idx3-ubyte.gz"}
    project.source["columns"]["picture"] = "image(28, 28)"
    table = pa.Table.from_batches(list(batches_of(project)))
    assert table.num_rows == 10_000
    assert [int(count) for count in np.bincount(table["kind"])] == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert table["kind"].to_pylist()[:5] == [7, 2, 1, 0, 4]
    pixels = np.frombuffer(b"".join(table["picture"].to_pylist()), np.uint8)
    assert round(float(pixels.mean()), 2) == 33.79


def test_images_to_score_need_no_labels(project: Any) -> None:
    read = read_rows(project.context(), "trips", project.put("new-images", idx(IMAGES)))
    assert read.rows["picture"].to_pylist() == [picture for picture, _ in ROWS]
    assert read.notes == ("new-images has no column kind: taken as missing",)


@pytest.mark.slow
def test_more_images_than_memory_holds_are_moved_to_disk_and_give_the_same_batch(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory was 2.1 GB for 400,000 images of 28 x 28 while rows were moved to disk only when most of it was used."""
    count = 20_000
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    project.source["columns"] = {**project.source["columns"], "picture": "image(28, 28)"}
    project.put("train-images-idx3-ubyte", idx(images))
    project.put("train-labels-idx1-ubyte", idx((np.arange(count) % 10).astype(np.uint8)))
    digests, limits, real = set(), [], casting.connect

    def connect(*args: Any, **named: Any) -> Any:
        connection = real(*args, **named)
        limits.append(connection.execute("select current_setting('memory_limit')").fetchone()[0])
        return connection

    monkeypatch.setattr(casting, "connect", connect)
    for megabytes in (512, 64):
        monkeypatch.setattr(casting, "_ARRAYS_MB", megabytes)
        monkeypatch.setattr(casting, "_GROUP_ROWS", 4_096)  # of the 20,000
        shutil.rmtree(project.path / "data", ignore_errors=True)
        shutil.rmtree(project.path / ".refit", ignore_errors=True)
        project.ingest()
        digests.add(manifests(project.path, "trips")[0].sha256)
    assert limits == ["488.2 MiB", "61.0 MiB"]
    assert len(digests) == 1


@pytest.mark.parametrize(("side", "limited"), [(28, True), (1_000, False)])
def test_memory_is_limited_for_small_images_and_left_alone_for_large_ones_which_need_it(
    side: int, limited: bool, tmp_path: Path
) -> None:
    limits = []
    for arrays in ((), (ArrayColumn(kind="image", shape=(side, side, 3)),)):
        with casting.connect(str(tmp_path / "spill"), arrays) as connection:
            limits.append(connection.execute("select current_setting('memory_limit')").fetchone()[0])
    assert (limits[0] != limits[1]) == limited
    stated = []
    for arrays in ((), (ArrayColumn(kind="image", shape=(side, side, 3)),)):
        with casting.connect(str(tmp_path / "spill"), arrays, memory_limit="100MiB") as connection:
            stated.append(connection.execute("select current_setting('memory_limit')").fetchone()[0])
    assert stated == ["100.0 MiB", limits[1]], "a stated limit is that of rows without arrays"
