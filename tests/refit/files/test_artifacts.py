"""Files are whole or not there, and a changed one is never read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from refit.errors import RefitError
from refit.files import artifacts
from refit.files.artifacts import (
    FileRef,
    atomic,
    atomic_folder,
    check_manifest,
    digest,
    read_json,
    sha256,
    write_json,
    write_manifest,
)


def test_an_interrupted_write_leaves_the_old_file_and_no_scratch(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_json(target, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic(target) as scratch:
        scratch.write_text("half")
        raise KeyboardInterrupt
    assert read_json(target) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_is_written_without_touching_scratch_folders_of_others(tmp_path: Path) -> None:
    for name in (".out.abcdefgh.partial", ".other.abcdefgh.partial", ".out.kept.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.12345678.partial").symlink_to(tmp_path / ".other.abcdefgh.partial")
    for name in ("out", "*", "o[tu]*"):
        with atomic_folder(tmp_path / name) as scratch:
            (scratch / "f").touch()
    left = {".other.abcdefgh.partial", ".out.kept.partial"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "*", "o[tu]*", *left}


@pytest.mark.parametrize("target", ["theirs", "nowhere"])
def test_a_link_is_replaced_by_the_folder_and_what_it_leads_to_stays(tmp_path: Path, target: str) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/f").write_text("theirs")
    (tmp_path / "out").symlink_to(tmp_path / target)
    with atomic_folder(tmp_path / "out") as scratch:
        (scratch / "f").write_text("ours")
    assert not (tmp_path / "out").is_symlink()
    assert ((tmp_path / "out/f").read_text(), (tmp_path / "theirs/f").read_text()) == ("ours", "theirs")


def test_a_value_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"auc": float("nan")})
    assert not (tmp_path / "metrics.json").exists()


def test_a_changed_file_is_refused_by_its_reference(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"rows")
    reference = FileRef("rows.parquet", sha256(tmp_path / "rows.parquet"), 1)
    assert reference.resolve(tmp_path).read_bytes() == b"rows"
    (tmp_path / "rows.parquet").write_bytes(b"rowz")
    with pytest.raises(RefitError, match="has changed"):
        reference.resolve(tmp_path)
    (tmp_path / "rows.parquet").unlink()
    with pytest.raises(RefitError, match="is gone"):
        reference.resolve(tmp_path)


def test_a_process_digests_a_file_again_only_if_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"rows")
    reference = FileRef("rows.parquet", sha256(path), 1)
    digested: list[Path] = []
    monkeypatch.setattr(artifacts, "sha256", lambda path: (digested.append(path), sha256(path))[1])
    for _ in range(2):
        reference.resolve(tmp_path)
    assert digested == [path, path], "it may have changed once more within one tick of the file system's clock"
    monkeypatch.setattr(artifacts, "SETTLED_NS", -1)
    for _ in range(3):
        reference.resolve(tmp_path)
    assert digested == [path] * 3
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(b"rowz")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RefitError, match="has changed"):
        reference.resolve(tmp_path)


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_a_folder_that_differs_from_its_manifest_is_refused(tmp_path: Path, harm: str) -> None:
    (tmp_path / "weights.bin").write_bytes(b"weights")
    write_manifest(tmp_path)
    assert set(check_manifest(tmp_path)) == {"weights.bin"}
    if harm == "change":
        (tmp_path / "weights.bin").write_bytes(b"weightz")
    elif harm == "remove":
        (tmp_path / "weights.bin").unlink()
    else:
        (tmp_path / "more.pkl").write_bytes(b"")
    with pytest.raises(RefitError, match=r"weights\.bin|more\.pkl"):
        check_manifest(tmp_path)


def test_a_torn_json_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(RefitError, match="delete it and run again"):
        read_json(tmp_path / "x.json")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where the folder should be")
    with pytest.raises(RefitError, match="cannot write"):
        write_json(tmp_path / "reports" / "x.json", {})


def test_digests_ignore_the_order_of_keys_and_nothing_else() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest(json.loads('{"b": [1, 2], "a": 1}'))
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})
