"""A run that copies features from the table before writes the bytes of one that computes all, whatever has changed."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from snapshots import batch_of

from refit.config import override, parse
from refit.files import artifacts
from refit.runtime.context import Context
from tasks import featurize
from tasks.featurize import table_cache

START = datetime(2024, 1, 1)  # noqa: DTZ001 (stored times are UTC without a zone)
DAYS, IDS = 240, 320
AS_OF = START + timedelta(days=DAYS + 3)
COLUMNS = {"id": "integer", "at": "timestamp", "who": "text", "shop": "text", "value": "number", "back": "integer"}
COLUMNS |= {"seq": "integer", "gone": "boolean", "came": "timestamp"}
KINDS: Mapping[str, Mapping[str, str]] = {
    "corrections": {"kind": "corrections", "version": "seq", "deleted": "gone"},
    "arrivals": {"kind": "corrections", "version": "seq", "deleted": "gone", "arrived_at": "came"},
    "snapshot": {"kind": "snapshot"},
    "late": {"kind": "late", "within": "900d"},
    "append": {"kind": "append"},
}
FEATURES = """
from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Lag, Latest, Lookup, Sequence, Spine

WINDOWS = ("2d", "20d")
FEATURES = FeatureSet(
    spine=Spine(
        source="placed",
        key="id",
        prediction_time="event_time + interval 1 hour",
        entities={"first": "substr(shop, 1, 1)"},
        features=(Expression(name="own", sql="value"), Expression(name="shop", sql="shop")),
    ),
    views=(
        FeatureView(
            name="of_who",
            source="settled",
            entity=("who",),
            features=(
                *(Aggregate(name=f, function=f, column="value", windows=WINDOWS) for f in ("count", "mean", "std")),
                Latest(name="last", column="value"),
                Latest(name="last_fresh", column="shop", max_age="5d"),
                Age(name="age"),
                Lag(name="ago", column="value", before=("1h", "1d")),
                Sequence(name="steps", columns=("value", "back"), last=3),
                Sequence(name="steps_fresh", columns=("value",), last=2, window="5d"),
            ),
        ),
        FeatureView(
            name="of_all",
            source="settled",
            where="value > 2",
            features=(
                Aggregate(name="all_sum", function="sum", column="value", windows=("1d",)),
                Latest(name="all_last", column="value"),
            ),
        ),
        FeatureView(
            name="of_times",
            source="settled",
            entity=("who", "shop"),
            windows_by="event_time",
            features=(Aggregate(name="times", function="sum", column="value", windows=WINDOWS),),
        ),
        FeatureView(
            name="of_visits",
            source="visits",
            entity=("first",),
            features=(Aggregate(name="visits", function="count", windows=("3d",)),),
        ),
    ),
    lookups=(Lookup(name="people", source="people", key=("who",), features=(Expression(name="born", sql="born"),)),),
)
"""
SEEN = {"id": "id", "who": "who", "shop": "shop", "value": "value"}
RAW: dict[str, Any] = {
    "project": {"name": "changing", "timezone": "UTC"},
    "ingest": {
        "period": "month",
        "sources": {
            "orders": {
                "kind": "files",
                "path": "orders.csv",
                "columns": COLUMNS,
                "key": ["id"],
                "required": ["id"],
                "event_time": "at",
                "events": {
                    "placed": {"available_at": "event_time", "columns": SEEN},
                    "settled": {"available_at": "event_time + interval 3 hour", "columns": {**SEEN, "back": "back"}},
                },
            },
            "visits": {
                "kind": "files",
                "path": "visits.csv",
                "columns": {"id": "integer", "at": "timestamp", "first": "text"},
                "key": ["id"],
                "event_time": "at",
            },
            "people": {"kind": "files", "path": "p.csv", "columns": {"who": "text", "born": "integer"}, "key": ["who"]},
        },
    },
    "featurize": {"definitions": "features.py", "label": {"source": "settled", "column": "back", "delay_hours": 24}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}
SCHEMAS = {
    "orders": pa.schema(
        {
            "id": pa.int64(),
            "at": pa.timestamp("us"),
            "who": pa.string(),
            "shop": pa.string(),
            "value": pa.float64(),
            "back": pa.int64(),
            "seq": pa.int64(),
            "gone": pa.bool_(),
            "came": pa.timestamp("us"),
        }
    ),
    "visits": pa.schema({"id": pa.int64(), "at": pa.timestamp("us"), "first": pa.string()}),
    "people": pa.schema({"who": pa.string(), "born": pa.int64()}),
}
Row = dict[str, Any]


class History:
    """Random batches of a few entities: rows are new, late, corrected, moved to another entity or time, deleted."""

    def __init__(self, seed: int, kind: str) -> None:
        self.chance, self.kind = random.Random(seed), kind
        self.newest: dict[int, Row] = {}
        self.batches: list[dict[str, Any]] = []
        self.count = 0

    def day(self, first: float = 0, last: float = DAYS) -> datetime:
        return START + timedelta(hours=self.chance.randrange(round(first * 24), round(last * 24)))

    def row(self, at: datetime) -> Row:
        chance = self.chance
        self.count += 1
        who = chance.choice(("ada", "bea", "cid", None))
        value, back = chance.choice((None, -0.0, 1.0, 2.5, 4.25)), chance.choice((0, 0, 1))
        row = {"id": self.count, "at": at, "who": who, "shop": chance.choice(("x1", "x2", "y1")), "value": value}
        return row | {"back": back, "seq": 0, "gone": False, "came": None}

    def changed(self, row: Row) -> Row:
        """A newer version: some of its values differ, at times its entity or its time."""
        other, chance = self.row(row["at"]), self.chance
        self.count -= 1
        moved = row["at"] + timedelta(hours=chance.choice((-30, 5, 400))) if chance.random() < 0.2 else row["at"]
        names = [name for name in ("who", "shop", "value", "back") if chance.random() < 0.5]
        return row | {name: other[name] for name in names} | {"at": moved, "seq": row["seq"] + 1, "gone": False}

    def add(self, name: str, rows: Sequence[Row], *, source: str = "orders", **more: Any) -> None:
        self.batches.append({"source": source, "name": name, "rows": list(rows), **more})
        if source == "orders":
            self.newest |= {row["id"]: row for row in rows}

    def first(self) -> None:
        times = sorted(self.day() for _ in range(IDS))
        for month in range(1, 9):
            self.add(f"2024-{month:02}", [self.row(at) for at in times if at.month == month])
        visits = [{"id": n, "at": self.day(), "first": self.chance.choice("xy")} for n in range(150)]
        self.add("2024-01", visits, source="visits")
        self.add("all", [{"who": who, "born": n} for n, who in enumerate(("ada", "bea"))], source="people")

    def change(self, number: int) -> None:
        """One more delivery, of a handful of rows."""
        chance, some = self.chance, self.chance.sample(sorted(self.newest), 3)
        arrived = self.day(DAYS / 2, DAYS + 30)
        new = [self.row(arrived if self.kind == "append" else self.day()) for _ in range(chance.choice((0, 1, 2)))]
        changes: list[Row] = []
        if self.kind in ("corrections", "arrivals"):
            changes = [self.changed(self.newest[each]) | {"gone": chance.random() < 0.2} for each in some]
        elif self.kind == "snapshot":
            changes = [self.changed(self.newest[each]) for each in some[1:]]
            gone = [self.newest[some[0]]]
            self.add(f"2024-09.{2 * number}", gone, arrived=arrived, deletes=True)
        rows = [*changes, *new]
        if self.kind == "arrivals":
            early = max(row["at"] for row in rows) + timedelta(hours=30)
            came = early if early > self.day(DAYS / 2, DAYS / 2 + 1) else arrived
            rows = [row | {"came": chance.choice((arrived, came, came + timedelta(hours=1)))} for row in rows]
        if rows:
            late: dict[str, Any] = {} if self.kind == "append" else {"arrived": arrived}
            self.add(f"2024-09.{2 * number + 1}", rows, **late)
        if chance.random() < 0.3:
            visit = {"id": 1000 + number, "at": self.day(DAYS / 2), "first": "x"}
            self.add(f"2024-09.{number}", [visit], source="visits")

    def write(self, folder: Path, as_of: datetime) -> None:
        """What ingest and validate leave behind."""
        batches = []
        for batch in self.batches:
            source, name, rows = (batch[each] for each in ("source", "name", "rows"))
            path = folder / f"data/batches/{source}/{name}.parquet"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                lines = [{**row, "_row": n, "_event_time": row.get("at")} for n, row in enumerate(rows, 2)]
                times = {"_row": pa.int64(), "_event_time": pa.timestamp("us")}
                schema = pa.schema([*SCHEMAS[source], *pa.schema(times)])
                pq.write_table(pa.Table.from_pylist(lines, schema), path)
            arrived = {} if batch.get("arrived") is None else {"arrived": f"{batch['arrived'].isoformat()}Z"}
            out = list(batch.get("excluded", ()))
            counts = {"accepted": len(rows) - len(out), "quarantined": len(out), "excluded": out}
            more: dict[str, Any] = {"deletes": True} if batch.get("deletes") else {}
            of_file = {"rows": len(rows), "read": len(rows), "sha256": artifacts.sha256(path), **counts}
            more |= {"excluded_rows": None, "checks": 0, "warnings": []}
            if source != "people":
                more |= {"static": False, "start": "2024-01-01T00:00:00Z", "end": "2024-12-01T00:00:00Z"}
            batches.append(batch_of(source, name, **of_file, **arrived, **more))
        content: dict[str, Any] = {
            "as_of": as_of.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z"),
            "batches": batches,
        }
        rows_of = {"read": 0, "accepted": 0, "quarantined": 0, "pending": 0}
        content |= {"snapshot": artifacts.digest(batches), "rows": rows_of}
        artifacts.write_json(folder / "data/validated.json", content)


class Project:
    """Runs featurize, and knows how many rows it copied."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "features.py").write_text(FEATURES)
        self.raw = override(copy.deepcopy(RAW), {"ingest.sources.orders.changes": dict(KINDS[kind])})
        self.params = parse(self.raw)
        self.messages: list[str] = []

    @property
    def context(self) -> Context:
        return Context(self.folder, self.params, progress=lambda what, *_: self.messages.append(what))

    def run(self) -> dict[str, str]:
        self.messages.clear()
        featurize.run(self.context)
        assert not [*(self.folder / "data").glob(".*")], "scratch files are gone"
        return {path.name: artifacts.sha256(path) for path in (self.folder / artifacts.FEATURES).iterdir()}

    def run_in_full(self) -> dict[str, str]:
        shutil.rmtree(self.folder / table_cache.FOLDER)
        return self.run()

    @property
    def copied(self) -> int:
        """Rows whose features were copied in the last run."""
        [*texts] = (text for text in self.messages if text.endswith("are as before"))
        return int(texts[0].split(" those of ")[1].split()[0].replace(",", "")) if texts else 0


