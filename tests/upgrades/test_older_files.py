"""Stored files of earlier versions are read, and their content is written as it was, since digests depend on it."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path

import pytest

from refit.files.artifacts import read_json
from refit.schemas.artifact import Artifact
from refit.schemas.evaluation import Evaluation
from refit.schemas.gate_decision import Decision
from refit.schemas.incumbent import Incumbent
from refit.schemas.ingest_state import read_states
from refit.schemas.manifest import Manifest
from refit.schemas.receipt import Receipt
from refit.schemas.releases import Releases
from refit.schemas.snapshot import Snapshot
from refit.schemas.validated import Validated
from refit.schemas.validation_record import ValidationRecord

STORED: dict[str, type[Artifact]] = {
    "data/batches/*/*.json": Manifest,
    "data/snapshot.json": Snapshot,
    "data/validated.json": Validated,
    "data/validation/*/*.json": ValidationRecord,
    "released.json": Releases,
    "comparand.json": Incumbent,
    "models/receipt.json": Receipt,
    "reports/decision.json": Decision,
    "reports/evaluation.json": Evaluation,
    ".refit/mlartifacts/*/*/artifacts/model/provenance/snapshot.json": Snapshot,
}


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(Path(__file__).parent / "project-0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "shop"


@pytest.mark.parametrize("pattern", list(STORED))
def test_an_older_file_is_written_byte_for_byte_as_it_was(older: Path, tmp_path: Path, pattern: str) -> None:
    files = sorted(older.glob(pattern))
    assert files
    for path in files:
        STORED[pattern].read(path).write(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes(), path


def test_the_state_of_an_older_ingest_is_read(older: Path) -> None:
    path = older / ".refit/ingest.json"
    assert {name: state.to_json() for name, state in read_states(path).items()} == read_json(path)


@pytest.mark.slow
def test_an_older_decision_has_the_digest_that_the_ledger_names_it_by(older: Path) -> None:
    with sqlite3.connect(older / ".refit/ledger.db") as ledger:
        (key,) = ledger.execute("select key from ledger order by rowid desc limit 1").fetchone()
    assert key == f"shop:2:{Decision.read(older / 'reports/decision.json').digest}"
