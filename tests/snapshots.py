"""Snapshots for tests of what comes after ingest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refit.files.artifacts import SNAPSHOT
from refit.schemas.snapshot import Snapshot, SnapshotBatch, snapshot_digest

AS_OF = datetime(2014, 1, 1, tzinfo=UTC)
_NONE = dict.fromkeys(("start", "end", "first", "last", "uncast_path", "uncast_sha256"))


def batch_of(source: str, name: str, **fields: Any) -> dict[str, Any]:
    """The JSON of a batch of a static table with one row, with some fields changed; nothing of it is on disk."""
    path = f"data/batches/{source}/{name}.parquet"
    usual = {"static": True, "files": [f"{source}.csv"], "rows": 1, "read": 1, "uncast": 0, "path": path, "sha256": ""}
    return {"source": source, "name": name, **_NONE, **usual, **fields}


def write_snapshot(
    project: Path,
    batches: Sequence[Mapping[str, Any]] = (),
    pending: Mapping[str, int] | None = None,
    as_of: datetime = AS_OF,
) -> Snapshot:
    """Write `data/snapshot.json` of batches given as JSON."""
    seen = tuple(SnapshotBatch.model_validate_json(json.dumps(batch)) for batch in batches)
    digest = snapshot_digest(as_of, seen)
    snapshot = Snapshot(as_of=as_of, batches=seen, pending=pending or {}, digest=digest)
    snapshot.write(project / SNAPSHOT)
    return snapshot
