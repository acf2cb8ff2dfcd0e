"""The stage `featurize` on a small project: two years of orders, of which we want to know whether they come back."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from snapshots import batch_of

from refit.config import override, parse
from refit.config.windows import earliest_as_of
from refit.config.windows import windows as windows_at
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.runtime.context import Context
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_table import FeatureTable
from refit.schemas.validated import Validated
from tasks import featurize
from tasks.featurize.labels import known_labels
from tasks.featurize.profile import read_profile
from tasks.featurize.warehouse import open_warehouse

RAW: dict[str, Any] = {
    "project": {"name": "returns", "timezone": "Europe/Berlin"},
    "ingest": {
        "period": "month",
        "sources": {
            "orders": {
                "kind": "files",
                "path": "orders.csv",
                "columns": {
                    "id": "integer",
                    "customer": "text",
                    "price": "number",
                    "shop": "text",
                    "ordered": "timestamp",
                    "returned": "boolean",
                    "secret": "number",
                },
                "key": ["id"],
                "event_time": "ordered",
                "events": {
                    "placed": {
                        "available_at": "event_time - interval 1 hour",
                        "columns": {"id": "id", "customer": "customer", "price": "price", "shop": "shop"},
                    },
                    "settled": {
                        "available_at": "event_time + interval 10 day",
                        "columns": {
                            "id": "id",
                            "customer": "customer",
                            "price": "price",
                            "returned": "returned::integer",
                            "secret": "secret",
                        },
                    },
                },
            },
            "customers": {
                "kind": "files",
                "path": "customers.csv",
                "columns": {"customer": "text", "born": "integer"},
                "key": ["customer"],
            },
        },
    },
    "featurize": {
        "definitions": "features.py",
        "label": {"source": "settled", "column": "returned", "delay_hours": 240},
    },
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}

FEATURES = """
from feature_store import Aggregate, Expression, FeatureSet, FeatureView, Latest, Lookup, Spine

FEATURES = FeatureSet(
    spine=Spine(
        source="placed",
        key="id",
        prediction_time="event_time - interval 30 minute",
        features=(Expression(name="price", sql="price"), Expression(name="shop", sql="shop"),),
    ),
    views=(
        FeatureView(
            name="customer",
            source="settled",
            entity=("customer",),
            features=(
                Aggregate(name="rate", function="rate", column="returned", windows=("28d", "90d")),
                Latest(name="last_secret", column="secret"),
            ),
        ),
    ),
    lookups=(
        Lookup(name="customers", source="customers", key=("customer",),
               features=(Expression(name="age", sql="year(event_time) - born"),)),
    ),
)
"""

Project = Callable[..., Context]


def orders(rows: int = 1200) -> list[dict[str, Any]]:
    """Orders of 2019 in Berlin's time; `secret` is the label itself, known when the label is."""
    chance = random.Random(7)
    start = datetime(2018, 12, 31, 23, tzinfo=UTC).replace(tzinfo=None)
    found = []
    for n in range(rows):
        returned = chance.random() < 0.4
        found.append(
            {
                "id": n * 7919 % 100_003,
                "customer": f"c{chance.randrange(30)}" if chance.random() > 0.05 else None,
                "price": float(chance.randrange(1, 100)),
                "shop": chance.choice("xyz"),
                "ordered": start + timedelta(hours=n * 365 * 24 / rows),
                "returned": None if chance.random() < 0.03 else returned,
                "secret": float(returned),
            }
        )
    return found


