"""Infers what a column holds; each column is read by itself, so that the cost of a wide table grows with its cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from feature_store.sql_text import literal, quote
from refit.new_project.code_reading import CODE, DIGITS
from refit.new_project.column_names import alias
from refit.new_project.time_reading import (
    EPOCHS,
    TIME_LIKE,
    Writing,
    moment_sql,
    read_formats,
    read_numbers,
    require_readable,
)
from tasks.ingest.casting import HAS_YEAR

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CLASSES, FEW_NUMBERS = 100, 10  # of a label that is no number; distinct numbers that still count as classes
SENTENCE = 4  # mean words from which a column of different texts is natural language, and no identifier
FEW = 20  # distinct values up to which the most frequent ones are counted
COMMA = "[+-]?(?:[1-9][0-9]{0,2}(?:[.][0-9]{3})+|[0-9]+)(?:,[0-9]+)?"
_ONE_GROUP = "[+-]?[1-9][0-9]{0,2}[.][0-9]{3}"  # of COMMA: more than a thousand, or a number with a decimal point
# Of COMMA, what no grouping of digits explains.
_DECIMAL_COMMA = "[+-]?(?:[0-9.]+,(?:[0-9]{1,2}|[0-9]{4,})|0+,[0-9]+|[0-9.]+[.][0-9]{3},[0-9]+)"
_SIGN_AND_UNIT = "(?:[+-]?[$€£¥]?|[$€£¥] ?[+-]) ?"
_COMMA_AMOUNT = f"{_SIGN_AND_UNIT}(?:[1-9][0-9]{{0,2}}(?:[.][0-9]{{3}})+|[0-9]+)(?:,[0-9]+)? ?[$€£¥]?"
AMOUNT = f"{_SIGN_AND_UNIT}(?:(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]+)(?:[.][0-9]*)?|[.][0-9]+) ?[$€£¥]?"
PERCENT = "[+-]?(?:[0-9]*[.]?[0-9]+|[0-9]+,[0-9]{1,2}) ?%"
PLAIN_DECIMAL = r"^[+-]?(0|[1-9][0-9]{0,14})[.][0-9]{1,15}$"
# Further texts that may mean a missing value, in lower case; NULLS of table_reading always do.
MARKS = (
    *("?", "??", "-", "--", "---", ".", "..", "*", "n/a", "n.a.", "na", "nan", "#n/a", "#na", "#value!", "#null!"),
    *("<na>", "nat", "\\n", "nil", "none", "null", "missing", "unknown", "unk", "undefined", "tbd", "k.a.", "n.v."),
    *("not available", "not applicable", "no data", "(null)", "(none)", "(blank)"),
)
_NUMBERS = {
    # DuckDB would cast 9.89 to the integer 10, so the text is checked too.
    "integer": "regexp_full_match(trim(v), '[+-]?[0-9]+') and try_cast(v as bigint) is not null",
    # 1_000 is an identifier, and a column of nothing but `inf` is no measure.
    "number": "try_cast(v as double) is not null and not contains(v, '_')",
    "finite": "isfinite(try_cast(v as double))",
    "code": CODE,
    "digits": DIGITS,
    "day": "length(v) = 8 and try_strptime(v, '%Y%m%d') between timestamp '1900-01-01' and timestamp '2100-01-01'",
    "year": "regexp_full_match(v, '1[0-9]{3}|20[0-9]{2}')",
}
_TEXTS = {
    "date": f"length(trim(v)) <= 10 and isfinite(try_cast(v as date)) and {HAS_YEAR.format('v')}",
    "timestamp": f"isfinite(try_cast(v as timestamptz)) and {HAS_YEAR.format('v')}",
    "boolean": "try_cast(v as boolean) is not null",
    "percent": f"regexp_full_match(trim(v), '{PERCENT}')",
    "comma": f"regexp_full_match(trim(v), '{COMMA}')",
    "one_group": f"regexp_full_match(trim(v), '{_ONE_GROUP}')",
    "decimal_comma": f"regexp_full_match(trim(v), '{_DECIMAL_COMMA}')",
    "amount": f"regexp_full_match(trim(v), '{AMOUNT}') and regexp_matches(v, '[0-9]')",
    "comma_amount": f"regexp_full_match(trim(v), '{_COMMA_AMOUNT}')",
    "decimal_comma_amount": f"regexp_full_match(regexp_replace(v, '[$€£¥ ]', '', 'g'), '{_DECIMAL_COMMA}')",
    "only_comma": f"try_cast(v as double) is null and regexp_full_match(trim(v), '{COMMA}')",
    "time_like": TIME_LIKE,
}
# What the others may be where some texts mean a missing value.
_HIDDEN = ("timestamp", "comma", "amount", "comma_amount", "percent")
_WORDS = "sum(n * (length(regexp_replace(trim(v), '\\S+', '', 'g')) + 1)) / sum(n)"


@dataclass(frozen=True)
class Column:
    """A column of the table: its exact name, a plain name for SQL and params, and the type that its texts cast to."""

    name: str
    alias: str
    sql: str  # the name in SQL, quoted if necessary
    type: str = "text"
    filled: int = 0  # rows that have a value
    distinct: int = 0
    values: tuple[str, ...] = ()  # the two texts of nearly all rows, if there are two
    counts: Mapping[str, int] = field(default_factory=dict)  # the rows of the most frequent texts, if there are few
    percent: bool = False  # numbers with a % sign, which do not cast to a number
    comma: bool = False  # numbers such as 1.234,56, which do not cast either
    mixed: int = 0  # rows with a decimal comma among numbers with a decimal point
    grouped: bool = False  # some of these are such as 1.234
    amount: bool = False  # numbers such as $1,234.56, or with `comma` 1.234,56 €
    words: float = 0.0  # of a text, on average
    formats: tuple[str, ...] = ()  # of texts that are times, for strptime
    code: bool = False  # digits that a number would not keep as they are written
    counter: bool = False  # consecutive integers, a different one in each row
    marks: Mapping[str, int] = field(default_factory=dict)  # texts that may mean a missing value, and their rows
    hidden: bool = False  # all other values are numbers or times
    writing: Writing | None = None  # of texts that look like times in more than one format

    @property
    def is_read(self) -> bool:
        """Whether its texts are natural language: many different ones of several words each."""
        return self.type == "text" and self.words >= SENTENCE and self.distinct > MOST_CLASSES

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers, including those that are written with a decimal comma or with signs."""
        return self.type in ("integer", "number") or self.number_form is not None

    @property
    def is_text(self) -> bool:
        """Whether its values are texts, and no numbers in any writing."""
        return self.type == "text" and not self.is_number

    @property
    def number_form(self) -> str | None:
        """The regular expression of its numbers, if they do not cast to a number as they are written.

        1.234 is one with a decimal comma only where the table has such.
        """
        if self.comma:
            form = _COMMA_AMOUNT if self.amount else COMMA
            return form if self.grouped else f"(?!{_SIGN_AND_UNIT}{_ONE_GROUP} ?[$€£¥]?\\s*$){form}"
        return AMOUNT if self.amount else PERCENT if self.percent else None

    @property
    def value(self) -> str:
        """SQL of a value; a number that is written with a decimal comma or with signs is converted."""
        if self.comma:
            digits = (
                f"regexp_replace({self.sql}, '[$€£¥. ]', '', 'g')" if self.amount else f"replace({self.sql}, '.', '')"
            )
            return f"try_cast(replace({digits}, ',', '.') as double)"
        if self.amount:
            return f"try_cast(regexp_replace({self.sql}, '[$€£¥, ]', '', 'g') as double)"
        return f"try_cast(replace(replace({self.sql}, '%', ''), ',', '.') as double)" if self.percent else self.sql

    @property
    def number(self) -> str:
        """SQL of a value as a number, also in the table of texts; null if it is none."""
        return f"try_cast({self.value} as double)"

    @property
    def moment(self) -> str | None:
        """SQL of a cast value as a time; None if the column holds no times."""
        if self.formats:
            return moment_sql(self.sql, self.formats)
        return self.sql if self.type in ("date", "timestamp") else None

    @property
    def read_moment(self) -> str:
        """SQL of a value as a time in the table of texts, before any cast."""
        quoted = quote(self.name)
        if self.formats:
            return moment_sql(quoted, self.formats, lenient=True)
        return f"try_cast({quoted} as timestamptz)::timestamp"  # a bare cast to timestamp drops an offset


