"""A file of an object store, which is copied to this machine to be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import RefitError, UserError, first_line
from refit.files.artifacts import atomic, digest
from refit.sources.declared_paths import masked

if TYPE_CHECKING:
    import pyarrow.fs

__all__ = ["RemoteFile", "errors"]

_CHUNK = 1 << 22  # bytes


@dataclass(frozen=True)
class RemoteFile:
    """An object: where it is, and the size and time that tell it from another one under its name."""

    store: pyarrow.fs.FileSystem
    key: str  # the bucket and the object's name in it
    size: int
    touched_ns: int

    def path_in(self, folder: Path) -> Path:
        """Where its copy is: another object under the same name has another path."""
        name = digest([self.key, self.size, self.touched_ns])[:16]
        return folder.joinpath(name, *(part for part in self.key.split("/") if part not in ("", ".", "..")))

    def fetch(self, path: Path) -> None:
        """Copy it, unless the copy is there.

        Raises:
            UserError: it cannot be read, or is another one now.
        """
        if path.is_file():
            return
        with errors(self.key), self.store.open_input_stream(self.key) as stream, atomic(path) as scratch:
            with scratch.open("wb") as copy:
                shutil.copyfileobj(stream, copy, _CHUNK)
            if not self.is_there() or scratch.stat().st_size != self.size:
                raise UserError(f"{self.key} changed while it was read; run again once it is written completely")

    def is_there(self) -> bool:
        """Whether it is still the object that it was."""
        with errors(self.key):
            (now,) = self.store.get_file_info([self.key])
        return (now.size, now.mtime_ns) == (self.size, self.touched_ns)


@contextmanager
def errors(name: str, done: str = "read") -> Iterator[None]:
    """Turn errors of a store into one line that says what to do.

    Args:
        name: the address as declared, which is printed: what its variables stand for is not.
    """
    try:
        yield
    except RefitError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        said = first_line(error)
        if "ACCESS_DENIED" in said or "403" in said or "credentials" in said.lower():
            advice = "see that the keys in the environment are right, and that their user may do so"
        elif "NO_SUCH_BUCKET" in said or "404" in said or "does not exist" in said:
            advice = "correct the name of the bucket, or AWS_REGION"
        else:
            advice = "see that AWS_ENDPOINT_URL, if it is set, is right, and that this machine reaches the store"
        raise UserError(f"{name} cannot be {done}: {masked(said, name)[:300]}; {advice}") from None
