"""Features that other models compute: each row by the version of its time, from the row's own features."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.definition import Expression, FeatureSet, ModelFeature, ModelVersion, ModelView, Spine
from refit import learners
from refit.errors import RefitError, UserError
from refit.learners import Learner, Spec
from tasks.featurize.model_features import with_models

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 12


def moment(day: float) -> datetime:
    return START + timedelta(days=day)


def rows(days: list[float]) -> pa.Table:
    random = np.random.default_rng(0)
    times = [moment(day).replace(tzinfo=None) for day in days]
    return pa.table(
        {
            "id": list(range(len(days))),
            "prediction_time": pa.array(times, pa.timestamp("us")),
            "east": random.normal(size=len(days)),
            "y": random.normal(size=len(days)),
        }
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Learner, Path]]:
    """Three clusterings, each of other rows, as they are stored."""
    home, made = tmp_path_factory.mktemp("groups"), {}
    for number in (1, 2, 3):
        random = np.random.default_rng(number)
        points = random.normal(size=(60, 2)) + 4.0 * number * random.integers(0, 2, (60, 1))
        kind = "sklearn.cluster.KMeans"
        spec = Spec("k", kind, ("x", "y"), task="clustering", metric="silhouette", params={"n_clusters": 2})
        learner = learners.make(spec)
        learner.fit(pa.table({"x": points[:, 0], "y": points[:, 1]}), np.zeros(60, np.int64))
        folder = home / str(number)
        folder.mkdir()
        learner.save(folder)
        made[str(number)] = learner, folder
    return made


@pytest.fixture(scope="module")
def view(fitted: Any) -> Callable[..., ModelView]:
    def make(since: list[float], columns: tuple[str, ...] = ("prediction", "distance"), **inputs: str) -> ModelView:
        versions = tuple(
            ModelVersion(
                since=moment(day), version=str(number), model_digest=fitted[str(number)][0].digest(), manifest="0" * 64
            )
            for number, day in enumerate(since, start=1)
        )
        features = tuple(ModelFeature(name=f"groups_{column}", column=column) for column in columns)
        return ModelView(name="groups", features=features, inputs=inputs or {"x": "east"}, versions=versions)

    return make


@pytest.fixture(scope="module")
def find(fitted: Any) -> Callable[[str, ModelVersion], Path]:
    return lambda model, version: fitted[version.version][1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    since=st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True).map(sorted),
    days=st.lists(st.integers(-2, 10), max_size=ROWS),
)
def test_no_row_is_seen_by_a_version_of_a_later_time(
    since: list[float], days: list[float], fitted: Any, view: Any, find: Any
) -> None:
    """Compared with a plain loop over the rows: the newest version that counted by the row's prediction, or none."""
    table = rows(days)
    computed = with_models(table, (view(since),), find, ()).to_pylist()
    for day, row, result in zip(days, table.to_pylist(), computed, strict=True):
        number = max((number for number, start in enumerate(since, start=1) if start <= day), default=None)
        if number is None:
            assert (result["groups_prediction"], result["groups_distance"]) == (None, None)
            continue
        learner: Learner = fitted[str(number)][0]
        [expected] = learner.predict(pa.table({"x": [row["east"]], "y": [row["y"]]}))
        assert result["groups_distance"] == pytest.approx(expected[3], rel=1e-12)
        assert result["groups_prediction"] == f"segment {expected[0]:.0f}"
        assert {name: result[name] for name in row} == row


def test_the_types_of_columns_do_not_depend_on_the_rows(view: Any, find: Any) -> None:
    kinds = [
        [str(field.type) for field in with_models(rows(days), (view([5.0]),), find, ()).schema][-2:]
        for days in ([], [0.0], [6.0])
    ]
    assert kinds == [["string", "double"]] * 3


def test_a_model_takes_columns_of_one_that_is_named_before_it(view: Any, find: Any) -> None:
    first = view([0.0], ("distance",))
    second = view([0.0], ("segment",), x="groups_distance", y="y").model_copy(update={"name": "second"})
    table = with_models(rows([1.0, 2.0]), (first, second), find, ())
    assert table.column_names[-2:] == ["groups_distance", "groups_segment"]
    with pytest.raises(UserError, match="no feature 'groups_distance' here"):
        with_models(rows([1.0, 2.0]), (second, first), find, ())


@pytest.mark.parametrize(
    ("columns", "inputs", "what"),
    [
        (("segment",), {"x": "eest"}, "version 1 of groups needs 'x', and there is no feature 'eest' here; did you"),
        (("segment",), {"y": "y"}, "needs 'x', .* no feature 'x' here; name the one that it is as inputs: {x: FEAT"),
        (("segment",), {"x": "east", "z": "y"}, "version 1 of groups has no feature 'z'; it has x, y"),
        (("distence",), {"x": "east"}, "has no column 'distence'; did you mean 'distance'.; it has prediction, segm"),
    ],
)
def test_what_does_not_fit_the_model_is_one_line(
    columns: tuple[str, ...], inputs: dict[str, str], what: str, view: Any, find: Any
) -> None:
    with pytest.raises(UserError, match=what) as caught:
        with_models(rows([1.0]), (view([0.0], columns, **inputs),), find, ())
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_the_recorded_one_is_refused(view: Any, fitted: Any) -> None:
    with pytest.raises(RefitError, match=r"version 1 of groups was altered: its model was .* and is "):
        with_models(rows([1.0]), (view([0.0]),), lambda *_: fitted["2"][1], ())


def test_a_feature_set_without_models_is_stored_as_before() -> None:
    spine = Spine(source="a", key="id", features=(Expression(name="x", sql="x"),))
    assert "models" not in FeatureSet(spine=spine).model_dump(mode="json")


def test_models_are_features_like_others_and_can_be_left_out(view: Any) -> None:
    spine = Spine(source="a", key="id", features=(Expression(name="x", sql="x"),))
    features = FeatureSet(spine=spine, models=(view([0.0]),))
    assert features.names() == ["x", "groups_prediction", "groups_distance"]
    assert features.origins() == {"groups_prediction": "groups", "groups_distance": "groups"}
    assert features.without(["*_distance"]).names() == ["x", "groups_prediction"]
    assert features.without(["groups_*"]) == FeatureSet(spine=spine)
    assert FeatureSet.model_validate_json(features.model_dump_json()) == features


def test_a_version_without_a_row_is_not_needed(view: Any, find: Any) -> None:
    """The newest one may be deleted, or out of reach, while no row is of its time."""

    def only_the_first(model: str, version: ModelVersion) -> Path:
        assert version.version == "1"
        return find(model, version)

    table = with_models(rows([1.0, 2.0]), (view([0.0, 5.0]),), only_the_first, ())
    assert table["groups_prediction"].null_count == 0
