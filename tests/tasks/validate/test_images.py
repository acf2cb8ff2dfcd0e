"""What validation says of images: those of one colour are counted, and accepted."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit.config import parse
from refit.files.artifacts import VALIDATED, read_json
from refit.runtime.context import Context
from tasks import ingest, validate
from tasks.validate import frames


def context(path: Path, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Context:
    header = struct.pack(f">BBBB{images.ndim}I", 0, 0, 8, images.ndim, *images.shape)
    (path / "a-images").write_bytes(header + images.tobytes())
    (path / "a-labels").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, len(images)) + bytes(len(images)))
    size = ", ".join(map(str, images.shape[1:]))
    source = {
        "kind": "files",
        "path": "a-images",
        "format": "idx",
        "columns": {"picture": f"image({size})", "digit": "integer", "line": "integer"},
        "line_column": "line",
        "key": ["line"],
        "event_time": "timestamp '2018-01-31'",
    }
    raw = {
        "project": {"name": "demo"},
        "ingest": {"period": "day", "sources": {"digits": source}},
        "featurize": {"label": {"source": "digits", "column": "digit"}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return Context(path, parse(raw), now=lambda: datetime(2020, 1, 1, tzinfo=UTC))


def test_images_of_one_colour_are_counted_and_accepted(tmp_path: Path) -> None:
    images = np.array([[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[9, 9], [9, 9]], [[9, 9], [9, 8]]], np.uint8)
    project = context(tmp_path, images)
    ingest.run(project)
    validate.run(project)
    (batch,) = read_json(tmp_path / VALIDATED)["batches"]
    assert "2 images have one colour throughout (picture)" in batch["warnings"]
    assert (batch["accepted"], batch["quarantined"]) == (4, 0)


@pytest.mark.parametrize(("blue", "expected"), [(7, {"picture": 1}), (8, {})])
def test_an_image_in_colour_is_constant_if_all_of_its_pixels_are_equal(
    tmp_path: Path, blue: int, expected: dict[str, int]
) -> None:
    image = np.array([[[5, 6, 7], [5, 6, blue]]], np.uint8)
    source = context(tmp_path, image[None]).params.ingest.sources["digits"]
    table = pa.table({"picture": pa.array([image.tobytes(), None], pa.binary())})
    assert frames.constant_images(table, source) == expected