def write_batches(folder: Path, rows: list[dict[str, Any]], as_of: str, excluded: tuple[int, ...] = ()) -> None:
    """What ingest and validate leave behind, as docs/files.md says."""
    batches = []
    months = sorted({row["ordered"].strftime("%Y-%m") for row in rows})
    customers = [{"customer": f"c{n}", "born": 1950 + n} for n in range(25)]
    tables = [("orders", month, [r for r in rows if r["ordered"].strftime("%Y-%m") == month]) for month in months]
    schema = pa.schema(
        {
            "id": pa.int64(),
            "customer": pa.string(),
            "price": pa.float64(),
            "shop": pa.string(),
            "ordered": pa.timestamp("us"),
            "returned": pa.bool_(),
            "secret": pa.float64(),
            "_row": pa.int64(),
            "_event_time": pa.timestamp("us"),
        }
    )
    for source, name, found in [*tables, ("customers", "all", customers)]:
        lines = [{**row, "_row": line, "_event_time": row.get("ordered")} for line, row in enumerate(found, start=2)]
        static = pa.schema(
            {"customer": pa.string(), "born": pa.int64(), "_row": pa.int64(), "_event_time": pa.timestamp("us")}
        )
        path = folder / f"data/batches/{source}/{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(lines, schema if source == "orders" else static), path)
        gone = list(excluded) if source == "orders" and name == "2019-03" else []
        counts = {"accepted": len(found) - len(gone), "quarantined": len(gone), "excluded": gone}
        content = {"rows": len(found), "read": len(found), "sha256": artifacts.sha256(path)}
        batch = batch_of(source, name, **content, **counts, excluded_rows=None, checks=0, warnings=[])
        batches.append(batch)
    snapshot = artifacts.digest([batch["sha256"] for batch in batches])
    rows = {"read": 0, "accepted": 0, "quarantined": 0, "pending": 0}
    content = {"as_of": as_of, "snapshot": snapshot, "rows": rows, "batches": batches}
    artifacts.write_json(folder / "data/validated.json", content)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Makes the project's folder, with whatever is to be different, and gives its context."""

    def make(
        changes: Mapping[str, Any] | None = None,
        *,
        rows: list[dict[str, Any]] | None = None,
        as_of: str = "2019-12-31T23:00:00Z",
        features: str = FEATURES,
        excluded: tuple[int, ...] = (),
        name: str = "project",
    ) -> Context:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "features.py").write_text(features)
        write_batches(folder, rows or orders(), as_of, excluded)
        return Context(folder, parse(override(copy.deepcopy(RAW), changes or {})))

    return make


def table_of(context: Context) -> pa.Table:
    return pq.read_table(context.path(artifacts.TABLE))


def described(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = artifacts.read_json(context.path(artifacts.FEATURE_SET))
    return found


def test_the_table_holds_labelled_rows_in_order_of_time_with_their_features(project: Project) -> None:
    context = project()
    featurize.run(context)
    table, info = table_of(context), described(context)
    assert table.column_names == [
        "id",
        "event_time",
        "prediction_time",
        "window",
        "label",
        "label_known_at",
        *info["features"],
    ]
    assert info["features"] == ["price", "shop", "rate_28d", "rate_90d", "last_secret", "age"]
    assert (info["categorical"], info["key"]) == (["shop"], "id")
    assert info["numeric"] == [name for name in info["features"] if name != "shop"]
    assert [str(table.schema.field(name).type) for name in info["numeric"]] == ["double"] * 5
    assert str(table["label"].type) == "int64"
    rows = table.to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["event_time"], row["id"]))
    truth = {row["id"]: row for row in orders()}
    assert all(row["label"] == truth[row["id"]]["returned"] for row in rows)
    assert all(row["event_time"] - row["prediction_time"] == timedelta(minutes=30) for row in rows)
    assert all(row["label_known_at"] - row["event_time"] == timedelta(days=10) for row in rows), "folds are cut by it"
    assert info["table"] == {"sha256": artifacts.sha256(context.path(artifacts.TABLE)), "rows": len(rows)}


def test_windows_are_whole_local_months_before_the_newest_known_label(project: Project) -> None:
    context = project()
    featurize.run(context)
    windows = described(context)["windows"]
    # 31 December in Berlin less ten days: November is the last whole month. Summer time ended in October.
    assert [(w["start"], w["end"]) for w in (windows["train"], windows["validation"], windows["test"])] == [
        ("2018-12-31T23:00:00Z", "2019-09-30T22:00:00Z"),
        ("2019-09-30T22:00:00Z", "2019-10-31T23:00:00Z"),
        ("2019-10-31T23:00:00Z", "2019-11-30T23:00:00Z"),
    ]
    for row in table_of(context).to_pylist():
        span = windows[row["window"]]
        assert span["start"] <= row["event_time"].strftime("%Y-%m-%dT%H:%M:%SZ") < span["end"]
    for name, span in windows.items():
        labels = table_of(context).filter(pc.equal(table_of(context)["window"], name))["label"]
        assert (span["rows"], span["positive"]) == (len(labels), pc.sum(labels).as_py())


