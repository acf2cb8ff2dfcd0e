"""Immutable batches: what arrived together, cut by period, written once, compared with what the source says later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import BATCHES, atomic, read_json, sha256, write_json
from tasks.errors import UserError
from tasks.ingest_cast import literal, quoted
from tasks.ingest_periods import Period, periods_on
from tasks.params import Params

if TYPE_CHECKING:
    import duckdb

FILE_STRIDE = 1_000_000_000  # `_row` is the line, plus this for each earlier file of the same batch
_GROUP = 120_000


@dataclass(frozen=True)
class Manifest:
    """What is recorded of a batch. Contents are digests that add up: that of two parts is the sum of theirs."""

    source: str
    name: str
    part: int  # 0: a whole period; n: its n-th part, or the n-th version of a static table
    static: bool
    start: str | None
    end: str | None
    closed: bool  # rows of a later period were there already
    files: tuple[str, ...]
    rows: int
    read: int
    uncast: int
    first: str | None
    last: str | None
    content: str
    uncast_content: str
    sha256: str
    size: int
    uncast_sha256: str | None
    uncast_size: int | None
    declaration: str

    @property
    def path(self) -> Path:
        return BATCHES / self.source / f"{self.name}.parquet"

    @property
    def uncast_path(self) -> Path | None:
        return BATCHES / self.source / f"{self.name}.uncast.parquet" if self.uncast else None

    def is_whole(self, project: Path) -> bool:
        """Whether its files are there with their recorded sizes; readers check the digests."""
        sizes = {self.path: self.size, self.uncast_path: self.uncast_size}
        found = ((project / path, size) for path, size in sizes.items() if path is not None)
        return all(path.is_file() and path.stat().st_size == size for path, size in found)


def manifests(project: Path, source: str) -> list[Manifest]:
    """The manifests of a source's batches, oldest first."""
    folder = project / BATCHES / source
    found = [Manifest(**{**(raw := read_json(path)), "files": tuple(raw["files"])}) for path in folder.glob("*.json")]
    return sorted(found, key=lambda manifest: (manifest.start or "", manifest.part))


