"""Running totals of the events of each entity, and what they grew by in the windows before each prediction.

DuckDB selects the events and evaluates what is defined over them. Sorting and looking up integers is done in NumPy: an
ASOF join for each window sorts all rows with all their totals again each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.compile import ENTITY, KNOWN_AT, N, Term, commas, events_sql, has_ends, own, terms, windows_of
from feature_store.sql_text import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from feature_store.definition import FeatureView

Ints = NDArray[np.int64]

_LONG_AGO = np.iinfo(np.int64).min
_LIMB, _LOW = 32, (1 << 32) - 1  # totals beyond 64 bits are stored in parts of 32 bits
_FITS = 2.0**62


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over the events of all entities, sorted by entity and by when they became known.

    >>> totals = Totals.of(np.array([1, 2, 1]), np.array([10, 10, 30]), {"x": np.array([5, 7, 1])})
    >>> end = totals.ends(np.array([1, 1, 2]), np.array([9, 30, 30]))
    >>> totals.sums["x"][end].tolist()
    [0, 6, 13]
    """

    times: Ints  # the different times, ascending
    keys: Ints  # of each event: its entity, then the rank of its time
    sums: Mapping[str, Ints]  # of the events before each position; one more than there are events

    @classmethod
    def of(cls, entities: Ints, times: Ints, values: Mapping[str, Ints]) -> Totals:
        different = np.unique(times)
        keys = entities * (len(different) + 1) + np.searchsorted(different, times) + 1
        order = np.argsort(keys)
        return cls(different, keys[order], {name: _running(value, order) for name, value in values.items()})

    def ends(self, entities: Ints, moments: Ints, order: Ints | None = None) -> Ints:
        """The position after the newest event of each entity at a moment; that of the entity's first if there is none.

        Args:
            order: one in which neighbours lie close to each other, so that they are found several times faster.
        """
        wanted = entities * (len(self.times) + 1) + np.searchsorted(self.times, moments, side="right")
        if order is None:
            return np.searchsorted(self.keys, wanted, side="right")
        found = np.empty_like(wanted)
        found[order] = np.searchsorted(self.keys, wanted[order], side="right")
        return found

    def newest(self, entities: Ints, ends: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """The time of the newest event before each end, and whether there is none of the entity."""
        if not len(self.keys):
            return np.zeros_like(ends), np.ones(len(ends), bool)
        entity, rank = np.divmod(self.keys[np.maximum(ends, 1) - 1], len(self.times) + 1)
        return self.times[rank - 1], (ends == 0) | (entity != entities)


def _running(values: Ints, order: Ints) -> Ints:
    sums = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values[order], out=sums[1:])
    return sums


@dataclass(frozen=True, eq=False)
class Growth:
    """What the totals of a view's events grew by in each window.

    Args:
        sizes: of each total, how many parts of 32 bits it has; 1 for a total that 64 bits hold.
        ended: where rows have ends, by window, the totals of those that have left it.
    """

    view: FeatureView
    known: Totals
    ended: Mapping[str, Totals]
    sizes: Mapping[str, int]

    @classmethod
    def read(
        cls,
        connection: DuckDBPyConnection,
        view: FeatureView,
        entities: str,
        source: str,
        as_of: str,
        *,
        versions: bool,
    ) -> Growth:
        """Read the events of some entities.

        Args:
            entities: the table of them, with their `ENTITY`, from 1.
        """
        table = connection.sql(events_sql(view, entities, source, as_of, versions=versions)).to_arrow_table()
        values: dict[str, Ints] = {}
        sizes = {}
        for term in terms(view).values():
            for part, limbs in _parts(table[_name(term.cell)], term).items():
                sizes[f"{term.x}_{part}"] = len(limbs)
                values |= {f"{term.x}_{part}_{index}": limb for index, limb in enumerate(limbs)}
        entity = table[_name(ENTITY)].to_numpy()
        ended = {
            window: Totals.of(entity, _times(table[_name(own(window))]), values)
            for window in (windows_of(view) if has_ends(view, versions=versions) else ())
        }
        return cls(view, Totals.of(entity, _times(table[_name(KNOWN_AT)]), values), ended, sizes)

    def block(self, first: int, entities: Ints, moments: pa.Table) -> pa.Table:
        """The totals of some rows of the spine.

        Args:
            first: the number `N` of the first row.
            entities: of each row; 0 if it has none.
            moments: the result of `moments_sql` for these rows.
        """
        import pyarrow as pa

        now, nobody = _times(moments[_name(KNOWN_AT)]), entities == 0
        order = np.argsort(entities, kind="stable")
        ends = self.known.ends(entities, now, order)
        newest, never = self.known.newest(entities, ends)
        columns = {
            _name(N): pa.array(np.arange(first, first + len(entities))),
            _name(KNOWN_AT): pa.array(newest, mask=never | nobody).cast(pa.timestamp("us")),
        }
        edges = {window: self._edges(window, entities, moments, ends, order) for window in windows_of(self.view)}
        for name, size in self.sizes.items():
            for index in range(size):
                grown = self.known.sums[f"{name}_{index}"][ends]
                for window, parts in edges.items():
                    left = sum(sign * totals.sums[f"{name}_{index}"][at] for totals, at, sign in parts)
                    columns[f"{_name(own(name))}_{window}_{index}"] = pa.array(grown - left, mask=nobody)
        return pa.table(columns)

    def _edges(
        self, window: str, entities: Ints, moments: pa.Table, ends: Ints, order: Ints
    ) -> list[tuple[Totals, Ints, int]]:
        """The totals, positions and signs of what does not lie in a window, of what had become known by then."""
        if not self.ended:
            return [(self.known, self.known.ends(entities, _times(moments[_name(own(window))]), order), 1)]
        ended, now = self.ended[window], _times(moments[_name(KNOWN_AT)])
        start = np.full(len(entities), _LONG_AGO)  # totals of two orders: each counts from the entity's first row
        return [
            (self.known, self.known.ends(entities, start, order), 1),
            (ended, ended.ends(entities, now, order), 1),
            (ended, ended.ends(entities, start, order), -1),
        ]

    def relation(self, block: str) -> str:
        """SQL of a registered block with the columns that `view_sql` reads, of the types that its results depend on."""
        cells = [N, KNOWN_AT]
        for term in terms(self.view).values():
            for part in term.parts:
                kind = "bigint" if part == "n" or (part == "s" and term.scale == 0) else "hugeint"
                for window in windows_of(self.view):
                    total = term.total(part, window)
                    limbs = [quote(f"{_name(total)}_{index}") for index in range(self.sizes[f"{term.x}_{part}"])]
                    higher = (f"{limb}::hugeint * {1 << _LIMB * index}::hugeint" for index, limb in enumerate(limbs))
                    whole = " + ".join([limbs[0], *list(higher)[1:]])
                    cells.append(f"({whole})::{kind} as {total}")
        return f"(select {commas(cells)} from {quote(block)})"