@pytest.mark.parametrize("delay_hours", [0, 0.5, 48, 239, 240, 360, 720])
def test_no_row_is_learned_from_whose_label_came_after_the_next_window_opened(
    project: Project, delay_hours: float
) -> None:
    """Compared with every order: what whoever stood where a window opens could rely on, of all rows of a time alike."""
    context = project({"featurize.label.delay_hours": delay_hours})
    featurize.run(context)
    windows, chosen = described(context)["windows"], table_of(context).to_pylist()
    as_of = described(context)["as_of"]
    opens = {"train": windows["validation"]["start"], "validation": windows["test"]["start"], "test": as_of}
    for name, span in windows.items():
        start, end = (datetime.fromisoformat(span[bound][:-1]) for bound in ("start", "end"))
        inside = [row for row in orders() if row["returned"] is not None and start <= row["ordered"] < end]
        by = datetime.fromisoformat(opens[name][:-1])
        wait = timedelta(hours=max(delay_hours, 240))
        known = [row["id"] for row in inside if row["ordered"] + wait <= by]
        assert [row["id"] for row in chosen if row["window"] == name] == known
        assert span.get("late", 0) == (len(inside) - len(known) if name != "test" else 0)
        assert len(known) > 0.45 * len(inside), "a long delay moves the window, and does not empty it"
        if name != "test":
            assert span.get("until", span["end"]) <= f"{by - timedelta(hours=delay_hours):%Y-%m-%dT%H:%M:%SZ}"


def test_the_earliest_as_of_leaves_rows_to_learn_from_whatever_the_delay() -> None:
    zone = ZoneInfo("America/New_York")
    first = datetime(2013, 1, 1, 6, tzinfo=UTC)
    for period in ("day", "week", "month"):
        for hours in (0, 1, 48, 84, 400, 720, 1500):
            changed = {"ingest.period": period, "featurize.label.delay_hours": hours, "project.timezone": str(zone)}
            params = parse(override(RAW, changed))
            delay = timedelta(hours=hours)
            train, validation, test = windows_at(earliest_as_of(first, params), params)
            assert first < train.until(delay) <= train.end <= train.opens == validation.start
            assert validation.start < validation.until(delay) <= validation.end <= validation.opens == test.start
            assert train.until(delay) <= train.opens - delay


def test_training_can_be_limited_to_some_months_and_test_be_longer(project: Project) -> None:
    context = project({"featurize.windows": {"test": 2, "validation": 1, "training": 3}})
    featurize.run(context)
    windows = described(context)["windows"]
    assert windows["train"]["start"] == "2019-05-31T22:00:00Z"
    assert windows["test"]["start"] == "2019-09-30T22:00:00Z"


def test_a_split_puts_rows_into_windows_by_chance_and_none_ever_changes_sides(project: Project) -> None:
    split = {"featurize.split": {"test": 0.25, "validation": 0.15}}
    context, later = project(split, as_of="2019-08-31T23:00:00Z"), project(split, name="later")
    sides = []
    for each in (context, later):
        featurize.run(each)
        sides.append(dict(zip(*(table_of(each)[name].to_pylist() for name in ("id", "window")), strict=True)))
    assert sides[0].items() < sides[1].items()
    counts = Counter(sides[1].values())
    assert counts["test"] / len(sides[1]) == pytest.approx(0.25, abs=0.04)
    assert counts["validation"] / len(sides[1]) == pytest.approx(0.15, abs=0.04)
    info = described(later)
    assert info["split"] == "0.25 of the rows, seed 0"
    assert len({(span["start"], span["end"]) for span in info["windows"].values()}) == 1


