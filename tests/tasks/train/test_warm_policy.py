"""A warm start of a policy: what was best on the newest episodes is the candidate, without a second training."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit import config, learners
from refit.learners import Spec
from refit.runtime.context import Context
from refit.schemas.warm_start import WarmStart
from tasks.train import warm
from tasks.train.folds import LabelledRows

pytest.importorskip("stable_baselines3", reason="needs the extra [rl]")

QUICK = {"algorithm": "ppo", "steps": 256, "hidden": [8], "n_steps": 64, "batch_size": 32}
PROBLEM = {"environment": "CartPole-v1", "time_limit": 50}
RAW = {
    "project": {"name": "poles"},
    "ingest": {
        "sources": {
            "episodes": {
                "kind": "files",
                "path": "a.csv",
                "columns": {"id": "integer", "at": "timestamp", "seed": "integer"},
                "key": ["id"],
                "event_time": "at",
            }
        }
    },
    "featurize": {"label": {"source": "episodes", "delay_hours": 0}},
    "train": {
        "task": "reinforcement",
        "warm_start": "champion",
        "problem": PROBLEM,
        "learners": [{"name": "ppo", "kind": "policy", "params": QUICK}],
    },
    "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.5}},
}


def episodes(start: datetime, count: int) -> LabelledRows:
    times = np.datetime64(start.replace(tzinfo=None), "us") + np.arange(count) * np.timedelta64(1, "h")
    seeds = np.random.default_rng(count).integers(0, 10_000, count)
    return LabelledRows(pa.table({"event_time": pa.array(times), "seed": seeds}), np.zeros(count, np.int64))


@pytest.mark.slow
def test_the_best_of_the_checks_is_the_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained_again(*_: object, **named: object) -> None:
        raise AssertionError("a second training would end in another policy")

    monkeypatch.setattr(warm, "fit_rows", trained_again)
    spec = Spec(
        "ppo",
        "policy",
        ("seed",),
        params=QUICK,
        metric="mean_return",
        task="reinforcement",
        options=PROBLEM,
    )
    champion = learners.make(spec)
    old, new = episodes(datetime(2024, 1, 1, tzinfo=UTC), 60), episodes(datetime(2024, 2, 1, tzinfo=UTC), 300)
    champion.fit(old.rows, old.label)
    (tmp_path / "champion").mkdir()
    champion.save(tmp_path / "champion")
    context = Context(project=tmp_path, params=config.parse(RAW))
    start = WarmStart(
        version="1", model_digest=champion.digest(), seen_until=datetime(2024, 1, 15, tzinfo=UTC), folder="champion"
    )
    trained = warm.go_on(context, [spec], start, old, new, opens=None)
    assert trained.learner.digest() == trained.best.learner.digest()
    assert trained.rows == 300 - len(trained.unseen) == 240, "the new rows, without those that it is checked on"
    held_back = trained.unseen.rows
    assert trained.learner.predict(held_back).mean() >= champion.predict(held_back).mean()