def _parts(column: pa.ChunkedArray, term: Term) -> dict[str, list[Ints]]:
    """The integers whose sums are the totals of a term, each in parts of 32 bits unless their sum fits in 64."""
    there, values = column.is_valid().to_numpy(), column.fill_null(0).to_numpy()
    parts = {"n": [there.astype(np.int64)]}
    size = np.abs(values.astype(np.float64))
    if term.sums:
        parts["s"] = [values] if size.sum() < _FITS else [values & _LOW, values >> _LIMB]
    if term.squares:
        parts["q"] = [values * values] if np.square(size).sum() < _FITS else _squares(values)
    return parts


def _squares(values: Ints) -> list[Ints]:
    """The squares of integers, in four parts.

    >>> [part.tolist() for part in _squares(np.array([-(2**33) - 1]))]  # 1 + 4 * 2^32 + 4 * 2^64
    [[1], [4], [4], [0]]
    """
    size = np.where(values < 0, -values, values).astype(np.uint64)  # the smallest integer is its own negative: 2^63
    low, high = size & np.uint64(_LOW), size >> np.uint64(_LIMB)
    mixed = low * high
    lowest, middle, highest = (
        (each & np.uint64(_LOW), each >> np.uint64(_LIMB)) for each in (low * low, mixed, high * high)
    )
    parts = [lowest[0], lowest[1] + 2 * middle[0], 2 * middle[1] + highest[0], highest[1]]
    return [part.astype(np.int64) for part in parts]


def entities_of(connection: DuckDBPyConnection, view: FeatureView, spine: str, entities: str, rows: int) -> Ints:
    """The entity of each row of the spine; 0 if it has none."""
    of_row = np.zeros(rows, np.int64)
    query = f"select {N}, {ENTITY} from {spine} join {entities} using ({commas(map(quote, view.entity))})"
    for batch in connection.sql(query).to_arrow_reader(1 << 20):
        of_row[batch[0].to_numpy() - 1] = batch[1].to_numpy()
    return of_row


def blocks(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """The first and the last number `N` of the rows of each block; an empty one if there are no rows.

    >>> list(blocks(5, 2)), list(blocks(0, 2))
    ([(1, 2), (3, 4), (5, 5)], [(1, 0)])
    """
    for first in range(1, max(rows, 1) + 1, size):
        yield first, min(first + size - 1, rows)


def _times(column: pa.ChunkedArray) -> Ints:
    """Times in microseconds; missing ones were before all others."""
    import pyarrow as pa

    return np.asarray(column.cast(pa.int64()).fill_null(int(_LONG_AGO)).to_numpy())


def _name(cell: str) -> str:
    """The name of one of the engine's own columns, from its SQL."""
    return cell[1:-1]
