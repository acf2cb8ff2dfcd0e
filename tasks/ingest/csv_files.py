"""CSV as text with the true line of every row: fast where the file is plain, careful from the first oddity on."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tasks.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 1 << 23
_ROWS = 50_000
_LONGEST = 1 << 30  # characters of one field; the csv module's own 131,072 would refuse what the fast reader takes
_BOM = b"\xef\xbb\xbf"

CheckHeader = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class CsvFile:
    """A CSV file, perhaps compressed, under the name that messages call it by."""

    path: Path
    name: str
    delimiter: str = ","

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes of the file, decompressed.

        Raises:
            UserError: a broken archive, or a zip that holds anything but one file.
        """
        try:
            with self.path.open("rb") as raw:
                magic = raw.read(4)
                raw.seek(0)
                if magic[:2] == b"\x1f\x8b":
                    with gzip.open(raw) as unzipped:
                        yield cast(IO[bytes], unzipped)
                elif magic == b"PK\x03\x04":
                    with zipfile.ZipFile(raw) as archive, archive.open(self._only_member(archive)) as member:
                        yield member
                else:
                    yield raw
        except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError) as error:
            raise UserError(f"{self.name} cannot be unpacked ({error}); fetch the file again") from None

    def _only_member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if len(members) == 1 and members[0].flag_bits & 1:
            raise UserError(f"{self.name} is encrypted; unpack it first")
        if len(members) != 1:
            listed = ", ".join(member.filename for member in members[:4]) or "none"
            raise UserError(f"{self.name} holds {len(members)} files ({listed}); a zip of exactly one CSV is read")
        return members[0]


