"""Reads CSV as text with the line of every row: fast if the file is plain, otherwise with a careful reader."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from refit.errors import UserError
from refit.files.csv_cells import WRITTEN_BY_REFIT, restored_columns
from refit.sources import text_streams
from refit.sources.limits import DEFAULT, Limits
from refit.sources.source_files import ReadDigest
from refit.storage.batches import FAULT, LINE, TEXT

if TYPE_CHECKING:
    import pyarrow as pa

WHITESPACE = "whitespace"  # a delimiter: runs of spaces and tabs, ignored at the ends of a line

_ROWS = 50_000
_LONGEST = 1 << 30  # characters of one field; the csv module's default of 131,072 is too small
_LARGE = 1 << 25  # characters in one record batch
_BOM = b"\xef\xbb\xbf"

CheckHeader = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class CsvFile:
    """A CSV file, possibly compressed, with its name in messages and its layout."""

    path: Path
    name: str
    delimiter: str = ","  # or WHITESPACE
    names: tuple[str, ...] | None = None  # of the columns, if the file has no header
    skip_lines: int = 0  # above the header, or above the first row
    quoting: bool = True
    encoding: str = "utf-8"
    member: str | None = None
    limits: Limits = DEFAULT
    read_digest: ReadDigest | None = None  # receives the digest if the file is not packed

    @property
    def mark(self) -> str:
        """The separator of columns in the lines that `open` yields."""
        return "\t" if self.delimiter == WHITESPACE else self.delimiter

    @property
    def expected(self) -> str:
        return "rows were expected" if self.names else "a header line and rows were expected"

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file as decompressed UTF-8.

        Raises:
            UserError: the archive is broken, or it is ambiguous which member of a zip to read.
        """
        with text_streams.unpacked(self.path, self.name, self.member, self.limits, self.read_digest) as raw:
            recode = codecs.lookup(self.encoding).name not in ("utf-8", "utf-8-sig")
            stream = text_streams.as_utf8(raw, self.encoding, self.name) if recode else raw
            if self.delimiter == WHITESPACE:
                stream = text_streams.with_tabs(stream, quoting=self.quoting)
            for _ in range(self.skip_lines):
                stream.readline()
            yield stream


def read(file: CsvFile, columns: Sequence[str], check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file as record batches of text; a plain file is read once.

    Columns: LINE (where the row starts), FAULT (why a line is not a row, else null), TEXT (that line), then
    `columns`. Blank lines are skipped.

    Raises:
        UserError: the file is empty, has no rows, is not UTF-8, has NUL bytes or an unclosed quote, or `check_header`
            fails.
    """
    with file.open() as stream:
        blocks = _checked(file, stream)
        plain = _PlainBlocks(file, blocks)
        names = _header(file, io.BytesIO(plain.first)) if plain.is_whole else header(file)
        check_header(names)
        rows = _rows(file, names, columns, plain)
        if tuple(names[-len(WRITTEN_BY_REFIT) :]) == WRITTEN_BY_REFIT:
            rows = (restored_columns(batch, columns) for batch in rows)
        yield from rows


def _rows(file: CsvFile, names: Sequence[str], columns: Sequence[str], plain: _PlainBlocks) -> Iterator[pa.RecordBatch]:
    done = 0
    if plain.is_whole:
        import pyarrow as pa

        try:
            for batch in _read_plain(file, text_streams.stream_of(iter(plain)), columns):
                yield batch
                done += batch.num_rows
            if done and plain.is_whole:
                return
        except pa.ArrowInvalid:
            pass  # most likely a ragged line: the careful reader continues after the rows already yielded
    yield from _read_carefully(file, names, columns, skip=done)


class _PlainBlocks:
    """The first blocks of a file, up to one in which a line is not exactly one record.

    In these, the number of a row gives its line. `is_whole` says whether no other block was met yet.
    """

    def __init__(self, file: CsvFile, blocks: Iterator[bytes]) -> None:
        quote = re.escape(file.mark.encode())
        field = rb'(?:[^"%b\r\n][^%b\r\n]*+|"(?:[^"\r\n]|"")*+"|)' % (quote, quote)
        self._record = re.compile(rb"%b(?:%b%b)*+\r?" % (field, quote, field)) if file.quoting else None
        self._blocks = blocks
        self.first = next(blocks)
        self.is_whole = _is_plain(self.first.removeprefix(_BOM).rstrip(b"\r\n"), self._record)

    def __iter__(self) -> Iterator[bytes]:
        if self.is_whole:
            yield self.first
        last = self.first
        for block in self._blocks if self.is_whole else ():
            text = last.rstrip(b"\r\n")
            ended = not text or last[len(text) :] not in (b"", b"\n", b"\r\n")  # blank lines may follow at the end
            self.is_whole = not ended and _is_plain(block.rstrip(b"\r\n"), self._record)
            if not self.is_whole:
                return
            yield block
            last = block


def _checked(file: CsvFile, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a file.

    Raises:
        UserError: the file is empty, is not UTF-8, or has NUL bytes.
    """
    lines, read_bytes = file.skip_lines, 0
    for block in text_streams.whole_lines(stream):
        if not read_bytes and (encoding := text_streams.wide_encoding(block)):
            raise UserError(f"{file.name} is {encoding.upper()} text; save it as UTF-8, or set `encoding: {encoding}`")
        _check_text(file, block, lines, read_bytes)
        yield block
        lines += block.count(b"\n")
        read_bytes += len(block)
    if not read_bytes:
        raise UserError(f"{file.name} is empty; {file.expected}")


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
            "save the file as UTF-8 (iconv -f latin1 -t utf-8), or name its `encoding`"
        ) from None