def compare(tmp_path: Path, kind: str, seed: int, rounds: int) -> list[int]:
    """Run with the cache and without after each of several changes; return how many rows the first has copied."""
    history, one, other = History(seed, kind), Project(tmp_path / "one", kind), Project(tmp_path / "other", kind)
    history.first()
    copied, as_of = list[int](), AS_OF
    for number in range(rounds):
        for each in (one, other):
            history.write(each.folder, as_of)
        assert one.run() == (other.run_in_full() if number else other.run()), (kind, seed, number)
        assert other.copied == 0
        copied.append(one.copied)
        history.change(number)
        as_of += timedelta(days=history.chance.choice((0, 0, 2, -1)))
    return copied


@pytest.mark.parametrize("kind", ["corrections", "snapshot"])
def test_copied_features_are_those_of_a_full_run_after_any_change(tmp_path: Path, kind: str) -> None:
    copied = compare(tmp_path, kind, 1, 4)
    assert copied[0] == 0
    assert sum(each > 20 for each in copied) >= 2, copied


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("seed", range(2, 8))
def test_copied_features_are_those_of_a_full_run_after_many_changes(tmp_path: Path, kind: str, seed: int) -> None:
    copied = compare(tmp_path, kind, seed, 7)
    assert copied[0] == 0
    assert sum(each > 20 for each in copied) >= 3, copied


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Project, History]:
    """A project whose table was computed once, and its history."""
    history, project = History(9, "corrections"), Project(tmp_path / "project", "corrections")
    history.first()
    history.write(project.folder, AS_OF)
    project.run()
    return project, history


