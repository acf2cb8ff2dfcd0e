"""Infers the time format of a column: one format, one of several indistinguishable ones, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feature_store.sql_text import literal
from refit.errors import UserError, first_line

_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d", "%Y-%m")
_OTHER_DATES = ("%Y-%m-%d", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y")
_MORE_DATES = ("%b %d, %Y", "%B %d, %Y", "%Y.%m.%d", "%d-%m-%y")
_YEAR_FIRST = ("%y-%m-%d", "%y/%m/%d", "%y.%m.%d")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
FORMATS = (
    *(f"{day}{clock}" for day in (*_DATES, *_OTHER_DATES, *_MORE_DATES, *_YEAR_FIRST) for clock in _CLOCKS),
    *(f"{day} %I:%M{seconds} %p" for day in ("%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%d") for seconds in ("", ":%S")),
    *("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S %z"),
)
_COMPACT = ("%Y%m%d%H%M", "%Y%m%d%H%M%S")
# Units of numbers that count from 1970, with the SQL of the time; numbers from 1973 to 2100 count as times.
EPOCHS = {
    "seconds since 1970": "make_timestamp(({} * 1000000)::bigint)",
    "milliseconds since 1970": "make_timestamp(({} * 1000)::bigint)",
    "microseconds since 1970": "make_timestamp({}::bigint)",
    "nanoseconds since 1970": "make_timestamp_ns({}::bigint)",
}
_FIRST, _LAST = 10**8, 4_102_444_800  # seconds; numbers that are times in one unit are none in another
TIME_LIKE = (
    "regexp_full_match(trim(v), '[0-9]{1,4}[-/. ][0-9A-Za-z]{1,9}([-/., ]+[0-9]{2,4}.{0,20})?|"
    "[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}.{0,20}|[0-9]{8}( .{4,12})?')"
)
_RECENT = "between timestamp '1900-01-01' and timestamp '2100-01-01'"
_NEARLY_ALL, _HALF, _FEW = 0.99, 0.5, 0.01
LEAST_READ = 0.95  # share of the times; otherwise validation would refuse the batch
_MOST_WAYS = 4  # formats in one column


@dataclass(frozen=True)
class Writing:
    """The formats of a column's times if they are not just one."""

    shares: tuple[
        tuple[str, float], ...
    ]  # the ways, as strptime takes them, and the share of the texts that each reads
    unreadable: tuple[str, ...]  # examples of texts that no format reads
    ambiguous: bool  # whether each format reads nearly all texts, but as different times

    @property
    def formats(self) -> tuple[str, ...]:
        return tuple(form for form, _ in self.shares)

    def description(self) -> str:
        """Describe the formats, and the option to give."""
        if self.ambiguous:
            ways = " or ".join(self.formats)
            return f"may be written {ways}, which read it differently; say which: {_option(self.formats[:1])}"
        parts = [f"{share:.1%} as {form}" for form, share in self.shares]
        rest = f", and {' and '.join(map(repr, self.unreadable))} as none of them" if self.unreadable else ""
        return f"is written in several ways: {', '.join(parts)}{rest}; to read it so: {_option(self.formats)}"


def _option(formats: Sequence[str]) -> str:
    return " ".join(f"--time-format '{form}'" for form in formats)


def moment_sql(value: str, formats: Sequence[str], *, lenient: bool = False) -> str:
    """Return SQL that reads a text by the first format that fits; with `lenient`, null if none does.

    >>> moment_sql("at", ["%d/%m/%Y"])
    "strptime(at, '%d/%m/%Y')"
    >>> moment_sql("at", ["milliseconds since 1970"])
    'make_timestamp((at * 1000)::bigint)'
    """
    if formats[0] in EPOCHS:
        kind = "double" if formats[0] == next(iter(EPOCHS)) else "bigint"
        count = f"try_cast({value} as {kind})" if lenient else value
        moment = EPOCHS[formats[0]].format(count)
        return f"try({moment}::timestamp)" if lenient else moment
    if len(formats) == 1 and not lenient:
        return f"strptime({value}, {literal(formats[0])}){_to_utc(formats[0])}"
    read = [f"try_strptime({value}, {literal(form)}){_to_utc(form)}" for form in formats]
    return f"coalesce({', '.join(read)})" if len(read) > 1 else read[0]


