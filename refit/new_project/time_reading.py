"""How the texts of a column write times: in one way, in one of several that cannot be told apart, or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feature_store.compile import literal
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
# Numbers that count from 1970 on, as SQL of the time, and the least and most that are taken for one: 1973 to 2100.
EPOCHS = {
    "seconds since 1970": "make_timestamp(({} * 1000000)::bigint)",
    "milliseconds since 1970": "make_timestamp(({} * 1000)::bigint)",
    "microseconds since 1970": "make_timestamp({}::bigint)",
    "nanoseconds since 1970": "make_timestamp_ns({}::bigint)",
}
_FIRST, _LAST = 10**8, 4_102_444_800  # seconds; those of a unit are no times in another
TIME_LIKE = (
    "regexp_full_match(trim(v), '[0-9]{1,4}[-/. ][0-9A-Za-z]{1,9}([-/., ]+[0-9]{2,4}.{0,20})?|"
    "[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}.{0,20}|[0-9]{8}( .{4,12})?')"
)
_RECENT = "between timestamp '1900-01-01' and timestamp '2100-01-01'"
_NEARLY_ALL, _HALF, _FEW = 0.99, 0.5, 0.01
LEAST_READ = 0.95  # of the times, or validation refuses the whole batch for the rest
_MOST_WAYS = 4  # to write times, in one column


@dataclass(frozen=True)
class Writing:
    """How texts write times, where it is not one way alone."""

    shares: tuple[
        tuple[str, float], ...
    ]  # the ways, as strptime takes them, and the share of the texts that each reads
    odd: tuple[str, ...]  # some texts that none of them reads
    ambiguous: bool  # each way reads nearly all, and as other times

    @property
    def formats(self) -> tuple[str, ...]:
        return tuple(form for form, _ in self.shares)

    def explained(self) -> str:
        """What was found, and what to type."""
        if self.ambiguous:
            ways = " or ".join(self.formats)
            return f"may be written {ways}, which read it differently; say which: {_option(self.formats[:1])}"
        parts = [f"{share:.1%} as {form}" for form, share in self.shares]
        rest = f", and {' and '.join(map(repr, self.odd))} as none of them" if self.odd else ""
        return f"is written in several ways: {', '.join(parts)}{rest}; to read it so: {_option(self.formats)}"


def _option(formats: Sequence[str]) -> str:
    return " ".join(f"--time-format '{form}'" for form in formats)


def moment_sql(value: str, formats: Sequence[str], *, lenient: bool = False) -> str:
    """SQL of the time that a text writes in one of some ways, the first that fits; `lenient`: null where none does.

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
        return f"strptime({value}, {literal(formats[0])}){_utc(formats[0])}"
    read = [f"try_strptime({value}, {literal(form)}){_utc(form)}" for form in formats]
    return f"coalesce({', '.join(read)})" if len(read) > 1 else read[0]


def _utc(form: str) -> str:
    return "::timestamp" if form.endswith("%z") else ""


def read_numbers(connection: Any, filled: int) -> tuple[str, ...]:
    """The way in which the numbers `v` of `d` write times, such as 202401311530 or seconds since 1970; none: no way."""
    conditions = {
        form: f"length(v) = {length} and try_strptime(v, '{form}') {_RECENT}"
        for form, length in zip(_COMPACT, (12, 14), strict=True)
    }
    for place, form in enumerate(EPOCHS):
        first, last = (seconds * 1000**place for seconds in (_FIRST, _LAST))
        conditions[form] = f"try_cast(v as double) between {first} and {last}"
    counts = ", ".join(f"coalesce(sum(n) filter ({fits}), 0)" for fits in conditions.values())
    [found] = connection.execute(f"select {counts} from d").fetchall()
    return tuple(form for form, count in zip(conditions, found, strict=True) if count >= _NEARLY_ALL * filled)[:1]


def read_formats(connection: Any, filled: int) -> tuple[tuple[str, ...], Writing | None]:
    """The one way in which the texts `v` of `d`, `n` rows each, write times; or, where none is, what may be said of it.

    31/12/2013 says what comes first, a table up to the 12th of each month does not.
    """
    rows = _rows_read(connection, "true")
    fitting = [form for form, count in rows.items() if count >= _NEARLY_ALL * filled]
    if fitting:
        apart = [fitting[0], *(form for form in fitting[1:] if _differ(connection, fitting[0], form))]
        if len(apart) == 1:
            return (apart[0],), None
        return (), Writing(tuple((form, rows[form] / filled) for form in apart), (), ambiguous=True)
    shares: list[tuple[str, float]] = []
    rest = "true"
    while len(shares) < _MOST_WAYS and (best := max(rows, key=lambda form: rows[form])) and rows[best] > _FEW * filled:
        shares.append((best, rows[best] / filled))
        rest = f"{moment_sql('v', [form for form, _ in shares], lenient=True)} is null"
        rows = _rows_read(connection, rest)
    if sum(share for _, share in shares) < _HALF:
        return (), None
    return (), Writing(tuple(shares), _some(connection, rest), ambiguous=False)


def require_readable(connection: Any, name: str, filled: int, formats: Sequence[str]) -> None:
    """See that times are written as was said.

    Raises:
        UserError: a way that DuckDB does not know, or too many texts that are written otherwise.
    """
    import duckdb

    read = moment_sql("v", formats, lenient=True)
    try:
        [(count,)] = connection.execute(f"select coalesce(sum(n) filter ({read} {_RECENT}), 0) from d").fetchall()
    except duckdb.Error as error:
        raise UserError(f"{_option(formats)}: {first_line(error)}; write it such as '%d/%m/%Y %H:%M'") from None
    if count < LEAST_READ * filled:
        odd = ", ".join(map(repr, _some(connection, f"{read} is null")))
        raise UserError(
            f"{_option(formats)} reads {count:,} of the {filled:,} values of {name} ({count / filled:.1%}), and not "
            f"{odd}; give each way that they are written in, or correct them"
        )


def _rows_read(connection: Any, condition: str) -> dict[str, int]:
    """How many rows each way reads as a time of our age."""
    counts = ", ".join(
        f"coalesce(sum(n) filter (try_strptime(v, {literal(form)}){_utc(form)} {_plausible(form)}), 0)"
        for form in FORMATS
    )
    [found] = connection.execute(f"select {counts} from d where {condition}").fetchall()
    return dict(zip(FORMATS, map(int, found), strict=True))


def _plausible(form: str) -> str:
    """Where a year of two digits comes first, it is not far ahead: 31.01.24 is a day of 2024, and no other of 2031."""
    return "between timestamp '1970-01-01' and now()::timestamp + interval 1 year" if form.startswith("%y") else _RECENT


def _differ(connection: Any, one: str, other: str) -> bool:
    first, second = (moment_sql("v", [form], lenient=True) for form in (one, other))
    [(found,)] = connection.execute(f"select bool_or({first} <> {second}) from d").fetchall()
    return bool(found)


def _some(connection: Any, condition: str) -> tuple[str, ...]:
    return tuple(
        v for (v,) in connection.execute(f"select v from d where {condition} order by n desc, v limit 3").fetchall()
    )
