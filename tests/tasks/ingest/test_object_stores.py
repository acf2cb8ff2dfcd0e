"""Files of an object store, and columns that folders name: the same rows as files of this machine give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import BUCKET, aws_client, aws_server

from refit.errors import UserError
from refit.sources import object_stores, remote_files
from tasks import ingest

Month = Callable[..., str]


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with aws_server() as environ:
        yield environ


@pytest.fixture
def bucket(project: Any, store: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """A project whose trips are objects under a folder of its own in the bucket."""
    for name, value in {**store, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    client, folder = aws_client("s3", store), tmp_path.name
    project.object = lambda name, text: client.put_object(Bucket=BUCKET, Key=f"{folder}/{name}", Body=text)
    project.remove = lambda name: client.delete_object(Bucket=BUCKET, Key=f"{folder}/{name}")
    project.address = f"s3://{BUCKET}/{folder}"
    project.source["path"] = f"{project.address}/raw/*.csv"
    return project


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that were copied."""
    keys: list[str] = []
    fetch = remote_files.RemoteFile.fetch

    def noted(self: Any, path: Any) -> None:
        if not path.is_file():
            keys.append(self.key.rpartition("/")[2])
        fetch(self, path)

    monkeypatch.setattr(remote_files.RemoteFile, "fetch", noted)
    return keys


@pytest.mark.ci
def test_objects_of_a_pattern_are_read_as_files_are_and_only_new_ones_are_copied(
    bucket: Any, month: Month, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ingest.stamps.is_settled", lambda touched: True)
    bucket.object("raw/a.csv", month(1, range(1, 32)))
    bucket.object("raw/.hidden.csv", "nothing")
    bucket.object("raw/deeper/c.csv", "nothing")
    bucket.object("other.csv", "nothing")
    (batch,) = bucket.ingest()["batches"]
    assert (batch["rows"], batch["files"]) == (31, [f"{bucket.address}/raw/a.csv"])
    bucket.object("raw/b.csv", month(2, range(1, 20)))
    assert ingest.stale_reason(bucket.context()) == f"trips has new data in {bucket.address}/raw/b.csv"
    bucket.ingest()
    assert bucket.stored() == ["2013-01", "2013-02.1"]
    assert fetched == ["a.csv", "b.csv"]
    assert not (bucket.path / object_stores.DOWNLOADS).exists()
    bucket.object("raw/a.csv", month(1, range(1, 31)))
    assert "1 missing" in bucket.fails(UserError)


@pytest.mark.slow
def test_rewritten_objects_are_compared_one_at_a_time(
    bucket: Any, month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ingest.stamps.is_settled", lambda touched: True)
    copies: list[int] = []
    fetch = remote_files.RemoteFile.fetch

    def counted(self: Any, path: Any) -> None:
        fetch(self, path)
        copies.append(sum(each.is_file() for each in (bucket.path / object_stores.DOWNLOADS).rglob("*")))

    for number in range(1, 5):
        bucket.object(f"raw/{number}.csv", month(number))
    bucket.as_of("2014-01-01")
    bucket.ingest()
    monkeypatch.setattr(remote_files.RemoteFile, "fetch", counted)
    for number in range(1, 5):
        bucket.object(f"raw/{number}.csv", month(number) + ("9,2013-04-29T12:00:00Z,a,1\n" if number == 4 else "\n"))
    bucket.ingest()
    assert bucket.stored()[-1] == "2013-04.2"
    assert len(copies) >= 4
    assert max(copies) <= 2, "the one that is read, and the one that was compared last"


def test_partitions_of_hive_are_columns_wherever_the_files_are(bucket: Any) -> None:
    bucket.source |= {
        "columns": {**bucket.source["columns"], "year": "integer", "month": "text", "shop": "text"},
        "hive_columns": ["year", "month", "shop"],
    }
    rows = {"year=2013/month=05/shop=caf%C3%A9": 1, "year=2013/month=06/shop=__HIVE_DEFAULT_PARTITION__": 2}
    for where in ("local", "remote"):
        for folder, number in rows.items():
            table = pa.table({"id": [number], "at": [f"2013-0{4 + number}-01 12:00"], "kind": ["a"], "cost": [1.5]})
            path = bucket.put(f"{folder}/part-0.parquet", b"")
            pq.write_table(table, path)
            bucket.object(f"raw/{folder}/part-0.parquet", path.read_bytes())
        pattern = "raw/**/*.parquet" if where == "local" else f"{bucket.address}/raw/**/*.parquet"
        bucket.source["path"] = pattern
        for old in (bucket.path / "data/batches/trips").glob("*"):
            old.unlink()
        bucket.ingest()
        read = [row for name in bucket.stored() for row in bucket.batch(name)]
        assert [(row["id"], row["year"], row["month"], row["shop"]) for row in read] == [
            (1, 2013, "05", "café"),
            (2, 2013, "06", None),
        ]
    bucket.put("plain/part-0.parquet", path.read_bytes())
    bucket.source["path"] = "raw/plain/*.parquet"
    assert "lies in no folder year=..." in bucket.fails(UserError)


@pytest.mark.parametrize("pattern", ["raw/**", "raw/**.csv", "raw**/*.csv"])
def test_stars_that_are_no_level_of_folders_are_refused_and_leave_no_object_out(
    bucket: Any, month: Month, pattern: str
) -> None:
    bucket.object("raw/a.csv", month(1))
    bucket.object("raw/2013/b.csv", month(2))
    bucket.put("a.csv", month(1))
    bucket.put("2013/b.csv", month(2))
    for path in (f"{bucket.address}/{pattern}", pattern):
        bucket.source["path"] = path
        assert f"{path}: ** stands for folders" in bucket.fails(UserError)
        assert "write **/* for all files below" in bucket.fails(UserError)


@pytest.mark.parametrize("log", ["_delta_log/0.json", "metadata/1.metadata.json"])
def test_objects_of_a_table_format_are_refused_as_files_are(bucket: Any, month: Month, log: str) -> None:
    bucket.object(log, "{}")
    bucket.object("raw/a.csv", month(1))
    bucket.source["path"] = f"{bucket.address}/**/*.csv"
    assert "its files hold rows that were deleted or replaced" in bucket.fails(UserError)


def test_what_a_store_does_not_give_is_one_line(bucket: Any, month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "matches no object (ingest.sources.trips.path)" in bucket.fails(UserError)
    bucket.object("raw/a.csv", month(1))
    bucket.source["path"] = "s3://no-such-bucket-of-anybody/raw/*.csv"
    assert "no-such-bucket-of-anybody" in bucket.fails(UserError)
    bucket.source |= {"path": f"{bucket.address}/raw/*.png", "format": "images"}
    bucket.source |= {
        "columns": {"at": "image(2, 2)"},
        "key": ["f"],
        "required": [],
        "event_time": "timestamp '2018-01-01'",
    }
    bucket.source |= {"file_column": "f", "columns": {"at": "image(2, 2)", "f": "text"}}
    assert "images are not read from an object store" in bucket.fails(UserError)


def test_an_object_that_changes_while_it_is_read_is_not_taken(
    bucket: Any, month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.object("raw/a.csv", month(1))
    read = ingest.sources.read

    def changing(*arguments: Any) -> Iterator[Any]:
        bucket.object("raw/a.csv", month(1) + "1,2013-01-31,a,1\n")
        yield from read(*arguments)

    monkeypatch.setattr(ingest.sources, "read", changing)
    assert "changed while it was read" in bucket.fails(UserError)
    assert bucket.stored() == []