def named_columns(connection: Any, names: Sequence[str]) -> Iterator[Column]:
    """Yield columns with their names only."""
    keywords = {word for (word,) in connection.execute("select keyword_name from duckdb_keywords()").fetchall()}
    taken: set[str] = set()
    for name in names:
        plain_name = alias(name, taken | {other.lower() for other in names if other != name})
        taken.add(plain_name)
        plain = re.fullmatch("[a-z][a-z0-9_]*", name) and name not in keywords
        yield Column(name, plain_name, name if plain else quote(name))


def read_column(
    connection: Any,
    column: Column,
    texts: pa.ChunkedArray,
    *,
    delimiter: str,
    is_time: bool = False,
    formats: Sequence[str] = (),
) -> Column:
    """Infer what a column of texts holds: the type of at least 99 % of them. Missing values are null.

    Args:
        is_time: whether the user named it as the time, so that bare years are times.
        formats: the time formats that the user gave.

    Raises:
        UserError: its times do not have these formats.
    """
    import pyarrow as pa

    counted = texts.combine_chunks().drop_null().value_counts()
    filled, distinct = len(texts) - texts.null_count, len(counted)
    if not filled:
        return column
    if not (formats or is_time) and distinct > FEW and _are_plain_decimals(counted.field("values")):
        return replace(column, filled=filled, distinct=distinct, type="number")
    connection.register("d", pa.table({"v": counted.field("values"), "n": counted.field("counts")}))
    counts = _most_frequent(connection) if distinct <= FEW else {}
    two = tuple(sorted(list(counts)[:2]))
    binary = len(two) == 2 and sum(counts[value] for value in two) >= 0.99 * filled
    column = replace(column, filled=filled, distinct=distinct, counts=counts, values=two if binary else ())
    rows = _count_rows(connection, _NUMBERS)
    least = 0.99 * filled
    if formats:
        require_readable(connection, column.name, filled, formats)
    elif is_time and rows["year"] >= least:
        return replace(column, formats=("%Y",))
    elif is_time and rows["number"] >= least:
        formats = read_numbers(connection, filled)
    if formats:
        number = "integer" if rows["integer"] >= least else "number"
        return replace(column, formats=tuple(formats), type=number if formats[0] in EPOCHS else "text")
    if rows["day"] >= least:  # 20240131 is read as a time, not as a number
        return replace(column, formats=("%Y%m%d",))
    code = bool(rows["code"]) and rows["digits"] >= least
    if rows["integer"] >= least and not code:
        counter = distinct == len(texts) and _integer_span(connection) <= 1.02 * distinct
        return replace(column, type="integer", counter=counter)
    if rows["number"] >= least and rows["finite"] and not code:
        return replace(column, type="number")
    return _read_text(connection, replace(column, code=code), rows["finite"], delimiter)


