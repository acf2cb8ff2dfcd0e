"""The stage `ingest`: reads sources into immutable batches, and writes the snapshot of those that this run may use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import UserError, counted
from refit.files.artifacts import BATCHES, SNAPSHOT, STATE
from refit.runtime import memory, run_file
from refit.runtime.context import Context
from refit.schemas.ingest_state import ReadFile
from refit.schemas.manifest import Manifest
from refit.sources import object_stores, sources
from refit.sources.source_files import ReadDigest, SourceFile
from refit.storage import batches
from refit.storage.snapshots import label_source, snapshot_of
from tasks.ingest import derived
from tasks.ingest.source_status import SourceStatus
from tasks.ingest.stamps import Stamp, look, stands_at

if TYPE_CHECKING:
    import duckdb

    from refit.sources.tables import Change, Table
    from tasks.ingest.casting import Caster
    from tasks.ingest.deliveries import Delivery
    from tasks.ingest.partitioning import Partitioner


def run(context: Context) -> None:
    """Write new data of every source into batches, and write the snapshot.

    Raises:
        UserError: a source cannot be read as declared, a batch has changed, or `as_of` matches nothing.
    """
    label_source(context.params)
    _report_unread(context)
    as_of = run_file.read(context.project).as_of
    snapshot_of(as_of, context.params, take_in(context)).write(context.path(SNAPSHOT))


def take_in(context: Context) -> dict[str, list[Manifest]]:
    """Write new data of every source into batches; returns all stored batches by source.

    Raises:
        UserError: a source cannot be read as declared, or a batch has changed.
    """
    with object_stores.temporary(context.path(object_stores.DOWNLOADS)):
        return {name: _Reading(context, name).take() for name in derived.in_order(context.params)}


def stale_reason(context: Context) -> str | None:
    """Return why sources must be read again, or None if all their data was ingested. Reads digests only.

    Raises:
        UserError: a source is missing.
    """
    for name in derived.in_order(context.params):
        reading = _Reading(context, name)
        if not reading.is_up_to_date:
            return f"{name} was not read yet as it is declared now"
        if changed := reading.changed():
            return f"{name} has new data in {', '.join(file.name for file in changed[:3])}"
    _report_unread(context)
    return None


def _report_unread(context: Context) -> None:
    """Name the tables that lie among a source's files and that no source reads: a new file may have such a name."""
    for name, files in sources.unread_files(context.sources_root, context.params.ingest.sources).items():
        path = Path(context.params.ingest.sources[name].path).name
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        context.progress(f"{name}: not read, as {path} does not match: {', '.join(files[:3])}{more}")


