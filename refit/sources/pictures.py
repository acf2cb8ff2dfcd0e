"""Decodes PNG and JPEG into the cells of an image column; a picture that does not fit is a cell with a fault."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config import SourceParams
from refit.config.column_types import ArrayColumn
from refit.sources import array_cells, folders, limits
from refit.sources.source_files import SourceFile, numbered

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

_KINDS = ("PNG", "JPEG")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_DECODED = 1 << 28  # bytes of a picture that is scaled to the declared size
_DAMAGED = "is truncated or damaged"
_TRANSPARENT = ("LA", "PA", "La", "RGBA", "RGBa")
_GREY, _COLOUR = ("1", "L"), ("P", "RGB")


class Unfit(Exception):
    """A picture cannot be a cell; the message says why, after its name."""


@dataclass(frozen=True)
class Decoder:
    """Decodes pictures into the pixels of a column."""

    array: ArrayColumn
    declared: str  # the column's type, as written in params.yaml
    resize: bool
    limits: limits.Limits

    @classmethod
    def of(cls, source: SourceParams, column: str, where: str) -> Decoder:
        return cls(source.arrays[column], source.columns[column], source.resize, limits.of(source, where))

    def read(self, path: Path) -> bytes:
        """The pixels of a picture in a file.

        Raises:
            Unfit: the file cannot be read, or is no picture of the declared size and channels.
        """
        try:
            state = path.stat()
            if not stat.S_ISREG(state.st_mode):
                raise Unfit("is no regular file")
            if state.st_size > self.limits.line:
                raise Unfit(f"is larger than {self.limits.line >> 20:,} MB (`max_line_mb`)")
            content = path.read_bytes()
        except FileNotFoundError:
            raise Unfit("does not exist") from None
        except OSError as error:
            raise Unfit(f"cannot be read ({error.strerror})") from None
        return self.pixels(content)

    def pixels(self, content: bytes) -> bytes:
        """The pixels of a picture, row by row.

        Raises:
            Unfit: it is no picture of the declared size and channels.
        """
        from PIL import Image, UnidentifiedImageError

        if not content:
            raise Unfit("is empty")
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_KINDS) as picture:
                self._check(picture, content)
                fitting = _with_channels(picture, self.array.shape[2])
                height, width = self.array.shape[:2]
                if fitting.size != (width, height):
                    fitting = fitting.resize((width, height), Image.Resampling.BILINEAR)
                return fitting.tobytes()
        except Unfit:
            raise
        except Image.DecompressionBombError:
            raise Unfit(_too_large()) from None
        except UnidentifiedImageError:
            raise Unfit(_DAMAGED if is_picture(content) else "is no PNG or JPEG") from None
        except Exception:  # for damaged files Pillow raises errors of a dozen types, with texts that change
            raise Unfit(_DAMAGED) from None

    def _check(self, picture: Image.Image, content: bytes) -> None:
        """Check what the header states, and the checksums of a PNG, which decoding does not look at."""
        from PIL import Image

        width, height = picture.size
        if not self.resize and (height, width) != self.array.shape[:2]:
            raise Unfit(f"is {height} x {width}, the column is {self.declared}")
        if width * height * len(picture.getbands()) > _DECODED:
            raise Unfit(_too_large())
        if getattr(picture, "n_frames", 1) > 1 and picture.format == "PNG":
            raise Unfit("is an animation")
        if picture.format == "PNG":
            if content[24] > 8:  # the bits a value in the header; Pillow cuts 16 to 8 without a word
                raise Unfit("has 16 bits a value, 8 were expected")
            with Image.open(io.BytesIO(content), formats=("PNG",)) as again:
                again.verify()


def _too_large() -> str:
    return f"has more pixels than {_DECODED >> 20} MB hold"


def _with_channels(picture: Image.Image, channels: int) -> Image.Image:
    """Convert a picture to grey or to red, green and blue, where that loses nothing."""
    import numpy as np

    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            raise Unfit("is transparent in places")
        picture = picture.convert("RGB")
    if picture.mode not in (*_GREY, *_COLOUR):
        raise Unfit(f"is {picture.mode}, grey or RGB were expected")
    if channels == 3:
        return picture.convert("RGB")
    if picture.mode in _GREY:
        return picture.convert("L")
    colours = picture.convert("RGB")
    pixels = np.asarray(colours)
    if (pixels != pixels[..., :1]).any():
        raise Unfit("is in colour, the column has one channel")
    return colours.getchannel(0)


def is_picture(start: bytes) -> bool:
    """Whether a file is PNG or JPEG, by its first bytes."""
    return start.startswith((_PNG, _JPEG))


def read(file: SourceFile, source: SourceParams, where: str) -> Iterator[pa.RecordBatch]:
    """The pictures of a pattern as rows, in the order of their names, with the columns for names if declared.

    A picture that cannot be read is a row with a fault, which names it and says why.
    """
    import pyarrow as pa

    (column,) = source.arrays
    decoder = Decoder.of(source, column, where)
    step = array_cells.rows_at_once(decoder.array.size)
    for start in range(0, len(file.parts), step):
        paths = file.parts[start : start + step]
        names = [path.relative_to(file.home).as_posix() for path in paths]
        columns = {column: decoded([partial(decoder.read, path) for path in paths], names)}
        if source.file_column:
            columns[source.file_column] = pa.array([path.name for path in paths], pa.string())
        if source.folder_column:
            columns[source.folder_column] = pa.array([path.parent.name for path in paths], pa.string())
        yield numbered(pa.record_batch(list(columns.values()), names=list(columns)), start + 1)


def files_named(project: Path, home: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """The files of some names in a folder, in order, without names that lead out of it or to no regular file."""
    paths = (home / name for name in sorted(set(names)) if "\0" not in name)
    is_inside = folders.inside(project, home)
    return tuple(path for path in paths if is_inside(path))


def with_named(
    file: SourceFile, source: SourceParams, where: str, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Decode the image columns of a table: texts are names of files in its own folder, bytes are pictures or pixels."""
    decoders = {name: Decoder.of(source, name, where) for name, array in source.arrays.items() if array.kind == "image"}
    step = array_cells.rows_at_once(sum(decoder.array.size for decoder in decoders.values()))
    allowed = frozenset(file.parts)
    for whole in batches:
        for start in range(0, whole.num_rows, step):
            batch = whole.slice(start, step)
            for column, decoder in decoders.items():
                cells = _cells(batch[column], decoder, file, source, allowed)
                batch = batch.set_column(batch.schema.get_field_index(column), column, cells)
            yield batch


