"""Sketches: small counts of each column's values by day, which are enough to measure drift without the rows.

A `Layout`, made once from the reference, defines how each column's values are counted; a `Sketch` holds the counts by
local day. Counts under one layout add up over files, machines and days, and do not depend on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import numpy as np

from feature_store.compile import commas, own
from feature_store.errors import DefinitionError
from feature_store.sql_text import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray

__all__ = ["Categories", "Layout", "Numbers", "Sketch", "Texts", "count", "local_day", "make_layout"]

BINS = 24  # of equal shares of the rows
TAILS = 4  # further bins at either end, each a quarter of the next: distances between distributions lie mostly there
SAMPLE = 50_000  # rows from which bins are computed; the error of a quantile's share is 0.2 %
NAMES = 1_000  # names with a count of their own
MOST_NAMES = 20_000  # names that are distinguished from unseen ones
BATCH = 1 << 16  # rows counted at a time


@dataclass(frozen=True)
class Numbers:
    """Bins of a number: below `lows[0]`, each `lows[i]` to `highs[i]`, above `highs[-1]`.

    Bins are finer at both ends. A value with a bin's share of the rows has its own bin. A value between two bins counts
    to the upper one.
    `mean` and `std` are those of the sample; without any value there are no bins, and both are 0.

    >>> found = Numbers.of(np.array([0.0, 0.0, 0.0, 1.0, 2.0, 4.0]), bins=2)
    >>> found.lows, found.highs
    ((0.0, 1.0), (0.0, 4.0))
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    mean: float
    std: float
    kind: Literal["number", "text"] = "number"

    @classmethod
    def of(cls, sample: NDArray[np.float64], bins: int = BINS) -> Numbers:
        """Compute bins with a share of 1 / `bins` of the sample's finite values each, and smaller ones at both ends."""
        values = sample[np.isfinite(sample)]
        if not len(values):
            return cls((), (), 0.0, 0.0)
        distinct, counts = np.unique(values, return_counts=True)
        tail = 4.0 ** -np.arange(TAILS, 0, -1) / bins
        shares = np.concatenate([tail, np.arange(1, bins) / bins, 1 - tail[::-1], [1.0]])
        quantiles = np.searchsorted(np.cumsum(counts), shares * len(values) - 1e-6)
        heavy = np.flatnonzero(counts >= len(values) / bins)
        ends = np.unique(np.concatenate([quantiles, heavy, heavy[heavy > 0] - 1]))
        starts = np.concatenate([[0], ends[:-1] + 1])
        return cls(
            tuple(distinct[starts].tolist()), tuple(distinct[ends].tolist()), float(values.mean()), float(values.std())
        )

    @property
    def size(self) -> int:
        """The number of counts: below, the bins, above, missing."""
        return len(self.lows) + 3

    def codes(self, values: pa.Array) -> NDArray[np.uint8]:
        """The index of each value's count. Nulls and NaN are missing."""
        numbers = values.to_numpy(zero_copy_only=False)
        codes = np.zeros(len(numbers), np.uint8)
        for cut in (np.nextafter(self.lows[0], -np.inf), *self.highs) if self.lows else ():
            codes += numbers > cut  # comparing all values at once is five times faster than a search for each
        codes[np.isnan(numbers)] = self.size - 1
        return codes


@dataclass(frozen=True)
class Texts(Numbers):
    """Bins of the lengths of texts; their content is not used."""

    kind: Literal["number", "text"] = "text"


@dataclass(frozen=True)
class Categories:
    """Counts for each of the most frequent names, for other names of the reference, and for unseen names.

    `others` distinguishes other names from unseen ones. If the reference had too many names to store, `complete` is
    false: a name that is not stored may have occurred, so it counts to the others, and no name is ever unseen.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]
    complete: bool
    kind: Literal["category"] = "category"

    @property
    def size(self) -> int:
        """The number of counts: the names, other, unseen, missing."""
        return len(self.names) + 3

    def codes(self, values: pa.Array) -> NDArray[np.int64]:
        """The index of each name's count."""
        import pyarrow as pa
        import pyarrow.compute as pc

        names = pa.array([*self.names, *self.others], pa.string())
        encoded = values.dictionary_encode()
        indices = pc.index_in(encoded.dictionary, names).fill_null(-1).to_numpy()
        unknown = self.size - 2 if self.complete else self.size - 3
        of_name = np.append(np.where(indices < 0, unknown, np.minimum(indices, len(self.names))), self.size - 1)
        codes: NDArray[np.int64] = of_name[encoded.indices.fill_null(len(of_name) - 1).to_numpy()]
        return codes


Column = Numbers | Categories


