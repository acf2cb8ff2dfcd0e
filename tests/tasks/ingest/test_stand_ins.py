"""Where a published file is not here, generated rows stand in for it; they never mix with real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refit.errors import UserError
from tasks.ingest import stale_reason

SCRIPT = "def write(folder):\n    (folder / 'table.csv').write_text('id,cost\\n1,{}\\n2,1.5\\n')\n"
SITE = "https://example.org/table.csv (CC BY 4.0)"


@pytest.fixture
def project(project: Any) -> Any:
    project.zone, project.period = "UTC", "day"
    project.source = {
        "kind": "files",
        "path": "${REFIT_TEST_DATA:-raw}/table.csv",
        "published": SITE,
        "stand_in": "stand_in.py",
        "columns": {"id": "integer", "cost": "number"},
        "key": ["id"],
        "event_time": "timestamp '2018-01-31'",
    }
    script(project, 0.5)
    return project


def script(project: Any, cost: float) -> None:
    (project.path / "stand_in.py").write_text(SCRIPT.format(cost))


def test_a_missing_file_is_generated_and_every_snapshot_says_so(project: Any) -> None:
    snapshot = project.ingest()
    assert snapshot["stand_in"] == {"trips": SITE}
    assert [(batch["files"], batch["rows"]) for batch in snapshot["batches"]] == [(["stand_in.py:table.csv"], 2)]
    (said,) = [line for line in project.said if "GENERATED" in line]
    assert said.startswith("${REFIT_TEST_DATA:-raw}/table.csv is not here; it is published at https://example.org")
    assert stale_reason(project.context()) is None
    assert project.ingest() == snapshot


def test_the_real_file_takes_the_place_of_the_generated_one(project: Any) -> None:
    project.ingest()
    project.put("table.csv", "id,cost\n7,0.5\n")
    assert stale_reason(project.context()) is not None
    snapshot = project.ingest()
    assert "stand_in" not in snapshot
    assert [batch["files"] for batch in snapshot["batches"]] == [["${REFIT_TEST_DATA}/table.csv"]]
    assert [row["id"] for row in project.batch("2018-01-31")] == [7]


def test_no_stand_in_goes_among_rows_of_the_real_file_once_that_is_gone(project: Any) -> None:
    real = project.put("table.csv", "id,cost\n7,0.5\n")
    before = project.ingest()
    real.unlink()
    said = project.fails(UserError)
    assert "raw/table.csv does not exist" in said
    assert f"published at {SITE}" in said
    assert "put it back, or delete data/batches/trips" in said
    assert [row["id"] for row in project.batch("2018-01-31")] == [7]
    real.write_text("id,cost\n7,0.5\n")
    assert project.ingest() == before


def test_a_stand_in_that_was_written_otherwise_replaces_its_rows(project: Any) -> None:
    project.ingest()
    script(project, 9)
    project.ingest()
    assert [row["cost"] for row in project.batch("2018-01-31")] == [9, 1.5]


def test_the_environment_names_the_folder_of_the_real_file(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "table.csv").write_text("id,cost\n3,1\n")
    monkeypatch.setenv("REFIT_TEST_DATA", str(elsewhere))
    (batch,) = project.ingest()["batches"]
    assert batch["files"] == ["${REFIT_TEST_DATA}/table.csv"], "no path of one machine in what is stored"
    project.source["path"] = "${REFIT_TEST_DATA}/*.csv"
    assert project.ingest()["batches"] == [batch]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def write(folder): pass", "stand_in.py wrote nothing, and no table.csv; its write(folder) has to"),
        ("x = 1", "stand_in.py has no function write(folder)"),
        ("def write(folder): 1 / 0", "stand_in.py failed: ZeroDivisionError: division by zero; correct it"),
        ("def write(", "stand_in.py failed: SyntaxError"),
    ],
)
def test_a_script_that_generates_nothing_is_an_error_in_one_line(project: Any, text: str, words: str) -> None:
    (project.path / "stand_in.py").write_text(text)
    assert words in project.fails(UserError)


def test_a_stand_in_needs_a_script_and_a_place_where_the_real_file_is(project: Any) -> None:
    project.source["stand_in"] = "standin.py"
    assert "no file standin.py in the project; did you mean 'stand_in.py'?" in project.fails(UserError)
    del project.source["published"]
    with pytest.raises(UserError, match="needs `published`"):
        project.context()
