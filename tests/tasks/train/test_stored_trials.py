"""The trials of a search in the ledger's database: another clone goes on with them, and no search depends on them."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import pytest
from killing import TESTS, run_until_killed
from proxies import proxy
from searching import rows, search, shared_by, slowly, spec, tried
from servers import execute, free_port, postgresql, postgresql_server  # noqa: F401

from refit.config import parse
from refit.learners import Spec
from refit.runtime.context import Context
from refit.schemas.training import TuningReport
from registry import studies
from registry.provision import provision
from registry.store import RegistryError
from tasks.train import tuning
from tasks.train.stored_trials import STORAGE, _result, shared_store
from tasks.train.tuning import tune

ALL = 14  # trials of a search
SMALL = {
    "project": {"name": "toy"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "*.csv", "columns": {"id": "text"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "label"}},
    "train": {"learners": [{"name": "base_rate", "kind": "baseline"}]},
}
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
def test_a_search_that_is_killed_in_one_clone_goes_on_in_another_and_ends_as_if_it_had_not_been(
    postgresql: str,  # noqa: F811
    undisturbed: Found,
    fits: list[int],
    tmp_path: Path,
) -> None:
    call = f"search_until_killed(Path({str(tmp_path / 'one')!r}), {postgresql!r}, stored=9)"
    run_until_killed("searching", "search_until_killed", call)
    assert numbers(postgresql) == list(range(9)), "nothing is left of the trial that was half stored"
    best, found = tune(spec(), search(), rows(), tmp_path / "two", shared=shared_by(postgresql))
    assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    assert len(fits) == ALL - 9
    assert numbers(postgresql) == list(range(ALL))
    assert not (tmp_path / "two" / STORAGE).exists()
    third = tune(spec(), search(), rows(), tmp_path / "three", shared=shared_by(postgresql))[1]
    assert (third.trials, len(fits)) == (found.trials, ALL - 9)


@pytest.mark.slow
def test_two_clones_that_search_at_once_store_each_trial_once_and_find_the_same(
    postgresql: str,  # noqa: F811
    undisturbed: Found,
    tmp_path: Path,
) -> None:
    other, own = tmp_path / "other", tmp_path / "own"
    other.mkdir()
    code = f"import sys; sys.path[:0] = {[str(TESTS.parent), str(TESTS)]!r}; from pathlib import Path; "
    code += f"from searching import search_at_once; search_at_once(Path({str(other)!r}), {postgresql!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    with slowly():
        best, found = tune(spec(), search(), rows(), own, shared=shared_by(postgresql))
    assert process.wait(timeout=120) == 0
    there = TuningReport.model_validate_json((other / "found.json").read_text())
    assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    assert tried(there) == tried(found)
    assert sorted(map(str, numbers(postgresql))) == sorted(map(str, range(ALL)))
    assert {each.seconds for each in found.trials} == {each.seconds for each in there.trials}, "the first decided"


@pytest.mark.ci
def test_a_search_whose_database_is_lost_goes_on_and_says_which_trials_are_not_stored(
    postgresql: str,  # noqa: F811
    undisturbed: Found,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, said = urlsplit(postgresql), list[str]()
    assert server.port is not None
    with proxy(server.port) as network:
        real, fitted = tuning._try, itertools.count()

        def cut(*args: Any) -> Any:
            if next(fitted) == 6:
                network.cut()
            return real(*args)

        monkeypatch.setattr(tuning, "_try", cut)
        address = f"postgresql://refit:hunter-two@127.0.0.1:{network.port}{server.path}"
        best, found = tune(
            spec(), search(), rows(), tmp_path, lambda what, *_: said.append(what), shared=shared_by(address)
        )
    assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    assert numbers(postgresql) == list(range(6))
    (warning,) = [line for line in said if "warning" in line]
    assert warning.startswith("warning: the trials of this search from 6 on are not stored: the database postgresql://")
    assert "refit:***@" in warning
    assert "hunter" not in "".join(said)
    assert "\n" not in warning


@pytest.mark.ci
def test_a_search_whose_database_cannot_be_reached_is_stored_in_its_folder(
    undisturbed: Found, fits: list[int], tmp_path: Path
) -> None:
    said = list[str]()
    address = f"postgresql://refit:hunter-two@127.0.0.1:{free_port()}/refit"
    for _ in range(2):
        best, found = tune(
            spec(), search(), rows(), tmp_path, lambda what, *_: said.append(what), shared=shared_by(address)
        )
        assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    assert len(fits) == ALL
    first, again = [line for line in said if "warning" in line]
    assert first == again
    assert first.startswith(
        "warning: trials are stored in this folder alone (.refit/tuning.db): the database postgresql://refit:***@"
    )
    assert "refused" in first
    assert "hunter" not in "".join(said)


SOUND = {
    "params": {"max_depth": 3},
    "state": "complete",
    "value": 0.5,
    "steps": [0.5],
    "seconds": 0.1,
    "problem": "",
    "took": {},
}


@pytest.mark.parametrize(
    ("attributes", "notes", "fault"),
    [
        ({}, {}, "was not stored by Refit"),
        ({"refit": [1, "x"]}, {}, "is damaged"),
        ({"refit": SOUND | {"value": "0.5"}}, {}, "is damaged (value: "),
        ({"refit": SOUND | {"value": None}}, {}, "is damaged (its score is None, and it is complete)"),
        ({"refit": SOUND | {"state": "pruned"}}, {}, "is damaged (its score is 0.5, and it is pruned)"),
        ({"refit": SOUND | {"params": {"max_depth": 9}}}, {}, "has the arguments {'max_depth': 9} in place of"),
        ({"refit": SOUND | {"epochs": [[-1, 0.5]]}}, {}, "is damaged (epochs.0.0: "),
        ({"refit": SOUND | {"epochs": [[2**31, 0.5]]}}, {}, "is damaged (epochs.0.0: "),
        ({"refit": SOUND | {"steps": []}}, {}, "is damaged (its score is 0.5, and that of its folds is another)"),
        ({"refit": SOUND | {"steps": [0.4]}}, {}, "is damaged (its score is 0.5, and that of its folds is another)"),
        ({"refit": SOUND}, {"completed_rung_0": "0.5"}, "is damaged (a note of the pruner is no finite number)"),
        ({"refit": SOUND}, {"completed_rung_0": math.inf}, "is damaged (a note of the pruner is no finite number)"),
    ],
)
def test_a_trial_of_something_else_is_told_from_one_of_the_search(
    attributes: dict[str, Any], notes: dict[str, Any], fault: str
) -> None:
    trial = optuna.create_trial(value=0.5, user_attrs=attributes, system_attrs=notes)
    with pytest.raises(ValueError, match=re.escape(fault)):
        _result(trial, {"max_depth": 3})
    sound = optuna.create_trial(value=0.5, user_attrs={"refit": SOUND}, system_attrs={"completed_rung_0": 0.5})
    assert _result(sound, {"max_depth": 3}).rungs == {"completed_rung_0": 0.5}


@pytest.mark.ci
def test_a_study_with_trials_of_something_else_is_left_alone_and_the_search_stored_again(
    fits: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, few = search(trials=5, pruner="none"), rows(120, folds=2)
    undisturbed = tune(spec(), small, few, tmp_path / "undisturbed")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tuning, "_best", lambda study: interrupt() if len(study.trials) == 3 else None)
        tune(spec(), small, few, tmp_path)
    storage = f"sqlite:///{tmp_path / STORAGE}"
    (name,) = optuna.get_all_study_names(storage)
    optuna.load_study(study_name=name, storage=storage).ask()  # as other code does that goes on with it
    said = list[str]()
    for _ in range(2):
        best, found = tune(spec(), small, few, tmp_path, lambda what, *_: said.append(what))
        assert (best, tried(found)) == (undisturbed[0], tried(undisturbed[1]))
    assert len(fits) == 5 + 3 + 2, "the sound trials are not fitted again, nor any of the second run"
    assert optuna.get_all_study_names(storage) == [name, f"{name} (2)"]
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 4
    assert len(optuna.load_study(study_name=f"{name} (2)", storage=storage).trials) == 5
    warnings = [line for line in said if "warning" in line]
    assert len(warnings) == 2
    assert f"trial 3 of the study {name!r} in .refit/tuning.db " in warnings[0]


def interrupt(*_: object) -> Any:
    raise KeyboardInterrupt


def test_the_tables_are_apart_from_others_of_the_same_names_and_optuna_opens_the_study(
    postgresql: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    execute(postgresql, "create table alembic_version (version_num text)")  # as MLflow's server makes it
    execute(postgresql, "insert into alembic_version values ('of MLflow')")
    _, found = tune(spec(), search(trials=3), rows(), tmp_path, shared=shared_by(postgresql))
    assert execute(postgresql, "select version_num from public.alembic_version") == [("of MLflow",)]
    driver = postgresql.replace("postgresql://", "postgresql+psycopg://")
    storage = f"{driver}?options=-csearch_path%3Drefit_tuning"
    (name,) = optuna.get_all_study_names(storage)
    assert name.startswith("toy: tree ")
    study = optuna.load_study(study_name=name, storage=storage)
    assert [each.value for each in study.trials] == [each.value for each in found.trials]


@pytest.mark.ci
def test_a_worker_that_may_make_no_schema_stores_trials_once_its_owner_has_provisioned_it(
    postgresql: str,  # noqa: F811
    fits: list[int],
    tmp_path: Path,
) -> None:
    execute(postgresql, "drop role if exists tuning_worker")
    execute(postgresql, "create role tuning_worker login")
    worker, said = shared_by(postgresql.replace("refit@", "tuning_worker@")), list[str]()

    def clone(name: str) -> None:
        tune(spec(), search(trials=2), rows(), tmp_path / name, lambda what, *_: said.append(what), shared=worker)

    try:
        clone("one")
        (warning,) = [line for line in said if "warning" in line]
        assert "permission denied" in warning
        provision(postgresql, ["tuning_worker"])
        clone("two")
        clone("three")
        assert len([line for line in said if "warning" in line]) == 1
        assert len(fits) == 2 + 2
        assert studies.exists(postgresql)
    finally:
        execute(postgresql, "drop owned by tuning_worker")
        execute(postgresql, "drop role tuning_worker")


@pytest.mark.ci
def test_tables_of_another_optuna_are_left_alone(postgresql: str, tmp_path: Path) -> None:  # noqa: F811
    tune(spec(), search(trials=1), rows(), tmp_path, shared=shared_by(postgresql))
    execute(postgresql, "update refit_tuning.alembic_version set version_num = 'v99.0.0.a'")
    studies._storage.cache_clear()  # as in another process
    with pytest.raises(RegistryError, match="no longer compatible with the table schema"):
        studies.storage(postgresql)
    tune(spec(), search(trials=1), rows(), tmp_path, shared=shared_by(postgresql))
    execute(postgresql, "drop role if exists ledger_worker")
    execute(postgresql, "create role ledger_worker login")
    try:
        with pytest.raises(RegistryError, match="no longer compatible with the table schema"):
            provision(postgresql, ["ledger_worker"])
        granted = "select has_table_privilege('ledger_worker', 'refit.ledger', 'insert')"
        assert execute(postgresql, granted) == [(True,)], "the ledger does not wait for the trials"
    finally:
        execute(postgresql, "drop owned by ledger_worker")
        execute(postgresql, "drop role ledger_worker")


@pytest.mark.parametrize(
    ("tracking", "ledger", "is_shared"),
    [
        ("http://mlflow:5000", "postgresql://db/refit", True),
        ("http://mlflow:5000", None, False),
        ("postgresql://db/mlflow", None, True),
        ("sqlite:///m.db", "postgresql://db/refit", False),  # as in the folder of `refit reproduce`
        ("http://mlflow:5000", "postgresql://refit:${NOT_SET}@db/refit", False),
    ],
)
def test_trials_are_in_the_ledgers_database_where_the_registry_is_of_several_machines(
    tracking: str, ledger: str | None, is_shared: bool, tmp_path: Path
) -> None:
    raw = {"registry": {"tracking_uri": tracking} | ({"ledger_uri": ledger} if ledger else {}), **SMALL}
    said = list[str]()
    store = shared_store(Context(tmp_path, parse(raw), lambda what, *_: said.append(what)))
    assert (store is not None) == is_shared
    if ledger and "NOT_SET" in ledger:
        (warning,) = said
        assert warning.endswith("registry.ledger_uri needs the variable NOT_SET, which is not set; export NOT_SET")
    else:
        assert said == []
