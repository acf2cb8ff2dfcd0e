"""Whatever is done to a file that is handed to us, the answer is its content or one clear line.

400 damages of each format where one takes about a millisecond, fewer where a reader needs a database; 25 times as many
among the long tests. A seed makes each again.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fuzzing.mutations import damaged, damaged_json, damaged_yaml
from sklearn.linear_model import LogisticRegression

from flows import retrain_dedup
from flows.services import service_state
from refit.config import parse
from refit.config.section import OWN
from refit.errors import RefitError
from refit.files import artifacts
from refit.learners import safe
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.answered_drift import Answer, DataWindow, write_answers
from refit.schemas.snapshot import Snapshot
from refit.sources import sources
from refit.sources.source_files import SourceFile
from refit.storage import batches, drift_answers, quarantine
from tasks import ingest
from tasks.score.input_rows import read_rows

PARAMS: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {
        "period": "month",
        "sources": {
            "trips": {
                "kind": "files",
                "path": "raw/*.csv",
                "columns": {"id": "integer", "at": "timestamp", "kind": "text", "cost": "number"},
                "required": ["id"],
                "key": ["id"],
                "event_time": "at",
            }
        },
    },
    "featurize": {"label": {"source": "trips", "column": "kind"}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}], "seed": 0},
    "registry": {"trusted_types": []},
    **{section: {} for section in ("cost", "evaluate", "register", "validate")},
}
CSV = "id,at,kind,cost\n" + "".join(
    f'{number},2013-01-{number % 31 + 1:02d} 10:00,"{"ab"[number % 2]}",{number / 4}\n' for number in range(40)
)
NOW = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Format:
    """A file of one format: where it lies, how it is damaged, and what reads it."""

    path: str
    read: Callable[[Path], object]
    damage: Callable[[bytes, Random], bytes] = damaged
    content: Callable[[], bytes] | None = None  # none: as the project has it
    share: float = 1  # of the usual number of damages


def source(path: Path, **more: Any) -> None:
    """Every row that ingestion would cast."""
    declared = parse(PARAMS).ingest.sources["trips"].model_copy(update=more)
    for batch in sources.read(SourceFile(path, path.name), declared, "ingest.sources.trips"):
        assert batch.schema.names[:3] == [f"{OWN}{name}" for name in ("line", "fault", "text")]


def as_utf16(path: Path) -> None:
    source(path, encoding="utf-16")


def context(project: Path) -> Context:
    return Context(project, parse(PARAMS), now=lambda: NOW)


def project_of(path: Path) -> Path:
    return next(parent for parent in path.parents if (parent / "params.yaml").exists())


def packed(pack: Callable[[bytes], bytes]) -> Callable[[bytes, Random], bytes]:
    """Damages what is inside, or the archive."""

    def damage(content: bytes, random: Random) -> bytes:
        return pack(damaged(content, random)) if random.random() < 0.3 else damaged(pack(content), random)

    return damage


def zipped(method: int) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a.csv", content)
        return buffer.getvalue()

    return pack


def parquet() -> bytes:
    buffer = io.BytesIO()
    table = pa.table(
        {
            "id": list(range(40)),
            "at": pa.array([NOW] * 40, pa.timestamp("us", "UTC")),
            "kind": pa.array(["a", None] * 20),
            "cost": [0.5] * 40,
        }
    )
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def params(path: Path) -> None:
    run_file.params_of(project_of(path))


def whole_ingest(path: Path) -> None:
    project = project_of(path)
    ingest.run(context(project))
    assert not list(project.rglob("*.partial"))


def snapshot(path: Path) -> None:
    Snapshot.read(path)


FORMATS = {
    "csv": Format("raw/a.csv", source),
    "csv in utf-16": Format(
        "raw/a.csv", as_utf16, lambda content, random: damaged(content.decode().encode("utf-16"), random)
    ),
    "csv in gzip": Format("raw/a.csv", source, packed(gzip.compress)),
    "csv in zip": Format("raw/a.csv", source, packed(zipped(zipfile.ZIP_DEFLATED))),
    "csv in zip by bzip2": Format("raw/a.csv", source, packed(zipped(zipfile.ZIP_BZIP2))),
    "csv in zip by lzma": Format("raw/a.csv", source, packed(zipped(zipfile.ZIP_LZMA)), share=0.3),
    "csv in bzip2": Format("raw/a.csv", source, packed(bz2.compress)),
    "parquet": Format("raw/a.parquet", source, content=parquet),
    "params.yaml": Format("params.yaml", params, damaged_yaml, share=0.2),
    "run.yaml": Format("run.yaml", lambda path: run_file.read(path.parent), damaged_yaml, share=0.5),
    "dvc.yaml": Format("dvc.yaml", params, damaged_yaml, share=0.1),
    "released.json": Format("released.json", lambda path: quarantine.releases(path.parent), damaged_json),
    "manifest": Format(
        "data/batches/trips/2013-01.json", lambda path: batches.manifests(project_of(path), "trips"), damaged_json
    ),
    "snapshot": Format("data/snapshot.json", snapshot, damaged_json),
    "memory of ingest": Format(
        ".refit/ingest.json", lambda path: ingest.stale_reason(context(project_of(path))), damaged_json, share=0.3
    ),
    "answered drift": Format(
        ".refit/answered.json",
        lambda path: retrain_dedup.invalid_reason(project_of(path), parse(PARAMS), NOW),
        damaged_json,
    ),
    "record of up": Format(".refit/up.json", lambda path: service_state.read_record(project_of(path)), damaged_json),
    "quarantine": Format("data/quarantine/q.parquet", quarantine.read),
    "manifest of a model": Format(
        "model/manifest.json", lambda path: artifacts.check_manifest(path.parent), damaged_json
    ),
    "rows to score": Format("raw/a.csv", lambda path: read_rows(context(project_of(path)), "trips", path), share=0.01),
    "weights in safetensors": Format("model/weights.safetensors", safe.load_arrays),
    "model in skops": Format("model/model.skops", lambda path: safe.load_skops(path, ()), share=0.05),
    "csv, all of ingest": Format("raw/a.csv", whole_ingest, share=0.01),
    "manifest, all of ingest": Format("data/batches/trips/2013-01.json", whole_ingest, damaged_json, share=0.05),
}
# Read by the code that reads another of them: among the long tests.
ALIKE = (
    "answered drift",
    "csv in bzip2",
    "csv in utf-16",
    "csv in zip",
    "csv in zip by bzip2",
    "csv in zip by lzma",
    "dvc.yaml",
    "manifest",
    "record of up",
    "released.json",
    "rows to score",
)


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A project that has ingested one file, with each of the files that are damaged."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "dvc.yaml").write_bytes((root / "dvc.yaml").read_bytes())
    (tmp_path / "raw/a.csv").write_text(CSV)
    (tmp_path / "run.yaml").write_text("as_of: '2013-02-01'\noverrides: {train: {seed: 3}}\n")
    ingest.run(context(tmp_path))
    batch = {"source": "trips", "batch": "2013-01", "sha256": "0" * 64}
    release = {**batch, "rows": [3], "why": "it is right", "who": "me", "when": "2020-01-01T00:00:00Z"}
    artifacts.write_json(tmp_path / "released.json", {"released": [release]})
    window = DataWindow(first="2013-01-01", end="2013-01-08")
    answer = Answer(window=window, flow_run="x", at=NOW.isoformat(timespec="seconds"))
    write_answers(tmp_path / drift_answers.ANSWERS, {parse(PARAMS).project.name: answer})  # as an older Refit did
    up = {"name": "mlflow", "pid": 1, "since": 1.0, "mark": "x", "port": 5000, "log": str(tmp_path / ".refit/x.log")}
    artifacts.write_json(tmp_path / ".refit/up.json", [up])
    refusals = [quarantine.Refusal(row, "a.csv", "id", "x", "is no integer", "{}", "cast") for row in range(9)]
    quarantine.write(tmp_path / "data/quarantine/q.parquet", refusals)
    (tmp_path / "model").mkdir()
    safe.save_arrays({"weights": np.ones(5)}, tmp_path / "model/weights.safetensors")
    safe.save_skops(LogisticRegression().fit([[0], [1]], [0, 1]), tmp_path / "model/model.skops")
    artifacts.write_manifest(tmp_path / "model")
    return tmp_path


def check(project: Path, name: str, number: int) -> None:
    form = FORMATS[name]
    path = project / form.path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = form.content() if form.content else path.read_bytes()
    for seed in range(max(10, int(number * form.share))):
        path.write_bytes(form.damage(whole, Random(f"{name} {seed}")))
        try:
            form.read(path)
        except RefitError as error:
            lines = [str(line) for line in error.args]  # of a params file all problems are said, a line each
            assert all(lines), f"seed {seed}: an error without a word"
            assert not any({"\n", "\r"}.intersection(line) for line in lines), f"seed {seed}: {lines} are no lines"
        except Exception as error:
            raise AssertionError(f"seed {seed}: a fault of Refit, {type(error).__name__}: {error}") from error
    path.write_bytes(whole)
    if form.content is None and name not in ("csv in utf-16", "memory of ingest"):
        form.read(path)


@pytest.mark.ci
@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in ALIKE)) for each in FORMATS])
def test_a_damaged_file_is_read_or_refused_in_one_line(project: Path, name: str) -> None:
    check(project, name, 400)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
def test_ten_thousand_damaged_files_are_read_or_refused_in_one_line(project: Path, name: str) -> None:
    check(project, name, 10_000)
