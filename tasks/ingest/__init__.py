"""The stage `ingest`: reads sources into immutable batches, and writes the snapshot of those that this run may use."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refit.config import SourceParams
from refit.errors import RefitError, UserError
from refit.files.artifacts import BATCHES, SNAPSHOT, STATE, digest, read_json, sha256, write_json
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.runtime.stage_code import code_digest
from refit.sources import sources
from refit.sources.source_files import SourceFile
from refit.storage import batches
from refit.storage.batches import Manifest, utc_moment, utc_text
from refit.storage.snapshots import label_source, snapshot_of
from tasks.ingest import derived

REMEMBERED = STATE / "ingest.json"  # a cache of what was read; losing it only costs time
_LAYOUT = ("kind", "query", "format", "delimiter", "header", "skip_lines", "quoting", "encoding", "member")
_ADDED_COLUMNS = ("file_column", "line_column")
_SETTLED_NS = 2_000_000_000  # a file touched more recently than this may change again within one tick of its clock


def run(context: Context) -> None:
    """Write new data of every source into batches, and write the snapshot.

    Raises:
        UserError: a source cannot be read as declared, a batch has changed, or `as_of` matches nothing.
    """
    label_source(context.params)
    as_of = run_file.read(context.project).as_of
    write_json(context.path(SNAPSHOT), snapshot_of(as_of, context.params, take_in(context)))


def take_in(context: Context) -> dict[str, list[Manifest]]:
    """Write new data of every source into batches; returns all stored batches by source.

    Raises:
        UserError: a source cannot be read as declared, or a batch has changed.
    """
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
    query = [source.query] if source.forecast else []
    return digest(
        [decisive, list(source.columns), context.params.ingest.period, context.params.project.timezone, *query]
    )


@dataclass(frozen=True)
class _Seen:
    """A file's digest, with the sizes and times that show whether the file was changed since."""

    sha256: str
    sizes: list[int]
    touched_ns: int | None  # None: changed so recently that the digest must be computed again


