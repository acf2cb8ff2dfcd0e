"""MLflow's own tables in an SQLite store: all that Refit knows of their names. Reading them takes a millisecond, where
importing MLflow takes seconds.

`tests/registry/test_versions.py` compares what is read here with what MLflow's client answers. Where a table is
missing, in another version of MLflow, `sqlite3.OperationalError` is raised and the client is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.sqlite_files import select_read_only

EXPERIMENTS = "select name, artifact_location from experiments"
COLUMNS = "select t.name, c.name from sqlite_master t, pragma_table_info(t.name) c"
EXPERIMENT_FOLDER, RUN_FOLDER = ("experiments", "artifact_location"), ("runs", "artifact_uri")
FOLDERS = (  # every column of MLflow 3.17 that holds a path of artifacts
    EXPERIMENT_FOLDER,
    RUN_FOLDER,
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),  # mlflow.artifactLocation
)
_MODEL = "name = :model and workspace = 'default'"
_DELETED = "Deleted_Internal"


@dataclass(frozen=True)
class VersionRow:
    """A row of `model_versions`, with the version's tags."""

    version: str
    run_id: str | None
    created_ms: int
    tags: Mapping[str, str]


def aliases(file: Path, model: str) -> dict[str, str]:
    """The version of each alias of a model."""
    return _pairs(file, f"select alias as k, version as v from registered_model_aliases where {_MODEL}", model)


def model_tags(file: Path, model: str) -> dict[str, str]:
    """The tags of a model."""
    return _pairs(file, f"select key as k, value as v from registered_model_tags where {_MODEL}", model)


def version(file: Path, model: str, number: str) -> VersionRow | None:
    """A version; None if there is none, or if it was deleted."""
    values = {"model": model, "version": int(number)}
    rows = select_read_only(file, f"select * from model_versions where {_MODEL} and version = :version", values)
    if not rows or rows[0]["current_stage"] == _DELETED:
        return None
    row, tags = rows[0], version_tags(file, model, number)
    return VersionRow(str(row["version"]), row["run_id"], row["creation_time"], tags)


def version_tags(file: Path, model: str, number: str) -> dict[str, str]:
    """The tags of a version, which MLflow keeps when the version is deleted."""
    sql = f"select key as k, value as v from model_version_tags where {_MODEL} and version = :version"
    return _pairs(file, sql, model, version=int(number))


def versions_tagged(file: Path, model: str, key: str, value: str) -> list[str]:
    """The versions with a tag, deleted ones too."""
    sql = f"select version from model_version_tags where {_MODEL} and key = :key and value = :value"
    return [str(row["version"]) for row in select_read_only(file, sql, {"model": model, "key": key, "value": value})]


def run_folder(file: Path, run_id: str) -> str | None:
    """The place of a run's artifacts; None if there is no such run."""
    rows = select_read_only(file, "select artifact_uri from runs where run_uuid = :run", {"run": run_id})
    return str(rows[0]["artifact_uri"]) if rows else None


def run_numbers(file: Path, run_id: str) -> tuple[dict[str, float], dict[str, str]]:
    """The newest value of each metric of a run, and its params; both empty if there is no such run."""
    of_run = {"run": run_id}
    metrics = select_read_only(file, "select key, value, is_nan from latest_metrics where run_uuid = :run", of_run)
    params = select_read_only(file, "select key, value from params where run_uuid = :run", of_run)
    numbers = {row["key"]: math.nan if row["is_nan"] else float(row["value"]) for row in metrics}
    return numbers, {row["key"]: str(row["value"]) for row in params}


def _pairs(file: Path, sql: str, model: str, **values: object) -> dict[str, str]:
    return {row["k"]: str(row["v"]) for row in select_read_only(file, sql, {"model": model, **values})}
