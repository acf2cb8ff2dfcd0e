"""Which files a pattern means: regular, whole, of that folder, and none of a table whose log deletes rows."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from refit.errors import UserError
from refit.runtime import dvc_runner
from tasks import ingest

ROW = "id,at,kind,cost\n1,2013-01-31,a,1\n"


@pytest.fixture
def project(project: Any) -> Any:
    project.zone = "UTC"
    project.put("a.csv", ROW)
    return project


def outside(project: Any) -> Path:
    path: Path = project.path / "elsewhere"
    path.mkdir(exist_ok=True)
    (path / "b.csv").write_text(ROW.replace("1,2013", "2,2013"))
    return path


def link(project: Any) -> None:
    (project.path / "raw/b.csv").symlink_to(outside(project) / "b.csv")


def chain(project: Any) -> None:
    (project.path / "raw/hop.txt").symlink_to(outside(project) / "b.csv")
    (project.path / "raw/b.csv").symlink_to("hop.txt")


def to_nothing(project: Any) -> None:
    (project.path / "raw/b.csv").symlink_to("missing")


def to_itself(project: Any) -> None:
    (project.path / "raw/b.csv").symlink_to("b.csv")


def to_zeros(project: Any) -> None:
    (project.path / "raw/b.csv").symlink_to("/dev/zero")


def pipe(project: Any) -> None:
    os.mkfifo(project.path / "raw/b.csv")


def listening(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.path / "raw")  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("b.csv")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (link, "raw/b.csv is a link that leaves raw"),
        (chain, "raw/b.csv is a link that leaves raw"),
        (to_nothing, "raw/b.csv is a link to nothing"),
        (to_itself, "raw/b.csv is a link to nothing"),
        (to_zeros, "raw/b.csv is a device"),
        (pipe, "raw/b.csv is a pipe"),
    ],
)
@pytest.mark.parametrize("path", ["raw/*.csv", "raw/b.csv", "raw/**/*.csv"])
def test_what_is_no_regular_file_of_its_folder_is_refused(
    project: Any, make: Callable[[Any], None], words: str, path: str
) -> None:
    make(project)
    project.source["path"] = path
    assert words in project.fails(UserError)
    assert project.stored() == []


def test_a_socket_is_refused(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listening(project, monkeypatch)
    assert "raw/b.csv is a socket" in project.fails(UserError)


def test_links_that_dvc_made_into_the_projects_own_cache_are_files(project: Any) -> None:
    dvc_runner.initialise(project.path)
    (project.path / ".dvc/config.local").write_text("[cache]\n    type = symlink\n")
    with chdir(project.path), Repo() as repo:
        repo.add("raw")
    assert (project.path / "raw/a.csv").is_symlink()
    (batch,) = project.ingest()["batches"]
    assert batch["rows"] == 1


@pytest.mark.parametrize("place", ["others/files/md5", ".dvc/cache/runs/md5"])
def test_a_link_into_what_is_not_the_projects_own_cache_is_refused(project: Any, place: str) -> None:
    dvc_runner.initialise(project.path)
    target = project.path / place / "0a" / ("b" * 30)
    target.parent.mkdir(parents=True)
    (outside(project) / "b.csv").rename(target)
    (project.path / "raw/b.csv").symlink_to(target)
    assert "raw/b.csv is a link that leaves raw" in project.fails(UserError)


def test_a_link_to_a_folder_is_refused_and_never_walked_in_circles(project: Any) -> None:
    for name in ("x", "y"):
        (project.path / "raw" / name).symlink_to("..")
    project.source["path"] = "raw/**/*.csv"
    assert "x is a link to a folder, which ** does not follow" in project.fails(UserError)


def test_files_behind_a_linked_folder_leave_theirs(project: Any) -> None:
    (project.path / "raw/more").symlink_to(outside(project))
    project.source["path"] = "raw/*/*.csv"
    assert "raw/more/b.csv is a link that leaves raw" in project.fails(UserError)


def test_the_folder_itself_may_be_a_link_and_files_may_link_inside_it(project: Any) -> None:
    (project.path / "raw").rename(project.path / "disk")
    (project.path / "raw").symlink_to("disk")
    (project.path / "disk/b.csv").symlink_to("a.csv")
    (batch,) = project.ingest()["batches"]
    assert (batch["rows"], batch["repeats"]) == (1, 1)


@pytest.mark.parametrize("pattern", ["raw/**/*.csv", "raw/*/*.csv", "raw/**/b*", "{}/raw/**/*.csv"])
def test_two_stars_find_files_below_but_no_hidden_ones(project: Any, pattern: str) -> None:
    project.put("2013/b.csv", ROW.replace("1,2013", "2,2013"))
    project.put(".hidden/c.csv", ROW.replace("1,2013", "3,2013"))
    project.put("2013/.b.csv.crc", b"crc")
    project.source["path"] = pattern.format(project.path)
    (batch,) = project.ingest()["batches"]
    names = {Path(name).name for name in batch["files"]}
    assert "b.csv" in names
    assert names <= {"a.csv", "b.csv"}


@pytest.mark.parametrize("kind", ["Delta", "Iceberg", "Hudi"])
@pytest.mark.parametrize("path", ["raw/lake/*.csv", "raw/lake/day=1/*.csv", "raw/**/*.csv", "raw/lake/day=1/b.csv"])
def test_the_files_of_a_table_whose_log_deletes_rows_are_refused(project: Any, kind: str, path: str) -> None:
    for name in ("lake/b.csv", "lake/day=1/b.csv"):
        project.put(name, ROW)
    marks = {"Delta": "_delta_log/0.json", "Iceberg": "metadata/v1.metadata.json", "Hudi": ".hoodie/hoodie.properties"}
    project.put(f"lake/{marks[kind]}", "{}")
    project.source["path"] = path
    assert f"lake is a {kind} table: its files hold rows that were deleted or replaced" in project.fails(UserError)


@pytest.mark.parametrize("name", ["b.csv.part", "b.csv.tmp", "b.csv~", "b.csv.crdownload"])
def test_a_file_that_is_still_written_is_refused_by_its_name(project: Any, name: str) -> None:
    project.put(name, ROW)
    project.source["path"] = "raw/*"
    assert f"raw/{name} looks like a file that is still written" in project.fails(UserError)


def test_a_folder_named_like_a_file_is_refused(project: Any) -> None:
    project.put("b.csv/part-0.csv", ROW)
    assert "raw/b.csv is a folder; name its files by a pattern such as raw/b.csv/*.csv" in project.fails(UserError)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"caf\xe9.csv", r"the name of the file raw/caf\udce9.csv is not UTF-8; rename it"),
        (b"a\nb.csv", r"the name of the file 'raw/a\nb.csv' holds a control character"),
        (b"a\x1b[2Jb.csv", r"the name of the file 'raw/a\x1b[2Jb.csv' holds a control character"),
    ],
    ids=["latin-1", "line feed", "escape"],
)
def test_a_file_name_that_is_no_text_is_refused(project: Any, name: bytes, words: str) -> None:
    Path(os.fsdecode(os.fsencode(project.path / "raw") + b"/" + name)).write_text(ROW)
    assert words in project.fails(UserError)


def test_a_table_that_the_pattern_does_not_match_is_named_at_each_run(project: Any) -> None:
    for name in ("sales.2024.csv", "sales.2025.csv", "more.CSV", "more.csv.gz", "notes.md", ".hidden.csv"):
        project.put(name, ROW)
    project.source["path"] = "raw/*.2024.csv"
    project.others["other"] = {**project.source, "path": "raw/a.csv"}
    words = "trips: not read, as *.2024.csv does not match: raw/more.CSV, raw/more.csv.gz, raw/sales.2025.csv"
    project.ingest()
    assert words in project.said
    project.said.clear()
    assert ingest.stale_reason(project.context()) is None  # a file that is not read makes nothing stale
    assert words in project.said
    project.source["path"] = "raw/*"
    project.others.clear()
    (project.path / "raw/notes.md").unlink()
    (project.path / "raw/more.csv.gz").unlink()
    project.ingest()
    assert not [line for line in project.said if "not read" in line]
