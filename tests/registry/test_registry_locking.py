"""The registry's lock: one process at a time, freed by whatever ends its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.locking import registry_lock
from registry.store import RegistryError, Store

HOLD = """
import sys, time
from pathlib import Path
from registry.locking import registry_lock
from registry.store import Store
with registry_lock(Store("http://nowhere", Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("http://nowhere", tmp_path)


def test_another_process_is_kept_out_and_told_who_holds_it_until_the_owner_is_killed(store: Store) -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(store.home)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(RegistryError, match=rf"pid {owner.pid} on .*since"), registry_lock(store, wait_seconds=0):
            pass
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    with registry_lock(store, wait_seconds=0):
        pass


def test_inside_itself_it_may_be_taken_again(store: Store) -> None:
    with registry_lock(store), registry_lock(store, wait_seconds=0):
        pass
    with registry_lock(store, wait_seconds=0):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match=r"file/registry.lock"), registry_lock(Store("x", tmp_path / "file")):
        pass
