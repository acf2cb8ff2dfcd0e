"""The ledger: lines are added, once each, and never changed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from registry.ledger import Entry, Ledger, written_here
from registry.store import RegistryError

LINE = Entry(
    key="toy:1:abc",
    at="2014-01-01T00:00:00Z",
    who="ann@here",
    trigger="schedule",
    action="promote",
    model="toy",
    from_version=None,
    to_version="1",
    reasons=("first", "zweitens: größer"),
    anchor="1",
    digests={"decision": "abc", "snapshot": None},
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_line_comes_back_as_it_was_written_and_the_same_deed_is_told_once(ledger: Ledger) -> None:
    assert ledger.entries("toy") == []
    ledger.append(LINE)
    ledger.append(replace(LINE, at="2015-01-01T00:00:00Z"))
    assert ledger.entries("toy") == [LINE]
    assert ledger.find("toy:1:abc") == LINE
    assert ledger.entries("other") == []


@pytest.mark.parametrize("sql", ["update ledger set action = 'refuse'", "delete from ledger"])
def test_no_line_can_be_changed_or_removed(ledger: Ledger, tmp_path: Path, sql: str) -> None:
    ledger.append(LINE)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(sql)
    connection.close()
    assert ledger.entries("toy") == [LINE]


def test_the_last_move_is_who_took_charge_last_and_refusals_are_none(ledger: Ledger) -> None:
    ledger.append(LINE)
    second = replace(LINE, key="2", action="overrule", from_version="1", to_version="2")
    ledger.append(second)
    ledger.append(replace(LINE, key="3", action="refuse", from_version="2", to_version="3"))
    assert ledger.last_move("toy") == second
    assert ledger.demotion("toy", "1") == second
    assert ledger.demotion("toy", "2") is None
    ledger.append(replace(LINE, key="4", action="overrule", from_version="2", to_version="2"))  # accepts an alias
    ledger.append(replace(LINE, key="5", from_version="2", to_version="3"))
    assert ledger.demotion("toy", "2") is None, "no person replaced it"
    ledger.append(replace(LINE, key="6", action="overrule", from_version="3", to_version="1"))
    assert ledger.demotion("toy", "1") is None, "a person put it back"


def test_a_move_is_pending_from_its_begin_to_its_finish(ledger: Ledger) -> None:
    assert ledger.pending("toy") is None
    ledger.begin(LINE)
    assert ledger.pending("toy") == LINE
    assert ledger.entries("toy") == []
    ledger.finish(LINE)
    assert ledger.pending("toy") is None
    assert ledger.entries("toy") == [LINE]


def test_reading_it_imports_no_sqlalchemy(ledger: Ledger) -> None:
    ledger.append(LINE)
    code = (
        "import sys; from registry.ledger import Ledger; "
        f"print(len(Ledger({ledger.url!r}).entries('toy')), 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"


def test_a_file_that_is_no_database_is_told_as_the_ledgers_own_fault(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database" * 100)
    for use in (lambda: ledger.last_move("toy"), lambda: ledger.append(LINE)):
        with pytest.raises(
            RegistryError, match=r"ledger\.db cannot be used: .*not a database; restore the file"
        ) as told:
            use()
        assert "\n" not in str(told.value)


def test_a_ledger_that_was_cut_to_nothing_is_begun_again(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    assert ledger.last_move("toy") is None
    ledger.append(LINE)
    assert ledger.entries("toy") == [LINE]


def test_a_reader_next_to_the_first_writer_finds_nothing_yet_and_makes_no_tables(
    ledger: Ledger, tmp_path: Path
) -> None:
    sqlite3.connect(tmp_path / "ledger.db").execute("create table another (x)").connection.close()
    assert ledger.entries("toy") == []
    ledger.append(LINE)
    assert Ledger(ledger.url).entries("toy") == [LINE]
    made = sqlite3.connect(tmp_path / "ledger.db").execute("select count(*) from sqlite_master where type = 'table'")
    assert made.fetchone() == (5,)  # its own four: ledger, pending, identity, records


def test_a_line_whose_transaction_failed_was_not_written_here(ledger: Ledger) -> None:
    def lost(_: str) -> None:
        raise RegistryError("the note could not be left")

    key = "toy:1:written here"
    with pytest.raises(RegistryError):
        ledger.append(replace(LINE, key=key), lost)
    assert not written_here(replace(LINE, key=key))
    ledger.append(replace(LINE, key=key))
    assert written_here(replace(LINE, key=key))
