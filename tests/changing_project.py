"""A project whose rows are late, corrected, moved and deleted at random, to run featurize on."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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
# OF_ALL
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
OF_ALL = """
        FeatureView(
            name="of_all",
            source="settled",
            where="value > 2",
            features=(
                Aggregate(name="all_sum", function="sum", column="value", windows=("1d",)),
                Latest(name="all_last", column="value"),
            ),
        ),
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

    def __init__(self, folder: Path, kind: str, *, of_all: bool = True) -> None:
        """`of_all`: with a view of all rows, of which any change reaches each later row."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "features.py").write_text(FEATURES.replace("# OF_ALL\n", OF_ALL if of_all else ""))
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
