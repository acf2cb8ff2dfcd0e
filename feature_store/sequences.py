"""Sequences: the newest rows of an entity that were known at each prediction, as lists of steps.

DuckDB sorts the source's rows by entity and event, and an ASOF join gives each prediction the position of the newest
event that was known by then. From there a sequence is read backwards in NumPy, past the rows that were not known yet.
Where rows become known in the order of their events, a prediction costs as many rows as its sequence has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.compile import ENTITY, SINCE, UNTIL, N, ago, commas, known_sql, own
from feature_store.definition import FeatureView, Sequence
from feature_store.sql_text import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

Ints = NDArray[np.int64]

FIRST_WIDTH = 256  # positions looked at for each prediction at first, if a sequence may be longer
AT_ONCE = 1 << 21  # positions looked at in one piece, so that they need little memory
BATCH_VALUES = 1 << 24  # values in a batch of results
_LONG_AGO, _NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def entities_sql(view: FeatureView, spine: str) -> str:
    """Number the entities of the spine's rows: numbers sort faster than texts."""
    entity = commas(map(quote, view.entity))
    someone = " and ".join(f"{quote(name)} is not null" for name in view.entity)
    return f"select *, row_number() over () as {ENTITY} from (select distinct {entity} from {spine} where {someone})"


def ordered_sql(
    view: FeatureView, feature: Sequence, entities: str, source: str, as_of: str, *, versions: bool = False
) -> str:
    """Select the visible rows of the entities, sorted by entity and event.

    The columns: entity, position, time when it became known (microseconds), the last such time of the entity's earlier
    rows, the values; of a source of `versions` also `until` and `first`, see `Events`.
    """
    values = {own(f"y{index}"): _value(column) for index, column in enumerate(feature.columns)}
    return sorted_sql(view, values, entities, source, as_of, ("event_time", "available_at"), versions=versions)


def sorted_sql(
    view: FeatureView,
    values: Mapping[str, str],
    entities: str,
    source: str,
    as_of: str,
    by: tuple[str, str],
    *,
    versions: bool,
) -> str:
    """Select the visible rows of the entities, sorted by entity, two times and values.

    Args:
        values: column -> its SQL.
        by: the two times, event_time and available_at.
    """
    visible = known_sql(
        view, source, as_of, ["event_time", *(f"{sql} as {cell}" for cell, sql in values.items())], versions=versions
    )
    order = commas([ENTITY, *by, *(f"{cell} nulls first" for cell in values)])
    known, more = "available_at", ""
    if versions:
        known, more = SINCE, f"epoch_us({UNTIL}) as until, epoch_us(available_at) as first, available_at, "
    return (
        f"select * exclude (known), known, max(known) over (partition by {ENTITY} order by position "
        f"rows between unbounded preceding and 1 preceding) as earlier from ("
        f"select {ENTITY}, row_number() over (order by {order}) - 1 as position, epoch_us({known}) as known, {more}"
        f"{commas(values)} from ({visible}) join {entities} using ({commas(map(quote, view.entity))})) "
        "order by position"
    )


def _value(column: str) -> str:
    """A finite float32, with one zero: rows that differ only in the sign of a zero would have no order."""
    number = f"({column})::double"
    return f"case when {number} = 0 then 0::float when isfinite({number}) then {number}::float end"


def newest_sql(
    view: FeatureView, window: str | None, spine: str, entities: str, ordered: str, zone: str | None = None
) -> str:
    """Select the rows of the spine that have a known row, with the positions of the newest and of the entity's first.

    Times are in microseconds; `after` is the beginning of the window.
    """
    after = ago("spine.prediction_time", window, zone) if window else "null::timestamp"
    newest = (
        f"select {ENTITY}, known, max(position) over (partition by {ENTITY} order by known) as position, "
        f"min(position) over (partition by {ENTITY}) as first from {ordered}"
    )
    return (
        f"select spine.{N} - 1 as row, newest.position, newest.first, epoch_us(spine.prediction_time) as time, "
        f"epoch_us({after}) as after from (select * from {spine} join {entities} using "
        f"({commas(map(quote, view.entity))})) as spine asof join ({newest}) as newest "
        f"on spine.{ENTITY} = newest.{ENTITY} and epoch_us(spine.prediction_time) >= newest.known order by row"
    )


