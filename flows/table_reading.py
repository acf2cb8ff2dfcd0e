"""What a stranger's CSV seems to hold: types, a time, a key, a label; guessed only where one guess fits."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from feature_store.compile import quote
from flows.code_reading import is_code, merges
from flows.column_names import alias
from flows.period_reading import read_band, read_period
from flows.series_reading import Series, read_series
from tasks.errors import UserError
from tasks.ingest import csv_files
from tasks.ingest.csv_files import CsvFile
from tasks.params import Task, nearest

POSITIVE = ("1", "true", "yes", "y", "t", "churned", "late", "fraud", "default", "positive", "bad")
LABEL_NAMES = ("label", "target", "y", "churn", "churned", "fraud", "late", "default", "outcome", "converted", "failed")
MOST_CLASSES, FEW_NUMBERS = 100, 10  # of a label that is no number; different ones that are still taken for classes
_PERCENT = "regexp_full_match(trim({column}), '[+-]?[0-9]*[.]?[0-9]+ ?%')"
_COMMA = "regexp_full_match(trim({column}), '[+-]?([0-9]{{1,3}}([.][0-9]{{3}})+|[0-9]+)(,[0-9]+)?')"
NULLS = ("", " ", "NA", "N/A", "NULL", "null", "None", "nan", "NaN")
SENTENCE = 4  # words from which on a text that differs from row to row is something to read, and no name
_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d", "%Y-%m")
FORMATS = (*(f"{day}{time}" for day in _DATES for time in ("", " %H:%M", " %H:%M:%S")), "%Y-%m-%d %H:%M:%S %z")


@dataclass(frozen=True)
class Column:
    """One column of the table: its exact name, a plain name for SQL and params, and what its texts cast to."""

    name: str
    alias: str
    sql: str  # the name as SQL takes it: quoted where it must be
    type: str
    distinct: int
    values: tuple[str, ...]  # the two texts that nearly all rows have, where there are two such
    counts: Mapping[str, int]  # the most frequent texts, where there are few
    percent: bool = False  # numbers with a % sign, which cast to no number
    comma: bool = False  # numbers such as 1.234,56, which do neither
    words: float = 0.0  # of a text, on average
    format: str | None = None  # of texts that are times, as strptime takes it
    code: bool = False  # digits that a number would not hold as they are written

    @property
    def is_read(self) -> bool:
        """Whether a text is something to read: many different ones, of some words each."""
        return self.type == "text" and self.words >= SENTENCE and self.distinct > MOST_CLASSES

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers, however they are written."""
        return self.comma or self.type in ("integer", "number")

    @property
    def is_text(self) -> bool:
        """Whether its values are texts that write no numbers."""
        return self.type == "text" and not self.comma

    @property
    def value(self) -> str:
        """SQL of a value: of a text with a decimal comma, the number that it writes."""
        return f"try_cast(replace(replace({self.sql}, '.', ''), ',', '.') as double)" if self.comma else self.sql

    @property
    def number(self) -> str:
        """SQL of a value as a number, in the table as it was read as well; null where it is none."""
        return f"try_cast({self.value} as double)"

    @property
    def moment(self) -> str | None:
        """SQL of the time that a cast value is; none: it is none."""
        if self.format:
            return f"strptime({self.sql}, '{self.format}'){_utc(self.format)}"
        return self.sql if self.type in ("date", "timestamp") else None

    @property
    def read_moment(self) -> str:
        """SQL of the same in the table as it was read, all of text."""
        quoted = quote(self.name)
        if self.format:
            return f"try_strptime({quoted}, '{self.format}'){_utc(self.format)}"
        return f"try_cast({quoted} as timestamptz)::timestamp"  # a bare cast to timestamp drops an offset


@dataclass(frozen=True)
class TableReading:
    """The roles of the columns, and how the rows spread over time."""

    columns: tuple[Column, ...]
    delimiter: str
    rows: int
    key: tuple[str, ...]  # empty: a row is named by its line alone
    time: Column | None  # none: the table has no time
    label: Column
    task: Task
    positive: str  # of a binary label, the text that is 1
    spread: float  # of a label that is a number: its mean distance from the median
    period: str
    rows_per_period: int
    days_per_period: int
    band: tuple[float, float]  # the least and most rows of a period, as shares of the mean of those before it
    dated: date  # of a table without a time, the day that dates the whole of it: when the file was last changed
    series: Series | None = None  # where the label's next steps are asked for