def read(file: CsvFile, columns: Sequence[str], check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file as record batches of text.

    Columns: `_line` (where the row starts), `_fault` (why a line is no row, else null), `_text` (that line), then
    `columns`. Blank lines are no rows.

    Raises:
        UserError: empty, no rows, not UTF-8, NUL bytes, a quote that is never closed, or as `check_header` says.
    """
    plain = _scan(file)
    names = header(file)
    check_header(names)
    done = 0
    if plain:
        import pyarrow as pa

        try:
            for batch in _read_plain(file, columns):
                yield batch
                done += batch.num_rows
            if done:
                return
        except pa.ArrowInvalid:
            pass  # most likely a ragged line: the careful reader goes on behind the rows that were given out
    yield from _read_carefully(file, names, columns, skip=done)


def _scan(file: CsvFile) -> bool:
    """Whether each line is one record by itself, so that a row's number gives its line.

    Raises:
        UserError: empty, not UTF-8, or NUL bytes.
    """
    quote = re.escape(file.delimiter.encode())
    field = rb'(?:[^"%b\r\n][^%b\r\n]*+|"(?:[^"\r\n]|"")*+"|)' % (quote, quote)
    record = re.compile(rb"%b(?:%b%b)*+\r?" % (field, quote, field))
    plain, ended, lines, read_bytes = True, False, 0, 0
    with file.open() as stream:
        for block in _whole_lines(stream):
            if not read_bytes and block.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UserError(f"{file.name} is UTF-16 text; save it as UTF-8")
            _check_text(file, block, lines, read_bytes)
            if plain:
                text = block.rstrip(b"\r\n")
                plain = not ended and _is_plain(text if read_bytes else text.removeprefix(_BOM), record)
                ended = not text or block[len(text) :] not in (b"", b"\n", b"\r\n")  # blank lines at the end are fine
            lines += block.count(b"\n")
            read_bytes += len(block)
    if not read_bytes:
        raise UserError(f"{file.name} is empty; a header line and rows were expected")
    return plain


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(_BLOCK):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield whole + newline
    if rest:
        yield rest


def _check_text(file: CsvFile, block: bytes, lines: int, offset: int) -> None:
    if (nul := block.find(b"\0")) >= 0:
        line = lines + block.count(b"\n", 0, nul) + 1
        raise UserError(
            f"{file.name} line {line} holds a NUL byte (byte {offset + nul}); text was expected: export it again"
        )
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = lines + block.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file.name} line {line} is not UTF-8 (byte 0x{block[error.start]:02x} at {offset + error.start}); "
            "save the file as UTF-8"
        ) from None


def _is_plain(block: bytes, record: re.Pattern[bytes]) -> bool:
    if block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block:
        return False  # blank lines
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return False
    if b'"' not in block:
        return True
    return all(b'"' not in line or record.fullmatch(line) for line in block.split(b"\n"))


def header(file: CsvFile) -> list[str]:
    """The names in the first line that is not blank.

    Raises:
        UserError: there is none, it is malformed, or the file is not UTF-8.
    """
    try:
        with file.open() as stream, closing(_records(file, stream)) as records:
            for line, fields, fault, _ in records:
                if fields is None:
                    raise UserError(f"{file.name} line {line}: the header has {fault}")
                return fields
    except UnicodeDecodeError:
        _scan(file)  # says in which line
        raise
    raise UserError(f"{file.name} holds blank lines only; a header line and rows were expected")


def _read_plain(file: CsvFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.csv

    line = 2
    with file.open() as stream:
        reader = pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK),
            parse_options=pyarrow.csv.ParseOptions(delimiter=file.delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=list(columns),
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        for batch in reader:
            if batch.num_rows:
                nothing = pa.nulls(batch.num_rows, pa.string())
                lines = pa.array(range(line, line + batch.num_rows), pa.int64())
                yield pa.record_batch(
                    [lines, nothing, nothing, *batch.columns], names=["_line", "_fault", "_text", *columns]
                )
                line += batch.num_rows


def _read_carefully(file: CsvFile, names: Sequence[str], columns: Sequence[str], skip: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    def batch() -> pa.RecordBatch:
        arrays = [pa.array(lines, pa.int64()), pa.array(faults, pa.string()), pa.array(texts, pa.string())]
        values = zip(*rows, strict=True)
        return pa.record_batch(
            [*arrays, *(pa.array(value, pa.string()) for value in values)],
            names=["_line", "_fault", "_text", *columns],
        )

    lines: list[int] = []
    faults: list[str | None] = []
    texts: list[str | None] = []
    rows: list[tuple[str | None, ...]] = []
    found = 0
    with file.open() as stream, closing(_records(file, stream)) as records:
        next(records)
        places = [names.index(column) for column in columns]
        missing = (None,) * len(columns)
        for line, fields, fault, text in records:
            found += 1
            if found <= skip:
                continue
            if fields is not None and len(fields) != len(names):
                fault = f"expected {len(names)} columns, found {len(fields)}"
                if further := text.rstrip("\r\n").count("\n"):
                    raise UserError(
                        f"{file.name} line {line}: a quote opened here closes on line {line + further} only, "
                        f"and the row then has {len(fields)} columns, not {len(names)}; close the quote"
                    )
            lines.append(line)
            faults.append(fault)
            texts.append(text.rstrip("\r\n") if fault else None)
            rows.append(missing if fault or fields is None else tuple([fields[place] for place in places]))
            if len(rows) == _ROWS:
                yield batch()
                for column in (lines, faults, texts, rows):
                    column.clear()
        if rows:
            yield batch()
    if not found:
        raise UserError(f"{file.name} has a header and no rows; at least one row was expected")


Record = tuple[int, list[str] | None, str | None, str]


def _records(file: CsvFile, stream: IO[bytes]) -> Generator[Record, None, None]:
    """(line it starts on, fields, fault, text) of each record; the fields are None where the line is malformed.

    Raises:
        UserError: a quote that is not closed on its line and leaves no readable record.
    """
    seen: list[str] = []

    def noted(lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            seen.append(line)
            yield line

    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        reader = csv.reader(noted(iter(text)), delimiter=file.delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            seen.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if len(seen) > 1 or "end of data" in str(error):
                    raise UserError(
                        f"{file.name} line {line}: a quote opened here is not closed properly ({error}, "
                        f"line {reader.line_num}); close the quote, or double it where it is meant as a character"
                    ) from None
                yield line, None, f"malformed quotes: {error}", "".join(seen)
                continue
            if fields:
                yield line, fields, None, "".join(seen)
    finally:
        text.detach()
