"""Updates MLflow's records after a project was copied or moved, so that they point to the project's own artifacts.

MLflow stores the absolute path of every experiment, run and version. In a copy of a project these paths point to the
original, which the copy would read from and, worse, write to.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any
from urllib.parse import quote

from registry.locking import registry_lock
from registry.mlflow_tables import COLUMNS, EXPERIMENT_FOLDER, EXPERIMENTS, FOLDERS, RUN_FOLDER
from registry.sqlite_files import select_read_only
from registry.store import Store
from registry.urls import folder_url, local_path


def settle(store: Store) -> str | None:
    """Make the records point to the artifacts next to the store. Returns a message, or None if nothing changed.

    If experiments of the store lie in another store's folder, every path below that folder is rewritten in one
    transaction. Artifacts are not touched. This takes a millisecond and does not import mlflow. A file that this user
    may not write is left alone, since nothing can be recorded in it either.
    """
    file = store.database
    if file is None or not file.is_file() or not os.access(file, os.W_OK):
        return None
    try:
        if not _elsewhere(store, select_read_only(file, EXPERIMENTS, {})):
            return None
    except sqlite3.OperationalError:
        pass  # no tables yet, or a journal that a writer has to roll back
    with registry_lock(store), closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("begin immediate")
        columns = {tuple(row) for row in connection.execute(COLUMNS)}
        old = _elsewhere(store, connection.execute(EXPERIMENTS)) if EXPERIMENT_FOLDER in columns else []
        runs = sum([_rewrite(connection, folder, _own(store), columns) for folder in old])
        connection.execute("commit")
    if not old:
        return None
    made = ", ".join(str(local_path(folder)) for folder in old)
    summary = (
        f"the records of {runs} run{'' if runs == 1 else 's'} led to {made}, and lead to {store.artifacts} from now on"
    )
    return f"copied or moved here: {summary}"


def _elsewhere(store: Store, experiments: Iterable[Any]) -> list[str]:
    """The artifact folders, other than the store's own, that hold experiments created by Refit.

    Refit's experiments lie where `ensure_experiment` puts them. An experiment that a person put on another disk is not
    matched: its folder is not in a home of this name, and this store has no artifacts of it.
    """
    assert store.artifacts is not None
    folders = set()
    for row in experiments:
        folder, _, last = (row["artifact_location"] or "").rpartition("/")
        if (
            last != quote(row["name"])
            or not folder.startswith("file:")
            or not folder.endswith(f"/{store.artifacts.name}")
        ):
            continue
        same_home = folder.endswith(f"/{quote(store.home.name)}/{store.artifacts.name}")
        if folder != _own(store) and (same_home or (store.artifacts / row["name"]).is_dir()):
            folders.add(folder)
    return sorted(folders)


def _rewrite(connection: sqlite3.Connection, old: str, new: str, columns: set[tuple[str, ...]]) -> int:
    """Replace the prefix `old` by `new` in every recorded path. Returns the number of runs that changed."""
    changed = {
        (table, column): connection.execute(
            f"update {table} set {column} = :new || substr({column}, :length + 1)"
            f" where substr({column}, 1, :length + 1) = :old || '/'",
            {"old": old, "new": new, "length": len(old)},
        ).rowcount
        for table, column in FOLDERS
        if (table, column) in columns
    }
    return changed.get(RUN_FOLDER, 0)


def _own(store: Store) -> str:
    assert store.artifacts is not None
    return folder_url(store.artifacts)