def read_table(
    path: Path, *, key: tuple[str, ...], time: str | None, label: str | None, horizons: tuple[int, ...] = ()
) -> TableReading:
    """Look at a CSV file as a whole.

    Args:
        horizons: the steps ahead to forecast; `key` then names what tells series apart.

    Raises:
        UserError: it cannot be read, or a role fits no column, or several; the message lists them.
    """
    import duckdb

    delimiter = _delimiter(path)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        _load(connection, path, delimiter)
        columns = tuple(_columns(connection, delimiter, time))
        by_name = {column.name: column for column in columns}
        for role, wanted in (("key", key), ("time", (time,) if time else ()), ("label", (label,) if label else ())):
            for name in wanted:
                if name not in by_name:
                    hint = f"{nearest(name, by_name)}; it has {_list(by_name)}"
                    raise UserError(f"--{role} {name}: no such column in {path.name}{hint}")
        found_time = _time(columns, by_name.get(time or ""), path)
        rows = _one(connection, "select count(*) from t")
        found_label = _label(columns, by_name.get(label or ""), found_time, path, rows)
        series = None
        if horizons:
            if found_time is None:
                raise UserError(f"{path.name} has no column of dates or times; a forecast needs one: --time COLUMN")
            if awkward := [name for name in key if not re.fullmatch("[a-z][a-z0-9_]*", name.lower())]:
                raise UserError(
                    f"--key {awkward[0]}: series are told apart by columns of plain names; call it "
                    f"{by_name[awkward[0]].alias} in the header of {path.name}"
                )
            series = read_series(
                connection, path.name, key, found_time.read_moment, _number(found_label, path), horizons
            )
            found_key = (*key, found_time.name)
        else:
            names = tuple(column for column in columns if column is not found_label and not column.is_read)
            found_key = _key(connection, names, key, found_time, path)
        columns = tuple(
            replace(column, type="text")
            if column.name in found_key and merges(connection, quote(column.name), column.type)
            else column
            for column in columns
        )
        moment = found_time.read_moment if found_time else None
        period, per_period, days = read_period(
            connection, found_time.name if found_time else "", moment, path.name, rows
        )
        band = read_band(connection, moment, period)
        task = "regression" if horizons else _task(found_label)
        spread = _spread(connection, found_label) if task == "regression" else 0.0
    return TableReading(
        columns=columns,
        delimiter=delimiter,
        rows=rows,
        key=found_key,
        time=found_time,
        label=found_label,
        task=task,
        positive=_positive(found_label) if task == "binary" else "",
        spread=spread,
        period=period,
        rows_per_period=per_period,
        days_per_period=days,
        band=band,
        dated=min(date.fromtimestamp(path.stat().st_mtime), date.today() - timedelta(days=1)),  # noqa: DTZ011, DTZ012
        series=series,
    )


def _load(connection: Any, path: Path, delimiter: str) -> None:
    """The rows that ingestion would take, as a table `t` of texts.

    Raises:
        UserError: as from ingestion, for a quote that is never closed for instance; a column without a name, or there
            twice; no rows.
    """
    file = CsvFile(path, path.name, delimiter)
    names = csv_files.header(file)
    if unnamed := [number for number, name in enumerate(names, start=1) if not name.strip()]:
        raise UserError(f"{path.name}: column {unnamed[0]} of its header has no name; give it one")
    if numbers := [name for name in names if re.fullmatch(r"\s*[+-]?[0-9.]+(e[+-]?[0-9]+)?\s*", name, re.IGNORECASE)]:
        raise UserError(f"{path.name}: its first line holds numbers ({numbers[0]}) and no names; add a header line")
    lower = [name.lower() for name in names]
    if twice := [name for name in names if lower.count(name.lower()) > 1]:
        listed = _list(map(repr, twice))
        raise UserError(f"{path.name}: a column is there twice ({listed}; case does not count); rename or remove one")
    nulls = _list("'" + text + "'" for text in NULLS)
    texts = _list(f"case when {quote(name)} not in ({nulls}) then {quote(name)} end as {quote(name)}" for name in names)
    connection.execute(f"create table t ({_list(f'{quote(name)} varchar' for name in names)})")
    for batch in csv_files.read(file, names, lambda _: None):
        connection.register("batch", batch)
        connection.execute(f"insert into t select {texts} from batch where _fault is null")
        connection.unregister("batch")
    if not _one(connection, "select count(*) from t"):
        raise UserError(f"{path} has no rows below its header; a table with a label is needed")