@dataclass(frozen=True, eq=False)
class Events:
    """Rows of a source, sorted by entity and event."""

    known: Ints  # when it became known, in microseconds
    earlier: Ints  # the last such time of the entity's earlier rows
    values: NDArray[np.float32]  # (rows, values), NaN where it is missing
    first: Ints  # when the row became known in any version, which decides whether it lies in a window
    until: Ints | None = None  # when a newer version of the row became known; None in a source without versions

    @classmethod
    def read(cls, connection: DuckDBPyConnection, ordered: str, columns: int) -> Events:
        table = connection.sql(f"select * from {ordered} order by position").to_arrow_table()
        values = np.empty((table.num_rows, columns), np.float32)
        for index in range(columns):
            values[:, index] = table[own(f"y{index}")[1:-1]].to_numpy()
        known, earlier = table["known"].to_numpy(), _or_long_ago(table["earlier"])
        if "until" not in table.column_names:
            return cls(known, earlier, values, first=known)
        until = table["until"].fill_null(int(_NEVER)).to_numpy()
        return cls(known, earlier, values, first=table["first"].to_numpy(), until=until)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Rows of the spine that have a known row, in order."""

    row: Ints  # its index in the spine
    newest: Ints  # position of the newest event that is known
    first: Ints  # position of the entity's first row
    time: Ints  # in microseconds
    after: Ints  # rows that became known at or before it do not count

    @classmethod
    def read(cls, connection: DuckDBPyConnection, query: str) -> Predictions:
        table = connection.sql(query).to_arrow_table()
        row, newest, first, time = (table[name].to_numpy() for name in ("row", "position", "first", "time"))
        return cls(row, newest, first, time, _or_long_ago(table["after"]))

    def take(self, index: Ints) -> Predictions:
        parts = (self.row, self.newest, self.first, self.time, self.after)
        return Predictions(*(part[index] for part in parts))


def _or_long_ago(times: pa.ChunkedArray) -> Ints:
    return np.asarray(times.fill_null(int(_LONG_AGO)).to_numpy(), np.int64)


@dataclass(frozen=True, eq=False)
class Lists:
    """The steps of each row of the spine: `positions[ends[row] - lengths[row] : ends[row]]`, the oldest first."""

    values: NDArray[np.float32]  # by position
    lengths: Ints
    ends: Ints
    positions: Ints

    @classmethod
    def find(cls, connection: DuckDBPyConnection, feature: Sequence, ordered: str, newest: str, rows: int) -> Lists:
        """Find the steps of each row of the spine.

        Args:
            ordered: the table of `ordered_sql`.
            newest: the query of `newest_sql`.
            rows: of the spine.
        """
        events = Events.read(connection, ordered, len(feature.columns))
        parts = list(read_back(events, Predictions.read(connection, newest), feature.last))
        lengths = np.zeros(rows, np.int64)
        for row, length, _ in parts:
            lengths[row] = length
        ends = np.cumsum(lengths)
        positions = np.empty(ends[-1] if rows else 0, np.int64)
        for row, length, found in parts:
            shift = ends[row] - np.cumsum(length)
            positions[np.arange(len(found)) + np.repeat(shift, length)] = found
        return cls(events.values, lengths, ends, positions)

    def cells(self, start: int, stop: int) -> pa.Array:
        """The sequences of some rows of the spine; null where there is no step."""
        import pyarrow as pa

        lengths = self.lengths[start:stop]
        first = self.ends[start] - self.lengths[start]
        steps = self.values[self.positions[first : self.ends[stop - 1]]]
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        inner = pa.FixedSizeListArray.from_arrays(pa.array(steps.ravel()), self.values.shape[1])
        return pa.ListArray.from_arrays(pa.array(offsets), inner, mask=pa.array(lengths == 0))


def read_back(events: Events, predictions: Predictions, last: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield rows, the length of each one's sequence, and the positions of their steps, one after the other.

    A row whose stretch of positions holds too few known ones waits for the next round, in which it is twice as long.
    """
    width = min(last, FIRST_WIDTH)
    while len(predictions.row):
        waiting = []
        size = max(1, AT_ONCE // width)
        for start in range(0, len(predictions.row), size):
            chunk = predictions.take(np.arange(start, min(start + size, len(predictions.row))))
            lowest = np.maximum(chunk.newest - width + 1, chunk.first)
            positions = chunk.newest[:, None] + np.arange(1 - width, 1)
            there = np.maximum(positions, 0)
            counts = (positions >= lowest[:, None]) & (events.known[there] <= chunk.time[:, None])
            counts &= events.first[there] > chunk.after[:, None]
            if events.until is not None:
                counts &= events.until[there] > chunk.time[:, None]
            lengths = counts.sum(axis=1)
            complete = (lengths >= last) | (events.earlier[lowest] <= chunk.after)
            waiting.append(start + np.flatnonzero(~complete))
            chosen = counts[complete]
            chosen &= np.cumsum(chosen[:, ::-1], axis=1)[:, ::-1] <= last
            yield chunk.row[complete], chosen.sum(axis=1), positions[complete][chosen]
        predictions = predictions.take(np.concatenate(waiting))
        width *= 2


def reader(columns: Mapping[str, Lists], rows: int) -> pa.RecordBatchReader:
    """The sequences of all rows of the spine in batches: `N`, and a column for each name."""
    import pyarrow as pa

    widths = {name: lists.values.shape[1] for name, lists in columns.items()}
    fields = {name: pa.list_(pa.list_(pa.float32(), width)) for name, width in widths.items()}
    schema = pa.schema({N[1:-1]: pa.int64(), **fields})
    most = max(widths[name] * max(1, int(lists.lengths.max(initial=0))) for name, lists in columns.items())
    size = max(1, BATCH_VALUES // most)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            numbers = pa.array(np.arange(start + 1, stop + 1))
            yield pa.record_batch([numbers, *(lists.cells(start, stop) for lists in columns.values())], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
