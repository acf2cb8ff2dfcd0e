"""Caches checked local copies of registered versions, to read them and to restore a lost version from.

`.refit/models/` holds the stored folders, `.refit/versions/` the registry's record of each: its run and its tags.
"""

from __future__ import annotations

import errno
import re
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from refit.errors import RefitError
from refit.files.artifacts import STATE, write_json
from refit.files.scratch_folders import scratch_folder
from refit.models.verification import check_stored
from refit.runtime.context import Context
from registry.versions import Version

MODELS = STATE / "models"
RECORDS = STATE / "versions"
COPY = ".copy-"  # begins the names of scratch folders in MODELS
_DIGEST = re.compile("[0-9a-f]{12,128}")
_STORED_VERSION = TypeAdapter(Version)


def copy_path(context: Context, version: str, model_digest: str) -> Path:
    """The path of the local copy of a version, whether it exists or not.

    Raises:
        RefitError: the digest is malformed: it was changed in MLflow.
    """
    if not _DIGEST.fullmatch(model_digest):
        raise RefitError(
            f"the tag refit.model_digest of version {version} is not as Refit wrote it: {model_digest[:80]!r}; restore "
            "the registry from a copy, or promote another version"
        )
    return context.path(MODELS) / f"{version}-{model_digest[:12]}"


def add(context: Context, of: Version, folder: Path) -> Path:
    """Make the checked `folder` the local copy of a version and store its registry record. Returns the copy's path.

    An intact copy is left in place, so that a kill cannot lose it; only a damaged one is replaced. Several processes
    may add the same version at once.
    """
    copy = copy_path(context, of.version, of.tags["refit.model_digest"])
    note(context, of)
    try:
        folder.rename(copy)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        try:
            check_stored(copy, of.tags["refit.manifest"])
        except RefitError:
            with scratch_folder(copy.parent, COPY) as scratch:
                copy.rename(scratch / "damaged")
                folder.rename(copy)
    return copy


def note(context: Context, of: Version) -> None:
    """Store the registry's record of a version, if it differs from the stored one."""
    if record(context, of.version) != of:
        write_json(_record(context, of.version), asdict(of))


def record(context: Context, number: str) -> Version | None:
    """The stored registry record of a version; None if there is none or it is damaged."""
    try:
        return _STORED_VERSION.validate_json(_record(context, number).read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None


def _record(context: Context, number: str) -> Path:
    return context.path(RECORDS) / f"{number}.json"
