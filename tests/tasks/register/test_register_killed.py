"""Promise 4: at most one version for one run, one ledger line for one alias move, whatever is killed and rerun.

The first process dies by SIGKILL right before or right after one of its writes; a second one then runs to its end.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from quick import quick
from servers import Database, postgresql_server  # noqa: F401

from refit.errors import RefitError
from refit.models import incumbent
from refit.schemas.receipt import Receipt
from registry import versions
from registry.ledger import Ledger
from registry.store import Store
from tasks import register

pytestmark = pytest.mark.usefixtures("same_process")

CLIENT_WRITES = (
    "create_run",
    "set_terminated",
    "log_batch",
    "log_inputs",
    "set_tag",
    "log_artifacts",
    "create_model_version",
    "set_registered_model_alias",
    "set_registered_model_tag",
)
CRITICAL = [
    ("create_run", 1, "after"),
    ("log_artifacts", 1, "after"),
    ("create_model_version", 1, "after"),
    ("begin", 1, "after"),
    ("set_registered_model_alias", 2, "after"),  # previous
    ("set_registered_model_alias", 3, "after"),  # champion
    ("finish", 1, "after"),
    ("write", 1, "before"),
]


def in_child(function: Callable[[], None]) -> int:
    """The exit status of a forked process that calls `function`; negative: the signal that ended it."""
    if not (pid := os.fork()):
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killing(owner: Any, name: str, count: int, when: str) -> None:
    """Make the `count`-th call of `owner.name` the last thing that this process does."""
    at_call(owner, name, count, when, lambda: os.kill(os.getpid(), signal.SIGKILL))


def at_call(owner: Any, name: str, count: int, when: str, do: Callable[[], object]) -> None:
    """Let something happen before or after the `count`-th call of `owner.name`."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == count and when == "before":
            do()
        result = original(*arguments, **named)
        if len(calls) == count and when == "after":
            do()
        return result

    setattr(owner, name, wrapped)


def owner_of(name: str) -> Any:
    from mlflow import MlflowClient

    return {"begin": Ledger, "finish": Ledger, "write": Receipt}.get(name, MlflowClient)


@pytest.fixture(scope="module", params=["files", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> Iterator[Database | None]:
    """The database of the ledger; None if it is a file next to the registry."""
    if request.param == "files":
        yield None
        return
    database = Database(request.getfixturevalue("postgresql_server"), "killed")
    database.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_LEDGER_URI", database.url)
        yield database


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, database: Database | None) -> Path:
    """Where a project lies while it is worked on, and next to it a copy of how it was before its second `register`."""
    return tmp_path_factory.mktemp("killed") / "toy"


@pytest.fixture
def project(judged: Path, database: Database | None, new_project: Callable[[str], Any]) -> Any:
    """A project with one champion and a second candidate that the gate lets through.

    Its database is only ever opened by children: an open one would not survive being put back.
    """
    made = new_project("toy")
    spare = judged.with_name("spare")
    if not spare.exists():
        for module in ("mlflow.pyfunc", "skops.io", "sklearn.linear_model"):
            importlib.import_module(module)  # once here, so that no child has to
        made.folder.rename(judged)
        assert in_child(lambda: two_candidates(type(made)(judged))) == 0
        shutil.copytree(judged, spare)
        if database:
            database.keep()
    put_back(judged, database)
    return type(made)(judged)


def put_back(judged: Path, database: Database | None) -> None:
    """Put the project's folder and ledger back to where they were before its second `register`."""
    shutil.rmtree(judged, ignore_errors=True)
    shutil.copytree(judged.with_name("spare"), judged)
    if database:
        database.put_back()


def two_candidates(project: Any) -> None:
    project.registered(0)
    project.judged(1)


def state_of(project: Any) -> tuple[Any, ...]:
    store: Store = project.store
    tags = dict(versions.registered(store, "toy").tags)
    noted, head = tags.pop("refit.ledger", None), Ledger.of(store).examine().head
    return (
        {number: versions.version(store, "toy", number) is not None for number in ("1", "2", "3")},
        project.aliases,
        project.told,
        tags,
        noted == head,
        Ledger.of(store).pending("toy"),
    )


EXPECTED = (
    {"1": True, "2": True, "3": False},
    {"challenger": "2", "champion": "2", "previous": "1"},
    [("promote", None, "1"), ("promote", "1", "2")],
    {"refit.anchor": "1"},
    True,
    None,
)


@pytest.mark.ci
@pytest.mark.parametrize(("name", "count", "when"), quick(CRITICAL, 2, 5, 6))
def test_killed_at_a_step_and_run_again_there_is_one_version_one_line_and_the_right_aliases(
    project: Any, name: str, count: int, when: str
) -> None:
    def killed() -> None:
        killing(owner_of(name), name, count, when)
        register.run(project.context)

    assert in_child(killed) == -signal.SIGKILL
    assert project.aliases["champion"] in ("1", "2")
    assert in_child(lambda: rerun(project)) == 0
    assert state_of(project) == EXPECTED
    assert project.receipt["alias"] == "champion"
    assert register.needs_rerun(project.context) is None


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("name", "count", "when"), CRITICAL)
def test_a_connection_lost_at_a_step_moves_nothing_that_the_next_run_does_not_finish(
    project: Any, database: Database | None, name: str, count: int, when: str
) -> None:
    assert database is not None

    def cut() -> None:
        at_call(owner_of(name), name, count, when, database.end_connections)
        with suppress(RefitError):  # anything else ends the child with status 1
            register.run(project.context)

    assert in_child(cut) == 0
    assert project.aliases["champion"] in ("1", "2")
    assert in_child(lambda: rerun(project)) == 0
    assert state_of(project) == EXPECTED


