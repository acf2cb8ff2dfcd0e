"""Scratch folders that processes without a common lock make in one place: none is removed while its owner runs."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OWNED = "owned"  # the file in a scratch folder that its owner holds locked; the kernel frees it when the owner ends
_UNOWNED_SECONDS = 86_400  # after which a folder without that file is abandoned: just made, or by an older Refit


@contextmanager
def scratch_folder(home: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `home` that is removed after the block; those that killed processes left are removed first."""
    home.mkdir(parents=True, exist_ok=True)
    for left in abandoned(home, prefix):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=home) as name:
        scratch = Path(name)
        with (scratch / f"{_OWNED}.new").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            Path(file.name).rename(scratch / _OWNED)  # only now: no other process finds it while it is not locked
            yield scratch


def abandoned(home: Path, prefix: str) -> list[Path]:
    """The scratch folders in `home` whose owners have ended, in the names' order."""
    return sorted(each for each in home.glob(f"{prefix}*") if _is_abandoned(each))


def _is_abandoned(scratch: Path) -> bool:
    try:
        with (scratch / _OWNED).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except FileNotFoundError:
        with suppress(FileNotFoundError):  # its owner has just removed it
            return time.time() - scratch.lstat().st_mtime > _UNOWNED_SECONDS
        return False
    except OSError:  # it is locked, or this user may not touch it
        return False