@dataclass(frozen=True)
class Layout:
    """How each column is counted; the counts of the columns follow each other in this order."""

    columns: Mapping[str, Column]

    @property
    def width(self) -> int:
        return sum(column.size for column in self.columns.values())

    def slices(self) -> dict[str, slice]:
        """The slice of each column's counts within `width`."""
        ends = np.cumsum([column.size for column in self.columns.values()]).tolist()
        return {
            name: slice(end - column.size, end) for (name, column), end in zip(self.columns.items(), ends, strict=True)
        }

    def only(self, names: Iterable[str]) -> Layout:
        """The layout of some of the columns."""
        return Layout({name: self.columns[name] for name in names})


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts of each column's values by day.

    Args:
        days: ascending and unique; days without rows may be left out. Shape (days,).
        rows: number of rows of each day. Shape (days,).
        counts: counts in the order of the layout. Shape (days, layout.width).
    """

    layout: Layout
    days: NDArray[np.datetime64]
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, layout: Layout) -> Sketch:
        """A sketch without days."""
        return cls(layout, np.array([], "datetime64[D]"), np.zeros(0, np.int64), np.zeros((0, layout.width), np.int64))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sketch)
            and self.layout == other.layout
            and np.array_equal(self.days, other.days)
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.counts, other.counts)
        )

    def __add__(self, other: Sketch) -> Sketch:
        """The counts of both sketches' rows.

        Raises:
            ValueError: they have different layouts.
        """
        if self.layout != other.layout:
            raise ValueError("sketches of different layouts do not add up; count both by the reference's layout")
        days = np.union1d(self.days, other.days)
        mine, theirs = self._on(days), other._on(days)
        return Sketch(self.layout, days, mine.rows + theirs.rows, mine.counts + theirs.counts)

    def join(self, other: Sketch) -> Sketch:
        """Combine the columns of two sketches of the same rows, or of some of them; a day has the larger row count.

        A day that one of them lacks has zero counts in its columns.

        Raises:
            ValueError: both have the same column.
        """
        if twice := sorted(set(self.layout.columns) & set(other.layout.columns)):
            raise ValueError(f"both sketches count {twice[0]!r}; leave it out of one of them")
        days = np.union1d(self.days, other.days)
        mine, theirs = self._on(days), other._on(days)
        layout = Layout({**self.layout.columns, **other.layout.columns})
        return Sketch(layout, days, np.maximum(mine.rows, theirs.rows), np.hstack([mine.counts, theirs.counts]))

    def between(self, first: date, end: date) -> Sketch:
        """The days from `first` up to, not including, `end`."""
        chosen = (self.days >= np.datetime64(first)) & (self.days < np.datetime64(end))
        return Sketch(self.layout, self.days[chosen], self.rows[chosen], self.counts[chosen])

    def totals(self) -> dict[str, NDArray[np.int64]]:
        """Each column's counts, summed over all days."""
        total = self.counts.sum(axis=0)
        return {name: total[columns] for name, columns in self.layout.slices().items()}

    def to_arrow(self) -> pa.Table:
        """One line for each day and column, by day: `day`, `column`, `rows` of the day, `counts`."""
        import pyarrow as pa

        sizes = [column.size for column in self.layout.columns.values()]
        ends = np.cumsum(np.tile(sizes, len(self.days)), dtype=np.int32)
        return pa.table(
            {
                "day": pa.array(np.repeat(self.days, len(sizes)), pa.date32()),
                "column": pa.array(list(self.layout.columns) * len(self.days), pa.string()),
                "rows": pa.array(np.repeat(self.rows, len(sizes)), pa.int64()),
                "counts": pa.ListArray.from_arrays(
                    pa.array(np.append(np.int32(0), ends)), pa.array(self.counts.ravel())
                ),
            }
        )

    @classmethod
    def from_arrow(cls, table: pa.Table, layout: Layout) -> Sketch:
        """The sketch that `to_arrow` gave.

        Raises:
            ValueError: the counts have another layout.
        """
        import pyarrow.compute as pc

        columns = max(len(layout.columns), 1)
        days = table["day"].to_numpy()[::columns].astype("datetime64[D]")
        sizes = [column.size for column in layout.columns.values()] * len(days)
        names = list(layout.columns) * len(days)
        if table["column"].to_pylist() != names or pc.list_value_length(table["counts"]).to_pylist() != sizes:
            raise ValueError("these counts were made under another layout; both files have to come from one version")
        counts = pc.list_flatten(table["counts"]).to_numpy().reshape(len(days), layout.width)
        return cls(layout, days, table["rows"].to_numpy()[::columns], counts)

    def _on(self, days: NDArray[np.datetime64]) -> Sketch:
        """The same sketch over a superset of its days."""
        rows, counts = np.zeros(len(days), np.int64), np.zeros((len(days), self.layout.width), np.int64)
        indices = np.searchsorted(days, self.days)
        rows[indices], counts[indices] = self.rows, self.counts
        return Sketch(self.layout, days, rows, counts)