def _is_plain(block: bytes, record: re.Pattern[bytes] | None) -> bool:
    if block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block:
        return False  # blank lines
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return False
    if not record or b'"' not in block:
        return True
    return all(b'"' not in line or record.fullmatch(line) for line in block.split(b"\n"))


def header(file: CsvFile) -> list[str]:
    """The names in the first line that is not blank, or the declared names if the file has no header.

    Raises:
        UserError: there is no header, it is malformed or unexpected, or the file is not UTF-8.
    """
    with file.open() as stream:
        return _header(file, text_streams.stream_of(_checked(file, stream)))


def _header(file: CsvFile, stream: IO[bytes]) -> list[str]:
    with closing(_records(file, stream)) as records:
        for line, fields, fault, _ in records:
            if file.names is not None:
                if [field.strip().lower() for field in fields or ()] == [name.lower() for name in file.names]:
                    raise UserError(f"{file.name} line {line} names the columns; drop `header: false`")
                return list(file.names)
            if fields is None:
                raise UserError(f"{file.name} line {line}: the header has {fault}")
            return fields
    raise UserError(f"{file.name} holds blank lines only; {file.expected}")


def _read_plain(file: CsvFile, stream: IO[bytes], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.csv

    line = file.skip_lines + (1 if file.names else 2)
    reader = pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(block_size=text_streams.BLOCK, column_names=file.names),
        parse_options=pyarrow.csv.ParseOptions(delimiter=file.mark, quote_char='"' if file.quoting else False),
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
            yield pa.record_batch([lines, nothing, nothing, *batch.columns], names=[LINE, FAULT, TEXT, *columns])
            line += batch.num_rows


def _read_carefully(file: CsvFile, names: Sequence[str], columns: Sequence[str], skip: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    def batch() -> pa.RecordBatch:
        arrays = [pa.array(lines, pa.int64()), pa.array(faults, pa.string()), pa.array(texts, pa.string())]
        values = zip(*rows, strict=True)
        return pa.record_batch(
            [*arrays, *(pa.array(value, pa.string()) for value in values)],
            names=[LINE, FAULT, TEXT, *columns],
        )

    lines: list[int] = []
    faults: list[str | None] = []
    texts: list[str | None] = []
    rows: list[tuple[str | None, ...]] = []
    number = size = 0
    with file.open() as opened, closing(_records(file, text_streams.stream_of(_checked(file, opened)))) as records:
        if file.names is None:
            next(records)
        indices = [names.index(column) for column in columns]
        missing = (None,) * len(columns)
        for line, fields, fault, text in records:
            number += 1
            if number <= skip:
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
            rows.append(missing if fault or fields is None else tuple([fields[index] for index in indices]))
            size += len(text)
            if len(rows) == _ROWS or size > _LARGE:
                yield batch()
                size = 0
                for column in (lines, faults, texts, rows):
                    column.clear()
        if rows:
            yield batch()
    if not number:
        raise UserError(
            f"{file.name} has {'no rows' if file.names else 'a header and no rows'}; at least one row was expected"
        )


Record = tuple[int, list[str] | None, str | None, str]


def _records(file: CsvFile, stream: IO[bytes]) -> Generator[Record, None, None]:
    """Yield (first line, fields, fault, text) of each record; fields are None if the record is malformed.

    Raises:
        UserError: a quote is not closed on its line, so that the rest cannot be read.
    """
    seen: list[str] = []
    size = 0

    def noted(lines: Iterator[str]) -> Iterator[str]:
        nonlocal size
        for line in lines:
            size = size + len(line) if seen else len(line)
            seen.append(line)
            start = file.skip_lines + reader.line_num - len(seen) + 2
            file.limits.check_line(file.name, size, f"line {start}: what a quote opened here holds")
            yield line

    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        reader = csv.reader(
            noted(iter(text)),
            delimiter=file.mark,
            quoting=csv.QUOTE_MINIMAL if file.quoting else csv.QUOTE_NONE,
            strict=True,
        )
        while True:
            line = file.skip_lines + reader.line_num + 1
            seen.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if len(seen) > 1 or "end of data" in str(error):
                    raise UserError(
                        f"{file.name} line {line}: a quote opened here is not closed properly ({error}, "
                        f"line {file.skip_lines + reader.line_num}); close the quote, or double one that is text"
                    ) from None
                yield line, None, f"malformed quotes: {error}", "".join(seen)
                continue
            if fields:
                yield line, fields, None, "".join(seen)
    finally:
        text.detach()
