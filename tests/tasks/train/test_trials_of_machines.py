"""The trials of machines that differ, and of storage that fails: no search ends with them or takes those of others."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from searching import rows, search, shared_by, spec, tried
from servers import execute, postgresql, postgresql_server  # noqa: F401

from refit.learners import Spec
from refit.learners.contract import library_errors
from refit.runtime.provenance import processor
from refit.schemas.training import TuningReport
from registry import studies
from tasks.train import stored_trials, tuning
from tasks.train.stored_trials import STORAGE
from tasks.train.tuning import tune

ALL = 14  # trials of a search
Found = tuple[Spec, TuningReport]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return tune(spec(), search(), rows(), tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The trials that are fitted, as their count."""
    real, fitted = tuning._try, list[int]()

    def counted(*args: Any) -> Any:
        fitted.append(len(fitted))
        return real(*args)

    monkeypatch.setattr(tuning, "_try", counted)
    return fitted


def numbers(database: str) -> list[object]:
    return [number for (number,) in execute(database, "select number from refit_tuning.trials order by trial_id")]


@pytest.mark.ci
def test_machines_of_another_processor_or_device_share_no_trials(
    postgresql: str,  # noqa: F811
    fits: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, machine in enumerate(
        [("x86_64 Haswell",), ("aarch64",), ("aarch64", "cuda NVIDIA H200"), ("aarch64",)]
    ):
        monkeypatch.setattr(tuning, "_machine", lambda spec, machine=machine: machine)
        tune(spec(), search(trials=2), rows(), tmp_path / str(number), shared=shared_by(postgresql))
    assert len(fits) == 3 * 2
    for _ in range(2):  # a folder is one machine's
        tune(spec(), search(trials=2), rows(), tmp_path / "alone")
    assert len(fits) == 4 * 2


def test_a_machine_is_its_processor_and_for_a_network_its_device() -> None:
    assert tuning._machine(spec()) == (processor(),)
    network = Spec("network", "mlp", ("x0",), params={"device": "cpu"})
    assert tuning._machine(network) == (processor(), "cpu")


@pytest.mark.ci
def test_a_trial_that_fails_for_want_of_memory_is_left_to_a_larger_machine(
    postgresql: str,  # noqa: F811
    undisturbed: Found,
    fits: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, said = tuning.fit_fold, list[str]()

    def small(*args: Any) -> Any:
        if len(fits) == 4:
            with library_errors(spec()):
                raise MemoryError
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(tuning, "fit_fold", small)
        _, found = tune(
            spec(), search(), rows(), tmp_path / "a", lambda what, *_: said.append(what), shared=shared_by(postgresql)
        )
    assert [each.state for each in found.trials].count("failed") == 1
    assert numbers(postgresql) == list(range(3))
    (warning,) = [line for line in said if "warning" in line]
    assert warning.startswith("warning: the trials of this search from 3 on are not stored: trial 3 failed by a fault")
    best, found = tune(spec(), search(), rows(), tmp_path / "b", shared=shared_by(postgresql))
    assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    assert numbers(postgresql) == list(range(ALL))


def test_a_process_opens_a_database_once(postgresql: str) -> None:  # noqa: F811
    first = studies.storage(postgresql)
    studies.last_used(postgresql, "toy")
    studies.delete(postgresql, "toy: gone already")
    assert studies.storage(postgresql) is first


def test_a_pooler_that_drops_the_schema_leaves_the_tables_of_others_alone(
    postgresql: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, said = studies.postgresql.engine_arguments, list[str]()
    monkeypatch.setattr(  # as PgBouncer does in transaction mode
        studies.postgresql, "engine_arguments", lambda schema: {**real(schema), "pool_events": []}
    )
    _, found = tune(
        spec(), search(trials=1), rows(), tmp_path, lambda what, *_: said.append(what), shared=shared_by(postgresql)
    )
    assert len(found.trials) == 1
    assert execute(postgresql, "select tablename from pg_tables where schemaname in ('public', 'refit_tuning')") == []
    (warning,) = [line for line in said if "warning" in line]
    assert "looks for tables in the schema public, and those of searches are in refit_tuning: grant" in warning
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path / STORAGE}")
    assert name.startswith("tree "), "in the folder it has no model's name"


@pytest.mark.ci
@pytest.mark.parametrize("locked", ["before it opens it", "after it opened it"])
def test_a_search_goes_on_when_the_file_of_its_trials_cannot_be_written(
    locked: str, undisturbed: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, real, opened = list[str](), sqlite3.connect, stored_trials._file_storage
    monkeypatch.setattr(sqlite3, "connect", lambda path, **how: real(path, timeout=0.1, **how))
    tune(spec(), search(trials=1), rows(), tmp_path)
    other = real(tmp_path / STORAGE)

    def lock(*args: Any) -> Any:
        storage = opened(*args) if locked == "after it opened it" else None
        other.execute("begin exclusive")
        return storage or opened(*args)

    monkeypatch.setattr(stored_trials, "_file_storage", lock)
    with closing(other):
        best, found = tune(spec(), search(), rows(), tmp_path, lambda what, *_: said.append(what))
    assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    (warning,) = [line for line in said if "warning" in line]
    assert re.match(
        r"warning: the trials of this search (from 0 on )?are not stored: .refit/tuning.db failed: ", warning
    )
    assert "database is locked" in warning
    assert "\n" not in warning
