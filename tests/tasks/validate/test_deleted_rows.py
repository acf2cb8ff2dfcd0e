"""Parts of deliveries that replace all rows: versions of rows are validated, deletions are not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refit.config import parse
from refit.files import artifacts
from refit.runtime.context import Context
from refit.schemas.validated import Validated
from tasks import ingest, validate

HEAD = "id,at,price\n"


def context_of(folder: Path, day: int) -> Context:
    source = {
        "kind": "files",
        "path": "raw/sales.csv",
        "columns": {"id": "integer", "at": "timestamp", "price": "number"},
        "required": ["id"],
        "key": ["id"],
        "event_time": "at",
        "changes": {"kind": "snapshot", "max_deleted_share": 0.5},
    }
    positive = {"expect_column_values_to_be_between": {"column": "price", "min_value": 0}}
    raw: dict[str, Any] = {
        "project": {"name": "sold", "timezone": "UTC"},
        "ingest": {"sources": {"sales": source}},
        "validate": {"suites": {"sales": [positive]}, "max_quarantined_share": 0.5},
        "featurize": {"label": {"source": "sales", "column": "price"}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return Context(folder, parse(raw), now=lambda: datetime(2024, 6, day, tzinfo=UTC))


def deliver(folder: Path, day: int, rows: str) -> Validated:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw/sales.csv").write_text(HEAD + rows)
    (folder / "run.yaml").write_text("as_of: 2024-06-20\n")
    context = context_of(folder, day)
    ingest.run(context)
    validate.run(context)
    return Validated.read(folder / artifacts.VALIDATED)


def test_a_deletion_counts_whatever_its_row_was_and_a_version_is_no_repeated_key(tmp_path: Path) -> None:
    first = "1,2024-05-01,5\n2,2024-05-02,-5\n3,2024-05-03,7\n4,2024-05-04,7\n"
    assert [(each.accepted, each.quarantined) for each in deliver(tmp_path, 5, first).batches] == [(3, 1)]
    batches = deliver(tmp_path, 6, "1,2024-05-01,6\n3,2024-05-03,7\n4,2024-05-04,7\n").batches
    counts = {each.name: (each.accepted, each.quarantined, each.deletes) for each in batches}
    assert counts == {"2024-05.1": (3, 1, False), "2024-05.2": (1, 0, False), "2024-05.3": (1, 0, True)}
    assert batches[-1].warnings == ("not checked: these rows were deleted",)