def test_a_split_by_a_column_keeps_its_rows_together_and_may_leave_out_validation(project: Project) -> None:
    split = {"test": 0.3, "validation": 0, "by": "customer", "seed": 4}
    context = project({"featurize.split": split, "train.cross_validation": {"folds": 3}})
    featurize.run(context)
    customer = {row["id"]: row["customer"] for row in orders()}  # some rows have none: each goes by its own key
    sides = {(customer[row["id"]], row["window"]) for row in table_of(context).to_pylist() if customer[row["id"]]}
    assert len(sides) == len({name for name, _ in sides})
    assert {side for _, side in sides} == {"train", "test"}


def test_labels_are_counted_as_known_pending_and_none(project: Project) -> None:
    context = project({"featurize.label.delay_hours": 0})
    featurize.run(context)
    counts, rows = described(context)["labels"], orders()
    as_of = datetime(2019, 12, 31, 23, tzinfo=UTC).replace(tzinfo=None)
    seen = [row for row in rows if row["ordered"] < as_of and row["ordered"] - timedelta(hours=1) <= as_of]
    pending = [row for row in seen if row["ordered"] + timedelta(days=10) > as_of]
    none = [row for row in seen if row not in pending and row["returned"] is None]
    assert counts == {"known": len(seen) - len(pending) - len(none), "pending": len(pending), "none": len(none)}
    assert pending
    assert none


@pytest.mark.parametrize(("delay_hours", "days"), [(0.5, 10), (240, 10), (288, 12)])
def test_a_label_counts_once_it_is_there_and_the_delay_of_all_rows_has_passed(
    project: Project, delay_hours: float, days: int
) -> None:
    context = project({"featurize.label.delay_hours": delay_hours})
    validated = Validated.read(context.path(artifacts.VALIDATED))
    with open_warehouse(context.project, validated, context.params) as warehouse:
        found = known_labels(warehouse, context.params, "id", datetime.max.replace(tzinfo=UTC))
    assert found.num_rows > 500
    waited = {known - at for known, at in zip(*(found[n].to_pylist() for n in ("known_at", "event_time")), strict=True)}
    assert waited == {timedelta(days=days)}


def test_refused_rows_are_neither_predicted_nor_learned_from(project: Project) -> None:
    context = project(excluded=(2, 3, 4))
    featurize.run(context)
    march = [row["id"] for row in orders() if row["ordered"].month == 3]
    seen = table_of(context)["id"].to_pylist()
    assert set(march[:3]).isdisjoint(seen)
    assert len(set(march[3:]) & set(seen)) > 80


def test_a_batch_that_changed_since_it_was_validated_is_not_read(project: Project) -> None:
    context = project()
    path = context.path("data/batches/orders/2019-03.parquet")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RefitError, match=r"2019-03\.parquet has changed"):
        featurize.run(context)


def test_rows_known_after_as_of_change_nothing(project: Project) -> None:
    context = project(as_of="2019-10-15T00:00:00Z")
    featurize.run(context)
    before = table_of(context)
    known = datetime(2019, 10, 15, tzinfo=UTC).replace(tzinfo=None) + timedelta(hours=1)
    again = project(as_of="2019-10-15T00:00:00Z", rows=[r for r in orders() if r["ordered"] <= known], name="cut")
    featurize.run(again)
    assert table_of(again).equals(before)


def test_a_column_that_holds_the_label_but_is_known_later_gives_nothing_away(project: Project) -> None:
    context = project(rows=orders(6000))
    featurize.run(context)
    table = table_of(context)
    secret, label = table["last_secret"].to_pylist(), table["label"].to_pylist()
    same = sum(s == label for s, label in zip(secret, label, strict=True) if s is not None)
    positive = sum(label) / len(label)
    chance = positive**2 + (1 - positive) ** 2
    assert abs(same / sum(s is not None for s in secret) - chance) < 0.03


