"""The stage `ingest`: reads sources into immutable batches, and writes the snapshot of those that this run may use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config import SourceParams
from refit.errors import UserError
from refit.files.artifacts import BATCHES, SNAPSHOT, STATE, digest, sha256
from refit.runtime import memory, run_file
from refit.runtime.context import Context
from refit.runtime.stage_code import code_digest, own_code
from refit.schemas.ingest_state import (
    ReadFile,
    SourceState,
    read_position,
    read_states,
    write_position,
    write_states,
)
from refit.schemas.manifest import Manifest
from refit.sources import object_stores, sources
from refit.sources.source_files import ReadDigest, SourceFile
from refit.storage import batches
from refit.storage.snapshots import label_source, snapshot_of
from tasks.ingest import derived
from tasks.ingest.stamps import Stamp, look, stands_at

if TYPE_CHECKING:
    import duckdb

    from refit.sources.tables import Change, Table
    from tasks.ingest.casting import Caster

REMEMBERED = STATE / "ingest.json"  # a cache of what was read; losing it only costs time
POSITION = "position"  # in the folder of a table's batches: up to where they have its rows
_LAYOUT = ("kind", "query", "format", "delimiter", "header", "skip_lines", "quoting", "encoding", "member", "resize")
_NEWER = ("layouts", "url", "watermark", "hive_columns", "catalog")
_ADDED_COLUMNS = ("file_column", "line_column", "folder_column")


def run(context: Context) -> None:
    """Write new data of every source into batches, and write the snapshot.

    Raises:
        UserError: a source cannot be read as declared, a batch has changed, or `as_of` matches nothing.
    """
    label_source(context.params)
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
    return None


def declaration(context: Context, name: str) -> str:
    """Return the digest of all settings that decide how a source's rows are read and split into batches."""
    source = context.params.ingest.sources[name]
    decisive = source.model_dump(include={"columns", "required", "nulls", "event_time"})
    more: list[object] = [source.query] if source.forecast else []
    if not source.changes.is_append:
        more.append(source.changes.model_dump(include={"kind", "version", "arrived_at"}))
    return digest(
        [decisive, list(source.columns), context.params.ingest.period, context.params.project.timezone, *more]
    )


