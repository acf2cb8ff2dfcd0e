"""The finished trials of a search, stored where a later run finds them.

They are in a file of the project; or, where all machines share a ledger's database, in that, so that another clone goes
on with the search of one that is gone. A search never depends on them: it ends the same without.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from refit.errors import RefitError, first_line
from refit.runtime.context import Context, Progress
from refit.runtime.registry_store import store_of
from refit.schemas.training import TrialReport
from registry import studies
from registry.secrets import redacted
from registry.store import RegistryError, Store

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

STORAGE = Path(".refit/tuning.db")
ATTRIBUTE = "refit"  # of a trial: its report
RUNG = "rung"  # part of the names of the notes of a pruner

Result = TypeVar("Result")


@dataclass(frozen=True)
class TrialResult:
    """A trial, with the notes of the pruner."""

    report: TrialReport
    rungs: Mapping[str, float]  # by their key among the trial's attributes
    machine_fault: bool = False  # it failed for want of memory, say: another machine may succeed


def shared_store(context: Context) -> Store | None:
    """The registry whose database has the trials of all machines; None if those of this project are in its folder.

    A registry in a file is one machine's, as is that of a version that is reproduced, which has to be fitted again.
    """
    try:
        store = store_of(context.project, context.params)
    except RefitError as error:
        context.progress(f"warning: trials are stored in this folder alone ({STORAGE}): {error}")
        return None
    return store if store.ledger_uri and store.database is None else None


class StoredTrials:
    """The trials of one search. Trials that are none of it are left alone, and its own stored under another name."""

    def __init__(self, project: Path, shared: Store | None, name: str, study: optuna.Study, progress: Progress) -> None:
        """Open the storage.

        Args:
            study: the search itself, in memory.

        Raises:
            RefitError: the file in the project cannot be opened.
        """
        self._study, self._progress = study, progress
        self._stored: optuna.Study | None = None
        self._read_once: list[FrozenTrial] | None = None  # all of `_stored`
        self._results: list[TrialResult] = []  # those of `_stored` that were read and are of this search
        self._added = 0  # trials that are stored since the last `add`
        self._count = 1  # of the studies with this name
        self._url = shared.ledger_uri if shared else None
        self._storage: BaseStorage | None = None  # None once it is lost
        self._name = name
        if shared and self._url:
            try:
                self._storage = studies.storage(self._url)
                self._name = studies.name_of(shared.scope, name)
                return
            except RegistryError as error:
                self._url = None
                progress(f"warning: trials are stored in this folder alone ({STORAGE}): {error}")
        self._storage = _file_storage(project, progress)

    def read(self, expected: Sequence[Mapping[str, object]]) -> list[TrialResult]:
        """The results of a search's first trials, up to the first that is not stored.

        Args:
            expected: the arguments of these trials.
        """
        return self._guarded(lambda: self._read(expected), list(self._results))

    def add(self, fault: int | None = None) -> None:
        """Store the finished trials that are not stored yet; within `writing`, after `read`.

        Args:
            fault: the number of the first trial that failed by a fault of this machine. Where machines share the
                trials, neither it nor a later one is stored: a larger machine goes on from there.
        """
        if self._url is None or self._storage is None:
            fault = None
        self._guarded(lambda: self._add(fault), None)
        if fault is not None and self._storage is not None:
            self._storage = None
            self._progress(
                f"warning: the trials of this search from {fault} on are not stored: trial {fault} failed by a fault "
                "of this machine, and another one may succeed"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from storing trials of this search."""
        held = ExitStack()
        if url := self._url:
            self._guarded(lambda: held.enter_context(studies.writing(url, self._name)), None)
        try:
            yield
        finally:
            with suppress(RegistryError):  # a lock that was lost with the database, which is said already
                held.close()

    @property
    def _own_name(self) -> str:
        return self._name if self._count == 1 else f"{self._name} ({self._count})"

    def _read(self, expected: Sequence[Mapping[str, object]]) -> list[TrialResult]:
        while True:
            trials = self._trials()
            try:
                for trial, arguments in list(zip(trials, expected, strict=False))[len(self._results) :]:
                    self._results.append(_result(trial, arguments))
                return self._results[: len(expected)]
            except ValueError as error:
                damaged, number = self._own_name, len(self._results)
                self._stored, self._read_once, self._results, self._count = None, None, [], self._count + 1
                self._progress(
                    f"warning: trial {number} of the study {damaged!r} in {self._location} {error}: that study is left "
                    f"as it is, and the trials of this search are stored as {self._own_name!r}"
                )

    def _trials(self) -> list[FrozenTrial]:
        """What is stored; of a file, which no other process writes to, what there was when it was read first."""
        if self._read_once is None or self._url:
            self._read_once = self._open().get_trials(deepcopy=False) if self._exists() else []
        return self._read_once

    def _add(self, end: int | None) -> None:
        from optuna.trial import TrialState

        stored = self._open()
        finished = self._study.get_trials(deepcopy=False, states=tuple(s for s in TrialState if s.is_finished()))
        studies.mark_used(stored)
        stored.add_trials(finished[len(stored.get_trials(deepcopy=False)) : end])
        self._added = len(finished[:end])

    def _exists(self) -> bool:
        assert self._storage is not None
        if self._stored is not None:
            return True
        try:
            self._storage.get_study_id_from_name(self._own_name)
        except KeyError:
            return False
        return True

    def _open(self) -> optuna.Study:
        import optuna

        if self._stored is None:
            self._stored = optuna.create_study(
                storage=self._storage, study_name=self._own_name, direction=self._study.direction, load_if_exists=True
            )
        return self._stored

    @property
    def _location(self) -> str:
        return redacted(self._url) if self._url else str(STORAGE)

    def _guarded(self, action: Callable[[], Result], otherwise: Result) -> Result:
        """Do what needs the storage; where it fails, say so once and give `otherwise` from then on."""
        if self._storage is None:
            return otherwise
        try:
            return action()
        except Exception as error:  # of the driver, of SQLAlchemy or of Optuna
            self._storage = None
            number = max(self._added, len(self._results))
            fault: str | Exception = error
            if self._url is None:
                inner = error.__cause__ if isinstance(error.__cause__, Exception) else error
                fault = f"{STORAGE} failed: {first_line(inner)}"
            elif not isinstance(error, RegistryError):
                fault = studies.failed(self._url, error)
            self._progress(f"warning: the trials of this search from {number} on are not stored: {fault}")
            return otherwise