def rerun(project: Any) -> None:
    """What the next `refit run` does: `evaluate` is unchanged if the comparand is, and DVC knows of no `register`."""
    incumbent.refresh(project.context)
    register.run(project.context)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "count", "when", "done"),
    quick(
        [
            ("begin", 1, "before", "version 1 is champion again"),
            ("begin", 1, "after", "version 1 is champion again"),
            ("set_registered_model_alias", 1, "after", "version 1 is champion again"),  # previous
            ("set_registered_model_alias", 2, "after", "version 1 is champion again"),  # champion
            ("finish", 1, "before", "version 1 is champion again"),
            ("finish", 1, "after", "rolled back already, from version 2 to version 1"),
        ],
        *(3, 5),
    ),
)
def test_a_rollback_killed_at_a_step_and_typed_again_rolls_back_once(
    project: Any, name: str, count: int, when: str, done: str
) -> None:
    def killed() -> None:
        register.run(project.context)
        killing(owner_of(name), name, count, when)
        register.rollback(project.context, why="it fails on Mondays")

    def again() -> None:
        for said in (done, "rolled back already, from version 2 to version 1"):
            try:
                answer = register.rollback(project.context, why="it fails on Mondays")
            except RefitError as error:
                answer = str(error)
            assert said in answer

    assert in_child(killed) == -signal.SIGKILL
    assert in_child(again) == 0
    assert (project.aliases["champion"], project.aliases["previous"]) == ("1", "2")
    assert project.told == [("promote", None, "1"), ("promote", "1", "2"), ("rollback", "2", "1")]
    assert state_of(project)[-2:] == (True, None)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", [*CLIENT_WRITES, "begin", "finish", "write"])
def test_killed_at_every_single_write(
    project: Any, judged: Path, database: Database | None, name: str, when: str
) -> None:
    for count in range(1, 20):
        put_back(judged, database)

        def killed(count: int = count) -> None:
            killing(owner_of(name), name, count, when)
            register.run(project.context)

        status = in_child(killed)
        assert in_child(lambda: rerun(project)) == 0
        assert state_of(project) == EXPECTED, (name, count, when)
        if status == 0:  # there was no such write any more
            return
    raise AssertionError(f"more than 20 calls of {name}")


@pytest.mark.ci
def test_a_move_cut_off_is_finished_even_if_the_next_run_has_another_candidate(project: Any) -> None:
    def killed() -> None:
        killing(owner_of("begin"), "begin", 1, "after")
        register.run(project.context)

    assert in_child(killed) == -signal.SIGKILL
    assert in_child(lambda: project.judged(2, promote=False)) == 0
    assert project.aliases["champion"] == "2"
    assert project.told[-1] == ("promote", "1", "2")


@pytest.mark.slow
def test_a_run_that_may_not_promote_leaves_a_move_that_was_cut_off_as_it_is(project: Any) -> None:
    def killed() -> None:
        killing(owner_of("begin"), "begin", 1, "after")
        register.run(project.context)

    assert in_child(killed) == -signal.SIGKILL
    assert in_child(lambda: register.run(project.without_leave())) == 0
    assert project.aliases["champion"] == "1"
    assert Ledger.of(project.store).pending("toy") is not None


@pytest.mark.slow
def test_a_move_cut_off_is_given_up_where_someone_else_took_charge_since(project: Any) -> None:
    def killed() -> None:
        killing(owner_of("begin"), "begin", 1, "after")
        register.run(project.context)

    def another() -> None:
        from registry.client import client

        client(project.store).create_model_version("toy", source="elsewhere")
        client(project.store).set_registered_model_alias("toy", "champion", "3")

    assert in_child(killed) == -signal.SIGKILL
    assert in_child(another) == 0
    in_child(lambda: rerun(project))  # that version is none of ours, which `refresh` then says
    assert project.aliases["champion"] == "3"
    assert project.told[-1] == ("refuse", "1", "2")
    assert "version 3 was promoted before the move was finished" in project.ledger[-1].reasons[0]


@pytest.mark.ci
def test_two_processes_that_register_the_same_candidate_at_once_make_one_version(project: Any) -> None:
    children = []
    for _ in range(2):
        if not (pid := os.fork()):
            try:
                register.run(project.context)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    assert state_of(project) == EXPECTED