def _to_utc(form: str) -> str:
    return "::timestamp" if form.endswith("%z") else ""


def read_numbers(connection: Any, filled: int) -> tuple[str, ...]:
    """Return the format of the numbers `v` of `d` as times: such as 202401311530 or since 1970; empty if none fits."""
    conditions = {
        form: f"length(v) = {length} and try_strptime(v, '{form}') {_RECENT}"
        for form, length in zip(_COMPACT, (12, 14), strict=True)
    }
    for power, form in enumerate(EPOCHS):
        first, last = (seconds * 1000**power for seconds in (_FIRST, _LAST))
        conditions[form] = f"try_cast(v as double) between {first} and {last}"
    counts = ", ".join(f"coalesce(sum(n) filter ({fits}), 0)" for fits in conditions.values())
    [counted] = connection.execute(f"select {counts} from d").fetchall()
    return tuple(form for form, count in zip(conditions, counted, strict=True) if count >= _NEARLY_ALL * filled)[:1]


def read_formats(connection: Any, filled: int) -> tuple[tuple[str, ...], Writing | None]:
    """Return the only time format of the texts `v` of `d`, `n` rows each, or else a description of several.

    31/12/2013 shows that the day comes first; dates up to the 12th of each month leave it open.
    """
    rows = _count_read(connection, "true")
    fitting = [form for form, count in rows.items() if count >= _NEARLY_ALL * filled]
    if fitting:
        distinct = [fitting[0], *(form for form in fitting[1:] if _differ(connection, fitting[0], form))]
        if len(distinct) == 1:
            return (distinct[0],), None
        return (), Writing(tuple((form, rows[form] / filled) for form in distinct), (), ambiguous=True)
    shares: list[tuple[str, float]] = []
    unread = "true"
    while len(shares) < _MOST_WAYS and (best := max(rows, key=lambda form: rows[form])) and rows[best] > _FEW * filled:
        shares.append((best, rows[best] / filled))
        unread = f"{moment_sql('v', [form for form, _ in shares], lenient=True)} is null"
        rows = _count_read(connection, unread)
    if sum(share for _, share in shares) < _HALF:
        return (), None
    return (), Writing(tuple(shares), _examples(connection, unread), ambiguous=False)


def require_readable(connection: Any, name: str, filled: int, formats: Sequence[str]) -> None:
    """Check that the times have the given formats.

    Raises:
        UserError: DuckDB does not know a format, or too many texts have another.
    """
    import duckdb

    read = moment_sql("v", formats, lenient=True)
    try:
        [(count,)] = connection.execute(f"select coalesce(sum(n) filter ({read} {_RECENT}), 0) from d").fetchall()
    except duckdb.Error as error:
        raise UserError(f"{_option(formats)}: {first_line(error)}; write it such as '%d/%m/%Y %H:%M'") from None
    if count < LEAST_READ * filled:
        unreadable = ", ".join(map(repr, _examples(connection, f"{read} is null")))
        raise UserError(
            f"{_option(formats)} reads {count:,} of the {filled:,} values of {name} ({count / filled:.1%}), and not "
            f"{unreadable}; give each way that they are written in, or correct them"
        )


def _count_read(connection: Any, condition: str) -> dict[str, int]:
    """Count the rows that each format reads as a plausible time."""
    counts = ", ".join(
        f"coalesce(sum(n) filter (try_strptime(v, {literal(form)}){_to_utc(form)} {_plausible(form)}), 0)"
        for form in FORMATS
    )
    [counted] = connection.execute(f"select {counts} from d where {condition}").fetchall()
    return dict(zip(FORMATS, map(int, counted), strict=True))


def _plausible(form: str) -> str:
    """Return SQL of plausible times; a leading two-digit year is not far ahead: 31.01.24 is in 2024, not in 2031."""
    return "between timestamp '1970-01-01' and now()::timestamp + interval 1 year" if form.startswith("%y") else _RECENT


def _differ(connection: Any, one: str, other: str) -> bool:
    first, second = (moment_sql("v", [form], lenient=True) for form in (one, other))
    [(differ,)] = connection.execute(f"select bool_or({first} <> {second}) from d").fetchall()
    return bool(differ)


def _examples(connection: Any, condition: str) -> tuple[str, ...]:
    return tuple(
        v for (v,) in connection.execute(f"select v from d where {condition} order by n desc, v limit 3").fetchall()
    )
