"""The stage `featurize` on a small project: two years of orders, of which we want to know whether they come back."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.compute as pc
import pytest

from refit.errors import RefitError
from refit.files import artifacts
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_table import FeatureTable
from tasks import featurize
from tasks.featurize.profile import read_profile
from tests.tasks.orders import FEATURES, RAW, Project, described, orders, projects_in, table_of


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects_in(tmp_path)


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


@pytest.mark.ci
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
