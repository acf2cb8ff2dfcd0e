"""A replayed model sees other projects' models as a registered one does: by the versions of its own moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store.definition import ModelFeature, ModelVersion, ModelView
from refit import learners
from refit.errors import UserError
from refit.learners import Spec
from refit.operations.replay.history import FeaturesOfModels, History
from tasks.featurize.model_features import with_models

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 8


def moment(day: float) -> datetime:
    return START + timedelta(days=day)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A row a day; the other model's version 1 counts from day 1 on, version 2 from day 4."""
    home, versions = tmp_path_factory.mktemp("groups"), []
    for number, day in ((1, 1), (2, 4)):
        points = np.random.default_rng(number).normal(size=(60, 1)) + 9.0 * number * (np.arange(60)[:, None] % 2)
        spec = Spec(
            "k", "sklearn.cluster.KMeans", ("x",), task="clustering", metric="silhouette", params={"n_clusters": 2}
        )
        learner = learners.make(spec)
        learner.fit(pa.table({"x": points[:, 0]}), np.zeros(60, np.int64))
        (home / str(number)).mkdir()
        learner.save(home / str(number))
        versions.append(
            ModelVersion(since=moment(day), version=str(number), model_digest=learner.digest(), manifest="0" * 64)
        )
    features = (ModelFeature(name="groups_distance", column="distance"),)
    view = ModelView(name="groups", features=features, versions=tuple(versions))

    def find(model: str, version: ModelVersion) -> Path:
        return home / version.version

    times = [moment(day + 0.5).replace(tzinfo=None) for day in range(DAYS)]
    rows = pa.table({"prediction_time": pa.array(times, pa.timestamp("us")), "x": np.arange(DAYS, dtype=float)})
    nothing: Any = None
    at = rows["prediction_time"].to_numpy()
    return History(
        table=with_models(rows, (view,), find, ()),
        label=np.zeros(DAYS),
        known_at=at,
        event_time=at,
        prediction_time=at,
        days=at,
        features=nothing,
        problem=nothing,
        digest="",
        models=FeaturesOfModels((view,), find, ()),
    )


def distances(table: pa.Table) -> list[float]:
    values: list[float] = table["groups_distance"].to_pylist()
    return values


def test_a_version_that_became_champion_later_computes_nothing_for_a_model_of_an_earlier_moment(
    history: History,
) -> None:
    every = distances(history.table)
    of_version_1 = distances(history.seen_by(moment(3), 0))
    assert of_version_1[:4] == every[:4]
    assert all(mine != later for mine, later in zip(of_version_1[4:], every[4:], strict=True))


def test_a_model_of_a_later_moment_sees_every_version(history: History) -> None:
    assert history.seen_by(moment(4), 2).equals(history.table.slice(2))


def test_there_is_no_training_before_the_other_model_had_a_champion(history: History) -> None:
    with pytest.raises(UserError, match="groups had no champion by 2024-01-01T12:00"):
        history.seen_by(moment(0.5), 0)