def _cells(
    column: pa.Array, decoder: Decoder, file: SourceFile, source: SourceParams, allowed: frozenset[Path]
) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = column.field("bytes")  # as Hugging Face stores pictures: {bytes, path}
    values = column.to_pylist()
    if all(value is None or isinstance(value, str) for value in values):
        names = [None if value in source.nulls else value for value in values]
        return decoded([name and partial(_named, decoder, file, name, allowed) for name in names], names)
    if not all(value is None or isinstance(value, bytes) for value in values):
        return column  # and casting says that it is no image
    shown = [None if value is None else f"{len(value):,} bytes" for value in values]
    return decoded([None if value is None else partial(_pixels, decoder, value) for value in values], shown)


def _named(decoder: Decoder, file: SourceFile, name: str, allowed: frozenset[Path]) -> bytes:
    path = file.home / name
    if path in allowed:
        return decoder.read(path)
    if Path(name).is_absolute() or Path(os.path.normpath(name)).parts[:1] == ("..",):
        raise Unfit(f"leads out of the folder of {file.path.name}")
    if "\0" in name or not os.path.lexists(path):
        raise Unfit("does not exist")
    raise Unfit(f"is no regular file, or a link out of the folder of {file.path.name}")


def _pixels(decoder: Decoder, value: bytes) -> bytes:
    return value if len(value) == decoder.array.size and not is_picture(value) else decoder.pixels(value)


def decoded(cells: Sequence[Callable[[], bytes] | None], names: Sequence[str | None]) -> pa.Array:
    """Pictures as cells with their names, each from what decodes it; None is a missing one."""
    pixels: list[bytes | None] = []
    faults: list[str | None] = []
    for decode in cells:
        try:
            pixels.append(decode() if decode else None)
            faults.append(None)
        except Unfit as unfit:
            pixels.append(None)
            faults.append(str(unfit))
    return array_cells.named(pixels, names, faults)