class _Reading:
    """Ingests one source: compares the cached state with its current data, and writes the difference as batches."""

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.source: SourceParams = context.params.ingest.sources[name]
        self.where = f"ingest.sources.{name}"
        self.declaration = declaration(context, name)
        self.stored = batches.manifests(context.project, name)
        self.memory = _cached_state(context.project).get(name, {})
        self.is_derived = self.source.kind == "query"
        self.files = (
            [derived.file(context, name)]
            if self.is_derived
            else sources.find(context.sources_root, self.source, self.where, generated_in=context.project)
        )
        self.stand_in = self.files[0].stand_in
        self._check_not_lost()
        self.seen = {file.name: _look(file, self.memory.get("files", {}).get(file.name)) for file in self.files}
        self._check_digest()
        self._check_renamed_files()

    def _check_not_lost(self) -> None:
        if self.stand_in and not self.is_derived and any(batch.stand_in is None for batch in self.stored):
            absence = sources.absence(self.context.sources_root, self.source, self.where)
            raise UserError(
                f"{absence}; its rows were taken before, and no stand-in goes among them: "
                f"put it back, or delete {BATCHES / self.name} to go on with generated rows"
            )

    def _check_digest(self) -> None:
        file = self.files[0]
        if not self.stand_in and self.source.sha256 and (current := self.seen[file.name].sha256) != self.source.sha256:
            raise UserError(
                f"{file.name} has sha256 {current}, {self.where}.sha256 is {self.source.sha256}; "
                "fetch the right file, or correct params.yaml if this one is meant"
            )

    def _check_renamed_files(self) -> None:
        """Refuse a file that was read under another name: rows identified by their file would count twice."""
        if self.source.file_column not in self.source.key:
            return
        remembered = self.memory.get("files", {}) if self.stored else {}
        names = {entry["sha256"]: name for name, entry in remembered.items()}
        for file in self.files:
            other = names.setdefault(self.seen[file.name].sha256, file.name)
            if Path(other).name != Path(file.name).name:
                raise UserError(
                    f"{file.name} holds what {other} held: rows are named by their file and line ({self.where}.key) "
                    "and would count twice; take one of them away, or give a renamed file its old name back"
                )

    @property
    def _identity(self) -> dict[str, Any]:
        """What must be unchanged so that files already read can be skipped."""
        return {
            "declaration": self.declaration,
            "code": code_digest("ingest"),
            "how": digest(self.source.model_dump(include={*_LAYOUT, *_ADDED_COLUMNS})),
        }

    @property
    def is_up_to_date(self) -> bool:
        """Whether the cached state describes the stored batches."""
        if not self.stored or self._is_outdated:
            return False
        same = all(self.memory.get(key) == value for key, value in self._identity.items())
        return same and self.memory.get("batches") == [batch.name for batch in self.stored]

    @property
    def _is_outdated(self) -> bool:
        """Whether generated batches are stored but the rows are now real, or are generated or queried differently."""
        current = self.declaration if self.source.forecast else None
        return any(batch.stand_in != self.stand_in or current not in (None, batch.declaration) for batch in self.stored)

    def changed(self) -> list[SourceFile]:
        """Return the files to read: all if none is cached, or if the table needs all of them."""
        if not self.is_up_to_date:
            return self.files
        read_again = self.memory["read_again"]
        if read_again is not None and utc_moment(read_again) <= self.context.now():
            return self.files  # rows of the future may have become due
        known_files = self.memory["files"]
        changed = [f for f in self.files if known_files.get(f.name, {}).get("sha256") != self.seen[f.name].sha256]
        return self.files if changed and self.source.event_time is None else changed

    def take(self) -> list[Manifest]:
        """Write the new batches; returns all stored batches."""
        if self.stand_in and not self.is_derived:
            self.context.progress(
                f"{self.source.path} is not here; it is published at {self.source.published}: going on with a "
                f"GENERATED stand-in ({self.source.stand_in}), no figure made from it means anything"
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
            self._cache_state(self.stored, self.memory["read_again"])
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
                f"{self.declaration[:12]}): columns, required, nulls, event_time, ingest.period or project.timezone "
                f"differ; put params.yaml back, or delete {BATCHES / self.name} to read the source again"
            )

    def _read(self, changed: Sequence[SourceFile]) -> tuple[list[Manifest], str | None]:
        from tasks.ingest import casting, partitioning

        spill = self.context.path(STATE) / "spill"
        with casting.connect(str(spill)) as connection:
            caster = casting.Caster(connection, self.source, self.where, self.context.now())
            self._cast(caster, changed)
            read_again = utc_text(caster.next_future())
            names = {number: file.name for number, file in enumerate(self.files)}
            partitioner = partitioning.Partitioner(
                connection,
                self.context.project,
                self.name,
                self.context.params,
                names,
                self.declaration,
                self.stand_in,
            )
            touched = self._touched(partitioner.assign_periods(), changed)
            self.context.progress(f"{self.name}: writing batches", 0, len(touched))
            written = partitioner.write_new(touched)
            if repeats := sum(partitioner.repeats.values()):
                self.context.progress(f"{self.name}: rows that equal another one, each counted once: {repeats:,}")
            return written, read_again

    def _cast(self, caster: Any, files: Sequence[SourceFile]) -> None:
        numbers = {file.name: number for number, file in enumerate(self.files)}
        for file in files:
            rows = 0
            for batch in sources.read(file, self.source, self.where):
                rows += caster.add(numbers[file.name], batch)
                self.context.progress(f"{self.name}: {rows:,} rows of {file.name}", numbers[file.name], len(numbers))
            if _look(file, None).sha256 != self.seen[file.name].sha256:
                raise UserError(f"{file.name} changed while it was read; run again once it is written completely")

    def _touched(self, starts: Collection[str], changed: Sequence[SourceFile]) -> set[str]:
        """Return the periods of which the changed files have rows, now or when they were last read."""
        names = {file.name for file in changed}
        return {*starts, *(batch.start for batch in self.stored if batch.start and names.intersection(batch.files))}

    def _cache_state(self, stored: Sequence[Manifest], read_again: str | None) -> None:
        entry = {
            **self._identity,
            "batches": [batch.name for batch in stored],
            "files": {name: vars(seen) for name, seen in self.seen.items()},
            "read_again": read_again,
        }
        if entry != self.memory:
            everything = _cached_state(self.context.project)
            write_json(self.context.path(REMEMBERED), {**everything, self.name: entry})


def _cached_state(project: Path) -> dict[str, Any]:
    try:
        stored = read_json(project / REMEMBERED)
    except RefitError:
        return {}
    return {name: entry for name, entry in stored.items() if _is_sound(entry)} if isinstance(stored, dict) else {}


def _is_sound(entry: Any) -> bool:
    """Return whether the cached state of a source has the expected form."""
    try:
        files, read_again = entry["files"], entry["read_again"]
        for seen in files.values():
            if not isinstance(seen["sha256"], str) or not isinstance(seen["sizes"], list) or len(seen) != 3:
                return False
            hash(seen["touched_ns"])
        return read_again is None or utc_moment(read_again).tzinfo is not None
    except (TypeError, ValueError, KeyError, AttributeError):
        return False


def _look(file: SourceFile, cached: Mapping[str, Any] | None) -> _Seen:
    """Return the digest of a file, computed again only if the file has changed."""
    try:
        # Data in the journal of a database counts as well.
        paths = [file.path, *(p for p in map(Path, (f"{file.path}-wal", f"{file.path}.wal")) if p.is_file())]
        sizes = [path.stat().st_size for path in paths]
        touched = max(path.stat().st_ctime_ns for path in paths)
        if cached and (cached["sizes"], cached["touched_ns"]) == (sizes, touched):
            return _Seen(**cached)
        digests = [sha256(path) for path, size in zip(paths, sizes, strict=True) if size]
        settled = time.time_ns() - touched > _SETTLED_NS
        return _Seen(digests[0] if len(digests) == 1 else digest(digests), sizes, touched if settled else None)
    except OSError as error:
        raise UserError(f"{file.name} cannot be read ({error.strerror}); give this user access to it") from None
