"""The secret that a project's servers require: created once, readable by its owner, shared by all Refit processes."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import tempfile
from base64 import b64decode
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import STATE

AUTH = STATE / "auth"
USER = "refit"
_FORM = re.compile(rf"{USER}:[A-Za-z0-9_-]{{43}}")  # 32 random bytes


def auth_string(project: Path) -> str:
    """Return `user:password` of the project's servers; the first call creates it.

    Raises:
        RefitError: the file cannot be read or written, or holds something else.
    """
    path = project / AUTH
    try:
        if not path.is_file():
            _make(path)
        path.chmod(0o600)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RefitError(f"cannot use {path}: {error}; give this user access to it, or delete it") from None
    if not _FORM.fullmatch(text):
        raise RefitError(
            f"{path} holds no secret that Refit made; `refit down`, delete it, and `refit up` makes a new one"
        )
    return text


def new() -> str:
    """Return a new random secret."""
    return f"{USER}:{secrets.token_urlsafe(32)}"


def is_made(project: Path) -> bool:
    """Return whether the project has a secret already."""
    return (project / AUTH).is_file()


def matches(header: bytes | None, expected: str) -> bool:
    """Return whether an `Authorization` header holds `expected` in HTTP's Basic scheme.

    >>> matches(b"Basic cmVmaXQ6cw==", "refit:s")
    True
    >>> matches(b"Basic cmVmaXQ6cw==", "refit:t"), matches(b"Bearer cmVmaXQ6cw==", "refit:s"), matches(None, "refit:s")
    (False, False, False)
    """
    scheme, _, encoded = (header or b"").partition(b" ")
    try:
        decoded = b64decode(encoded, validate=True)
    except ValueError:
        return False
    return scheme.lower() == b"basic" and hmac.compare_digest(decoded, expected.encode())


def _make(path: Path) -> None:
    """Write a new secret; if two processes do so at once, both use the first one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=".auth.", dir=path.parent)  # 0600 from its first moment
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{new()}\n")
        path.hardlink_to(scratch)
    except FileExistsError:
        pass
    finally:
        Path(scratch).unlink()
