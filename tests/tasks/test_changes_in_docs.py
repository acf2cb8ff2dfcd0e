"""The example of docs/sources.md, ingested as it stands there, gives the features that are stated next to it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from feature_store import Aggregate, FeatureSet, FeatureView, Spine
from feature_store.offline import compute
from refit.config import parse
from refit.runtime.context import Context
from refit.schemas.validated import RowBalance, Validated, ValidatedBatch
from refit.storage.snapshots import snapshot_of
from tasks import ingest
from tasks.featurize.warehouse import open_warehouse, sources


def section(root: Path, title: str) -> str:
    text = (root / "docs/sources.md").read_text(encoding="utf-8")
    return text.split(f"### {title}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]


def indented(text: str) -> list[str]:
    """The blocks of code of a section."""
    return [re.sub("(?m)^    ", "", block) for block in re.findall(r"(?:^    .*\n)+", text, re.M)]


def context_of(project: Path, source: str, now: datetime, label: tuple[str, str] = ("sales", "price")) -> Context:
    raw: dict[str, Any] = {
        "project": {"name": "sold", "timezone": "UTC"},
        "ingest": {"sources": yaml.safe_load(source)},
        "featurize": {"label": dict(zip(("source", "column"), label, strict=True))},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return Context(project, parse(raw), now=lambda: now)


def accepted(context: Context, as_of: str) -> Validated:
    """What validation would pass on if no row were bad."""
    snapshot = snapshot_of(as_of, context.params, ingest.take_in(context))
    batches = tuple(
        ValidatedBatch(
            **dict(batch), accepted=batch.rows, quarantined=0, excluded=(), excluded_rows=None, checks=0, warnings=()
        )
        for batch in snapshot.batches
    )
    balance = RowBalance(rows_read=0, accepted=0, quarantined=0, pending=0)
    return Validated(as_of=snapshot.as_of, snapshot=snapshot.digest, rows=balance, batches=batches)


def sums(context: Context, moments: list[str], as_of: str, source: str = "sales") -> list[float]:
    """The sum of prices over 7 days at some moments."""
    total = Aggregate(name="sum", function="sum", column="price", windows=("7d",))
    view = FeatureView(name="of_shop", source=source, entity=("shop",), features=(total,))
    features = FeatureSet(spine=Spine(source="asked", key="id"), views=(view,))
    rows = ", ".join(f"({n}, 'a', timestamp '{moment}')" for n, moment in enumerate(moments))
    spine = f"(from (values {rows}) t(id, shop, event_time))"
    with open_warehouse(context.project, accepted(context, as_of), context.params) as warehouse:
        rows_of = {source: warehouse.relation(source, sources(context.params))}
        table = compute(warehouse.connection, features, spine, rows_of, warehouse.as_of)
        return [value for (value,) in table.select("sum_7d").fetchall()]


def test_the_example_of_layouts_reads_both_files_into_one_table(root: Path, tmp_path: Path) -> None:
    text = (root / "docs/sources.md").read_text(encoding="utf-8")
    params, older, newer = indented(text.split("## Files with other columns\n", 1)[1].split("\n## ", 1)[0])
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/rides-2020-12.csv").write_text(older)
    (tmp_path / "raw/rides-2021-01.csv").write_text(newer)
    context = context_of(tmp_path, params, datetime(2021, 2, 3, tzinfo=UTC), label=("rides", "station"))
    with open_warehouse(tmp_path, accepted(context, "2021-02-01"), context.params) as warehouse:
        rows = warehouse.connection.execute("select ride, station, birth_year from rides order by ride").fetchall()
    assert rows == [("7", "Grove St", 1980), ("8", "Grove St", None)]


def test_the_example_of_corrections_gives_the_sums_that_are_stated(root: Path, tmp_path: Path) -> None:
    text = section(root, "Rows that are corrected")
    params, rows = indented(text)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/sales.csv").write_text(rows)
    stated = re.findall(r"^\| (\d{4}-\S+ \S+) \| (\d+) \|$", text, re.M)
    assert len(stated) == 4
    context = context_of(tmp_path, params, datetime(2024, 6, 1, tzinfo=UTC))
    assert sums(context, [moment for moment, _ in stated], "2024-06-01") == [float(total) for _, total in stated]


def test_the_example_of_deliveries_gives_the_sums_and_parts_that_are_stated(root: Path, tmp_path: Path) -> None:
    text = section(root, "Deliveries that replace all rows")
    params, *deliveries = indented(text)
    (tmp_path / "raw").mkdir()
    for name, rows in zip(re.findall(r"`(prices-\S+\.csv)`", text), deliveries, strict=True):
        (tmp_path / "raw" / name).write_text(rows)
    stated = re.findall(r"^\| (\d{4}-\S+ \S+) \| (\d+) \|$", text, re.M)
    context = context_of(tmp_path, params, datetime(2024, 6, 1, tzinfo=UTC), label=("prices", "price"))
    found = sums(context, [moment for moment, _ in stated], "2024-06-01", source="prices")
    assert found == [float(total) for _, total in stated] == [30, 35, 19, 5]
    names = {batch.name: (batch.rows, batch.deletes) for batch in accepted(context, "2024-06-01").batches}
    assert names == {"2024-05.1": (2, False), "2024-05.2": (1, False), "2024-05.3": (1, False), "2024-05.4": (1, True)}


def test_the_example_of_late_rows_makes_a_part_that_is_known_from_its_arrival_on(root: Path, tmp_path: Path) -> None:
    params, _ = indented(section(root, "Rows that come late"))
    head, row = "id,sold_at,shop,price\n", "{},{} 10:00,a,{}\n"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/sales-1.csv").write_text(head + row.format(1, "2024-05-02", 10) + row.format(2, "2024-06-02", 20))
    context = context_of(tmp_path, params, datetime(2024, 6, 3, tzinfo=UTC))
    moments = ["2024-05-09 00:00", "2024-06-03 06:00", "2024-06-03 12:00"]
    before = accepted(context, "2024-06-03T09:00")
    assert sums(context, moments, "2024-06-03T09:00") == [10, 20, 20]
    (tmp_path / "raw/sales-2.csv").write_text(head + row.format(3, "2024-05-03", 5))
    later = context_of(tmp_path, params, datetime(2024, 6, 3, 10, tzinfo=UTC))
    assert accepted(later, "2024-06-03T09:00") == before
    assert sums(later, moments, "2024-06-03T12:00") == [10, 20, 25]
    names = [batch.name for batch in accepted(later, "2024-06-03T12:00").batches]
    assert names == ["2024-05", "2024-05.2", "2024-06.1"]