def _delimiter(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head = file.readline()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name one CSV file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it, e.g. iconv -f latin1 -t utf-8"
        ) from None
    if not head.strip():
        raise UserError(f"{path} is empty; a header line and rows are needed")
    return max(",;\t|", key=lambda mark: len(next(csv.reader([head], delimiter=mark))))


def _columns(connection: Any, delimiter: str, time: str | None) -> Iterable[Column]:
    taken: set[str] = set()
    keywords = {word for (word,) in connection.execute("select keyword_name from duckdb_keywords()").fetchall()}
    for name, *_ in connection.execute("describe t").fetchall():
        plain = alias(name, taken)
        taken.add(plain)
        quoted = quote(name)
        sql = name if re.fullmatch("[a-z][a-z0-9_]*", name) and name not in keywords else quoted
        distinct = _one(connection, f"select count(distinct {quoted}) from t")
        query = f"select {quoted}, count(*) from t where {quoted} is not null group by 1 order by 2 desc, 1 limit 3"
        counts = dict(connection.execute(query).fetchall()) if distinct <= 20 else {}
        two = tuple(sorted(list(counts)[:2]))
        binary = sum(counts[value] for value in two) >= 0.99 * sum(counts.values()) if len(two) == 2 else False
        code = is_code(connection, quoted)
        kind = "text" if code else _type(connection, quoted)
        percent = kind == "text" and _mostly(connection, quoted, _PERCENT.format(column=quoted))
        comma = kind == "text" and delimiter != "," and _mostly(connection, quoted, _COMMA.format(column=quoted))
        words = _words(connection, quoted) if kind == "text" else 0.0
        written = None if kind in ("date", "timestamp") else _format(connection, quoted, years=name == time)
        kind = "text" if written else kind  # 20240131 is read as a time, not as a number
        values = two if binary else ()
        yield Column(name, plain, sql, kind, distinct, values, counts, percent, comma, words, written, code)


def _utc(form: str) -> str:
    return "::timestamp" if form.endswith("%z") else ""


def _words(connection: Any, column: str) -> float:
    count = f"avg(length(regexp_replace(trim({column}), '\\S+', '', 'g')) + 1)"
    [(found,)] = connection.execute(f"select {count} from (select {column} from t limit 10000)").fetchall()
    return float(found or 0.0)


def _format(connection: Any, column: str, *, years: bool) -> str | None:
    """How texts write times, where only one way fits: 31/12/2013 says what comes first, a table up to the 12th not."""
    if years and _mostly(connection, column, f"regexp_full_match({column}, '1[0-9]{{3}}|20[0-9]{{2}}')"):
        return "%Y"  # a number like any other, unless it is said to be the time
    short = f"regexp_full_match({column}, '[0-9/. :+-]{{7,25}}')"
    if not _mostly(connection, column, short):
        return None
    recent = "between timestamp '1900-01-01' and timestamp '2100-01-01'"
    fits = [
        form
        for form in FORMATS
        if _mostly(connection, column, f"try_strptime({column}, '{form}'){_utc(form)} {recent}")
    ]
    return fits[0] if len(fits) == 1 else None


def _type(connection: Any, column: str) -> str:
    """What at least 99 % of the filled values are; DuckDB would cast 9.89 to the integer 10, so texts are looked at."""
    kinds = {
        "integer": f"regexp_full_match(trim({column}), '[+-]?[0-9]+') and try_cast({column} as bigint) is not null",
        # 1_000 is an identifier, and a column of nothing but `inf` is no measure.
        "number": f"try_cast({column} as double) is not null and not contains({column}, '_') "
        f"and exists (select 1 from t where isfinite(try_cast({column} as double)))",
        "date": f"length(trim({column})) <= 10 and isfinite(try_cast({column} as date))",
        "timestamp": f"isfinite(try_cast({column} as timestamptz))",
        "boolean": f"try_cast({column} as boolean) is not null",
    }
    return next((kind for kind, fits in kinds.items() if _mostly(connection, column, fits)), "text")


