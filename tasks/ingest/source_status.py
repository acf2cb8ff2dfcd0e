"""What is known of a source before it is read: its files, its stored batches, and what was read of it and how."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from refit.config import SourceParams
from refit.errors import UserError
from refit.files.artifacts import BATCHES, STATE, digest, sha256
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
from refit.sources import sources
from refit.sources.absent_files import absence
from refit.sources.source_files import SourceFile
from refit.storage import batches
from tasks.ingest import derived
from tasks.ingest.stamps import look

REMEMBERED = STATE / "ingest.json"  # a cache of what was read; losing it only costs time
POSITION = "position"  # in the folder of the batches of a table or snapshot: up to where they have its rows
_LAYOUT = ("kind", "query", "format", "delimiter", "header", "skip_lines", "quoting", "encoding", "member", "resize")
_NEWER = ("layouts", "url", "watermark", "hive_columns", "catalog")
_ADDED_COLUMNS = ("file_column", "line_column", "folder_column")


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


class SourceStatus:
    """A source's files and stored batches, and the cached state of what was read of it.

    Raises:
        UserError: the source is missing, or is not the declared one.
    """

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.source: SourceParams = context.params.ingest.sources[name]
        self.where = f"ingest.sources.{name}"
        self.declaration = declaration(context, name)
        self.stored = batches.manifests(context.project, name)
        self.is_derived = self.source.kind == "query"
        self.files = (
            [derived.file(context, name, [each for each in self.stored if each.declaration == self.declaration])]
            if self.is_derived
            else sources.find(context.sources_root, self.source, self.where, generated_in=context.project)
        )
        self.table = self.files[0].table
        has_position = self.table or self.source.changes.is_snapshot
        self.position_path = context.path(BATCHES / name / POSITION) if has_position else None
        self.state = (
            read_position(self.position_path) if self.position_path else read_states(context.path(REMEMBERED)).get(name)
        )
        self.position = self.state.position if self.state else None
        self.newest_over = self.state.newest_over if self.state else None
        self.stand_in = self.files[0].stand_in
        self.seen: dict[str, ReadFile] = {}
        self.unread: set[str] = set()  # files of deliveries that are still to be read
        self._compared: SourceFile | None = None  # the file whose digest was computed last
        self._check_not_lost()
        self._check_digest()
        self._check_renamed_files()

    def _check_not_lost(self) -> None:
        if self.stand_in and not self.is_derived and any(batch.stand_in is None for batch in self.stored):
            missing = absence(self.context.sources_root, self.source, self.where)
            raise UserError(
                f"{missing}; its rows were taken before, and no stand-in goes among them: "
                f"put it back, or delete {BATCHES / self.name} to go on with generated rows"
            )

    def digest_of(self, file: SourceFile) -> str:
        """Return the digest of a file, computed again only if the file has changed."""
        if file.name not in self.seen:
            if self._compared and self._compared.remote:  # else the copies of all rewritten objects would lie here
                self._compared.path.unlink(missing_ok=True)
            self._compared = file
            self.seen[file.name] = look(file, self.state.files.get(file.name) if self.state else None)
        return self.seen[file.name].sha256

    def _check_digest(self) -> None:
        file = self.files[0]
        if not self.stand_in and self.source.sha256 and (current := self.digest_of(file)) != self.source.sha256:
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
            other = names.setdefault(self.digest_of(file), file.name)
            if Path(other).name != Path(file.name).name:
                raise UserError(
                    f"{file.name} holds what {other} held: rows are named by their file and line ({self.where}.key) "
                    "and would count twice; take one of them away, or give a renamed file its old name back"
                )

    def current_state(self, stored: Sequence[Manifest], read_again: datetime | None) -> SourceState:
        """Return the state once all files are read. Up to `how`, it must be unchanged for files to be skipped."""
        return SourceState(
            declaration=self.declaration,
            # a table, and all deliveries of a snapshot, may be too large to read for each release
            code="" if self.position_path else code_digest("ingest"),
            how=digest(self._how()),
            batches=tuple(batch.name for batch in stored),
            files={file.name: self.seen[file.name] for file in self.files if file.name in {*self.seen} - self.unread},
            read_again=read_again,
            position=self.position,
            newest_over=self.newest_over,
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
    def valid_state(self) -> SourceState | None:
        """The cached state if it describes the stored batches, and files would be read in the same way now."""
        if not self.stored or self.is_outdated or self.state is None:
            return None
        current = self.current_state(self.stored, self.state.read_again)
        if self.table and {*self.state.batches} <= {*current.batches}:  # others are of a read that was interrupted
            current = current.model_copy(update={"batches": self.state.batches})
        return self.state if current == self.state.model_copy(update={"files": current.files}) else None

    @property
    def is_up_to_date(self) -> bool:
        """Whether the cached state describes the stored batches."""
        return self.valid_state is not None

    @property
    def is_outdated(self) -> bool:
        """Whether generated batches are stored but the rows are now real, or are generated or queried differently."""
        current = self.declaration if self.source.forecast else None
        return any(batch.stand_in != self.stand_in or current not in (None, batch.declaration) for batch in self.stored)

    def changed(self) -> list[SourceFile]:
        """Return the files to read: all if none is cached, or if the table needs all of them."""
        state = self.valid_state
        if state is None or self.is_due(state) or state.batches != tuple(batch.name for batch in self.stored):
            return self.files
        earlier = state.files
        changed = [f for f in self.files if f.name not in earlier or self.digest_of(f) != earlier[f.name].sha256]
        changes = self.source.changes
        if changes.is_snapshot and changes.delivered is None:  # one delivery: rows of lost files are deleted
            return self.files if changed or {*earlier} - {file.name for file in self.files} else []
        return self.files if changed and self.source.event_time is None else changed

    def is_due(self, state: SourceState) -> bool:
        """Whether rows that lay in the future may lie in the past now."""
        return state.read_again is not None and state.read_again <= self.context.now()

    def forget_unfinished(self) -> None:
        """Remove what a killed run stored of a delivery, which is read again."""
        if self.state and self.state.unfinished:
            batches.forget_delivery(self.context.project, self.name, self.state.unfinished)
            self.stored = batches.manifests(self.context.project, self.name)
            self.store_state(self.state.model_copy(update={"unfinished": None}))

    def store(self, stored: Sequence[Manifest], read_again: datetime | None) -> None:
        """Store the state of a source whose files are all read, but for those that are still to be read."""
        self.store_state(self.current_state(stored, read_again))

    def store_state(self, state: SourceState) -> None:
        """Write a state, unless it is the one that is stored."""
        if state == self.state:
            return
        if self.position_path:
            write_position(self.position_path, state)
        else:
            path = self.context.path(REMEMBERED)
            write_states(path, {**read_states(path), self.name: state})
        self.state = state