class _Reading:
    """Ingests one source: compares the cached state with its current data, and writes the difference as batches."""

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.source: SourceParams = context.params.ingest.sources[name]
        self.where = f"ingest.sources.{name}"
        self.declaration = declaration(context, name)
        self.stored = batches.manifests(context.project, name)
        self.is_derived = self.source.kind == "query"
        self.files = (
            [derived.file(context, name)]
            if self.is_derived
            else sources.find(context.sources_root, self.source, self.where, generated_in=context.project)
        )
        self.table = self.files[0].table
        self.position_path = context.path(BATCHES / name / POSITION)
        self.state = (
            read_position(self.position_path) if self.table else read_states(context.path(REMEMBERED)).get(name)
        )
        self.position = self.state.position if self.state else None
        self.stand_in = self.files[0].stand_in
        self.seen: dict[str, ReadFile] = {}
        self._check_not_lost()
        self._check_digest()
        self._check_renamed_files()

    def _check_not_lost(self) -> None:
        if self.stand_in and not self.is_derived and any(batch.stand_in is None for batch in self.stored):
            absence = sources.absence(self.context.sources_root, self.source, self.where)
            raise UserError(
                f"{absence}; its rows were taken before, and no stand-in goes among them: "
                f"put it back, or delete {BATCHES / self.name} to go on with generated rows"
            )

    def _digest(self, file: SourceFile) -> str:
        """Return the digest of a file, computed again only if the file has changed."""
        if file.name not in self.seen:
            self.seen[file.name] = look(file, self.state.files.get(file.name) if self.state else None)
        return self.seen[file.name].sha256

    def _check_digest(self) -> None:
        file = self.files[0]
        if not self.stand_in and self.source.sha256 and (current := self._digest(file)) != self.source.sha256:
            raise UserError(
                f"{file.name} has sha256 {current}, {self.where}.sha256 is {self.source.sha256}; "
                "fetch the right file, or correct params.yaml if this one is meant"
            )

    def _check_renamed_files(self) -> None:
        """Refuse a file that was read under another name: rows identified by their file would count twice."""
        if self.source.file_column not in self.source.key:
            return
        names = {file.sha256: name for name, file in self.state.files.items()} if self.state and self.stored else {}
        for file in self.files:
            other = names.setdefault(self._digest(file), file.name)
            if Path(other).name != Path(file.name).name:
                raise UserError(
                    f"{file.name} holds what {other} held: rows are named by their file and line ({self.where}.key) "
                    "and would count twice; take one of them away, or give a renamed file its old name back"
                )

    def _current_state(self, stored: Sequence[Manifest], read_again: datetime | None) -> SourceState:
        """Return the state once all files are read. Up to `how`, it must be unchanged for files to be skipped."""
        return SourceState(
            declaration=self.declaration,
            code="" if self.table else code_digest("ingest"),  # a table may be too large to read for each release
            how=digest(self._how()),
            batches=tuple(batch.name for batch in stored),
            files={file.name: self.seen[file.name] for file in self.files if file.name in self.seen},
            read_again=read_again,
            position=self.position,
        )

    def _how(self) -> dict[str, object]:
        """The settings that decide how files are read; a newer one only if used, or an upgrade would read all again."""
        newer = {name for name in _NEWER if getattr(self.source, name)}
        how = self.source.model_dump(include={*_LAYOUT, *_ADDED_COLUMNS, *newer})
        if self.source.is_own:
            root = self.context.sources_root
            how["path"] = self.source.path  # which the class may read; the positions of tables name what they are of
            how |= {path.relative_to(root).as_posix(): sha256(path) for path in own_code(root, [self.source.kind])}
        return how

    @property
    def _valid_state(self) -> SourceState | None:
        """The cached state if it describes the stored batches, and files would be read in the same way now."""
        if not self.stored or self._is_outdated or self.state is None:
            return None
        current = self._current_state(self.stored, self.state.read_again)
        if self.table and {*self.state.batches} <= {*current.batches}:  # others are of a read that was interrupted
            current = current.model_copy(update={"batches": self.state.batches})
        return self.state if current == self.state.model_copy(update={"files": current.files}) else None

    @property
    def is_up_to_date(self) -> bool:
        """Whether the cached state describes the stored batches."""
        return self._valid_state is not None

    @property
    def _is_outdated(self) -> bool:
        """Whether generated batches are stored but the rows are now real, or are generated or queried differently."""
        current = self.declaration if self.source.forecast else None
        return any(batch.stand_in != self.stand_in or current not in (None, batch.declaration) for batch in self.stored)

    def changed(self) -> list[SourceFile]:
        """Return the files to read: all if none is cached, or if the table needs all of them."""
        state = self._valid_state
        if state is None or self._is_due(state) or state.batches != tuple(batch.name for batch in self.stored):
            return self.files
        earlier = state.files
        changed = [f for f in self.files if f.name not in earlier or self._digest(f) != earlier[f.name].sha256]
        return self.files if changed and self.source.event_time is None else changed

    def _is_due(self, state: SourceState) -> bool:
        """Whether rows that lay in the future may lie in the past now."""
        return state.read_again is not None and state.read_again <= self.context.now()

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
        if self._is_outdated:
            batches.forget(self.context.project, self.name)
            self.stored = []
        for batch in self.stored:
            self._check_declaration(batch)
            batch.check_sizes(self.context.project)
        changed = self.changed()
        if not changed:
            self.context.progress(f"{self.name}: unchanged", 1, 1)
            self._cache_state(self.stored, self.state.read_again if self.state else None)
            return self.stored
        batches.clear_leftovers(self.context.project, self.name)
        written, read_again = self._read(changed)
        stored = batches.manifests(self.context.project, self.name)
        self._cache_state(stored, read_again)
        self.context.progress(f"{self.name}: {len(written)} new of {len(stored)} batches", 1, 1)
        return stored

    def _check_declaration(self, batch: Manifest) -> None:
        if batch.declaration != self.declaration:
            raise UserError(
                f"{self.name}/{batch.name} was read under another declaration ({batch.declaration[:12]}, now "
                f"{self.declaration[:12]}): columns, required, nulls, event_time, changes, ingest.period or project."
                f"timezone differ; put params.yaml back, or delete {BATCHES / self.name} to read the source again"
            )

    def _read(self, changed: Sequence[SourceFile]) -> tuple[list[Manifest], datetime | None]:
        from tasks.ingest import casting, partitioning

        spill = self.context.path(STATE) / "spill"
        spill.parent.mkdir(parents=True, exist_ok=True)  # DuckDB makes the last folder only
        limit = memory.sql_limit(self.context.params)
        with casting.connect(str(spill), self.source.arrays.values(), memory_limit=limit) as connection:
            if self.table:
                caster, whole = self._cast_table(connection, self.table)
            else:
                caster, whole = casting.Caster(connection, self.source, self.where, self.context.now()), True
                self._cast(caster, changed)
            due = [caster.next_future(), None if whole or not self.state else self.state.read_again]
            names = {number: file.name for number, file in enumerate(self.files)}
            partitioner = partitioning.Partitioner(
                connection,
                self.context.project,
                self.name,
                self.context.params,
                names,
                self.declaration,
                self.stand_in,
                now=self.context.now(),
                whole=whole,
            )
            starts = partitioner.assign_periods()
            touched = self._touched(starts, changed) if whole else {*starts}
            self.context.progress(f"{self.name}: writing batches", 0, len(touched))
            written = partitioner.write_new(touched)
            if repeats := sum(partitioner.repeats.values()):
                self.context.progress(f"{self.name}: rows that equal another one, each counted once: {repeats:,}")
            return written, min(filter(None, due), default=None)

    def _cast_table(self, connection: duckdb.DuckDBPyConnection, table: Table) -> tuple[Caster, bool]:
        """Cast what a table has newly, or all of it if that is not all that changed; returns whether it is all."""
        from tasks.ingest.overlaps import adds_up

        state = self._valid_state
        goes_on = state is not None and not self._is_due(state) and self.source.event_time is not None
        change = table.changes_since(state.position if state and goes_on else None)
        caster = self._cast_change(connection, table, change)
        if change.overlap and not adds_up(connection, self.context.project, self.source, self.stored, change.overlap):
            self.context.progress(f"{self.name}: rows changed that were read before, reading the whole table")
            change = table.changes_since(None)
            caster = self._cast_change(connection, table, change)
        self.position = change.position
        self.seen[self.files[0].name] = stands_at(change.position)
        return caster, change.since is None

    def _cast_change(self, connection: duckdb.DuckDBPyConnection, table: Table, change: Change) -> Caster:
        from tasks.ingest.casting import Caster

        caster, rows = Caster(connection, self.source, self.where, self.context.now()), 0
        name = self.files[0].name
        for batch in table.read(change, lambda names: sources.check_columns(names, self.source, name, self.where)):
            rows += caster.add(0, batch)
            self.context.progress(f"{self.name}: {rows:,} rows of {name}")
        return caster

    def _cast(self, caster: Caster, files: Sequence[SourceFile]) -> None:
        numbers = {file.name: number for number, file in enumerate(self.files)}
        for file in files:
            file.fetch()
            if not sources.is_plain_text(file, self.source):
                self._digest(file)
            rows, read_digest, before = 0, ReadDigest(), Stamp.of(file)
            for batch in sources.read(file, self.source, self.where, read_digest):
                rows += caster.add(numbers[file.name], batch)
                self.context.progress(f"{self.name}: {rows:,} rows of {file.name}", numbers[file.name], len(numbers))
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

    def _cache_state(self, stored: Sequence[Manifest], read_again: datetime | None) -> None:
        state = self._current_state(stored, read_again)
        if self.table and state != self.state:
            write_position(self.position_path, state)
        elif state != self.state:
            path = self.context.path(REMEMBERED)
            write_states(path, {**read_states(path), self.name: state})