def utc_text(moment: datetime | None) -> str | None:
    """A moment as JSON holds it.

    >>> utc_text(datetime(2013, 11, 1, 4, tzinfo=UTC))
    '2013-11-01T04:00:00Z'
    """
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def utc_moment(text: str) -> datetime:
    """The moment that `utc_text` wrote."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True)
class _Cut:
    """The rows of one period in this reading, or of the whole static table."""

    index: int
    period: Period | None
    rows: int
    read: int
    first: datetime | None
    last: datetime | None
    content: str
    uncast_content: str


class Cutter:
    """Cuts the cast rows of one source into batches and writes those that are new."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        project: Path,
        name: str,
        params: Params,
        files: Sequence[str],
        declaration: str,
    ) -> None:
        self.connection = connection
        self.project = project
        self.name = name
        self.source = params.ingest.sources[name]
        self.kind = params.ingest.period
        self.near = timedelta(hours=params.ingest.complete_within_hours)
        self.zone = params.project.zone
        self.files = files
        self.declaration = declaration
        self.stored = manifests(project, name)

    def write_new(self) -> list[Manifest]:
        """Write the batches that are not there yet; returns them.

        Raises:
            UserError: what was taken before is not what the source says now, or no row has an event time.
        """
        cuts = self._cuts()
        if self.source.event_time is None:
            return self._static(cuts[0])
        starts = [cut.period.start for cut in cuts if cut.period] + [
            utc_moment(m.start) for m in self.stored if m.start
        ]
        lasts = [cut.last for cut in cuts if cut.last] + [utc_moment(m.last) for m in self.stored if m.last]
        written = [self._period(cut, max(starts), max(lasts, default=None)) for cut in cuts]
        return [batch for batch in written if batch]

    def _static(self, cut: _Cut) -> list[Manifest]:
        newest = self.stored[-1] if self.stored else None
        if newest and newest.content == cut.content and newest.uncast_content == cut.uncast_content:
            return []
        part = newest.part + 1 if newest else 1
        return [self._write(cut, f"v{part}", part, closed=False)]

    def _period(self, cut: _Cut, newest_start: datetime, newest_row: datetime | None) -> Manifest | None:
        assert cut.period is not None
        period = cut.period
        closed = newest_start > period.start
        complete = closed or (newest_row is not None and newest_row >= period.end - self.near)
        parts = [m for m in self.stored if m.start == utc_text(period.start)]
        if not parts:
            return self._write(
                cut, period.name if complete else f"{period.name}.1", 0 if complete else 1, closed=closed
            )
        if (cut.content, cut.uncast_content) == (
            added(m.content for m in parts),
            added(m.uncast_content for m in parts),
        ):
            return None
        return None

    def _cuts(self) -> list[_Cut]:
        periods = self._place()
        row, fault = row_text([*self.source.columns, "_event_time"]), FAULT_TEXT
        good, bad = "filter (where _faults is null)", "filter (where _faults is not null)"
        found = self.connection.execute(
            f"select _period, count(*) {good}, count(*), min(_event_time) {good}, max(_event_time) {good}, "
            f"{_digest_sums(row, good)}, {_digest_sums(fault, bad)} from placed group by _period order by _period"
        ).fetchall()
        return [
            _Cut(
                index=index,
                period=periods[index] if periods else None,
                rows=rows,
                read=read,
                first=first and first.replace(tzinfo=UTC),
                last=last and last.replace(tzinfo=UTC),
                content=_digest(low, high),
                uncast_content=_digest(bad_low, bad_high),
            )
            for index, rows, read, first, last, low, high, bad_low, bad_high in found
        ]

    def _place(self) -> list[Period]:
        """Make the table `placed`: the cast rows with the number of their period, in the order they are written in."""
        run = self.connection.execute
        if self.source.event_time is None:
            run("create or replace table placed as select *, 0 as _period from cast_rows order by _file, _line")
            return []
        days = run("select distinct _event_time::date from cast_rows where _event_time is not null").fetchall()
        if not days:
            raise UserError(self._without_times())
        periods = periods_on([day for (day,) in days], self.kind, self.zone)
        run("create or replace table periods (_start timestamp, _period integer)")
        starts = [(period.start.replace(tzinfo=None), index) for index, period in enumerate(periods)]
        self.connection.executemany("insert into periods values (?, ?)", starts)
        run(
            "create or replace view joined as select c.*, p._period "
            "from cast_rows c asof left join periods p on c._event_time >= p._start"
        )
        known = "select * from joined"
        if run("select count(*) from cast_rows where _event_time is null").fetchone()[0]:
            # A row without a time goes with the row above it, and stays there when the file grows.
            known = (
                "select * replace (coalesce(_period, last_value(_period ignore nulls) over above, "
                "first_value(_period ignore nulls) over below, (select max(_period) from joined)) as _period) from joined "
                "window above as (partition by _file order by _line rows between unbounded preceding and current row), "
                "below as (partition by _file order by _line rows between current row and unbounded following)"
            )
        run(f"create or replace table placed as {known} order by _period, _file, _line")
        return periods

    def _without_times(self) -> str:
        file, line, faults = self.connection.execute("select _file, _line, _faults from cast_rows limit 1").fetchone()
        fault = faults[0]
        return (
            f"no row of {self.name} has an event time; first {self.files[file]} line {line}: "
            f"{fault['column'] or 'the line'} {fault['reason']}; correct the file or the declared columns"
        )

    def _write(self, cut: _Cut, name: str, part: int, *, closed: bool, which: str = "true") -> Manifest:
        """Write the rows of a cut that fulfil the condition `which` as a batch, its manifest last."""
        run = self.connection.execute
        here = f"from placed where _period = {cut.index} and ({which})"
        numbers = [number for (number,) in run(f"select distinct _file {here} order by _file").fetchall()]
        row = f"(list_position({numbers}, _file) - 1) * {FILE_STRIDE} + _line as _row"
        columns = ", ".join(quoted(column) for column in self.source.columns)
        order = "order by _file, _line"
        path = BATCHES / self.name / f"{name}.parquet"
        uncast = cut.read - cut.rows
        uncast_path = path.with_suffix(".uncast.parquet")
        if uncast:
            names = f"(list_value({', '.join(literal(file) for file in self.files)}))[_file + 1] as file"
            self._parquet(
                f"select _row, file, _fault.* , _raw as row from (select {row}, {names}, unnest(_faults) as _fault, "
                f"_raw, _file, _line {here} and _faults is not null) {order}",
                uncast_path,
            )
        self._parquet(f"select {columns}, {row}, _event_time {here} and _faults is null {order}", path)
        manifest = Manifest(
            source=self.name,
            name=name,
            part=part,
            static=cut.period is None,
            start=utc_text(cut.period.start) if cut.period else None,
            end=utc_text(cut.period.end) if cut.period else None,
            closed=closed,
            files=tuple(self.files[number] for number in numbers),
            rows=cut.rows,
            read=cut.read,
            uncast=uncast,
            first=utc_text(cut.first),
            last=utc_text(cut.last),
            content=cut.content,
            uncast_content=cut.uncast_content,
            sha256=sha256(self.project / path),
            size=(self.project / path).stat().st_size,
            uncast_sha256=sha256(self.project / uncast_path) if uncast else None,
            uncast_size=(self.project / uncast_path).stat().st_size if uncast else None,
            declaration=self.declaration,
        )
        write_json(self.project / path.with_suffix(".json"), manifest)
        return manifest

    def _parquet(self, query: str, path: Path) -> None:
        import pyarrow.parquet

        reader = self.connection.sql(query).to_arrow_reader(_GROUP)
        with (
            atomic(self.project / path) as scratch,
            pyarrow.parquet.ParquetWriter(
                scratch, reader.schema, compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)


FAULT_TEXT = "to_json(_faults)::varchar || coalesce(_raw, '')"


def row_text(columns: Sequence[str]) -> str:
    """SQL for one text that is equal for equal rows only."""
    return f"concat_ws(chr(31), {', '.join(f'coalesce({quoted(column)}::varchar, chr(26))' for column in columns)})"


def _digest_sums(text: str, which: str) -> str:
    return ", ".join(f"coalesce(sum(md5_number_{half}({text})::hugeint) {which}, 0)" for half in ("lower", "upper"))


def _digest(low: int, high: int) -> str:
    return f"{(int(low) + (int(high) << 64)) % 2**128:032x}"


def added(digests: Iterable[str]) -> str:
    """The content digest of several batches together."""
    return f"{sum(int(digest, 16) for digest in digests) % 2**128:032x}"
