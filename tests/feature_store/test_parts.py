"""Features that are computed in parts, by whatever rule the rows are divided, are those that are computed at once."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pyarrow as pa
import pytest
from quick import quick

from feature_store import Age, Aggregate, DefinitionError, Expression, FeatureSet, FeatureView, Latest, Sequence, Spine
from feature_store import parts as store_parts
from feature_store.parts import FeaturePart, Stream, compute_part, in_order, write_inputs
from tests.feature_store.conftest import Store

ROWS = 400


def filled(store: Store) -> Store:
    chance = random.Random(3)

    def row(key: int) -> dict[str, object]:
        time = store.at(60 * key + chance.randrange(-500, 500))
        who = f"w{chance.randrange(9)}" if chance.random() > 0.05 else None
        return {"key": key, "who": who, "place": chance.randrange(4), "event_time": time, "available_at": time}

    store.spine([row(key) for key in range(ROWS)])
    store.events([{**row(key), "value": chance.random() * 10, "flag": key % 3 == 0} for key in range(3 * ROWS)])
    store.connection.execute("alter table events add column odd bigint; update events set odd = place")
    return store


def view(name: str, *entity: str) -> FeatureView:
    return FeatureView(
        name=name,
        source="events",
        entity=entity,
        features=(
            Aggregate(name=f"{name}_mean", function="mean", column="value", windows=("2d", "30d")),
            Aggregate(name=f"{name}_std", function="std", column="value", windows=("30d",)),
            Latest(name=f"{name}_last", column="value"),
            Age(name=f"{name}_age", max_age="60d"),
        ),
    )


def features(*views: FeatureView, **spine: object) -> FeatureSet:
    row = (Expression(name="wide", sql="place::hugeint * 2"), Expression(name="name", sql="who || '!'"))
    return FeatureSet(spine=Spine(source="spine", key="key", features=row, **spine), views=views)


STEPS = FeatureView(
    name="steps", source="events", entity=("who",), features=(Sequence(name="s", columns=("value",), last=3),)
)
SETS = {
    "one entity": features(view("who", "who"), STEPS),
    "several": features(view("who", "who"), view("where", "place"), view("all")),
    "computed entity": features(view("odd", "odd"), entities={"odd": "key % 5"}),
    "no view": features(),
}


def divided(store: Store, feature_set: FeatureSet, folder: Path, count: int) -> list[FeaturePart]:
    known = {"spine": "spine", "events": "events"}
    tables = write_inputs(store.connection, feature_set, "spine", known, folder, rows=ROWS, parts=count)
    moment = store.at(6_000_000).replace(tzinfo=UTC)
    return [FeaturePart(number, folder, feature_set, tables, moment, threads=1) for number in range(count)]


@pytest.mark.parametrize("kind", quick(SETS, 0, 1))
def test_parts_in_any_order_give_the_same_table(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    at_once = filled(store).features(SETS[kind])
    parts = divided(store, SETS[kind], tmp_path, 3)
    counts = [compute_part(part) for part in reversed(parts)]
    before = parts[1].output.read_bytes()
    compute_part(parts[1])  # once more, as after its process was killed
    assert parts[1].output.read_bytes() == before
    assert sum(counts) == ROWS
    assert min(counts) > 0
    for together in (ROWS, 7):
        monkeypatch.setattr(store_parts, "TOGETHER", together)
        assert pa.concat_tables(in_order([Stream.of_file(part.output) for part in parts], ROWS)).equals(at_once)
    assert not [*tmp_path.glob(".*")]


def test_each_event_is_read_for_one_part_where_all_views_have_one_entity(store: Store, tmp_path: Path) -> None:
    divided(filled(store), SETS["one entity"], tmp_path, 3)
    store.connection.execute(f"attach '{tmp_path / store_parts.INPUTS}' as inputs (read_only)")
    query = f"select count(distinct {store_parts._PART}) from inputs.rows group by who"
    assert {count for (count,) in store.connection.execute(query).fetchall()} == {1}


def test_a_part_that_fails_leaves_no_file_under_a_final_name(store: Store, tmp_path: Path) -> None:
    [part] = divided(filled(store), SETS["several"], tmp_path, 1)
    wrong = view("who", "who").model_copy(update={"features": (Latest(name="x", column="no_such"),)})
    with pytest.raises(DefinitionError, match="no_such"):
        compute_part(replace(part, feature_set=features(wrong)))
    assert not [*tmp_path.glob("*part-*")]


def test_a_part_reads_no_other_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.csv").write_text("value\n1\n")
    [part] = divided(filled(store), SETS["several"], tmp_path / "inside", 1)
    elsewhere = replace(part, sources={**part.sources, "events": f"read_csv('{tmp_path}/secret.csv')"})
    with pytest.raises(Exception, match="file system operations are disabled"):
        compute_part(elsewhere)
