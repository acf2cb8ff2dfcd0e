"""What keeps an SQLite file from being used is said as it is: only a damaged one is ever to be replaced."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from registry.client import client
from registry.ledger import Entry, Ledger
from registry.sqlite_files import fault, unusable
from registry.store import RegistryError, Store, faults

LINE = Entry("k", "2014", "ann", "m", "refuse", "toy", None, "1", ("why " * 2000,))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger.of(Store("http://x", tmp_path))
    made.append(LINE)
    return made


def test_a_ledger_that_another_process_holds_is_waited_for(ledger: Ledger, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as holder:
        holder.execute("begin exclusive")
        error = None
        try:
            with closing(sqlite3.connect(tmp_path / "ledger.db", timeout=0)) as other:
                other.execute("begin immediate")
        except sqlite3.OperationalError as busy:
            error = busy
        assert error is not None
        seen = fault(tmp_path / "ledger.db", error)
    assert "another process holds it" in str(seen)
    assert not seen.damaged


def test_a_full_disk_loses_nothing_and_the_file_is_to_be_kept(ledger: Ledger, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as small:
        small.execute("pragma max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as error:
            small.execute("insert into pending values ('x', ?)", ["y" * 100_000])
    seen = fault(tmp_path / "ledger.db", error.value)
    assert "the disk is full" in str(seen)
    assert "nothing in it is lost" in str(seen)
    assert not seen.damaged


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"this is no database" * 100, "file is not a database; restore the file from a copy"),
        (b"SQLite format 3\0" + b"\1" * 20, "it was cut short"),
        ("first page", "it was cut short: 4,096 bytes of"),
        ("half", "it was cut short"),
    ],
    ids=["garbage", "header only", "first page only", "half"],
)
def test_a_damaged_file_is_said_to_be_damaged(
    ledger: Ledger, tmp_path: Path, content: bytes | str, expected: str
) -> None:
    file = tmp_path / "ledger.db"
    whole = file.read_bytes()
    cuts = {"first page": 4096, "half": len(whole) // 2}
    file.write_bytes(content if isinstance(content, bytes) else whole[: cuts[content]])
    seen = unusable(file)
    assert seen is not None
    assert seen.damaged
    assert expected in str(seen)
    for use in (lambda: Ledger(ledger.url).entries("toy"), lambda: Ledger(ledger.url).append(LINE)):
        with pytest.raises(RegistryError, match=r"cannot be used: .*restore the file from a copy; where there is none"):
            use()


def test_a_folder_in_the_place_of_a_ledger_is_said_to_be_one(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").unlink()
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(RegistryError, match="it is a folder, not a file"):
        Ledger(ledger.url).append(LINE)
    with pytest.raises(RegistryError, match="it is a folder, not a file"):
        Ledger(ledger.url).entries("toy")


_AS_A_STRANGER = """
import os, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite
from registry.ledger import Entry, Ledger
from registry.store import RegistryError, Store
ledger = Ledger.of(Store("http://x", Path(sys.argv[1])))
ledger.database._engine.dispose()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
line = Entry("2", "2014", "ann", "m", "refuse", "toy", None, "1", ())
for use in (lambda: ledger.entries("toy"), lambda: ledger.append(line)):
    try:
        use(); print("done")
    except RegistryError as error:
        print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("mode", "read", "write"), [(0o444, "done", "read-only for this user"), (0, "cannot be read", "cannot be read")]
)
def test_a_file_of_someone_elses_is_never_to_be_moved_away(root: Path, mode: int, read: str, write: str) -> None:
    with tempfile.TemporaryDirectory(prefix="refit-shared-") as folder:  # pytest shuts its own to other users
        Path(folder).chmod(0o755)
        Ledger.of(Store("http://x", Path(folder))).append(LINE)
        (Path(folder) / "ledger.db").chmod(mode)
        command = [sys.executable, "-P", "-c", _AS_A_STRANGER, folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={"PYTHONPATH": str(root)})
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert read in lines[0]
    assert write in lines[1]
    assert "move" not in done.stdout


@pytest.mark.parametrize("kind", ["folder", "garbage", "cut short"])
def test_an_mlflow_database_that_cannot_be_used_is_one_line_at_once(
    tmp_path: Path, empty_registry: Path, kind: str
) -> None:
    file = tmp_path / "mlflow.db"
    if kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"no database" * 1000 if kind == "garbage" else empty_registry.read_bytes()[:50_000])
    store, started = Store(f"sqlite:///{file}", tmp_path), time.monotonic()
    with pytest.raises(RegistryError, match=r"the registry at sqlite:///.*/mlflow\.db failed: ") as said, faults(store):
        client(store)
    assert time.monotonic() - started < 5
    assert "\n" not in str(said.value)
