"""A small project whose raw files a test writes, ingests and looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from refit.config import parse
from refit.errors import RefitError
from refit.files.artifacts import SNAPSHOT, read_json
from refit.runtime.context import Context
from tasks import ingest

NOW = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Project:
    """Trips as they arrive: `id,at,kind,cost`, one batch a month of New York time."""

    path: Path
    source: dict[str, Any] = field(
        default_factory=lambda: {
            "kind": "files",
            "path": "raw/*.csv",
            "columns": {"id": "integer", "at": "timestamp", "kind": "text", "cost": "number"},
            "required": ["id"],
            "key": ["id"],
            "event_time": "at",
        }
    )
    others: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # sections of the params
    period: str = "month"
    zone: str = "America/New_York"
    now: datetime = NOW
    said: list[str] = field(default_factory=list)

    def context(self) -> Context:
        raw = {
            "project": {"name": "demo", "timezone": self.zone},
            "ingest": {"period": self.period, "sources": {"trips": self.source, **self.others}},
            "featurize": {"label": {"source": "trips", "column": "kind"}},
            "train": {"learners": [{"name": "base", "kind": "baseline"}]},
            **self.more,
        }
        return Context(
            self.path,
            parse(raw),
            progress=lambda what, done=0, total=None: self.said.append(what),
            now=lambda: self.now,
        )

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def as_of(self, text: str) -> None:
        (self.path / "run.yaml").write_text(f"as_of: {text}\n")

    def ingest(self) -> dict[str, Any]:
        self.said.clear()
        ingest.run(self.context())
        snapshot: dict[str, Any] = read_json(self.path / SNAPSHOT)
        return snapshot

    def fails(self, kind: type[RefitError] = RefitError) -> str:
        """The one line of the error that ingesting ends with."""
        with pytest.raises(kind) as caught:
            self.ingest()
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def batch(self, name: str, source: str = "trips") -> list[dict[str, Any]]:
        return pq.read_table(self.path / f"data/batches/{source}/{name}.parquet").to_pylist()

    def uncast(self, name: str, source: str = "trips") -> list[tuple[Any, ...]]:
        """(row, file, column, value, reason) of what did not cast."""
        lines = pq.read_table(self.path / f"data/batches/{source}/{name}.uncast.parquet").to_pylist()
        return [(x["_row"], x["file"], x["column"], x["value"], x["reason"]) for x in lines]

    def stored(self, source: str = "trips") -> list[str]:
        """The names of all batches, those included that no run may see yet."""
        return sorted(path.stem for path in (self.path / "data/batches" / source).glob("*.json"))

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every stored batch file: when it was written, and its bytes."""
        folder = self.path / "data/batches"
        return {
            p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes())
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


HEADER = "id,at,kind,cost\n"


@pytest.fixture
def month() -> Callable[..., str]:
    """The text of trips in one month of 2013, one a day at noon UTC, with ids that tell the day."""

    def text(month: int, days: range = range(1, 29), *, header: bool = True) -> str:
        lines = [f"{month:02d}{day:02d},2013-{month:02d}-{day:02d}T12:00:00Z,{'ab'[day % 2]},{day}.5\n" for day in days]
        return (HEADER if header else "") + "".join(lines)

    return text
