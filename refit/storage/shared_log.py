"""The prediction log of a team: files among MLflow's artifacts, listed in the ledger's database.

A checkout has copies of them, so that one that is deleted after a run loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import PREDICTIONS, atomic, sha256
from refit.runtime.context import Context
from registry import run_files, tracking
from registry.records import Records
from registry.store import Store

SEALED = "sha256-"  # part of a file name, before the digest of its content
WAIT_SECONDS = 600  # for another machine that is writing to the log
_IDENTITY = {"refit.role": "predictions"}
_FOLDER = "predictions"  # in the run's artifacts


@dataclass(frozen=True)
class SharedLog:
    """The log of a model, and its copy in a checkout."""

    records: Records
    folder: Path
    progress: Callable[[str], None]

    @classmethod
    def of(cls, context: Context, store: Store) -> SharedLog | None:
        """The shared log of a project; None if the one in its checkout is the log."""
        if store.ledger_uri is None:
            return None
        records = Records(store, context.params.project.name)
        return cls(records, context.path(PREDICTIONS), lambda what: context.progress(what))

    def writing(self) -> AbstractContextManager[Callable[[str], None]]:
        """Keep other machines from writing to the log, which would log a row twice; yields the check of that."""
        return self.records.lock("predictions", wait_seconds=WAIT_SECONDS)

    def run(self) -> str:
        """The id of the MLflow run that new files belong to."""
        experiment = tracking.ensure_experiment(self.records.store, self.records.model)
        return tracking.ensure_run(self.records.store, experiment, "prediction log", _IDENTITY)

    def add(self, run: str, name: str, content: Path, rows: int, check: Callable[[str], None]) -> None:
        """Store a file: its content first, so that a listed file is there.

        Args:
            check: that other machines are still kept from writing.
        """
        run_files.store(self.records.store, run, content, f"{_FOLDER}/{name}")
        check("these predictions and later ones are not logged")
        listed = {"run": run, "rows": rows, "bytes": content.stat().st_size}
        self.records.put("prediction", name, json.dumps(listed))

    def names(self) -> list[str]:
        """The listed files, `day=<day>/v<version>-...`."""
        return list(self.records.read("prediction"))

    def fetch(self, version: str, first: date, end: date) -> list[Path]:
        """The files of a version for local days from `first` up to, not including, `end`; each is copied if missing.

        Raises:
            RefitError: one of them cannot be copied.
        """
        listed = {
            name: text
            for name, text in self.records.read("prediction").items()
            if Path(name).name.startswith(f"v{version}-") and first <= day_of(Path(name)) < end
        }
        missing = [name for name in listed if not (self.folder / name).is_file()]
        for done, name in enumerate(missing):
            self.progress(f"copying the prediction log: {done + 1} of {len(missing)} files")
            self._copy(name, str(json.loads(listed[name])["run"]))
        return [self.folder / name for name in listed]

    def remove(self, names: list[str]) -> None:
        """Delete files of the log: from the list first, so that a listed file is there."""
        listed = self.records.read("prediction")
        self.records.forget("prediction", names)
        for name in listed.keys() & set(names):  # another machine may have deleted the others
            run_files.remove(self.records.store, str(json.loads(listed[name])["run"]), f"{_FOLDER}/{name}")

    def _copy(self, name: str, run: str) -> None:
        path = self.folder / name
        with atomic(path) as scratch:
            run_files.fetch(self.records.store, run, f"{_FOLDER}/{name}", scratch)
            if path.stem.partition(SEALED)[2] != sha256(scratch):
                raise RefitError(
                    f"{name} of the prediction log is not as it was written: its content in run {run} is not what its "
                    "name says; restore the artifact store from a copy"
                )


def day_named(folder: str) -> date | None:
    """The local day that a folder's name says; None for a folder that is none of the log's.

    >>> day_named("day=2024-05-02"), day_named("day=old")
    (datetime.date(2024, 5, 2), None)
    """
    try:
        return date.fromisoformat(folder.removeprefix("day="))
    except ValueError:
        return None


def day_of(path: Path) -> date:
    """The local day of a file of the log."""
    return date.fromisoformat(path.parent.name.removeprefix("day="))
