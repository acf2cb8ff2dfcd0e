"""The layouts in which public tables come, each read by params alone."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from refit.errors import UserError

ROWS = [(1, "a", 0.5), (2, "b", 1.5)]


@pytest.fixture
def project(project: Any) -> Any:
    """A table without a time: all of it is dated by one day."""
    project.zone, project.period = "UTC", "day"
    project.source = {
        "kind": "files",
        "path": "raw/table.txt",
        "columns": {"id": "integer", "kind": "text", "cost": "number"},
        "key": ["id"],
        "event_time": "timestamp '2018-01-31'",
    }
    return project


def taken(project: Any, *columns: str) -> list[tuple[Any, ...]]:
    project.ingest()
    return [tuple(row[name] for name in columns or ("id", "kind", "cost")) for row in project.batch("2018-01-31")]


def zipped(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"folder/{name}.csv", text)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        ({"header": False}, b"1,a,0.5\n2,b,1.5\n"),
        ({"header": False, "delimiter": "\t"}, b"1\ta\t0.5\r\n2\tb\t1.5\r\n"),
        ({"header": False, "delimiter": "whitespace"}, b"1 a 0.5  \n2 b 1.5  \n"),
        ({"header": False, "delimiter": "whitespace"}, b"   1\t a   0.5\n\n\t2  b 1.5"),
        ({"delimiter": "whitespace"}, b' id  kind cost\n 1 "a"  0.5\n 2  b 1.5\n'),
        ({"skip_lines": 2}, b'# made "by hand\nsee below\nid,kind,cost\n1,a,0.5\n2,b,1.5\n'),
        ({"skip_lines": 1, "header": False}, b"150,4\n1,a,0.5\n2,b,1.5\n"),
        ({"member": "table.csv"}, zipped(readme="hello", table="id,kind,cost\n1,a,0.5\n2,b,1.5\n")),
        ({"member": "folder/table.csv"}, zipped(readme="hello", table="id,kind,cost\n1,a,0.5\n2,b,1.5\n")),
        ({}, zipped(table="id,kind,cost\n1,a,0.5\n2,b,1.5\n")),
        ({"header": False, "delimiter": "whitespace"}, gzip.compress(b" 1 a 0.5\n 2 b 1.5\n")),
        ({"encoding": "utf-16"}, "id,kind,cost\n1,a,0.5\n2,b,1.5\n".encode("utf-16")),
    ],
)
def test_a_public_layout_is_read_by_params_alone(project: Any, layout: dict[str, Any], content: bytes) -> None:
    project.put("table.txt", content)
    project.source |= layout
    assert taken(project) == ROWS


def test_sentences_keep_their_quotes_and_their_odd_line_breaks(project: Any) -> None:
    sentences = ['He said "no.', '"Yes" and "no', "it's a 7\" disc", "a\x85b", "c\u2028d, e"]
    project.put("table.txt", "".join(f"{text}\t{n % 2}\n" for n, text in enumerate(sentences)))
    project.source |= {
        "columns": {"sentence": "text", "positive": "integer", "file": "text", "line": "integer"},
        "header": False,
        "delimiter": "\t",
        "quoting": False,
        "file_column": "file",
        "line_column": "line",
        "key": ["file", "line"],
    }
    assert taken(project, "sentence", "file", "line") == [
        (text, "table.txt", line) for line, text in enumerate(sentences, start=1)
    ]


def test_rows_of_several_files_tell_their_file_and_their_line(project: Any) -> None:
    project.put("train_1.txt", "1 0.5\n1 0.5\n")
    project.put("test_1.txt", "1 0.7\n")
    project.source |= {
        "path": "raw/*_1.txt",
        "columns": {"unit": "integer", "cost": "number", "file": "text", "line": "integer"},
        "header": False,
        "delimiter": "whitespace",
        "file_column": "file",
        "line_column": "line",
        "key": ["file", "line"],
    }
    assert taken(project, "file", "line", "cost") == [
        ("test_1.txt", 1, 0.7),
        ("train_1.txt", 1, 0.5),
        ("train_1.txt", 2, 0.5),
    ]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_that_came_before_under_another_name_would_count_twice_and_is_refused(
    project: Any, *, renamed: bool
) -> None:
    columns = {"cost": "number", "file": "text", "line": "integer"}
    project.source |= {"path": "raw/*.csv", "columns": columns, "key": ["file", "line"]}
    project.source |= {"file_column": "file", "line_column": "line"}
    project.put("one.csv", "cost\n0.5\n0.7\n")
    assert taken(project, "file", "line") == [("one.csv", 2), ("one.csv", 3)]
    project.put("two.csv", "cost\n0.5\n0.7\n")
    if renamed:
        (project.path / "raw/one.csv").unlink()
    with pytest.raises(UserError, match=r"two.csv holds what .*one.csv held: .* would count twice"):
        project.ingest()


def test_lines_are_counted_from_the_top_of_the_file(project: Any) -> None:
    project.put("table.txt", "two rows\n1,a,0.5\n2\n")
    project.source |= {"header": False, "skip_lines": 1}
    assert [row["_row"] for row in (project.ingest(), project.batch("2018-01-31"))[1]] == [2]
    assert [line for line, *_ in project.uncast("2018-01-31")] == [3]


def test_text_in_another_encoding_is_read_and_wrong_bytes_are_named(project: Any) -> None:
    project.put("table.txt", "id,kind,cost\n1,café,0.5\n".encode("cp1252"))
    assert "line 2 is not UTF-8" in project.fails(UserError)
    project.source["encoding"] = "cp1252"
    assert taken(project) == [(1, "café", 0.5)]
    project.put("table.txt", b"id,kind,cost\n1,caf\xe9,0.5\n2,\x81,1\n")
    assert project.fails(UserError) == "raw/table.txt line 3 is not cp1252 (byte 0x81); correct `encoding`"


def test_a_line_of_another_width_is_kept_aside_with_its_reason(project: Any) -> None:
    project.put("table.txt", " 1  a 0.5\n 2 b\n 3 c  x\n")
    project.source |= {"header": False, "delimiter": "whitespace"}
    assert taken(project, "id") == [(1,)]
    assert project.uncast("2018-01-31") == [
        (2, "raw/table.txt", None, "2\tb", "expected 3 columns, found 2"),
        (3, "raw/table.txt", "cost", "x", "is no number"),
    ]


@pytest.mark.parametrize(
    ("layout", "content", "words"),
    [
        ({"header": False}, b"ID,kind,cost\n1,a,0.5\n", "line 1 names the columns; drop `header: false`"),
        ({}, b"1,a,0.5\n2,b,1.5\n", "its first line may be a row already (`header: false`)"),
        ({"header": False}, b"", "raw/table.txt is empty; rows were expected"),
        ({"member": "x.csv"}, b"id,kind,cost\n", "is no zip, of which 'x.csv' could be read"),
        ({"member": "x.csv"}, zipped(a="", b=""), "holds 0 files 'x.csv' (`member`); there are folder/a.csv, folder/b"),
        ({}, zipped(a="", b=""), "holds 2 files (folder/a.csv, folder/b.csv); name the one that is meant (`member`)"),
    ],
)
def test_a_layout_that_does_not_fit_is_told_in_a_line(
    project: Any, layout: dict[str, Any], content: bytes, words: str
) -> None:
    project.put("table.txt", content)
    project.source |= layout
    assert words in project.fails(UserError)


def test_an_encoding_that_python_does_not_know_is_an_error_in_params(project: Any) -> None:
    project.source["encoding"] = "cp1253x"
    with pytest.raises(UserError, match="encoding 'cp1253x' is unknown; did you mean 'cp1252'"):
        project.context()
    project.source |= {"encoding": "utf-8", "line_column": "lin"}
    with pytest.raises(UserError, match="line_column column 'lin' is not declared"):
        project.context()


def test_a_table_without_a_time_is_one_batch_that_latest_sees_whole(project: Any) -> None:
    project.put("table.txt", "id,kind,cost\n1,a,0.5\n2,b,1.5\n")
    snapshot = project.ingest()
    assert [(batch["name"], batch["rows"]) for batch in snapshot["batches"]] == [("2018-01-31", 2)]
    assert datetime.fromisoformat(snapshot["as_of"]) == datetime.fromisoformat("2018-02-01T00:00:00Z")
    assert project.ingest() == snapshot


def test_another_export_of_a_table_without_a_time_says_what_to_do(project: Any) -> None:
    path: Path = project.put("table.txt", "id,kind,cost\n1,a,0.5\n2,b,1.5\n")
    project.ingest()
    for text in ("id,kind,cost\n1,a,0.5\n2,b,7\n", "id,kind,cost\n1,a,0.5\n"):
        path.write_text(text)
        said = project.fails(UserError)
        assert "batch trips/2018-01-31 has changed" in said
        assert "delete data/batches/trips/2018-01-31* and run again" in said
    project.source["event_time"] = "timestamp '2018-02-28'"
    assert "or delete data/batches/trips to read the source again" in project.fails(UserError)
