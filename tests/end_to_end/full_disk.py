"""Commands on a small disk that fills up, mounted in a namespace of its own: prints what went wrong, a line each.

unshare --mount --map-root-user sh -c 'mount -t tmpfs -o size=48m t "$0" && exec python full_disk.py "$0" PROJECT'
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from driving import drive

from refit.cli import inspection
from refit.cli import main as cli
from refit.files.artifacts import STATE
from refit.new_project.project_folder import create
from registry import relocation
from registry.store import locate

SCRAPS = (".tmp", ".partial")


def refit(*arguments: object) -> tuple[int, str]:
    """The exit status of a command, and all that it printed."""
    printed = io.StringIO()
    sys.argv = ["refit", *map(str, arguments)]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0), printed.getvalue()
    return 0, printed.getvalue()


def driven(project: Path) -> tuple[int, str]:
    """The six stages, as `refit run` goes through them without Prefect's server."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            drive(project)
        except Exception as error:
            return 1, f"{printed.getvalue()}error: {error}"
    return 0, printed.getvalue()


@contextlib.contextmanager
def filled(disk: Path, free: int) -> Iterator[None]:
    """So many bytes are free on the disk."""
    balloon, state = disk / "balloon", os.statvfs(disk)
    with balloon.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - free))
    try:
        yield
    finally:
        balloon.unlink()


def decisions(project: Path) -> list[tuple[str, str]]:
    """What the ledger holds."""
    if not (project / STATE).is_dir():
        return []
    return [(entry.action, entry.to_version) for entry in inspection.history(project)]


def problems(command: Callable[[], tuple[int, str]], project: Path, disk: Path, free: int) -> Iterator[str]:
    """What is not as it should be where a command meets a full disk, and after there is room again."""
    before = decisions(project)
    with filled(disk, free):
        status, printed = command()
    if status:
        if status != 1 or printed.count("error: ") != 1:
            yield f"status {status}, and not one line: {printed}"
        if not ("full" in printed or "No space left" in printed) or "fault of Refit" in printed or "Trace" in printed:
            yield f"not said clearly: {printed}"
        folder = project if project.is_dir() else disk
        if scraps := [path.name for path in folder.rglob("*") if path.name.endswith(SCRAPS)]:
            yield f"left: {scraps[:5]}"
        if "refuse" in {action for action, _ in decisions(project)[len(before) :]}:
            yield "a model was refused for it"
        status, printed = command()
        if status:
            yield f"not done with room either: {printed}"


def copied(source: Path, disk: Path) -> Path:
    """The project on the small disk, where nothing else lies."""
    for path in disk.iterdir():
        shutil.rmtree(path)
    project = Path(tempfile.mkdtemp(dir=disk)) / "demo"
    shutil.copytree(source, project, symlinks=True)
    relocation.settle(locate(project, None))
    return project


def main(disk: Path, finished: Path) -> None:
    """Each command with several amounts of room, so that the disk is full at another moment of it."""
    commands = {
        "promote": ("promote", "1", "--why", "x"),
        "rollback": ("rollback", "--why", "x"),
        "score": ("score", "2024-10"),
        "drift": ("drift",),
    }
    for name, command in commands.items():
        for kilobytes in (0, 40, 200):
            project = copied(finished, disk)
            arguments = (*command, "--project", project)
            report(
                f"{name} with {kilobytes} kB", problems(lambda a=arguments: refit(*a), project, disk, kilobytes * 1000)
            )
    for kilobytes in (0, 8, 40, 150, 600):
        for path in disk.iterdir():
            shutil.rmtree(path)
        project = disk / "new"
        report(
            f"init with {kilobytes} kB", problems(lambda: refit("init", disk / "new"), project, disk, kilobytes * 1000)
        )
    new = Path(tempfile.mkdtemp()) / "demo"
    with contextlib.redirect_stdout(io.StringIO()):
        create(new, csv=None, time=None, label=None, key=())
    for kilobytes in (0, 60, 250, 500, 900, 1500, 2300, 3200, 4200, 5500):
        project = copied(new, disk)
        report(f"run with {kilobytes} kB", problems(lambda p=project: driven(p), project, disk, kilobytes * 1000))
    scratch = disk / "scratch"
    scratch.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
    elsewhere = new.parent / "elsewhere"
    shutil.copytree(finished, elsewhere, symlinks=True)
    relocation.settle(locate(elsewhere, None))
    for name, command in commands.items():
        arguments = (*command, "--project", elsewhere)
        report(f"{name} with TMPDIR full", problems(lambda a=arguments: refit(*a), elsewhere, disk, 0))


def report(what: str, found: Iterator[str]) -> None:
    for problem in found:
        sys.stdout.write(f"{what}: {' '.join(problem.split())}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write("done\n")