def test_a_correction_after_all_predictions_computes_no_row_but_its_own(stored: tuple[Project, History]) -> None:
    project, history = stored
    [row] = [row for row in history.newest.values() if row["at"] == max(each["at"] for each in history.newest.values())]
    history.add("2024-08.2", [row | {"value": 100.0, "seq": 1}], arrived=START + timedelta(days=DAYS + 1))
    history.write(project.folder, AS_OF)
    files = project.run()
    rows = pq.read_metadata(project.folder / artifacts.TABLE).num_rows
    assert rows - 1 <= project.copied <= rows
    assert project.run_in_full() == files


@pytest.mark.parametrize("damage", ["torn", "another table", "another list", "no list", "no folder"])
def test_a_damaged_cache_is_not_used_and_is_replaced(stored: tuple[Project, History], damage: str) -> None:
    project, _ = stored
    files, folder = project.run(), project.folder / table_cache.FOLDER
    assert project.copied > 200
    table, inputs = folder / "table.parquet", folder / "inputs.json"
    if damage == "torn":
        table.write_bytes(table.read_bytes()[:-100])
    elif damage == "another table":
        rows = pq.read_table(table)
        pq.write_table(rows.set_column(rows.schema.get_field_index("own"), "own", pa.array([7.0] * len(rows))), table)
    elif damage == "another list":
        inputs.write_text(inputs.read_text().replace(artifacts.sha256(table), "0" * 64))
    elif damage == "no list":
        inputs.unlink()
    else:
        shutil.rmtree(folder)
    assert project.run() == files
    assert project.copied == 0
    assert project.run() == files
    assert project.copied > 200