def _mostly(connection: Any, column: str, fits: str) -> bool:
    """Whether at least 99 % of the filled values fit a condition."""
    filled = _one(connection, f"select count({column}) from t")
    fitting = f"select count(*) from t where {column} is not null and {fits}"
    return bool(filled) and _one(connection, fitting) >= 0.99 * filled


def _only(found: list[Column], role: str, path: Path, what: str, wanted: str = "one") -> Column:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{path.name} has no {what}; name {wanted} with --{role} COLUMN")
    several = _list(column.name for column in found)
    raise UserError(f"{path.name} has several columns that could be the {role}: {several}; name one with --{role}")


def _time(columns: tuple[Column, ...], given: Column | None, path: Path) -> Column | None:
    dated = [column for column in columns if column.moment]
    if not dated and not given:
        return None
    found = given or _only(dated, "time", path, "column of dates or times")
    if found not in dated:
        raise UserError(
            f"--time {found.name}: its values do not cast to dates or times such as 2024-05-31; write them so, or name "
            "another column (in params.yaml a column of text is read by event_time: strptime(month, '%Y-%m'))"
        )
    return found


def _label(columns: tuple[Column, ...], given: Column | None, time: Column | None, path: Path, rows: int) -> Column:
    binary = [column for column in columns if column.values and column is not time]
    named = [column for column in binary if column.alias in LABEL_NAMES]
    choice = named if len(named) == 1 else binary
    found = given or _only(choice, "label", path, "column with just two values to predict", "the one to predict")
    too_many = _task(found) == "multiclass" and found.distinct > min(MOST_CLASSES, rows / 2)
    if found.distinct < 2 or too_many:
        counts = ", ".join(f"{value!r} {count:,} times" for value, count in found.counts.items())
        has = f"{found.distinct} different value{'s' if found.distinct != 1 else ''}{': ' + counts if counts else ''}"
        right = f"a label has two, such as 0 and 1, up to {MOST_CLASSES} classes, or many numbers"
        raise UserError(f"--label {found.name}: it has {has}; {right}")
    return found


def _number(label: Column, path: Path) -> str:
    """SQL of the label's number."""
    if not label.is_number:
        raise UserError(f"--label {label.name}: forecasts are of numbers, and it is {label.type} in {path.name}")
    return label.number


def _task(label: Column) -> Task:
    """What a label asks for: two values, many numbers, or a few values of any kind."""
    if label.values:
        return "binary"
    return "regression" if label.is_number and label.distinct > FEW_NUMBERS else "multiclass"


def _spread(connection: Any, label: Column) -> float:
    off = f"{label.number} - (select median({label.number}) from t)"
    [(found,)] = connection.execute(f"select avg(abs({off})) from t").fetchall()
    return float(found or 0.0)


def _key(
    connection: Any, columns: tuple[Column, ...], given: tuple[str, ...], time: Column | None, path: Path
) -> tuple[str, ...]:
    rows = _one(connection, "select count(*) from t")
    if given:
        if missing := rows - _distinct(connection, given):
            names = " ".join(given)
            raise UserError(f"--key {names}: {missing} rows share a key with another; add a column with another --key")
        return given
    ids = [column for column in columns if column.alias.endswith("id") or column.alias in ("key", "number")]
    unique = [column for column in columns if column.distinct == rows and (column.is_text or column.type == "integer")]
    for column in [*(c for c in ids if c in unique), *unique]:
        return (column.name,)
    together = [(column.name, time.name) for column in ids] if time else []
    return next((names for names in together if _distinct(connection, names) == rows), ())


def _distinct(connection: Any, names: tuple[str, ...]) -> int:
    return _one(connection, f"select count(*) from (select distinct {', '.join(map(quote, names))} from t)")


def _positive(label: Column) -> str:
    for word in POSITIVE:
        for value in label.values:
            if value.strip().lower() == word:
                return value
    return sorted(label.values)[-1]


def _one(connection: Any, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