def test_the_same_inputs_give_the_same_bytes_in_another_folder_zone_locale_and_hash_seed(project: Project) -> None:
    digests = set()
    for number, environment in enumerate(
        ({"TZ": "UTC"}, {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "7"})
    ):
        context = project(name=f"copy{number}")
        code = (
            "import sys, json; from pathlib import Path; from tasks import featurize; from refit.runtime.context "
            "import Context; from refit.config import parse; "
            "featurize.run(Context(Path(sys.argv[1]), parse(json.loads(sys.argv[2]))))"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(context.project), json.dumps(RAW)],
            check=True,
            env={**os.environ, **environment},
        )
        files = [artifacts.TABLE, artifacts.FEATURE_SET, artifacts.PROFILE, artifacts.PROFILE_COUNTS]
        digests.add(tuple(hashlib.sha256(context.path(path).read_bytes()).hexdigest() for path in files))
    assert len(digests) == 1


def test_the_profile_counts_each_feature_and_the_label_by_local_day_of_what_is_learned(project: Project) -> None:
    context = project()
    featurize.run(context)
    profile, table = read_profile(context.path(artifacts.FEATURES)), table_of(context)
    learned = table.filter(pc.not_equal(table["window"], "test"))
    local = [
        time.replace(tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin")) for time in learned["event_time"].to_pylist()
    ]
    by_day = Counter(time.date() for time in local)
    assert dict(zip(profile.days.tolist(), profile.rows.tolist(), strict=True)) == by_day
    assert list(profile.layout.columns) == ["price", "rate_28d", "rate_90d", "last_secret", "age", "shop", "label"]
    counts, columns = profile.totals(), profile.layout.columns
    for name in ("rate_28d", "shop", "label"):
        assert (counts[name].sum(), counts[name][-1]) == (len(learned), learned[name].null_count)
    for name in ("shop", "label"):
        counted = dict(zip(columns[name].names, counts[name].tolist(), strict=False))
        assert counted == Counter(str(value) for value in learned[name].to_pylist())
    assert (columns["price"].lows[0], columns["price"].highs[-1]) == (1.0, 99.0)
    assert columns["price"].mean == pytest.approx(np.mean(learned["price"].to_numpy()))


def test_a_profile_that_is_incomplete_is_not_read(project: Project) -> None:
    context = project()
    featurize.run(context)
    folder = context.path(artifacts.FEATURES)
    layout = artifacts.read_json(folder / "profile.json")
    artifacts.write_json(folder / "profile.json", {"columns": layout["columns"][1:]})
    with pytest.raises(RefitError, match="another layout"):
        read_profile(folder)
    (folder / "profile.parquet").unlink()
    with pytest.raises(RefitError, match="older Refit; retrain it"):
        read_profile(folder)


def test_rows_for_gives_the_same_rows_with_the_features_of_stored_definitions(project: Project) -> None:
    context = project()
    featurize.run(context)
    old = FeatureTable.read(context.path(artifacts.FEATURE_SET)).definitions
    test = table_of(context).filter(pc.equal(table_of(context)["window"], "test")).drop_columns("label_known_at")
    assert featurize.rows_for(context, old, "test").equals(test)
    # The team has since renamed a column, moved the prediction and dropped a feature.
    newer = FEATURES.replace("30 minute", "45 minute").replace('(Expression(name="price", sql="price"), ', "(")
    renamed = {
        "ingest.sources.orders.events.placed.columns": {"id": "id", "who": "customer", "shop": "shop"},
        "ingest.sources.orders.events.settled.columns": {
            "id": "id",
            "customer": "customer",
            "returned": "returned",
            "secret": "secret",
        },
    }
    newer = newer.replace('key="id",', 'key="id", entities={"customer": "who"},')
    context = project(renamed, features=newer)
    featurize.run(context)
    assert "price" not in described(context)["features"]
    assert featurize.rows_for(context, old, "test").equals(test)
    assert not table_of(context).column("prediction_time").equals(test["prediction_time"])


def test_rows_for_refuses_definitions_that_give_other_rows(project: Project) -> None:
    context = project()
    featurize.run(context)
    stored = FeatureTable.read(context.path(artifacts.FEATURE_SET))
    feature_set, sources = stored.definitions.feature_set, stored.definitions.sources
    spine = feature_set.spine.model_copy(update={"key": "customer"})
    other_key = Definitions(feature_set=feature_set.model_copy(update={"spine": spine}), sources=sources)
    with pytest.raises(RefitError, match="names rows by 'id', the stored definitions by 'customer'"):
        featurize.rows_for(context, other_key, "test")
    cut = sources["placed"].model_copy(update={"where": "price > 50"})
    fewer = Definitions(feature_set=feature_set, sources={**sources, "placed": cut})
    with pytest.raises(RefitError, match="two models cannot be compared on different rows"):
        featurize.rows_for(context, fewer, "test")
    with pytest.raises(RefitError, match=r"of old is damaged or was changed .*definitions.feature_set.spine"):
        FeatureTable.from_json({**stored.to_json(), "definitions": {"feature_set": {}}}, "of old")


def test_without_definitions_the_declared_columns_are_the_features(project: Project) -> None:
    plain = copy.deepcopy(RAW["ingest"]["sources"]["orders"])
    del plain["events"], plain["columns"]["secret"]
    changes = {"featurize.definitions": None, "featurize.label": {"source": "orders", "column": "returned"}}
    context = project({**changes, "ingest.sources.orders": plain})
    featurize.run(context)
    info, table = described(context), table_of(context)
    assert info["features"] == ["customer", "price", "shop"]
    assert info["categorical"] == ["customer", "shop"]
    assert table["event_time"].equals(table["prediction_time"])
    assert set(table["label"].to_pylist()) == {0, 1}


def test_rows_named_by_several_columns_get_one_key(project: Project) -> None:
    plain = copy.deepcopy(RAW["ingest"]["sources"]["orders"])
    del plain["events"]
    plain["key"] = ["id", "shop"]
    label = {"source": "orders", "column": "returned"}
    context = project({"featurize.definitions": None, "featurize.label": label, "ingest.sources.orders": plain})
    featurize.run(context)
    row = table_of(context).to_pylist()[0]
    assert described(context)["key"] == "row_key"
    assert row["row_key"].split("|")[0] == str(orders()[0]["id"])


def test_patterns_leave_features_out(project: Project) -> None:
    context = project({"featurize.exclude": ["rate_*", "age"]})
    featurize.run(context)
    assert described(context)["features"] == ["price", "shop", "last_secret"]
    names = [view["name"] for view in described(context)["definitions"]["feature_set"]["views"]]
    assert (names, described(context)["definitions"]["feature_set"]["lookups"]) == (["customer"], [])


def test_an_as_of_too_early_names_the_earliest_that_works(project: Project) -> None:
    with pytest.raises(UserError, match=r"train window.*the earliest --as-of.* is 2019-04-11T00:00") as caught:
        featurize.run(project(as_of="2019-03-20T00:00:00Z"))
    assert "\n" not in str(caught.value)
    featurize.run(project(as_of="2019-04-10T22:00:00Z"))
    with pytest.raises(UserError, match="2019-04-11"):
        featurize.run(project(as_of="2019-04-10T21:59:00Z"))


ALL_BACK = [{**row, "returned": True} for row in orders()]
NO_LABEL = [{**row, "returned": None} for row in orders()]
TWICE = [*orders(), {**orders()[5], "ordered": orders()[900]["ordered"]}]
IN_VIEW = FEATURES.replace('source="placed"', 'source="settled"')


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"rows": ALL_BACK}, "label 'returned' is 1 in all .* rows of the train window"),
        ({"rows": NO_LABEL}, "no row with a label lies in the train window"),
        ({"rows": TWICE}, r"source 'placed' has 2 rows with id = \d+"),
        (
            {"changes": {"featurize.label.column": "price"}},
            r"label settled\.price holds '10\.0', '11\.0', .* needs 0 and 1",
        ),
        ({"changes": {"featurize.label.column": "returnd"}}, "'returnd' is unknown; did you mean 'returned'"),
        ({"changes": {"featurize.label.source": "setled"}}, "'setled' is unknown; did you mean 'settled'"),
        ({"changes": {"featurize.exclude": ["rat"]}}, "featurize.exclude: pattern 'rat' matches no feature"),
        (
            {"changes": {"featurize.definitions": "feature.py"}},
            "no file feature.py in the project; did you mean 'features.py'",
        ),
        ({"changes": {"featurize.definitions": "../features.py"}}, r"no file \.\./features\.py in the project"),
        ({"changes": {"featurize.definitions": "no.such.module"}}, "there is no module 'no'"),
        ({"changes": {"featurize.definitions": "json"}}, r"json has no FEATURES; .*FEATURES = FeatureSet"),
        ({"changes": {"featurize.split": {"by": "custmer"}}}, "split.by: source 'placed' has no column 'custmer'; did"),
        ({"features": "FEATURES = 3"}, r"features\.py has FEATURES as a int"),
        ({"features": "FEATURES = "}, r"features\.py cannot be imported: SyntaxError"),
        (
            {"features": FEATURES.replace('function="rate"', 'function="rat"')},
            "features.py cannot be imported: .*function",
        ),
        (
            {"features": FEATURES.replace('source="customers"', 'source="costumers"')},
            "'costumers'.*did you mean 'customers'",
        ),
        ({"features": FEATURES.replace('sql="price"', 'sql="prise"')}, 'features.py: price: .*"?prise"? not found'),
        ({"features": FEATURES.replace("30 minute", "2 hour")}, "known only after their prediction_time"),
        ({"features": IN_VIEW}, "known only after their prediction_time"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(project: Project, how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        featurize.run(project(**how))
    assert "\n" not in str(caught.value)


def one_source(features: str) -> tuple[dict[str, Any], str]:
    """Orders as one event source that is known at once, which is what a careless user declares."""
    plain = copy.deepcopy(RAW["ingest"]["sources"]["orders"])
    del plain["events"]
    changes = {"ingest.sources.orders": plain, "featurize.label": {"source": "orders", "column": "returned"}}
    return changes, features.replace('"placed"', '"orders"').replace('"settled"', '"orders"').replace(
        "30 minute", "0 minute"
    )


def test_a_row_does_not_show_its_own_label(project: Project) -> None:
    changes, features = one_source(FEATURES.replace('sql="price"', 'sql="returned"'))
    changes["featurize.exclude"] = ["rate_*", "last_secret"]
    with pytest.raises(UserError, match=r"features.py: price: .*returned"):
        featurize.run(project(changes, features=features))


def test_a_view_that_would_count_the_row_itself_is_refused(project: Project) -> None:
    changes, features = one_source(FEATURES)
    with pytest.raises(UserError, match="rows would be predicted from their own labels"):
        featurize.run(project(changes, features=features))


def test_a_source_cut_by_an_expression_that_sees_other_rows_is_refused(project: Project) -> None:
    column = "ingest.sources.orders.events.settled.columns.secret"
    with pytest.raises(UserError, match=r"source 'settled' .*secret: .* the window function lead"):
        featurize.run(project({column: "lead(secret) over (order by ordered)"}))
    with pytest.raises(UserError, match=r"source 'settled' \(params.yaml: ingest.sources.orders\): .*secrt"):
        featurize.run(project({column: "secrt"}))


def test_two_event_sources_of_one_name_are_refused(project: Project) -> None:
    twin = copy.deepcopy(RAW["ingest"]["sources"]["orders"])
    with pytest.raises(UserError, match="two event sources are called 'placed'"):
        featurize.run(project({"ingest.sources.others": twin}))


def test_expressions_of_the_params_see_no_file_of_the_machine(project: Project, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a\n1\n")
    from tasks.featurize.warehouse import open_warehouse

    context = project()
    validated = Validated.read(context.path(artifacts.VALIDATED))
    with open_warehouse(context.project, validated, context.params) as warehouse:
        with pytest.raises(Exception, match="disabled by configuration"):
            warehouse.connection.execute(f"select * from read_csv('{tmp_path / 'other.csv'}')").fetchall()
        with pytest.raises(Exception, match="locked"):
            warehouse.connection.execute("set enable_external_access = true")