def _file_storage(project: Path, progress: Progress) -> BaseStorage | None:
    """The storage in a project; None if that cannot be used now, as where the disk is full."""
    from optuna.storages import RDBStorage, get_storage
    from sqlalchemy import QueuePool
    from sqlalchemy.exc import OperationalError

    path = project / STORAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Opened by path: a URL would need escapes, and Optuna formats text in braces.
        opening = {"creator": partial(sqlite3.connect, path, check_same_thread=False), "poolclass": QueuePool}
        return get_storage(RDBStorage("sqlite://", engine_kwargs=opening))
    except OperationalError as error:
        progress(f"warning: the trials of this search are not stored: {STORAGE} failed: {first_line(error)}")
        return None
    except Exception as error:  # any error of the database driver for a damaged file
        raise RefitError(
            f"{STORAGE} cannot be opened ({first_line(error)}); delete it: only finished trials are lost"
        ) from None


def _result(trial: FrozenTrial, expected: Mapping[str, object]) -> TrialResult:
    """Convert a stored trial to its result.

    Raises:
        ValueError: it is no trial of this search; the text goes on from its name.
    """
    if ATTRIBUTE not in trial.user_attrs:
        raise ValueError("was not stored by Refit")
    try:
        report = TrialReport.model_validate_json(json.dumps(trial.user_attrs[ATTRIBUTE]))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its report"
        raise ValueError(f"is damaged ({where}: {error.errors()[0]['msg']})") from None
    if (report.value is not None and math.isfinite(report.value)) != (report.state == "complete"):
        raise ValueError(f"is damaged (its score is {report.value}, and it is {report.state})")
    if report.state == "complete" and report.value != next(reversed(report.steps), None):
        raise ValueError(f"is damaged (its score is {report.value}, and that of its folds is another)")
    if report.params != expected:
        raise ValueError(f"has the arguments {report.params} in place of {expected}")
    rungs = {key: value for key, value in trial.system_attrs.items() if RUNG in key}
    if any(not isinstance(value, int | float) or not math.isfinite(value) for value in rungs.values()):
        raise ValueError("is damaged (a note of the pruner is no finite number)")
    return TrialResult(report, rungs)
