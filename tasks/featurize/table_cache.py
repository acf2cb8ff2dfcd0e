"""Keeps the training table, so that the next run computes only the rows whose features may have changed.

The cache is a copy of the table and a list of what it was computed from, in `.refit/featurize`. It may be deleted at
any time. One that is torn, was altered, or was made by other definitions, params, code or libraries, is ignored.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from refit.errors import RefitError, first_line
from refit.files import artifacts
from refit.runtime.context import Context
from refit.runtime.stage_code import code_digest
from refit.schemas.artifact import utc_text
from refit.schemas.feature_definitions import Definitions
from refit.schemas.table_cache import TableInputs
from refit.schemas.validated import Validated, ValidatedBatch

FOLDER = artifacts.STATE / "featurize"
_TABLE, _INPUTS = "table.parquet", "inputs.json"
_LIBRARIES = ("duckdb", "numpy", "pyarrow")
_SECTIONS = {"project", "ingest", "featurize"}  # of the params that features depend on


@dataclass(frozen=True)
class CachedTable:
    """A training table of an earlier run, and what this run knows beyond its inputs.

    Args:
        added: titles of the batches that it was computed without.
    """

    path: Path
    inputs: TableInputs
    added: frozenset[str]


def read(context: Context, validated: Validated, definitions: Definitions) -> CachedTable | None:
    """Return the cached table if its features may be used again: by the same rules, and from no batch that is gone."""
    folder = context.path(FOLDER)
    try:
        inputs = TableInputs.read(folder / _INPUTS)
        if inputs.rules != _rules(context, definitions):
            return None
        now = _digests(validated)
        if inputs.batches.items() - now.items():
            return None
        added = frozenset(now.keys() - inputs.batches.keys())
        if any(batch.static and batch.title in added for batch in validated.batches):
            return None
        if artifacts.sha256(folder / _TABLE) != inputs.table:
            return None
    except (RefitError, OSError):
        return None
    return CachedTable((folder / _TABLE).resolve(), inputs, added)


def write(context: Context, validated: Validated, definitions: Definitions, table: str) -> None:
    """Replace the cache by the training table as it is now. Reports it if that is not possible: nothing else fails.

    Args:
        table: its sha256.
    """
    inputs = TableInputs.of(_rules(context, definitions), validated.as_of, _digests(validated), table)
    try:
        with artifacts.atomic_folder(context.path(FOLDER)) as scratch:
            shutil.copyfile(context.path(artifacts.TABLE), scratch / _TABLE)
            inputs.write(scratch / _INPUTS)
    except (RefitError, OSError) as error:
        context.progress(f"the next run computes all features again: {first_line(error)}")


def _rules(context: Context, definitions: Definitions) -> str:
    """The digest of everything but rows that decides on a feature."""
    params = context.params.model_dump(mode="json", include=_SECTIONS)
    libraries = {name: version(name) for name in _LIBRARIES}
    return artifacts.digest([definitions.to_json(), params, code_digest("featurize"), libraries])


def _digests(validated: Validated) -> dict[str, str]:
    """The digest of each batch's accepted rows, by its title."""
    return {batch.title: _digest(batch) for batch in validated.batches}


def _digest(batch: ValidatedBatch) -> str:
    arrived = None if batch.arrived is None else utc_text(batch.arrived)
    content: Mapping[str, object] = {
        "sha256": batch.sha256,
        "excluded": batch.excluded,
        "arrived": arrived,
        "deletes": batch.deletes,
    }
    return artifacts.digest(content)
