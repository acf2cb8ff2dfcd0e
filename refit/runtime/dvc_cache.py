"""Verifies objects that DVC restores from its cache: DVC itself trusts an object's name and file mode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def verified(repo: Any, say: Callable[[str], object]) -> Iterator[None]:
    """Verify the hash of each object that the run-cache restores, which DVC would accept by name and file mode."""
    stage_cache, objects = repo.stage_cache, repo.cache.local
    restore, get, check, load = stage_cache.restore, objects.get, objects.check, stage_cache._load_cache
    damaged: list[str] = []

    def verify(oid: str) -> None:
        path = Path(objects.oid_to_path(oid))
        if not path.is_file() or _md5(path) == oid.partition(".")[0]:
            return
        path.unlink()
        damaged.append(oid)
        raise FileNotFoundError(path)

    def verified_get(oid: str) -> Any:
        if oid.endswith(".dir"):
            verify(oid)
        return get(oid)

    def verified_check(oid: str, *arguments: Any, **options: Any) -> Any:
        verify(oid)
        return check(oid, *arguments, **options)

    def verified_restore(stage: Any, *arguments: Any, **options: Any) -> Any:
        objects.get, objects.check = verified_get, verified_check
        try:
            return restore(stage, *arguments, **options)
        finally:
            del objects.get, objects.check
            if damaged:
                say(
                    f"{stage.addressing}: its earlier result in DVC's cache is damaged (object {damaged[0][:12]}): "
                    "dropped; the stage runs again"
                )
                damaged.clear()

    def load_if_sound(key: str, value: str | None) -> Any:
        if value is None:  # the folder of a dropped entry
            return None
        try:
            return load(key, value)
        except Exception as error:
            if type(error).__name__ != "EncodingError":  # DVC itself drops an entry that is text but not YAML
                raise
            (Path(stage_cache.cache_dir) / key[:2] / key / value).unlink()
            say("an entry of DVC's run-cache is damaged: dropped")
            return None

    stage_cache.restore, stage_cache._load_cache = verified_restore, load_if_sound
    try:
        yield
    finally:
        del stage_cache.restore, stage_cache._load_cache


def remove_half_copies(repo: Any, *, since: float) -> int:
    """Remove the remains of copies into the cache that started after `since` and failed. Returns their number."""
    removed = 0
    for path in Path(repo.cache.local.path).rglob("*.tmp"):
        with suppress(OSError):
            if path.stat().st_mtime >= since - 1:
                path.unlink()
                removed += 1
    return removed


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
