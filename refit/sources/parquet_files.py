"""Reads Parquet as record batches of bounded size, after checking what the file states about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import UserError, first_line
from refit.sources.limits import Limits

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 50_000
_SLICE = 1 << 26  # bytes of a batch that are decoded at once
_DEEPEST = 32  # a column of lists of structs needs six; the C++ reader overflows its stack at some thousands
_MAGIC = b"PAR1"
_CONTAINERS = {9: "list", 10: "set"}


def read(
    path: Path,
    name: str,
    columns: Sequence[str],
    check_header: Callable[[Sequence[str]], None],
    limits: Limits,
    rows: int = _ROWS,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, in batches of the given columns, of at most `rows` rows.

    Raises:
        UserError: the file is not Parquet, is damaged, or exceeds the limits when decoded.
    """
    import pyarrow as pa
    import pyarrow.parquet

    check_footer(path, name, limits)
    decoded = 0
    try:
        texts = _texts(pyarrow.parquet.read_schema(path), columns)
        with pyarrow.parquet.ParquetFile(
            path,
            page_checksum_verification=True,
            read_dictionary=texts,
            pre_buffer=False,  # by default, the bytes of all that was read stay in memory
            buffer_size=1 << 16,
        ) as parquet:
            check_header(parquet.schema_arrow.names)
            for batch in parquet.iter_batches(rows, columns=list(columns)):
                sizes = {column: _sizes(batch[column]) for column in texts}
                decoded += batch.num_rows + sum(total for total, _ in sizes.values())
                limits.check_unpacked(name, path.stat().st_size, decoded)
                for column, (_, longest) in sizes.items():
                    limits.check_line(name, longest, f"a value of column {column!r}")
                step = max(1, _SLICE * batch.num_rows // max(1, *(total for total, _ in sizes.values()), 1))
                for start in range(0, batch.num_rows, step):
                    yield _plain(batch.slice(start, step).select(list(columns)))
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name} is not readable Parquet, truncated or damaged ({first_line(error)}); fetch the file again"
        ) from None


def names(path: Path, name: str, limits: Limits) -> list[str]:
    """The names of the columns of a file.

    Raises:
        UserError: the file is not Parquet, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet

    check_footer(path, name, limits)
    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise UserError(f"{name} is not readable Parquet ({first_line(error)}); fetch the file again") from None


def text_columns(path: Path, columns: Sequence[str]) -> list[str]:
    """Those of some columns that hold texts, after the footer was checked."""
    import pyarrow as pa
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    is_text = (pa.types.is_string, pa.types.is_large_string)
    return [
        name
        for name in columns
        if schema.names.count(name) == 1 and any(is_one(schema.field(name).type) for is_one in is_text)
    ]


def _texts(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """The columns whose values may be long; they are read as dictionaries, which store a repeated value once."""
    import pyarrow as pa

    def is_text(kind: pa.DataType) -> bool:
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        return any(is_one(value) for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))

    return [column for column in columns if schema.names.count(column) == 1 and is_text(schema.field(column).type)]


def _sizes(column: pa.Array) -> tuple[int, int]:
    """The decoded size of a column of texts and the size of its longest value, in bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.DictionaryArray):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
    else:
        lengths = pc.binary_length(column)
    return int(pc.sum(lengths).as_py() or 0), int(pc.max(lengths).as_py() or 0)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Decode dictionaries, convert to types that DuckDB reads, and validate the values against their types."""
    import pyarrow as pa

    arrays = [
        array.cast(array.type.value_type) if isinstance(array, pa.DictionaryArray) else array for array in batch.columns
    ]
    plain = pa.record_batch([_readable(array) for array in arrays], names=batch.schema.names)
    plain.validate(full=True)
    return plain


def _readable(array: pa.Array) -> pa.Array:
    """Convert types that DuckDB lacks: decimals of more than 38 digits to texts, half floats to floats.

    >>> from decimal import Decimal
    >>> import pyarrow as pa
    >>> _readable(pa.array([Decimal("-1.50"), None], pa.decimal256(60, 2))).to_pylist()
    ['-1.50', None]
    """
    import pyarrow as pa

    if pa.types.is_decimal256(array.type):
        return array.cast(pa.string())
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array


def check_footer(path: Path, name: str, limits: Limits) -> None:
    """Refuse a footer that is too long or nests types too deeply, before a library reads it.

    Raises:
        UserError: the footer is refused, or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if (head := file.read(4)) and head != _MAGIC:
            raise UserError(
                f"{name} is no Parquet file, which begins with PAR1; a CSV file is read by --csv, or format csv"
            )
        file.seek(max(0, size - 8))
        tail = file.read(8)
        if size < 12 or tail[4:] != _MAGIC:
            raise UserError(f"{name} is not readable Parquet, truncated or damaged (no footer); fetch the file again")
        length = int.from_bytes(tail[:4], "little")
        limits.check_line(name, length, "its footer")
        if length > size - 12:
            raise UserError(f"{name} is not readable Parquet, truncated or damaged (a torn footer); fetch it again")
        file.seek(size - 8 - length)
        footer = file.read(length)
    try:
        depth = _depth(footer)
    except (IndexError, ValueError):
        raise UserError(f"{name} is not readable Parquet, truncated or damaged (its footer); fetch it again") from None
    if depth > _DEEPEST:
        raise UserError(
            f"{name} nests its types {depth:,} deep, at most {_DEEPEST} are read; export flat columns instead"
        )


