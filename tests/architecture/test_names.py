"""Test names depend on nothing but the source: where two workers of one run collect other names, nothing runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings

HERE = {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "HOME": "/here"}
THERE = {"PYTHONHASHSEED": "2", "TZ": "Etc/GMT+12", "LC_ALL": "C.UTF-8", "HOME": "/there"}  # never the same date


def start(root: Path, scratch: Path, differences: dict[str, str], *paths: str) -> subprocess.Popen[str]:
    """Starts to collect the tests under `root`, in a working directory and with temporary files of its own."""
    scratch.mkdir()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--rootdir", str(root)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [*command, "-c", str(root / "pyproject.toml"), *(str(root / path) for path in paths)],
        cwd=scratch,
        env={**environment, **differences, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def names(root: Path, scratch: Path, *paths: str) -> tuple[list[str], list[str]]:
    """What two fresh interpreters collect whose second, date, hash seed, zone, locale and folders differ."""
    here = start(root, scratch / "here", HERE, *paths)
    first = here.communicate(timeout=300)[0].splitlines()[:-1]
    time.sleep(1.1)  # after the first has ended: on a busy machine, one that started earlier may import later
    there = start(root, scratch / "there", THERE, *paths)
    second = there.communicate(timeout=300)[0].splitlines()[:-1]
    assert (here.returncode, there.returncode) == (0, 0), "\n".join([*first[-20:], *second[-20:]])
    return first, second


@pytest.mark.slow
def test_every_test_has_the_same_name_in_any_process(root: Path, tmp_path: Path) -> None:
    here, there = names(root, tmp_path, "tests")
    assert len(here) > 2000
    assert here == there


@pytest.mark.ci
def test_names_that_depend_on_the_process_are_seen(tmp_path: Path) -> None:
    made_at_import = {
        "clock": "[time.time_ns() // 10**9]",
        "date": "[str(datetime.date.today())]",
        "order": "list({*'abcdefgh'})",
        "folder": "[tempfile.mkdtemp()]",
        "working_folder": "[os.getcwd()]",
        "home": "[os.path.expanduser('~')]",
        "locale": "[locale.setlocale(locale.LC_ALL, '')]",
    }
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (project / "test_it.py").write_text(
        "import datetime, locale, os, tempfile, time\nimport pytest\n\n"
        + "".join(
            f"@pytest.mark.parametrize('value', {values})\ndef test_{name}(value):\n    pass\n\n"
            for name, values in made_at_import.items()
        )
    )
    here, there = names(project, tmp_path, "test_it.py")
    for name in made_at_import:
        assert [each for each in here if f"test_{name}[" in each] != [each for each in there if f"test_{name}[" in each]


def test_drawn_examples_are_the_same_on_every_run_and_fail_on_no_slow_machine() -> None:
    drawn = settings()
    assert (drawn.derandomize, drawn.database, drawn.deadline) == (True, None, None)