def _definition(project: Project, history: History) -> None:
    path = project.folder / "features.py"
    path.write_text(path.read_text().replace('"20d"', '"21d"'))


def _param(project: Project, history: History) -> None:
    project.params = parse(
        override(copy.deepcopy(project.raw), {"ingest.sources.orders.events.settled.where": "id > 9"})
    )


def _static(project: Project, history: History) -> None:
    history.add("all.2", [{"who": "cid", "born": 3}], source="people")


def _quarantine(project: Project, history: History) -> None:
    history.batches[3]["excluded"] = [2, 4]


def _removal(project: Project, history: History) -> None:
    history.batches.pop(3)


@pytest.mark.parametrize("change", [_definition, _param, _static, _quarantine, _removal])
def test_all_is_computed_where_more_may_differ_than_what_added_rows_touch(
    stored: tuple[Project, History], change: Callable[[Project, History], None]
) -> None:
    project, history = stored
    change(project, history)
    history.write(project.folder, AS_OF)
    files = project.run()
    assert project.copied == 0
    assert project.run_in_full() == files


def test_all_is_computed_by_another_version_of_a_library(
    stored: tuple[Project, History], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = stored
    monkeypatch.setattr(table_cache, "version", lambda name: "0.0.1")
    project.run()
    assert project.copied == 0