def _depth(footer: bytes) -> int:
    """The depth of the schema in a footer, from a depth-first list of elements with their numbers of children."""
    children = _schema(footer)
    deepest, open_counts = 0, [1]
    for number in children:
        while open_counts and not open_counts[-1]:
            open_counts.pop()
        if not open_counts:
            raise ValueError("more elements than children")
        open_counts[-1] -= 1
        open_counts.append(number)
        deepest = max(deepest, len(open_counts) - 2)
    return deepest


def _schema(footer: bytes) -> list[int]:
    """The number of children of each schema element, read from the footer's Thrift (compact protocol)."""
    reader = _Thrift(footer)
    for field, kind in reader.fields():
        if field != 2:
            reader.skip(kind)
            continue
        if _CONTAINERS.get(kind) is None:
            raise ValueError("the schema is no list")
        count, element = reader.list_header()
        child_counts = []
        for _ in range(count):
            children = 0
            for inner, inner_kind in reader.fields():
                if inner == 5 and inner_kind == 5:
                    children = max(0, reader.zigzag())
                else:
                    reader.skip(inner_kind)
            child_counts.append(children)
        return child_counts if element == 12 else []
    raise ValueError("no schema")


class _Thrift:
    """The part of Thrift's compact protocol that is needed to walk through a footer.

    Raises:
        IndexError: the data ends early.
        ValueError: the data is malformed.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def zigzag(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """(number, type) of each field of a struct; the caller reads or skips its value before the next."""
        field = 0
        while (byte := self._byte()) != 0:
            field = field + (byte >> 4) if byte >> 4 else self.zigzag()
            yield field, byte & 0x0F

    def list_header(self) -> tuple[int, int]:
        """The length of a list and the type of its elements."""
        byte = self._byte()
        count = byte >> 4 if byte >> 4 != 15 else self._number()
        if count > len(self._data) - self._at:  # each element takes at least one byte
            raise ValueError("a list is longer than the footer")
        return count, byte & 0x0F

    def skip(self, kind: int, depth: int = 0) -> None:
        """Step over a value."""
        if depth > 16:
            raise ValueError("too deep")
        if kind in (1, 2):  # the type itself is true or false
            return
        if kind == 3:
            self._at += 1
        elif kind in (4, 5, 6):
            self._number()
        elif kind == 7:
            self._at += 8
        elif kind == 8:
            length = self._number()
            self._at += length
        elif kind in _CONTAINERS:
            count, element = self.list_header()
            for _ in range(count):
                self.skip(3 if element in (1, 2) else element, depth + 1)
        elif kind == 12:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError(f"type {kind} is unknown")
        if self._at > len(self._data):
            raise IndexError("the footer ends early")
