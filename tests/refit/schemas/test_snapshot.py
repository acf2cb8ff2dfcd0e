"""A snapshot that is not as it was written is not read, and its digest is the one of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from snapshots import batch_of, write_snapshot

from refit.errors import RefitError
from refit.files.artifacts import SNAPSHOT, read_json, write_json
from refit.schemas.snapshot import Snapshot


@pytest.mark.parametrize("torn", ["{}", "[]", '{"batches": []}', '{"as_of": null, "digest": "0"}'])
def test_a_torn_snapshot_says_who_writes_it_again(tmp_path: Path, torn: str) -> None:
    write_snapshot(tmp_path)
    assert Snapshot.read(tmp_path / SNAPSHOT).batches == ()
    (tmp_path / SNAPSHOT).write_text(torn)
    with pytest.raises(RefitError, match=r"snapshot\.json is damaged or was changed .*; `refit run` writes it again"):
        Snapshot.read(tmp_path / SNAPSHOT)


def test_a_snapshot_with_another_batch_than_its_digest_says_is_refused(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [batch_of("shops", "v1", sha256="ab")])
    content = read_json(tmp_path / SNAPSHOT)
    content["batches"][0]["sha256"] = "cd"
    write_json(tmp_path / SNAPSHOT, content)
    with pytest.raises(RefitError, match="its digest is not the one of its batches"):
        Snapshot.read(tmp_path / SNAPSHOT)


def test_counts_of_pending_rows_do_not_change_the_digest_of_a_snapshot(tmp_path: Path) -> None:
    batch = batch_of("shops", "v1")
    assert write_snapshot(tmp_path, [batch]).digest == write_snapshot(tmp_path, [batch], {"shops": 3}).digest
    assert write_snapshot(tmp_path, [batch]).digest != write_snapshot(tmp_path, [{**batch, "rows": 2}]).digest
