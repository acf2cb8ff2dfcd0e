"""`.refit/ingest.json`: which files of each source were read. A cache; losing it only costs time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from refit.errors import RefitError
from refit.files.artifacts import read_json, write_json
from refit.schemas.artifact import Part, UtcTime

__all__ = ["ReadFile", "SourceState", "read_states", "write_states"]


class ReadFile(Part):
    """A file's digest, with the sizes and times that show whether the file was changed since."""

    sha256: str
    sizes: tuple[int, ...]
    touched_ns: int | None  # None: changed so recently that the digest must be computed again


class SourceState(Part):
    """What was read of a source, and how."""

    declaration: str
    code: str
    how: str
    batches: tuple[str, ...]
    files: Mapping[str, ReadFile]
    read_again: UtcTime | None  # when the first row that lies in the future becomes due


def read_states(path: Path) -> dict[str, SourceState]:
    """The state of each source, without those that cannot be read."""
    try:
        stored = read_json(path)
    except RefitError:
        return {}
    states = {}
    for name, state in stored.items() if isinstance(stored, dict) else ():
        with suppress(ValidationError, RecursionError):
            states[name] = SourceState.model_validate_json(json.dumps(state))
    return states


def write_states(path: Path, states: Mapping[str, SourceState]) -> None:
    """Write the state of each source."""
    write_json(path, {name: state.to_json() for name, state in states.items()})
