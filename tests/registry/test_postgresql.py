"""A ledger and a lock in PostgreSQL: one for all machines, and lost together with the connection."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from servers import execute, free_port, postgresql, postgresql_server  # noqa: F401

from registry import champion, locking
from registry.client import client
from registry.ledger import Entry, Ledger
from registry.locking import registry_lock, require_lock
from registry.postgresql import _SETTINGS, engine, key
from registry.records import Records
from registry.store import RegistryError, Store, locate

LINE = Entry("toy:1", "2014-01-01T00:00:00Z", "ann", "manual", "promote", "toy", None, "1", ("better",), "1")
HOLD = """
import sys, time
from pathlib import Path
from registry.locking import registry_lock
from registry.store import Store
with registry_lock(Store("http://nowhere", Path("."), sys.argv[1], "toy")):
    print("held", flush=True)
    time.sleep(60)
"""
END_ALL = "select pg_terminate_backend(pid) from pg_stat_activity where pid != pg_backend_pid() and datname = "


@pytest.fixture
def store(postgresql: str, tmp_path: Path) -> Store:  # noqa: F811
    return Store("http://nowhere", tmp_path, postgresql, "toy")


@pytest.mark.ci
def test_a_process_elsewhere_is_kept_out_and_learns_who_holds_the_lock_until_its_owner_is_killed(store: Store) -> None:
    assert store.ledger_uri
    owner = subprocess.Popen([sys.executable, "-c", HOLD, store.ledger_uri], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(RegistryError, match=rf"pid {owner.pid} on "), registry_lock(store, wait_seconds=0):
            pass
        with registry_lock(Store("http://nowhere", store.home, store.ledger_uri, "another"), wait_seconds=0):
            pass
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    with registry_lock(store, wait_seconds=5), registry_lock(store, wait_seconds=0):
        require_lock(store)
    with registry_lock(store, wait_seconds=0):
        pass


def test_a_lock_whose_connection_has_ended_is_noticed_before_anything_moves(store: Store) -> None:
    assert store.ledger_uri
    name = store.ledger_uri.rpartition("/")[2]
    with registry_lock(store):
        execute(store.ledger_uri, f"{END_ALL} '{name}'")
        with pytest.raises(RegistryError, match="nothing moves without it"):
            require_lock(store)
    with registry_lock(store, wait_seconds=0):
        require_lock(store)


def test_lines_are_chained_append_only_and_seen_by_every_machine(store: Store) -> None:
    ledger = Ledger.of(store)
    assert ledger.entries("toy") == []
    ledger.begin(LINE)
    assert Ledger.of(store).pending("toy") == LINE
    with pytest.raises(RegistryError, match="another move of toy is going on"):
        Ledger.of(store).begin(LINE)
    ledger.finish(LINE)
    ledger.finish(LINE)
    assert Ledger.of(store).entries("toy") == [LINE]
    assert Ledger.of(store).pending("toy") is None
    assert Ledger.of(store).was_champion("toy", "1")
    assert Ledger.of(store).examine().problem is None
    assert Ledger.of(store).identity() == ledger.identity()
    assert store.ledger_uri
    for change in ("update refit.ledger set who = 'eve'", "delete from refit.ledger", "truncate refit.ledger"):
        with pytest.raises(Exception, match="append-only"):
            execute(store.ledger_uri, change)
    execute(store.ledger_uri, "alter table refit.ledger disable trigger ledger_append_only")
    execute(store.ledger_uri, "update refit.ledger set who = 'eve'")
    assert "line 1" in str(ledger.examine().problem)


def test_a_checkouts_ledger_moves_into_the_database_once_and_whole(store: Store, empty_registry: Path) -> None:
    (store.home / "mlflow.db").write_bytes(empty_registry.read_bytes())
    at_home = Store(f"sqlite:///{store.home / 'mlflow.db'}", store.home)
    client(at_home).create_registered_model("toy")
    file, own = store.home / "ledger.db", Ledger.of(at_home)
    second = replace(LINE, key="toy:2", from_version="1", to_version="2")
    own.append(LINE)
    own.append(replace(LINE, key="other:1", model="other"))
    own.begin(second)
    shared = replace(at_home, ledger_uri=store.ledger_uri, scope="toy")
    with pytest.raises(RegistryError, match="was cut off"):
        champion.move_ledger(shared, file, "toy")
    own.finish(second)
    assert champion.move_ledger(shared, file, "toy") == 2
    assert Ledger.of(shared).entries("toy") == [LINE, second]
    assert champion.examine_ledger(shared, "toy").problem is None
    with pytest.raises(RegistryError, match="has lines of toy already; nothing was copied"):
        champion.move_ledger(shared, file, "toy")
    with sqlite3.connect(file) as connection:
        connection.execute("drop trigger ledger_no_update")
        connection.execute("update ledger set who = 'eve' where model = 'other'")
    with pytest.raises(RegistryError, match="is broken: line 2"):
        champion.move_ledger(shared, file, "other")
    with pytest.raises(RegistryError, match=r"set registry\.ledger_uri"):
        champion.move_ledger(at_home, file, "toy")
    with pytest.raises(RegistryError, match="there is no ledger in"):
        champion.move_ledger(shared, file.with_name("none.db"), "toy")


@pytest.mark.parametrize("copied", [0, 1, 2, 3])
def test_a_copy_that_was_cut_off_goes_on_where_it_ended(store: Store, empty_registry: Path, copied: int) -> None:
    (store.home / "mlflow.db").write_bytes(empty_registry.read_bytes())
    at_home = Store(f"sqlite:///{store.home / 'mlflow.db'}", store.home)
    client(at_home).create_registered_model("toy")
    lines = [LINE, *(replace(LINE, key=f"toy:{number}", to_version=str(number)) for number in (2, 3, 4))]
    for line in lines:
        Ledger.of(at_home).append(line)
    shared = replace(at_home, ledger_uri=store.ledger_uri, scope="toy")
    for line in lines[:copied]:
        Ledger.of(shared).append(line)
    assert champion.move_ledger(shared, store.home / "ledger.db", "toy") == 4
    assert Ledger.of(shared).entries("toy") == lines
    assert champion.examine_ledger(shared, "toy").problem is None


def test_a_database_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql://refit:hunter22@127.0.0.1:{free_port()}/none"
    store = Store("http://nowhere", tmp_path, url, "toy")
    for use in (lambda: Ledger.of(store).entries("toy"), lambda: registry_lock(store).__enter__()):
        with pytest.raises(RegistryError, match=r"the ledger at postgresql://refit:\*\*\*@.* failed: ") as caught:
            use()
        assert "\n" not in str(caught.value)
        assert "hunter22" not in str(caught.value)


def test_the_ledger_is_where_the_environment_says_else_the_params_else_the_registrys_own_database(
    tmp_path: Path,
) -> None:
    server, named = "http://mlflow:5000", "postgresql://db/refit"
    assert locate(tmp_path, server, {}).ledger_uri is None
    assert not locate(tmp_path, server, {}).one_ledger
    assert locate(tmp_path, server, {"PW": "x"}, ledger_uri="postgresql://u:${PW}@db/r").one_ledger
    assert locate(tmp_path, server, {"REFIT_LEDGER_URI": named}, ledger_uri="postgresql://db/r").ledger_uri == named
    assert locate(tmp_path, "postgresql://db/mlflow", {}).ledger_uri == "postgresql://db/mlflow"
    with pytest.raises(RegistryError, match=r"is no PostgreSQL database: registry\.ledger_uri is postgresql://"):
        locate(tmp_path, server, {}, ledger_uri="mysql://db/refit")
    with pytest.raises(RegistryError, match=r"registry\.ledger_uri needs the variable PW"):
        locate(tmp_path, server, {}, ledger_uri="postgresql://u:${PW}@db/r")


def test_reading_creates_nothing(store: Store) -> None:
    assert Ledger.of(store).entries("toy") == []
    assert Ledger.of(store).name() is None
    assert store.ledger_uri
    assert execute(store.ledger_uri, "select * from pg_namespace where nspname = 'refit'") == []


def test_a_project_may_have_any_name(store: Store) -> None:
    with registry_lock(replace(store, scope="tables"), wait_seconds=0):
        Ledger.of(store).append(LINE)
    assert Ledger.of(store).entries("toy") == [LINE]


def test_a_writer_that_hangs_does_not_keep_the_others_waiting_for_ever(store: Store) -> None:
    assert store.ledger_uri
    with engine(store.ledger_uri).connect() as connection:
        shown = [
            connection.exec_driver_sql(f"show {name}").scalar()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert shown == ["1min", "2min"]


def test_a_writer_that_is_kept_out_is_not_told_to_check_its_password(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger.of(store).append(LINE)
    monkeypatch.setitem(_SETTINGS, "lock_timeout", 100)
    assert store.ledger_uri
    waiting = Ledger(f"{store.ledger_uri}?application_name=waiting")  # a connection with the new setting
    with engine(store.ledger_uri).begin() as dump:
        dump.exec_driver_sql(f"select pg_advisory_xact_lock({key('/writing')})")
        with pytest.raises(RegistryError, match="keeps writers out for longer than a minute: let it end") as caught:
            waiting.append(replace(LINE, key="toy:2"))
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("rest", ["refit:secret@wo@127.0.0.1:1x/db", "refit:se:cret/@host/db"])
def test_a_url_that_cannot_be_read_is_one_line_without_any_of_it(tmp_path: Path, rest: str) -> None:
    store = Store("http://nowhere", tmp_path, f"postgresql://{rest}", "toy")
    for use in (
        lambda: Ledger.of(store).entries("toy"),
        lambda: Ledger.of(store).append(LINE),
        lambda: registry_lock(store).__enter__(),
    ):
        with pytest.raises(RegistryError) as caught:
            use()
        assert "cret" not in str(caught.value)
        assert "wo" not in str(caught.value).replace("password", "").replace("PASSWORD", "")


def test_a_registry_in_postgresql_holds_its_ledger_whichever_driver_its_url_names(tmp_path: Path) -> None:
    assert locate(tmp_path, "postgresql+psycopg2://db/mlflow", {}).one_ledger


def test_inserting_and_reading_are_all_the_rights_that_the_ledger_needs(store: Store) -> None:
    Ledger.of(store).append(LINE)
    assert store.ledger_uri
    owner, database = store.ledger_uri, store.ledger_uri.rpartition("/")[2]
    for statement in (
        "drop role if exists worker",
        "create role worker login",
        f"grant connect on database {database} to worker",
        "grant usage on schema refit to worker",
        "grant select, insert on refit.ledger, refit.identity to worker",
        "grant select, insert, update, delete on refit.pending, refit.records to worker",
    ):
        execute(owner, statement)
    try:
        worker = replace(store, ledger_uri=owner.replace("//refit@", "//worker@"))
        second = replace(LINE, key="toy:2", from_version="1", to_version="2")
        with registry_lock(worker):
            Ledger.of(worker).begin(second)
            Ledger.of(worker).finish(second)
            Records(worker, "toy").put("answer", "newest", "{}")
        assert Ledger.of(store).entries("toy") == [LINE, second]
        execute(owner, "revoke insert on refit.ledger from worker")
        with pytest.raises(
            RegistryError, match=r"permission denied.*grant this user what docs/team.md lists"
        ) as caught:
            Ledger.of(worker).append(replace(LINE, key="toy:3"))
        assert "reachable" not in str(caught.value)
        execute(owner, "revoke select on refit.ledger from worker")
        with pytest.raises(RegistryError, match=r"permission denied.*; nothing was read: grant this user"):
            Ledger.of(worker).entries("toy")
    finally:
        execute(owner, "drop owned by worker")
        execute(owner, "drop role worker")


def test_a_connection_that_a_pooler_gave_to_another_is_noticed_before_anything_moves(store: Store) -> None:
    assert store.ledger_uri
    with registry_lock(store):
        held = locking._held[store.lock_name]
        assert held is not None
        with engine(store.ledger_uri).connect() as another:
            own, held._connection = held._connection, another
            with pytest.raises(RegistryError, match=r"is not this connection's any more; nothing moves .*pooler"):
                require_lock(store)
            held._connection = own
        require_lock(store)


@pytest.mark.slow
def test_two_registries_whose_projects_have_one_name_do_not_share_a_ledger(store: Store, empty_registry: Path) -> None:
    stores = []
    for name in ("one", "two"):
        (store.home / name).mkdir()
        file = store.home / name / "mlflow.db"
        file.write_bytes(empty_registry.read_bytes())
        stores.append(replace(store, uri=f"sqlite:///{file}", home=file.parent))
        client(stores[-1]).create_registered_model("toy")
        client(stores[-1]).create_model_version("toy", store.home.as_uri())
    one, two = stores
    with sqlite3.connect(two.home / "mlflow.db") as connection:
        connection.execute("update experiments set creation_time = creation_time + 1")
    champion.set_champion(one, LINE)
    seen = r"the ledger of toy is that of another registry, created at .*need two names"
    for use in (
        lambda: champion.set_champion(two, replace(LINE, key="b")),
        lambda: champion.current_champion(two, "toy"),
        lambda: champion.record(two, replace(LINE, key="b", action="refuse")),
    ):
        with pytest.raises(RegistryError, match=seen):
            use()
    assert "another registry" in champion.warnings(two, "toy")[0]
    assert champion.warnings(one, "toy") == []
    assert Ledger.of(one).entries("toy") == [LINE]
    moved = replace(one, uri=f"sqlite:///{(store.home / 'one').rename(store.home / 'moved') / 'mlflow.db'}")
    champion.record(moved, replace(LINE, key="c", action="refuse"))  # a database that is moved is the same one


def test_a_ledger_that_an_older_refit_made_in_postgresql_gets_the_tables_that_it_lacks(store: Store) -> None:
    Ledger.of(store).append(LINE)
    assert store.ledger_uri
    execute(store.ledger_uri, "drop table refit.records")
    assert Ledger.of(store).entries("toy") == [LINE]
    assert Records(store, "toy").read("answer") == {}
    Records(store, "toy").put("answer", "newest", "{}")
    Records(store, "toy").put("answer", "newest", "{1}")
    assert Records(store, "toy").read("answer") == {"newest": "{1}"}
    assert Records(store, "another").read("answer") == {}
    Records(store, "toy").forget("answer", ["newest"])
    assert Records(store, "toy").read("answer") == {}
