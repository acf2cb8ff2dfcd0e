"""A scratch folder stays while its owner runs, whoever else looks; that of a killed process goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from refit.files.scratch_folders import abandoned, scratch_folder

OWN = """
import sys, time
from pathlib import Path
from refit.files.scratch_folders import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".copy-") as scratch:
    print(scratch, flush=True)
    time.sleep(60)
"""


def test_the_folder_of_a_running_process_stays_and_that_of_a_killed_one_goes(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", OWN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().rstrip())
    try:
        with scratch_folder(tmp_path, ".copy-") as ours:
            assert theirs.is_dir()
            assert abandoned(tmp_path, ".copy-") == []
        assert not ours.exists()
    finally:
        process.kill()
        process.wait()
    assert abandoned(tmp_path, ".copy-") == [theirs]
    with scratch_folder(tmp_path, ".copy-"):
        assert not theirs.exists()


def test_a_folder_that_nobody_marked_is_abandoned_after_a_day(tmp_path: Path) -> None:
    """Its owner is about to lock it, or is an older Refit."""
    for name, age in ((".copy-new", 60), (".copy-old", 90_000), ("1-abc", 90_000)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert abandoned(tmp_path, ".copy-") == [tmp_path / ".copy-old"]