def _read_text(connection: Any, column: Column, numbers: int, delimiter: str) -> Column:
    """Infer the type of a column of texts, of which only `numbers` are numbers."""
    rows = _count_rows(connection, _TEXTS)
    least = 0.99 * column.filled
    if not column.code:
        for kind in ("date", "timestamp"):
            if rows[kind] >= least:
                return replace(column, type=kind)
        if rows["boolean"] >= least:
            spelled = _spelled(connection)
            two = tuple(sorted(spelled)) if len(spelled) == 2 else ()
            return replace(column, type="boolean", values=two, counts=spelled)
    formats: tuple[str, ...] = ()
    writing = None
    if rows["time_like"] >= 0.5 * column.filled:
        formats, writing = read_formats(connection, column.filled)
    marked = _missing_marks(connection)
    rest = column.filled - sum(marked.values())
    comma = rows["comma"] >= least and (delimiter != "," or rows["decimal_comma"] > 0)
    comma_amount = not comma and rows["comma_amount"] >= least and rows["decimal_comma_amount"] > 0
    amount = comma_amount or (not comma and rows["amount"] >= least and not column.code)
    is_mixed = not (comma or amount or column.code) and numbers + rows["only_comma"] >= least
    return replace(
        column,
        percent=rows["percent"] >= least,
        comma=comma or comma_amount,
        mixed=rows["only_comma"] if is_mixed else 0,
        grouped=rows["one_group"] > column.filled - least,
        amount=amount,
        words=_mean_words(connection),
        formats=formats,
        writing=writing,
        marks=marked,
        hidden=bool(rest) and max(numbers, *(rows[each] for each in _HIDDEN)) >= 0.99 * rest,
    )


def _are_plain_decimals(values: pa.Array) -> bool:
    """Return whether all are numbers such as -12.5, which cannot be times, codes or integers."""
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(values, PLAIN_DECIMAL)).as_py())


def _most_frequent(connection: Any) -> dict[str, int]:
    return dict(connection.execute("select v, n from d order by n desc, v limit 3").fetchall())


def _spelled(connection: Any) -> dict[str, int]:
    """The most frequent text for true and for false, as there may be several (Yes, yes), each with the rows of all."""
    value = "try_cast(v as boolean)"
    spelled = f"select arg_max(v, n), sum(n)::bigint from d where {value} is not null group by {value} order by 2 desc"
    return dict(connection.execute(spelled).fetchall())


def _count_rows(connection: Any, conditions: Mapping[str, str]) -> dict[str, int]:
    """Count the rows whose text fits each condition."""
    counts = ", ".join(f"coalesce(sum(n) filter ({fits}), 0)" for fits in conditions.values())
    [sums] = connection.execute(f"select {counts} from d").fetchall()
    return dict(zip(conditions, map(int, sums), strict=True))


def _integer_span(connection: Any) -> int:
    number = "try_cast(v as bigint)::hugeint"
    [(span,)] = connection.execute(f"select max({number}) - min({number}) + 1 from d").fetchall()
    return int(span)


def _mean_words(connection: Any) -> float:
    [(mean,)] = connection.execute(f"select {_WORDS} from (from d limit 10000)").fetchall()
    return float(mean)


def _missing_marks(connection: Any) -> dict[str, int]:
    listed = ", ".join(map(literal, MARKS))
    return dict(connection.execute(f"select v, n from d where lower(trim(v)) in ({listed}) order by v").fetchall())
