"""What a table elsewhere says of itself: where it stands, what changed since, its rows. Files are known by digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from refit.config import SourceParams

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Change", "CheckHeader", "Overlap", "Table", "batch_of"]

_MISSING = ("NaT", "<NA>")  # how NumPy and pandas write that there is no value
CheckHeader = Callable[[Sequence[str]], None]  # refuses columns that are not the declared ones


@dataclass(frozen=True)
class Overlap:
    """The rows that a table gives again, and how many it had before them: if these differ, it has to be read whole."""

    column: str  # the watermark
    above: str  # rows with more than this, or none, are given again
    rows_before: int  # up to `above`, at the position that was stored
    rows_now: int


@dataclass(frozen=True)
class Change:
    """What has to be read of a table since a position.

    Without `since` these are all of its rows, and a stored row that is not among them has vanished. With it they are
    the rows that are new since then, and rows of an overlap, which are stored already.
    """

    position: str  # where the table stands once they are stored
    since: str | None = None
    overlap: Overlap | None = None


class Table(Protocol):
    """A source that is no file: a database's query, a table format, or a class of the project."""

    def identify(self) -> str:
        """Return where the table stands now: another text whenever its rows have changed, and no secret."""

    def changes_since(self, position: str | None) -> Change:
        """Return what has to be read after a position; all of it if the position is None or means nothing any more."""

    def read(self, change: Change, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a change, all of one moment, as batches of the declared columns."""


def batch_of(columns: Sequence[str], rows: Sequence[Sequence[Any]], source: SourceParams) -> pa.RecordBatch:
    """Rows of Python values as a record batch; what is no array becomes text, which is cast later as that of CSV is.

    Args:
        columns: names of the values of a row, in their order.
    """
    import pyarrow as pa

    values = dict(zip(columns, zip(*rows, strict=True), strict=True))
    arrays = [
        pa.array(values[name]) if name in source.arrays else pa.array(list(map(_text, values[name])), pa.string())
        for name in source.columns
    ]
    return pa.record_batch(arrays, names=list(source.columns))


def _text(value: Any) -> str | None:
    """A value of Python, NumPy or pandas as text that can be cast to any type which holds it; None if it is missing.

    >>> from decimal import Decimal
    >>> [_text(each) for each in (None, True, Decimal("1.50"), datetime(2024, 5, 2, 9), {"a": 1}, b"\\x01")]
    [None, 'true', '1.50', '2024-05-02 09:00:00', '{"a": 1}', '01']
    """
    if value is None or isinstance(value, str):
        return value
    text = _written(value)
    return None if text in _MISSING else text


def _clock(span: timedelta) -> str:
    """A span as hours, minutes and seconds, which is how a time of day is written.

    >>> _clock(timedelta(hours=9, seconds=5)), _clock(-timedelta(days=1, microseconds=10))
    ('09:00:05', '-24:00:00.000010')
    """
    seconds, fraction = divmod(abs(span) // timedelta(microseconds=1), 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return ("-" if span < timedelta() else "") + text + (f".{fraction:06}" if fraction else "")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):  # what MySQL's drivers give for a time of day
        return _clock(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, sort_keys=True)
    if isinstance(value, float):  # those of NumPy too, whose own repr is not the number alone
        return repr(float(value))
    return str(value)