def make_layout(
    connection: DuckDBPyConnection,
    relation: str,
    numbers: Sequence[str],
    categories: Sequence[str],
    texts: Sequence[str] = (),
) -> Layout:
    """Make the layout of the reference's columns: bins of equal mass, and the names that occur.

    Bins are computed from about 50,000 rows at most, chosen by a hash of their index: the same for the same rows in the
    same order, on any number of threads. The 1,000 most frequent names (ties by name) have their own counts, and up to
    20,000 names are stored.

    Args:
        relation: a table's name, or a query in parentheses; numbers are cast to DOUBLE, categories to VARCHAR.
    """
    cells = [f"{quote(name)}::double" for name in numbers] + [f"length({quote(name)})::double" for name in texts]
    sample = dict(zip([*numbers, *texts], _sample(connection, relation, cells), strict=True))
    names = _names(connection, relation, categories)
    columns: dict[str, Column] = {name: Numbers.of(sample[name]) for name in numbers}
    columns |= {name: Texts.of(sample[name]) for name in texts}
    for name in categories:
        of_column = names[name]
        columns[name] = Categories(
            tuple(of_column[:NAMES]), tuple(of_column[NAMES:MOST_NAMES]), complete=len(of_column) <= MOST_NAMES
        )
    return Layout(columns)


def _sample(connection: DuckDBPyConnection, relation: str, cells: Sequence[str]) -> list[NDArray[np.float64]]:
    if not cells:
        return []
    [[rows]] = connection.execute(f"select count(*) from {relation}").fetchall()
    numbered = f"select row_number() over () as {own('place')}, * from {relation}"
    query = f"select {commas(cells)} from ({numbered}) where hash({own('place')}) % {max(1, rows // SAMPLE)} = 0"
    table = connection.sql(query).to_arrow_table()
    return [column.to_numpy() for column in table.columns]


def _names(connection: DuckDBPyConnection, relation: str, categories: Sequence[str]) -> dict[str, list[str]]:
    """The names of each column, the most frequent first; one more than are stored, to show that there are others."""
    return {
        name: [
            value
            for [value] in connection.execute(
                f"select {own('name')} from (select {quote(name)}::varchar as {own('name')} from {relation}) "
                f"where {own('name')} is not null group by 1 order by count(*) desc, 1 limit {MOST_NAMES + 1}"
            ).fetchall()
        ]
        for name in categories
    }


def local_day(time: str, zone: ZoneInfo) -> str:
    """SQL of the local day in a zone, of a column with times in UTC.

    >>> print(local_day("event_time", ZoneInfo("Europe/Berlin")))
    ("event_time" at time zone 'UTC' at time zone 'Europe/Berlin')::date
    """
    return f"({quote(time)} at time zone 'UTC' at time zone '{zone.key}')::date"


def count(connection: DuckDBPyConnection, relation: str, layout: Layout, day: str) -> Sketch:
    """Sketch a relation's rows, read once in batches, so that memory does not grow with rows.

    Args:
        relation: a table's name, or a query in parentheses. A column that it lacks counts as missing in every row.
        day: SQL over the relation's columns that gives a row's day, a DATE.

    Raises:
        DefinitionError: a row has no day.
    """
    there = set(connection.sql(f"select * from {relation} limit 0").columns)
    types = {"number": "{}::double", "text": "length({}::varchar)::double", "category": "{}::varchar"}
    cells = (
        types[column.kind].format(quote(name) if name in there else "null") for name, column in layout.columns.items()
    )
    reader = connection.sql(f"select ({day})::date, {commas(cells)} from {relation}").to_arrow_reader(BATCH)
    total = Sketch.empty(layout)
    with ThreadPoolExecutor(2) as threads:
        for batch in reader:
            total += _count_batch(batch, layout, threads)
    return total


def _count_batch(batch: pa.RecordBatch, layout: Layout, threads: ThreadPoolExecutor) -> Sketch:
    first, *columns = batch.columns
    if first.null_count:
        raise DefinitionError(f"{first.null_count} rows have no day to count them to; leave them out of the relation")
    encoded = first.dictionary_encode()
    code = encoded.indices.to_numpy().astype(np.int64)
    days = encoded.dictionary.to_numpy(zero_copy_only=False).astype("datetime64[D]")

    def counts(column: Column, values: pa.Array) -> NDArray[np.int64]:
        cells = code * column.size + column.codes(values)
        return np.bincount(cells, minlength=len(days) * column.size).reshape(len(days), column.size)

    parts = list(threads.map(counts, layout.columns.values(), columns))
    order = np.argsort(days)
    rows = np.bincount(code, minlength=len(days))
    return Sketch(layout, days[order], rows[order], np.hstack([*parts, np.zeros((len(days), 0), np.int64)])[order])
