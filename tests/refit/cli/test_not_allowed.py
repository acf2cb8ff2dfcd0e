"""A file that this user may not read, and a disk that nobody may write to: one line each, never a fault of Refit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import refit

NOBODY = 65534


@pytest.fixture
def shared(project: Path) -> Iterator[Path]:
    """The project where other users get at it, owned by nobody in particular."""
    place = Path(tempfile.mkdtemp(prefix="refit-shared-"))
    place.chmod(0o755)
    shutil.move(project, place / "demo")
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    yield place / "demo"
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(place)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may read everything; nobody may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("name", "commands", "words"),
    [
        ("params.yaml", ("status", "doctor"), "params.yaml cannot be read (Permission denied)"),
        ("dvc.yaml", ("status", "doctor"), "dvc.yaml cannot be read (Permission denied)"),
        ("raw", ("stage ingest",), "Permission denied; give this user the right"),
        (".refit", ("show", "history", "status", "doctor"), "Permission denied; give this user the right"),
        (".refit/mlflow.db", ("show", "doctor"), "mlflow.db failed: mlflow.db cannot be read (Permission denied)"),
        ("released.json", ("status", "quarantine list"), "released.json cannot be read; give this user the right to"),
        ("data", ("quarantine list",), "data/snapshot.json: Permission denied; give this user the right"),
        (".dvcignore", ("status",), ".dvcignore cannot be read (Permission denied)"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_what_may_not_be_read_is_named_in_one_line(
    shared: Path, name: str, commands: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shared / name).chmod(0)
    for command in commands:
        with ordinary_user():
            status, printed = refit(capsys, *command.split(), "--project", str(shared))
        printed = " ".join(printed.split())
        assert status in (1, 2), printed
        assert any(each in printed for each in words.split("|")), printed
        assert "a fault of Refit" not in printed
        if command != "doctor":
            assert printed.count("error: ") == 1, printed


def test_status_where_nothing_may_be_written_says_so_in_one_line(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refit(capsys, "status", "--project", str(shared))[0] == 0, "all that it imports may be out of nobody's reach"
    for path in (shared, *shared.rglob("*")):
        path.chmod(0o555)
    with ordinary_user():
        status, printed = refit(capsys, "status", "--project", str(shared))
    assert status == 1, printed
    assert "a fault of Refit" not in printed
    assert "give this user the right to read and write it" in " ".join(printed.strip().splitlines()[-1].split())


def test_init_where_nothing_may_be_made_claims_to_have_kept_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    status, printed = refit(capsys, "init", str(tmp_path / "file" / "demo"))
    assert (status, "name a folder that you may write to" in printed, "kept" in printed) == (2, True, False), printed


def _read_only(project: Path) -> list[str]:
    """The beginning of a command for which the project's disk is read-only; skips where that cannot be had."""
    begin = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"']
    begin += [str(project)]
    if os.geteuid() or subprocess.run([*begin, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a root that may mount")
    return begin


@pytest.mark.slow
def test_on_a_read_only_disk_commands_that_look_work_and_others_say_so_in_one_line(project: Path) -> None:
    begin = _read_only(project)
    for command in ("show", "history", "quarantine list", "explain 1", "lineage 1", "doctor", "status", "gc", "down"):
        refit_command = [sys.executable, "-m", "refit", *command.split(), "--project", str(project)]
        done = subprocess.run([*begin, *refit_command], capture_output=True, text=True, check=False)
        assert "a fault of Refit" not in done.stderr, command
        assert "Traceback" not in done.stderr, command
        if command in ("doctor", "status", "gc", "down"):
            assert done.returncode == 1, (command, done.stderr)
            assert "read-only" in (done.stdout + done.stderr).lower()
            assert done.stderr.count("\n") <= 1
        else:
            assert done.returncode == 0, (command, done.stderr)
