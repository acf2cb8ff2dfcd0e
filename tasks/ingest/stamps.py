"""Tells whether a source's file has changed, by its sizes and times if they can say, else by its content."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from refit.errors import UserError
from refit.files.artifacts import digest, is_settled, sha256
from refit.schemas.ingest_state import ReadFile
from refit.sources.source_files import SourceFile


@dataclass(frozen=True)
class Stamp:
    """The sizes and times of a file, and of all other files whose content is read with it.

    A database is read with its journal. A file that has parts (images and their labels, the pictures of a pattern) is
    read from these; of the parts, however many, three numbers are kept: how many, their total size, and a digest of
    the path, size and time of each.
    """

    paths: tuple[Path, ...]
    sizes: tuple[int, ...]
    touched_ns: int
    settled: bool

    @classmethod
    def of(cls, file: SourceFile) -> Stamp:
        """Raises: UserError: a file cannot be read."""
        if remote := file.remote:
            return cls((file.path,), (remote.size,), remote.touched_ns, is_settled(remote.touched_ns))
        journals = (p for p in map(Path, (f"{file.path}-wal", f"{file.path}.wal")) if p.is_file())
        paths = file.parts or (file.path, *journals)
        try:
            states = [os.stat(path) for path in paths]  # noqa: PTH116 - twice as fast, and there may be 100,000
        except OSError as error:
            raise unreadable(file, error) from None
        touched = max(state.st_ctime_ns for state in states)
        sizes = tuple(state.st_size for state in states)
        if file.parts:
            seen = hashlib.sha256()
            for name, state in zip(_names(file), states, strict=True):
                seen.update(f"{name}\0{state.st_size}\0{state.st_ctime_ns}\0".encode())
            sizes = (len(sizes), sum(sizes), int.from_bytes(seen.digest()[:8], "big") >> 1)
        return cls(paths, sizes, touched, is_settled(touched))

    def is_of(self, file: SourceFile) -> bool:
        """Whether nothing has changed since."""
        if file.remote:
            return file.remote.is_there()
        now = Stamp.of(file)
        return (self.paths, self.sizes, self.touched_ns) == (now.paths, now.sizes, now.touched_ns)

    def with_digest(self, sha: str) -> ReadFile:
        """The record of a file with this stamp and that content."""
        return ReadFile(sha256=sha, sizes=self.sizes, touched_ns=self.touched_ns if self.settled else None)


def look(file: SourceFile, earlier: ReadFile | None) -> ReadFile:
    """Return the digest of a file, computed again only if the file has changed.

    Raises:
        UserError: a file cannot be read.
    """
    if file.table is not None:
        return stands_at(file.table.identify())
    stamp = Stamp.of(file)
    if earlier and (earlier.sizes, earlier.touched_ns) == (stamp.sizes, stamp.touched_ns):
        return earlier
    file.fetch()
    try:
        if file.parts:
            parts = zip(_names(file), map(sha256, file.parts), strict=True)
            return stamp.with_digest(digest([list(part) for part in parts]))
        digests = [sha256(path) for path, size in zip(stamp.paths, stamp.sizes, strict=True) if size]
    except OSError as error:
        raise unreadable(file, error) from None
    return stamp.with_digest(digests[0] if len(digests) == 1 else digest(digests))


def stands_at(position: str) -> ReadFile:
    """The record of a table at a position, which is asked for each time."""
    return ReadFile(sha256=digest(position), sizes=(), touched_ns=None)


def _names(file: SourceFile) -> list[str]:
    """The names of a file's parts in their folder, wherever that is."""
    home = len(os.fspath(file.home)) + 1
    return [os.fspath(path)[home:] for path in file.parts]


def unreadable(file: SourceFile, error: OSError) -> UserError:
    return UserError(f"{file.name} cannot be read ({error.strerror}); give this user access to it")
