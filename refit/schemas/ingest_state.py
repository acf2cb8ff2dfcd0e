"""What was read of each source: `.refit/ingest.json` for files, and next to the batches of a table or snapshot.

Losing it only costs time: everything is read again, and equals what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue, ValidationError

from refit.errors import RefitError
from refit.files.artifacts import read_json, write_json
from refit.schemas.artifact import Part, UtcTime, omitted

__all__ = ["ReadFile", "SourceState", "read_position", "read_states", "write_position", "write_states"]


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
    position: str | None = omitted(None)  # of a table: up to where its rows are stored in these batches
    newest_over: UtcTime | None = omitted(None)  # the newest delivery read after the time in its names was over
    unfinished: UtcTime | None = omitted(None)  # a delivery of which only some batches may be stored


def read_states(path: Path) -> dict[str, SourceState]:
    """The state of each source, without those that cannot be read."""
    stored = _stored(path)
    states = {name: _state(state) for name, state in stored.items()} if isinstance(stored, dict) else {}
    return {name: state for name, state in states.items() if state is not None}


def read_position(path: Path) -> SourceState | None:
    """The state of a table at its position; None if it cannot be read."""
    return _state(_stored(path))


def _stored(path: Path) -> JsonValue:
    try:
        stored: JsonValue = read_json(path)
        return stored
    except RefitError:
        return None


def _state(stored: JsonValue) -> SourceState | None:
    with suppress(ValidationError, RecursionError):
        return SourceState.model_validate_json(json.dumps(stored))
    return None


def write_states(path: Path, states: Mapping[str, SourceState]) -> None:
    """Write the state of each source."""
    write_json(path, {name: state.to_json() for name, state in states.items()})


def write_position(path: Path, state: SourceState) -> None:
    """Write the state of a table; it is complete once this file is."""
    write_json(path, state.to_json())
