"""Local copies of registered versions, checked and kept: read in place of what is stored, and a lost one's source.

`.refit/models/` holds the stored folders, `.refit/versions/` what the registry said of each: its run and its tags.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import STATE, read_json, write_json
from refit.models.verification import check_stored
from refit.runtime.context import Context
from registry.versions import Version

MODELS = STATE / "models"
RECORDS = STATE / "versions"
_DIGEST = re.compile("[0-9a-f]{12,128}")


def place(context: Context, version: str, model_digest: str) -> Path:
    """Where the local copy of a version is, or would be.

    Raises:
        RefitError: the digest is none: somebody changed it in MLflow.
    """
    if not _DIGEST.fullmatch(model_digest):
        raise RefitError(
            f"the tag refit.model_digest of version {version} is not as Refit wrote it: {model_digest[:80]!r}; restore "
            "the registry from a copy, or put another version in charge"
        )
    return context.path(MODELS) / f"{version}-{model_digest[:12]}"


def keep(context: Context, of: Version, folder: Path) -> Path:
    """Make the checked `folder` the local copy of a version, and note what the registry says of it; where it lies.

    A whole copy stays as it is, so that no kill can lose it; only a damaged one is replaced.
    """
    copy = place(context, of.version, of.tags["refit.model_digest"])
    note(context, of)
    if copy.is_dir():
        try:
            check_stored(copy, of.tags["refit.manifest"])
        except RefitError:
            with tempfile.TemporaryDirectory(prefix=".copy-", dir=copy.parent) as scratch:
                copy.rename(Path(scratch) / "damaged")
                folder.rename(copy)
        return copy
    folder.rename(copy)
    return copy


def note(context: Context, of: Version) -> None:
    """Note what the registry says of a version, unless it is noted already."""
    if record(context, of.version) != of:
        write_json(_record(context, of.version), asdict(of))


def record(context: Context, number: str) -> Version | None:
    """What the registry last said of a version; None where that was not noted, or the note is torn."""
    if not _record(context, number).is_file():
        return None
    try:
        return Version(**read_json(_record(context, number)))
    except (RefitError, TypeError):
        return None


def _record(context: Context, number: str) -> Path:
    return context.path(RECORDS) / f"{number}.json"
