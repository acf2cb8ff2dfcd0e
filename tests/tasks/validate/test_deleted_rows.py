"""Batches of differences: validated among the rows that they belong to; deletions are not validated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from quick import quick

from refit.config import parse
from refit.errors import UserError
from refit.files import artifacts
from refit.runtime.context import Context
from refit.schemas.validated import Validated
from tasks import ingest, validate

HEAD = "id,at,price\n"


def context_of(folder: Path, day: int, *, share: float, period: str, changes: dict[str, Any]) -> Context:
    source = {
        "kind": "files",
        "path": "raw/sales.csv",
        "columns": {"id": "integer", "at": "timestamp", "price": "number"},
        "required": ["id"],
        "key": ["id"],
        "event_time": "at",
        "changes": changes,
    }
    positive = {"expect_column_values_to_be_between": {"column": "price", "min_value": 0}}
    raw: dict[str, Any] = {
        "project": {"name": "sold", "timezone": "UTC"},
        "ingest": {"period": period, "sources": {"sales": source}},
        "validate": {"suites": {"sales": [positive]}, "max_quarantined_share": share},
        "featurize": {"label": {"source": "sales", "column": "price"}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return Context(folder, parse(raw), now=lambda: datetime(2024, 6, day, tzinfo=UTC))


SNAPSHOT = {"kind": "snapshot", "max_deleted_share": 0.5}


def deliver(
    folder: Path, day: int, rows: str, *, share: float = 0.5, period: str = "month", changes: dict[str, Any] = SNAPSHOT
) -> Validated:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw/sales.csv").write_text(HEAD + rows)
    (folder / "run.yaml").write_text("as_of: 2024-06-20\n")
    context = context_of(folder, day, share=share, period=period, changes=changes)
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


MANY = [f"{n},2024-05-{1 + (n - 1) // 4:02d} 09:00,{n}" for n in range(1, 101)]


def with_prices(prices: dict[int, str]) -> str:
    rows = [line.rpartition(",")[0] + f",{prices[n]}" if n in prices else line for n, line in enumerate(MANY, start=1)]
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("period", quick(["month", "day"]))
@pytest.mark.parametrize("price", ["x", "-1"], ids=["does not cast", "breaks an expectation"])
def test_a_bad_row_in_a_delivery_is_set_aside_and_stops_no_run(tmp_path: Path, price: str, period: str) -> None:
    small = {"share": 0.05, "period": period}
    deliver(tmp_path, 5, with_prices({}), **small)
    bad = deliver(tmp_path, 6, with_prices({7: price}), **small)
    assert (bad.rows.accepted, bad.rows.quarantined) == (100, 1)
    mended = deliver(tmp_path, 7, with_prices({8: "3"}), **small)
    assert mended.rows.quarantined == 1


@pytest.mark.slow
def test_the_bad_rows_of_a_delivery_are_counted_over_all_its_periods(tmp_path: Path) -> None:
    small = {"share": 0.05, "period": "day"}
    deliver(tmp_path, 5, with_prices({}), **small)
    assert deliver(tmp_path, 6, with_prices(dict.fromkeys(range(1, 50, 10), "x")), **small).rows.quarantined == 5
    with pytest.raises(UserError, match=r"fails: 6 of 100 rows of its delivery \(6.0%\) are quarantined"):
        deliver(tmp_path, 7, with_prices(dict.fromkeys(range(2, 62, 10), "x")), **small)


def test_a_late_row_that_does_not_cast_is_counted_among_its_period(tmp_path: Path) -> None:
    small = {"share": 0.05, "changes": {"kind": "late", "within": "60d"}}
    deliver(tmp_path, 5, with_prices({}), **small)
    late = deliver(tmp_path, 6, with_prices({}) + "101,2024-05-09,x\n", **small)
    assert (late.rows.accepted, late.rows.quarantined) == (100, 1)
    with pytest.raises(UserError, match=r"fails: 6 of 107 rows of its period"):
        deliver(
            tmp_path,
            7,
            with_prices({}) + "101,2024-05-09,x\n" + "".join(f"{n},2024-05-09,y\n" for n in range(102, 108)),
            **small,
        )


def test_new_rows_none_of_which_casts_still_fail(tmp_path: Path) -> None:
    small = {"share": 0.05, "changes": {"kind": "late", "within": "60d"}}
    deliver(tmp_path, 5, with_prices({}), **small)
    with pytest.raises(UserError, match="none of its 1 rows could be cast"):
        deliver(tmp_path, 6, with_prices({}) + "101,2024-05-30,x\n", **small)
