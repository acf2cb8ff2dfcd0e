"""Folders of PNG and JPEG: one row a picture, labelled by its folder; one that does not fit is a row with a fault."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refit.errors import UserError
from refit.files.artifacts import read_json
from tasks import ingest
from tasks.score.input_rows import read_rows

GREY = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
RED = np.array([[[255, 0, 0]] * 3, [[9, 8, 7]] * 3], np.uint8)
WIDE = np.zeros((2, 4), np.uint8)


def png(pixels: np.ndarray[Any, Any], mode: str | None = None, **more: Any) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(stream, more.pop("kind", "PNG"), **more)
    return stream.getvalue()


def palette(pixels: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).quantize(4).save(stream, "PNG")
    return stream.getvalue()


def jpeg(pixels: np.ndarray[Any, Any]) -> bytes:
    return png(pixels, kind="JPEG", quality=95)


@pytest.fixture
def project(project: Any) -> Any:
    """Pictures of 2 x 3 in a folder for each class."""
    project.zone, project.period = "UTC", "day"
    project.source = {
        "kind": "files",
        "path": "pictures/*/*",
        "format": "images",
        "columns": {"picture": "image(2, 3)", "kind": "text", "file": "text"},
        "file_column": "file",
        "folder_column": "kind",
        "key": ["kind", "file"],
        "event_time": "timestamp '2018-01-31'",
    }
    return project


def put(project: Any, name: str, content: bytes) -> Path:
    path = project.path / "pictures" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def taken(project: Any, *columns: str) -> list[tuple[Any, ...]]:
    project.ingest()
    names = columns or ("kind", "file", "picture")
    return [tuple(row[name] for name in names) for batch in project.stored() for row in project.batch(batch)]


def faults(project: Any) -> list[tuple[Any, ...]]:
    """(file, column, value, reason) of what was set aside."""
    project.ingest()
    return [line[1:] for line in project.uncast("2018-01-31")]


def test_a_picture_is_a_row_labelled_by_its_folder(project: Any) -> None:
    put(project, "cat/1.png", png(GREY))
    put(project, "cat/2.png", png(255 - GREY))
    put(project, "dog/1.png", png(GREY.T.reshape(2, 3).copy()))
    assert taken(project) == [
        ("cat", "1.png", GREY.tobytes()),
        ("cat", "2.png", (255 - GREY).tobytes()),
        ("dog", "1.png", GREY.T.tobytes()),
    ]
    (batch,) = read_json(project.path / "data/snapshot.json")["batches"]
    assert batch["files"] == ["pictures/*/*"]


def test_a_folder_without_a_picture_is_a_class_that_no_row_has(project: Any) -> None:
    project.source["path"] = "pictures/*/*.png"
    put(project, "cat/1.png", png(GREY))
    put(project, "dog/1.jpg", jpeg(GREY))
    (project.path / "pictures/[eel]").mkdir()
    project.ingest()
    assert [line for line in project.said if line.startswith("warning")] == [
        "warning: trips: no file matches *.png in pictures/[eel], pictures/dog: no row has such a kind"
    ]
    put(project, "dog/2.png", png(GREY))
    put(project, "[eel]/2.png", png(GREY))
    project.ingest()
    assert not any(line.startswith("warning") for line in project.said)


def test_jpeg_is_decoded_as_other_programs_decode_it(project: Any) -> None:
    content = jpeg(GREY)
    put(project, "cat/1.jpg", content)
    with Image.open(io.BytesIO(content)) as picture:
        assert taken(project, "picture") == [(picture.tobytes(),)]


EXACT = {
    "grey as colour": (png(GREY), "image(2, 3, 3)", np.repeat(GREY[..., None], 3, axis=2)),
    "colour": (png(RED), "image(2, 3, 3)", RED),
    "grey kept as colour": (png(np.repeat(GREY[..., None], 3, axis=2)), "image(2, 3)", GREY),
    "a palette": (palette(RED), "image(2, 3, 3)", RED),
    "black and white": (png(np.array([[0, 255, 0], [255, 0, 0]], np.uint8), "1"), "image(2, 3)", None),
    "opaque": (png(RED, "RGBA"), "image(2, 3, 3)", RED),
    "opaque grey": (png(GREY, "LA"), "image(2, 3)", GREY),
}


@pytest.mark.parametrize("name", EXACT)
def test_channels_are_converted_where_nothing_is_lost(project: Any, name: str) -> None:
    content, column, pixels = EXACT[name]
    project.source["columns"]["picture"] = column
    put(project, "cat/1.png", content)
    expected = np.array([[0, 255, 0], [255, 0, 0]], np.uint8) if pixels is None else pixels
    assert taken(project, "picture") == [(expected.tobytes(),)]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(height: int, width: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


SEE_THROUGH = np.dstack([RED, np.array([[255, 255, 255], [255, 0, 255]], np.uint8)])
UNFIT = {
    "empty": (b"", "is empty"),
    "a text": (b"hello", "is no PNG or JPEG"),
    "a GIF": (png(GREY, kind="GIF"), "is no PNG or JPEG"),
    "another size": (png(WIDE), "is 2 x 4, the column is image(2, 3)"),
    "turned": (png(GREY.T.copy()), "is 3 x 2, the column is image(2, 3)"),
    "colour": (png(RED), "is in colour, the column has one channel"),
    "transparent": (png(SEE_THROUGH), "is transparent in places"),
    "transparent by a colour": (png(GREY, transparency=50), "is transparent in places"),
    "sixteen bits": (png(GREY.astype(np.uint16) * 257), "has 16 bits a value, 8 were expected"),
    "print colours": (png(RED, "CMYK", kind="JPEG"), "is CMYK, grey or RGB were expected"),
    "half a JPEG": (jpeg(GREY)[:-40], "is truncated or damaged"),
    "half a PNG": (png(GREY)[:50], "is truncated or damaged"),
    "a flipped bit of pixels": (flipped(png(GREY), 45), "is truncated or damaged"),
    "a bomb": (bomb(2**31 - 1, 2**31 - 1), "has more pixels than 256 MB hold"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_picture_that_does_not_fit_is_set_aside_with_its_name_and_reason(project: Any, name: str) -> None:
    content, reason = UNFIT[name]
    put(project, "cat/good.png", png(GREY))
    put(project, "cat/bad.png", content)
    assert faults(project) == [("pictures/*/*", "picture", "cat/bad.png", reason)]
    assert [row["file"] for row in project.batch("2018-01-31")] == ["good.png"]


def test_pictures_of_other_sizes_are_scaled_where_that_is_declared(project: Any) -> None:
    project.source["resize"] = True
    put(project, "cat/1.png", png(GREY))
    put(project, "cat/2.png", png(np.full((20, 30), 7, np.uint8)))
    put(project, "cat/3.png", png(RED))
    assert taken(project, "picture") == [(GREY.tobytes(),), (bytes([7] * 6),)]
    assert faults(project) == [("pictures/*/*", "picture", "cat/3.png", "is in colour, the column has one channel")]


def test_a_bomb_is_set_aside_though_every_size_is_scaled(project: Any) -> None:
    project.source["resize"] = True
    put(project, "cat/1.png", png(GREY))
    put(project, "cat/2.png", bomb(20_000, 20_000))
    put(project, "cat/3.png", bomb(9_000, 9_000))
    assert [line[2:] for line in faults(project)] == [
        ("cat/2.png", "has more pixels than 256 MB hold"),
        ("cat/3.png", "is truncated or damaged"),
    ]


def test_a_file_larger_than_a_value_may_be_is_not_read(project: Any) -> None:
    project.source["max_line_mb"] = 1
    put(project, "cat/1.png", png(GREY))
    put(project, "cat/2.png", png(GREY) + bytes(1 << 20))
    assert [line[2:] for line in faults(project)] == [("cat/2.png", "is larger than 1 MB (`max_line_mb`)")]


def test_new_pictures_are_added_and_changed_ones_contradict(project: Any) -> None:
    put(project, "cat/2.png", png(GREY))
    project.ingest()
    assert ingest.stale_reason(project.context()) is None
    put(project, "cat/1.png", png(255 - GREY))
    assert ingest.stale_reason(project.context()) == "trips has new data in pictures/*/*"
    assert taken(project, "file") == [("2.png",), ("1.png",)]
    put(project, "cat/2.png", png(GREY // 2))
    assert "1 changed" in project.fails(UserError)


def test_a_picture_moved_to_another_folder_is_noticed(project: Any) -> None:
    path = put(project, "cat/1.png", png(GREY))
    put(project, "dog/2.png", png(GREY))
    project.ingest()
    path.rename(project.path / "pictures/dog/1.png")
    assert ingest.stale_reason(project.context()) is not None
    assert "1 new, 1 missing" in project.fails(UserError)


def test_links_that_leave_the_folder_and_files_still_written_are_errors(project: Any) -> None:
    put(project, "cat/1.png", png(GREY))
    (project.path / "secret.png").write_bytes(png(GREY))
    link = project.path / "pictures/cat/2.png"
    link.symlink_to(project.path / "secret.png")
    assert "is a link that leaves pictures" in project.fails(UserError)
    link.unlink()
    put(project, "cat/2.png.part", png(GREY))
    assert "looks like a file that is still written" in project.fails(UserError)


def test_many_pictures_leave_a_short_record(project: Any) -> None:
    for number in range(200):
        put(project, f"cat/{number:03d}.png", png(GREY))
    project.ingest()
    assert len(project.batch("2018-01-31")) == 200
    assert (project.path / ".refit/ingest.json").stat().st_size < 1_000
    assert sum("rows of pictures" in said for said in project.said) == 1


def test_generated_pictures_stand_in_for_published_ones(project: Any) -> None:
    script = (
        "from PIL import Image\n"
        "def write(folder):\n"
        "    for kind in ('cat', 'dog'):\n"
        "        (folder / kind).mkdir()\n"
        "        Image.new('L', (3, 2), 7).save(folder / kind / '1.png')\n"
    )
    (project.path / "stand_in.py").write_text(script)
    project.source |= {"path": "pictures/*/*.png", "published": "https://example.com", "stand_in": "stand_in.py"}
    assert taken(project) == [(kind, "1.png", bytes([7] * 6)) for kind in ("cat", "dog")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": {"picture": "image(2, 3)", "file": "text", "kind": "text", "n": "integer"}}, "columns has n too"),
        ({"columns": {"file": "text", "kind": "text"}}, "columns has 0 of them"),
        ({"line_column": "file"}, "format images has no lines for `line_column`"),
        ({"folder_column": "folder"}, "folder_column column 'folder' is not declared"),
    ],
)
def test_columns_that_pictures_cannot_have_are_refused_with_the_params(
    project: Any, change: dict[str, Any], words: str
) -> None:
    project.source |= change
    with pytest.raises(UserError) as caught:
        project.context()
    assert words in "\n".join(caught.value.args)


def test_a_folder_of_pictures_or_one_of_them_is_rows_to_score(project: Any, tmp_path: Path) -> None:
    project.source["path"] = "pictures/*/*.png"
    for name in ("new/1.png", "new/2.png"):
        put(project, f"../elsewhere/{name}", png(GREY))
    put(project, "../elsewhere/new/notes.txt", b"hello")
    put(project, "../elsewhere/new/bad.png", b"hello")
    read = read_rows(project.context(), "trips", tmp_path / "elsewhere")
    assert read.rows.select(["kind", "file", "picture"]).to_pylist() == [
        {"kind": "new", "file": name, "picture": GREY.tobytes()} for name in ("1.png", "2.png")
    ]
    assert [(refusal.value, refusal.reason) for refusal in read.refusals] == [("new/bad.png", "is no PNG or JPEG")]
    assert read_rows(project.context(), "trips", tmp_path / "elsewhere/new/1.png").rows.num_rows == 1
    with pytest.raises(UserError, match=r"has no picture \*.png; give one, or a folder of them"):
        read_rows(project.context(), "trips", tmp_path / "nowhere")


def test_pictures_without_their_format_are_recognised_and_the_error_names_it(project: Any) -> None:
    put(project, "cat/1.png", png(GREY))
    del project.source["format"]
    assert "cat/1.png is PNG data where text was expected; declare `format: images`" in project.fails(UserError)
