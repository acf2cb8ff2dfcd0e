"""Finds what a delivery of a snapshot changed, and stores it: new rows, new versions of rows, and deletions.

What is stored is what corrections are: versions of rows, each known from its arrival on. So nothing that reads batches
has to know of deliveries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from feature_store.sql_text import quote
from refit.config.section import row_column, time_column
from refit.errors import UserError, counted
from refit.files.artifacts import BATCHES
from refit.schemas.manifest import Manifest
from refit.storage import waiting
from tasks.ingest.batch_diff import fault_text, faulty, has_key, row_text
from tasks.ingest.casting import cells
from tasks.ingest.deliveries import Delivery
from tasks.ingest.partitioning import WAITS, Partitioner

if TYPE_CHECKING:
    import pyarrow as pa

_NEW, _GONE = "new_rows", "gone_rows"
_COPY = "row_number() over (partition by content order by {}) as copy"  # of a row that could not be cast
_ROUNDING = 1e-9  # 0.29 * 100 is less than 29


class ReplacedRows:
    """The rows of one delivery, compared with those that were there before it.

    Args:
        partitioner: with the rows of the delivery, placed in their periods.
        must_be_known: whether this is a delivery that was read before, or one that is older than those.
    """

    def __init__(self, partitioner: Partitioner, delivery: Delivery, *, must_be_known: bool) -> None:
        self._rows = partitioner
        self._delivery = delivery
        self._must_be_known = must_be_known
        self.summary: str | None = None  # of a delivery that differs from an earlier one
        self._run = partitioner.connection.execute
        self._source = partitioner.source
        self._where = f"ingest.sources.{partitioner.name}"
        names = cells(partitioner.source)
        self._key = [names[name] for name in partitioner.source.key]
        self._cells = names

    def write(self) -> list[Manifest]:
        """Write what differs; returns the new batches, none if nothing does.

        Raises:
            UserError: two rows have one key, there is no row, too many are missing, or an old delivery differs.
        """
        self._check_keys()
        stored = [part for part in self._rows.stored if part.delivered and part.delivered <= self._delivery.moment]
        self._compare(stored)
        new, changed, gone, before = self._counts()
        faults = self._one(f"select count(*) from {_NEW} where _faults is not null and not {WAITS}")
        if self._must_be_known and (new or gone or faults):
            raise UserError(self._differs(new - changed, changed, gone, faults))
        self._check_missing(gone, before)
        if not gone and not self._one(f"select count(*) from {_NEW}"):
            return []
        self._load_gone(stored)
        written = self._write()
        if before:
            self.summary = (
                f"{counted(new - changed, 'row is', 'rows are')} new, {changed:,} changed and {gone:,} deleted"
            )
        return written

    def _check_keys(self) -> None:
        """Refuse a delivery without rows, and one that has two different rows under one key."""
        if not self._one("select count(*) from placed where _faults is null"):
            raise UserError(
                f"{self._title} has no row that can be read: a delivery replaces all rows; deliver it again"
            )
        columns = ", ".join(self._key)
        pairs = (
            f"select arg_min(_file, (_file, _line)), arg_min(_line, (_file, _line)), arg_max(_file, (_file, _line)), "
            f"arg_max(_line, (_file, _line)), {columns} from placed where _faults is null group by {columns} "
            "having count(*) > 1"
        )
        first = self._run(f"{pairs} order by all limit 1").fetchone()
        if first is None:
            return
        number = self._one(f"select count(*) from ({pairs})")
        file, line, file_2, line_2, *values = first
        shown = ", ".join(f"{column} {value}" for column, value in zip(self._source.key, values, strict=True))
        raise UserError(
            f"{self._rows.files[file]} line {line} and {self._rows.files[file_2]} line {line_2} differ and have one "
            f"key ({shown}), as have {number:,} in all: one delivery has one row for each key; correct it, or change "
            f"{self._where}.key"
        )

    def _compare(self, stored: Sequence[Manifest]) -> None:
        """Create the tables `_NEW`, rows of the delivery that were not there, and `gone`, rows that are missing."""
        self._load(stored)
        run = self._run
        run(
            "create or replace temp table there as select key, content, part, number from (select * from versions "
            "qualify row_number() over (partition by key order by delivered desc) = 1) where not deletes"
        )
        content = row_text([*self._cells.values(), "_event_time"])
        key = f"md5_number({row_text(self._key)})"
        run(
            f"create or replace temp table here as select _file, _line, _faults is null as good, {key} as key, "
            f"md5_number({content}) as content from placed where _faults is null or {has_key(self._key)}"
        )
        run(
            "create or replace temp table differing as select * from here h where good and not exists "
            "(select 1 from there t where t.key = h.key and t.content = h.content)"
        )
        run(
            f"create or replace temp table bad as select _file, _line, md5_number({fault_text()}) as content "
            "from placed where _faults is not null"
        )
        run(
            f"create or replace temp table {_NEW} as select p.* from placed p semi join (select _file, _line "
            f"from differing union all select _file, _line from (select *, {_COPY.format('_file, _line')} from bad) "
            f"anti join (select content, {_COPY.format('content')} from bad_before) using (content, copy)) "
            "using (_file, _line)"
        )
        run(
            "create or replace temp table gone as select part, number, row_number() over (order by part, number) "
            "as nth from there anti join here using (key)"
        )

    def _load(self, stored: Sequence[Manifest]) -> None:
        """Create the tables of all stored versions of rows, and of the rows that could not be cast."""
        run, source = self._run, self._source
        run(
            "create or replace temp table versions (key uhugeint, content uhugeint, part integer, number bigint, "
            "delivered timestamp, deletes boolean)"
        )
        run("create or replace temp table bad_before (content uhugeint)")
        number, time = quote(row_column(source.columns)), time_column(source.columns)
        for index, part in enumerate(stored):
            assert part.delivered is not None
            with self._registered(part.rows_table(self._rows.project)):
                run(
                    f"insert into versions select md5_number({row_text(source.key)}), "
                    f"md5_number({row_text([*source.columns, time])}), ?, {number}, ?, ? from part",
                    [index, part.delivered.replace(tzinfo=None), part.deletes],
                )
            if (uncast := part.uncast_table(self._rows.project)) is not None:
                with self._registered(uncast):
                    run(f"insert into bad_before select md5_number({fault_text()}) from {faulty('part')}")

    def _load_gone(self, stored: Sequence[Manifest]) -> None:
        """Create the table of the rows that are missing, copied from their batches, as rows of this delivery."""
        run, source = self._run, self._source
        run(f"create or replace temp table {_GONE} as select * from placed limit 0")
        number, time = quote(row_column(source.columns)), quote(time_column(source.columns))
        columns = ", ".join(f"p.{quote(name)} as {cell}" for name, cell in self._cells.items())
        for (index,) in run("select distinct part from gone order by part").fetchall():
            start = stored[index].start
            assert start is not None
            with self._registered(stored[index].rows_table(self._rows.project)):
                run(
                    f"insert into {_GONE} by name select (select min(_file) from placed) as _file, g._nth as _line, "
                    f"{columns}, p.{time} as _event_time, ? as _period from part p "
                    f"join (select number as _n, nth as _nth from gone where part = ?) g on g._n = p.{number}",
                    [self._rows.index_of(start), index],
                )

    @contextmanager
    def _registered(self, table: pa.Table) -> Iterator[None]:
        self._rows.connection.register("part", table)
        yield
        self._rows.connection.unregister("part")

    def _counts(self) -> tuple[int, int, int, int]:
        """The numbers of rows that are new or changed, that are changed, that are gone, and that were there before."""
        queries = ("differing", "differing semi join there using (key)", "gone", "there")
        new, changed, gone, before = (int(self._one(f"select count(*) from {query}")) for query in queries)
        return new, changed, gone, before

    def _write(self) -> list[Manifest]:
        """Write the rows of `_NEW` and `_GONE` as parts of their periods: late ones, others, deletions."""
        rows = self._rows
        waiting.load(rows.connection, rows.project, rows.stored)
        cuts = rows.measure("placed")
        starts = [rows.periods[cut.index].start for cut in cuts] + [m.start for m in rows.stored if m.start]
        lasts = [cut.last for cut in cuts if cut.last] + [m.last for m in rows.stored if m.last]
        changes, deletions = ({cut.index: cut for cut in rows.measure(table)} for table in (_NEW, _GONE))
        written: list[Manifest] = []
        for index in sorted({*changes, *deletions}):
            period = rows.periods[index]
            parts, closed = [m for m in rows.stored if m.start == period.start], max(starts) > period.start
            here, gone = (f"(from {table} where _period = {index})" for table in (_NEW, _GONE))
            if not parts:
                written += rows.first_batches(here, changes[index], period, max(lasts), closed=closed)
                continue
            part = max(parts[-1].part, 1) + 1
            if index in changes and not self._one(f"select bool_and({WAITS}) from {here}"):
                more = rows.further_parts(here, period, part, closed=closed)
                written, part = written + more, part + len(more)
            if index in deletions:
                cut, name, moment = deletions[index], f"{period.name}.{part}", self._delivery.moment
                written.append(rows.write(gone, cut, period, name, part, closed=closed, arrived=moment, deletes=True))
        return written

    def _check_missing(self, gone: int, before: int) -> None:
        """Refuse a delivery that lacks more rows than the params allow: it was cut off, or is of something else."""
        share = self._source.changes.max_deleted_share
        if gone <= share * before + _ROUNDING:
            return
        raise UserError(
            f"{self._title} lacks {gone:,} of the {before:,} rows that were there before it ({gone / before:.1%}), at "
            f"most {share:.1%} may be missing: deliver it completely, or if these rows are deleted, raise "
            f"{self._where}.changes.max_deleted_share, for one run by --set {self._where}.changes.max_deleted_share=1"
        )

    def _differs(self, new: int, changed: int, gone: int, faults: int) -> str:
        newest = max(part.delivered for part in self._rows.stored if part.delivered).astimezone(self._rows.zone)
        if self._source.changes.delivered is None:
            return (
                f"{self._title} comes before that of {newest:%Y-%m-%d %H:%M}, which is stored: "
                "correct this machine's clock, and run again"
            )
        return (
            f"{self._title} is not what was read before: {counted(new, 'row is', 'rows are')} new, {changed:,} "
            f"changed, {gone:,} missing and {faults:,} cannot be cast, and {newest:%Y-%m-%d %H:%M} was read already; "
            f"put its files back or take them away, or delete {BATCHES / self._rows.name} to read all deliveries again"
        )

    @property
    def _title(self) -> str:
        first, *others = self._delivery.files
        more = f" and {len(others)} more" if others else ""
        moment = self._delivery.moment.astimezone(self._rows.zone)
        return f"{self._rows.name}: the delivery of {moment:%Y-%m-%d %H:%M} ({first.name}{more})"

    def _one(self, query: str) -> int:
        (value,) = self._run(query).fetchone() or (0,)
        return int(value)
