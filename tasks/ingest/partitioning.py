"""Partitions the cast rows of one source into new batches by period, in parts while a period grows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.sql_text import literal, quote
from refit.config import Params
from refit.config.section import row_column, time_column
from refit.errors import UserError
from refit.files.artifacts import BATCHES, sha256
from refit.schemas.manifest import Manifest
from refit.storage import waiting
from refit.storage.batches import FILE_STRIDE, FUTURE, combine_digests, manifests, write_parquet
from tasks.ingest import repeats
from tasks.ingest.batch_diff import FRESH, BatchDiff, compare, fault_text, row_text
from tasks.ingest.casting import cells
from tasks.ingest.late_rows import LateRows
from tasks.ingest.periods import Period, periods_on

if TYPE_CHECKING:
    import duckdb

WAITS = f"coalesce(list_contains(list_transform(_faults, lambda f: f.reason), {literal(FUTURE)}), false)"
_GROUP = 122_880  # rows; DuckDB's row group size, so that readers need not split again
_GROUP_VALUES = 1 << 26  # of images and vectors: a group of large ones has fewer rows


@dataclass(frozen=True)
class Cut:
    """Number and digests of the rows read for one period, or for a whole static table."""

    index: int
    rows: int
    read: int
    first: datetime | None
    last: datetime | None
    content: str
    uncast_content: str


class Partitioner:
    """Partitions the table `cast_rows` by period, and writes what is not stored yet."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        project: Path,
        name: str,
        params: Params,
        files: Mapping[int, str],
        declaration: str,
        stand_in: str | None,
        *,
        now: datetime,
        whole: bool = True,
        delivered: datetime | None = None,
    ) -> None:
        """Args:
        now: when the rows are read; of a delivery, when it came.
        whole: whether the rows are all of their files, and not only those that a table has newly.
        delivered: of a snapshot, the time of the delivery that the rows are.
        """
        self.whole = whole
        self.delivered = delivered
        self.connection = connection
        self.project = project
        self.name = name
        self.source = params.ingest.sources[name]
        self.kind = params.ingest.period
        self.near = timedelta(hours=params.ingest.complete_within_hours)
        self.zone = params.project.zone
        self.files = files
        self.declaration = declaration
        self.stand_in = stand_in
        self.stored = manifests(project, name)
        self.periods: list[Period] = []
        self.repeats: dict[int, int] = {}  # by period: number of rows that repeat another one
        self._counted: set[int] = set()  # periods whose repeated rows are recorded
        earlier = (
            self.stored if delivered is None else [m for m in self.stored if m.delivered and m.delivered < delivered]
        )
        self.late_rows = LateRows(connection, project, params, name, earlier, files, now)

    def assign_periods(self) -> list[datetime]:
        """Create the table `placed`, the cast rows with their period number; returns the starts of the periods.

        Raises:
            UserError: a file has no row, or none with an event time.
        """
        self._leave_future()
        if self.whole:
            self._check_something_left()
        run = self.connection.execute
        if self.source.event_time is None:
            run("create or replace table placed as select *, 0 as _period from cast_rows order by _file, _line")
            self._drop_repeats()
            return []
        days = run("select distinct _event_time::date from cast_rows where _event_time is not null").fetchall()
        newest = [] if self.whole else [batch.last for batch in self.stored[-1:] if batch.last]
        others = newest if self.delivered is None else [batch.start for batch in self.stored if batch.start]
        self.periods = periods_on([day for (day,) in days] + [each.date() for each in others], self.kind, self.zone)
        run("create or replace table periods (_start timestamp, _period integer)")
        starts = [period.start.replace(tzinfo=None) for period in self.periods]
        run("insert into periods select unnest($starts), unnest(range(len($starts)))", {"starts": starts})
        run(
            "create or replace view joined as select c.*, p._period "
            "from cast_rows c asof left join periods p on c._event_time >= p._start"
        )
        rows = "select * from joined"
        if run("select count(*) from cast_rows where _event_time is null").fetchone()[0]:
            # A row without a time gets the period of the row above, so that it stays there when the file grows.
            stored = next((n for n, each in enumerate(self.periods) for last in newest if last < each.end), 0)
            rows = (
                "select * replace (coalesce(_period, last_value(_period ignore nulls) over above, "
                f"first_value(_period ignore nulls) over below, {stored}) as _period) from joined "
                "window above as (partition by _file order by _line rows between unbounded preceding and current row), "
                "below as (partition by _file order by _line rows between current row and unbounded following)"
            )
        run(f"create or replace table placed as {rows} order by _period, _file, _line")
        self._drop_repeats()
        repeats.check(self.connection, self._key(), self.files, f"ingest.sources.{self.name}")
        numbers = run("select distinct _period from placed order by _period").fetchall()
        return [self.periods[index].start for (index,) in numbers]

    def _drop_repeats(self) -> None:
        self.repeats = repeats.drop(self.connection, list(cells(self.source).values()), list(self._key()))

    def write_new(self, starts: Collection[datetime]) -> list[Manifest]:
        """Write the new rows of the periods that start at `starts`, or of the static table; returns the new batches.

        Raises:
            UserError: stored rows differ from those of the source.
        """
        cuts = self.measure("placed")
        waiting.load(self.connection, self.project, self.stored)
        if self.source.event_time is None:
            return self._static(cuts[0])
        repeats.check_versions(self.connection, self.project, self.name, self.source, self.stored, self.files)
        newest = [self.periods[cut.index].start for cut in cuts] + [m.start for m in self.stored if m.start]
        lasts = [cut.last for cut in cuts if cut.last] + [m.last for m in self.stored if m.last]
        reaches = self._reaches()
        by_start = {self.periods[cut.index].start: cut for cut in cuts}
        self.late_rows.newest = max(lasts, default=None)
        written: list[Manifest] = []
        for start in sorted(starts):
            parts = [manifest for manifest in self.stored if manifest.start == start]
            if start not in by_start:
                self._check_gone(parts, reaches)
            else:
                written += self._period(by_start[start], parts, max(newest), max(lasts, default=None), reaches)
        return written

    def index_of(self, start: datetime) -> int:
        """The number of the period that begins at a moment."""
        return next(index for index, period in enumerate(self.periods) if period.start == start)

    def _reaches(self) -> dict[str, datetime]:
        """Return the earliest event time of each file, from which on it has all its rows."""
        if not self.whole:
            return {}
        earliest = self.connection.execute("select _file, min(_event_time) from cast_rows group by _file").fetchall()
        return {self.files[number]: since.replace(tzinfo=UTC) for number, since in earliest if since}

    def _check_gone(self, parts: Sequence[Manifest], reaches: Mapping[str, datetime]) -> None:
        """Check that a period without rows in this reading is older than the earliest rows of its files."""
        lasts = [(part.last, file) for part in parts if part.last for file in part.files]
        if any(file in reaches and reaches[file] <= last for last, file in lasts):
            nothing = "(from placed where false)"
            diff = compare(self.connection, self.project, nothing, parts, self.source, self.files, reaches)
            if diff.contradicts:
                name = parts[0].name.partition(".")[0]
                raise UserError(self._changed(name, parts, Cut(0, 0, 0, None, None, combine_digests([]), ""), diff))

    def _static(self, cut: Cut) -> list[Manifest]:
        newest = self.stored[-1] if self.stored else None
        if newest and (newest.content, newest.uncast_content) == (cut.content, cut.uncast_content):
            return []
        part = newest.part + 1 if newest else 1
        return [self.write("placed", cut, None, f"v{part}", part, closed=False)]

    def _period(
        self,
        cut: Cut,
        parts: Sequence[Manifest],
        newest: datetime,
        last: datetime | None,
        reaches: Mapping[str, datetime],
    ) -> list[Manifest]:
        period = self.periods[cut.index]
        closed = newest > period.start
        here = f"(from placed where _period = {cut.index})"
        if not parts:
            return self.first_batches(here, cut, period, last, closed=closed)
        stored = combine_digests(part.content for part in parts), combine_digests(part.uncast_content for part in parts)
        if (cut.content, cut.uncast_content) == stored:
            return []
        diff = compare(self.connection, self.project, here, parts, self.source, self.files, reaches)
        changing = self.source.kind == "query" or not self.source.changes.is_append
        may_grow = not parts[-1].closed or changing  # the sources of a query were allowed to grow
        if diff.contradicts or (diff.new and not may_grow):
            raise UserError(self._changed(period.name, parts, cut, diff))
        if not diff.new:
            return []
        if self.whole:  # what a table gives again is no row that repeats another
            self.repeats[cut.index] = self.repeats.get(cut.index, 0) + diff.repeated
        if self._one(f"select bool_and({WAITS}) from {FRESH}"):
            return []
        return self.further_parts(FRESH, period, max(parts[-1].part, 1) + 1, closed=closed)

    def first_batches(
        self, here: str, cut: Cut, period: Period, last: datetime | None, *, closed: bool
    ) -> list[Manifest]:
        """Write the first rows of a period: all of it if they are complete and came in time, else a part."""
        if self.late_rows.any_in(here):
            return self.further_parts(here, period, 1, closed=closed)
        complete = closed or (last is not None and last >= period.end - self.near)
        name, part = (period.name, 0) if complete else (f"{period.name}.1", 1)
        return [self.write(here, cut, period, name, part, closed=closed)]

    def further_parts(self, fresh: str, period: Period, part: int, *, closed: bool) -> list[Manifest]:
        """Write new rows as a further part of a period; those that came late as a part of their own, before it."""
        written: list[Manifest] = []
        for rows, arrived in self.late_rows.split(fresh):
            (cut,) = self.measure(rows)
            name, number = f"{period.name}.{part + len(written)}", part + len(written)
            written.append(self.write(rows, cut, period, name, number, closed=closed, arrived=arrived))
        return written

    def _changed(self, period: str, parts: Sequence[Manifest], cut: Cut, diff: BatchDiff) -> str:
        stored = combine_digests(part.content for part in parts)
        hint = (
            f"; a period that a later one follows may not grow, unless ingest.sources.{self.name}.changes says that "
            "rows come late"
            if not diff.contradicts
            else ""
        )
        return (
            f"batch {self.name}/{period} has changed: recorded {sum(part.rows for part in parts):,} rows with digest "
            f"{stored[:16]}, now {cut.rows:,} rows with digest {cut.content[:16]} ({diff.describe()}){hint}; "
            f"put the source back or, if the change is meant, delete {BATCHES / self.name}/{period}* and run again"
        )

    def _leave_future(self) -> None:
        """Leave out files that only have future rows: they are read again once the first row is due."""
        waiting = f"(select _file from cast_rows group by _file having bool_and({WAITS}))"
        if self.stored or self._one(f"select count(*) from cast_rows where _file not in {waiting}"):
            self.connection.execute(f"delete from cast_rows where _file in {waiting}")

    def _key(self) -> dict[str, str]:
        """Map the key's columns in `placed` to their own names."""
        names = cells(self.source)
        return {names[name]: name for name in self.source.row_key}

    def _one(self, query: str) -> Any:
        (value,) = self.connection.execute(query).fetchone() or (None,)
        return value

    def _check_something_left(self) -> None:
        usable = "_raw is null" if self.source.event_time is None else "_event_time is null"
        unusable = self.connection.execute(
            f"select _file, min_by(_line, _line), min_by(_faults, _line) from cast_rows "
            f"group by _file having count(*) = count(*) filter (where _faults is not null and {usable}) order by _file"
        ).fetchone()
        if unusable is None:
            return
        fault = unusable[2][0]
        what = f"{fault['column'] or 'the line'} {fault['value'] or ''}".strip()
        missing = "can be read" if self.source.event_time is None else "has an event time"
        raise UserError(
            f"no row of {self.files[unusable[0]]} {missing}: line {unusable[1]}: {what} {fault['reason']}; "
            f"correct the file, or the columns and event_time of ingest.sources.{self.name} in params.yaml"
        )

    def measure(self, relation: str) -> list[Cut]:
        """Count and digest the rows of `relation` by period."""
        row, fault = row_text([*cells(self.source).values(), "_event_time"]), fault_text()
        good, bad = "filter (where _faults is null)", "filter (where _faults is not null)"
        sums = self.connection.execute(
            f"select _period, count(*) {good}, count(*), min(_event_time), max(_event_time), "
            f"{_digest_sums(row, good)}, {_digest_sums(fault, bad)} from {relation} group by _period order by _period"
        ).fetchall()
        return [
            Cut(
                index=index,
                rows=rows,
                read=read,
                first=first and first.replace(tzinfo=UTC),
                last=last and last.replace(tzinfo=UTC),
                content=_digest(low, high),
                uncast_content=_digest(bad_low, bad_high),
            )
            for index, rows, read, first, last, low, high, bad_low, bad_high in sums
        ]

    def write(
        self,
        here: str,
        cut: Cut,
        period: Period | None,
        name: str,
        part: int,
        *,
        closed: bool,
        arrived: datetime | None = None,
        deletes: bool = False,
    ) -> Manifest:
        """Write the rows of the relation `here` as one batch; the manifest is written last and makes it valid."""
        numbers = [n for (n,) in self.connection.execute(f"select distinct _file from {here} order by 1").fetchall()]
        number = f"(list_position({numbers}, _file)::bigint - 1) * {FILE_STRIDE} + _line"
        path, arrives_from = BATCHES / self.name / f"{name}.parquet", self.late_rows.first_arrival(here)
        uncast, uncast_path = cut.read - cut.rows, path.with_suffix(".uncast.parquet")
        if uncast:
            self._write_rows(self._uncast_query(here, f"{number} as _row"), uncast_path)
        waited = waiting.take(self.connection, here) if period and not deletes else {}
        columns = ", ".join(f"{cell} as {quote(name)}" for name, cell in cells(self.source).items())
        row, time = quote(row_column(self.source.columns)), quote(time_column(self.source.columns))
        self._write_rows(
            f"select {columns}, {number} as {row}, _event_time as {time} from {here} where _faults is null "
            "order by _file, _line",
            path,
        )
        manifest = Manifest(
            source=self.name,
            name=name,
            part=part,
            static=period is None,
            start=period.start if period else None,
            end=period.end if period else None,
            closed=closed,
            files=tuple(self.files[number] for number in numbers),
            rows=cut.rows,
            rows_read=cut.read,
            uncast=uncast,
            first=cut.first,
            last=cut.last,
            content=cut.content,
            uncast_content=cut.uncast_content,
            sha256=sha256(self.project / path),
            size=(self.project / path).stat().st_size,
            uncast_sha256=sha256(self.project / uncast_path) if uncast else None,
            uncast_size=(self.project / uncast_path).stat().st_size if uncast else None,
            declaration=self.declaration,
            stand_in=self.stand_in,
            repeats=self._repeats_once(cut.index),
            waited=waited,
            arrived=arrived,
            arrives_from=arrives_from,
            delivered=self.delivered,
            delivered_rows=self._one("select count(*) from placed") if self.delivered and self.late_rows.stored else 0,
            deletes=deletes,
        )
        manifest.write(self.project / path.with_suffix(".json"))
        return manifest

    def _repeats_once(self, index: int) -> int:
        """The repeated rows of a period, for the first of the parts that are written now."""
        first = index not in self._counted
        self._counted.add(index)
        return self.repeats.get(index, 0) if first else 0

    def _uncast_query(self, here: str, numbered: str) -> str:
        names = " ".join(f"when {number} then {literal(name)}" for number, name in self.files.items())
        return (
            f'select _row, file, _fault."column", _fault."value", _fault.reason, _raw as "row" from ('
            f"select {numbered}, case _file {names} end as file, unnest(_faults) as _fault, "
            f"generate_subscripts(_faults, 1) as _place, _raw from {here} where _faults is not null) "
            "order by _row, _place"
        )

    def _write_rows(self, query: str, path: Path) -> None:
        values = sum(array.size for array in self.source.arrays.values())
        rows = max(1, min(_GROUP, _GROUP_VALUES // max(1, values)))
        write_parquet(self.project / path, self.connection.sql(query).to_arrow_reader(rows))


def _digest_sums(text: str, which: str) -> str:
    return ", ".join(f"coalesce(sum(md5_number_{half}({text})::hugeint) {which}, 0)" for half in ("lower", "upper"))


def _digest(low: int, high: int) -> str:
    return f"{(int(low) + (int(high) << 64)) % 2**128:032x}"