class _Reading(SourceStatus):
    """Ingests one source: compares the cached state with its current data, and writes the difference as batches."""

    def take(self) -> list[Manifest]:
        """Write the new batches; returns all stored batches."""
        if self.stand_in and not self.is_derived:
            self.context.progress(
                f"{self.source.path} is not here; it is published at {self.source.published}: going on with a "
                f"GENERATED stand-in ({self.source.stand_in}), no figure made from it means anything"
            )
        if empty := sources.empty_folders(self.context.project, self.source):
            more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
            self.context.progress(
                f"warning: {self.name}: no file matches {Path(self.source.path).name} in {', '.join(empty[:3])}{more}: "
                f"no row has such a {self.source.folder_column}"
            )
        if self.is_outdated:
            batches.forget(self.context.project, self.name)
            self.stored = []
        self.forget_unfinished()
        for batch in self.stored:
            self._check_declaration(batch)
            batch.check_sizes(self.context.project)
        changed = self.changed()
        if not changed:
            self.context.progress(f"{self.name}: unchanged", 1, 1)
            self.store(self.stored, self.state.read_again if self.state else None)
            return self.stored
        batches.clear_leftovers(self.context.project, self.name)
        written, read_again = self._read(changed)
        stored = batches.manifests(self.context.project, self.name)
        self.store(stored, read_again)
        self.context.progress(f"{self.name}: {len(written)} new of {counted(len(stored), 'batch', 'batches')}", 1, 1)
        return stored

    def _check_declaration(self, batch: Manifest) -> None:
        if batch.declaration != self.declaration:
            raise UserError(
                f"{self.name}/{batch.name} was read under another declaration ({batch.declaration[:12]}, now "
                f"{self.declaration[:12]}): columns, required, nulls, event_time, changes, ingest.period or project."
                f"timezone differ; put params.yaml back, or delete {BATCHES / self.name} to read the source again"
            )

    def _read(self, changed: Sequence[SourceFile]) -> tuple[list[Manifest], datetime | None]:
        from tasks.ingest import casting

        spill = self.context.path(STATE) / "spill"
        spill.parent.mkdir(parents=True, exist_ok=True)  # DuckDB makes the last folder only
        limit = memory.sql_limit(self.context.params)
        with casting.connect(str(spill), self.source.arrays.values(), memory_limit=limit) as connection:
            if self.source.changes.is_snapshot:
                return self._read_deliveries(connection, changed)
            if self.table:
                caster, whole = self._cast_table(connection, self.table)
            else:
                caster, whole = casting.Caster(connection, self.source, self.where, self.context.now()), True
                self._cast(caster, changed)
            due = [caster.next_future(), None if whole or not self.state else self.state.read_again]
            partitioner = self._partitioner(connection, self.context.now(), whole=whole)
            starts = partitioner.assign_periods()
            touched = self._touched(starts, changed) if whole else {*starts}
            self.context.progress(f"{self.name}: writing batches", 0, len(touched))
            written = partitioner.write_new(touched)
            self._report_repeats(partitioner)
            return written, min(filter(None, due), default=None)

    def _partitioner(
        self, connection: duckdb.DuckDBPyConnection, now: datetime, *, whole: bool = True, delivered: bool = False
    ) -> Partitioner:
        from tasks.ingest.partitioning import Partitioner

        return Partitioner(
            connection,
            self.context.project,
            self.name,
            self.context.params,
            {number: file.name for number, file in enumerate(self.files)},
            self.declaration,
            self.stand_in,
            now=now,
            whole=whole,
            delivered=now if delivered else None,
        )

    def _report_repeats(self, partitioner: Partitioner) -> None:
        if repeats := sum(partitioner.repeats.values()):
            self.context.progress(f"{self.name}: rows that equal another one, each counted once: {repeats:,}")

    def _read_deliveries(
        self, connection: duckdb.DuckDBPyConnection, changed: Sequence[SourceFile]
    ) -> tuple[list[Manifest], datetime | None]:
        """Read the deliveries of a snapshot that have changed files; each is stored completely, or not at all."""
        from tasks.ingest.deliveries import deliveries_of

        pattern, zone = self.source.changes.delivered, self.context.params.project.zone
        self.unread = {file.name for file in changed}
        self.newest_over = self.newest_over if self.stored else None
        written: list[Manifest] = []
        due = None
        for delivery in deliveries_of(self.files, self.source, zone, self.context.now(), self.where):
            if self.unread.isdisjoint(delivery.names):
                continue
            was_read = delivery.is_over and self.newest_over is not None and delivery.moment <= self.newest_over
            more, future = self._read_delivery(connection, delivery, was_read=was_read)
            written += more
            due = future if pattern is None else None  # else it waits for the next delivery
            self.unread -= delivery.names
            if delivery.is_over and not was_read:
                self.newest_over = delivery.moment
            self.stored = batches.manifests(self.context.project, self.name)
            self.store(self.stored, due)
        return written, due

    def _read_delivery(
        self, connection: duckdb.DuckDBPyConnection, delivery: Delivery, *, was_read: bool
    ) -> tuple[list[Manifest], datetime | None]:
        """Store the rows in which a delivery differs; returns the new batches, and when a row that waits is due."""
        from tasks.ingest.casting import Caster
        from tasks.ingest.replaced_rows import ReplacedRows

        if self.table:
            change = self.table.changes_since(None)
            caster = self._cast_change(connection, self.table, change)
            self._note_position(change)
        else:
            caster = Caster(connection, self.source, self.where, delivery.moment)
            self._cast(caster, delivery.files)
        partitioner = self._partitioner(connection, delivery.moment, delivered=True)
        partitioner.assign_periods()
        is_old = any(part.delivered and part.delivered >= delivery.moment for part in self.stored)
        if not (was_read or is_old):  # what is stored at this moment is removed if this run is killed
            began = self.state or self.current_state([], None)
            self.store_state(began.model_copy(update={"unfinished": delivery.moment}))
        replaced = ReplacedRows(partitioner, delivery, must_be_known=was_read or is_old)
        written = replaced.write()
        self._report_repeats(partitioner)
        if replaced.summary:
            self.context.progress(
                f"{self.name}: delivery of {delivery.moment:%Y-%m-%d %H:%M} (UTC): {replaced.summary}"
            )
        return written, caster.next_future()

    def _cast_table(self, connection: duckdb.DuckDBPyConnection, table: Table) -> tuple[Caster, bool]:
        """Cast what a table has newly, or all of it if that is not all that changed; returns whether it is all."""
        from tasks.ingest.overlaps import adds_up

        state = self.valid_state
        goes_on = state is not None and not self.is_due(state) and self.source.event_time is not None
        change = table.changes_since(state.position if state and goes_on else None)
        caster = self._cast_change(connection, table, change)
        if change.overlap and not adds_up(connection, self.context.project, self.source, self.stored, change.overlap):
            self.context.progress(f"{self.name}: rows changed that were read before, reading the whole table")
            change = table.changes_since(None)
            caster = self._cast_change(connection, table, change)
        self._note_position(change)
        return caster, change.since is None

    def _note_position(self, change: Change) -> None:
        self.position = change.position
        self.seen[self.files[0].name] = stands_at(change.position)

    def _cast_change(self, connection: duckdb.DuckDBPyConnection, table: Table, change: Change) -> Caster:
        from tasks.ingest.casting import Caster

        caster, rows = Caster(connection, self.source, self.where, self.context.now()), 0
        name = self.files[0].name
        for batch in table.read(change, lambda names: sources.check_columns(names, self.source, name, self.where)):
            rows += caster.add(0, batch)
            self.context.progress(f"{self.name}: {counted(rows, 'row')} of {name}")
        return caster

    def _cast(self, caster: Caster, files: Sequence[SourceFile]) -> None:
        numbers = {file.name: number for number, file in enumerate(self.files)}
        for file in files:
            file.fetch()
            if not sources.is_plain_text(file, self.source):
                self.digest_of(file)
            rows, read_digest, before = 0, ReadDigest(), Stamp.of(file)
            for batch in sources.read(file, self.source, self.where, read_digest):
                rows += caster.add(numbers[file.name], batch)
                self.context.progress(
                    f"{self.name}: {counted(rows, 'row')} of {file.name}", numbers[file.name], len(numbers)
                )
            self.seen[file.name] = self._digest_as_read(file, read_digest, before)
            if file.remote:
                file.path.unlink()  # so that copies take the space of one file

    def _digest_as_read(self, file: SourceFile, read_digest: ReadDigest, before: Stamp) -> ReadFile:
        """Return the digest of the content that was read, after checking that no other content was there before."""
        earlier, sha = self.seen.get(file.name), read_digest.sha256
        now = look(file, earlier) if sha is None else before.with_digest(sha)
        if (earlier and earlier.sha256 != now.sha256) or (sha is not None and not before.is_of(file)):
            raise UserError(f"{file.name} changed while it was read; run again once it is written completely")
        return now

    def _touched(self, starts: Collection[datetime], changed: Sequence[SourceFile]) -> set[datetime]:
        """Return the periods of which the changed files have rows, now or when they were last read."""
        names = {file.name for file in changed}
        return {*starts, *(batch.start for batch in self.stored if batch.start and names.intersection(batch.files))}
