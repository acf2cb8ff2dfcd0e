"""A search for the arguments of a tree that takes a moment, by this process or by one that kills itself."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
from optuna.trial import FrozenTrial
from sqlalchemy import Engine, event

from refit.config.train import SearchParams, TuningParams
from refit.learners import Spec
from refit.schemas.training import TuningReport
from registry.store import Store
from tasks.train.folds import Development, Fold, LabelledRows
from tasks.train.search_space import Search
from tasks.train.tuning import tune

TREE = "sklearn.tree.DecisionTreeClassifier"
SPACE = {
    "max_depth": SearchParams(low=1, high=12),
    "min_samples_leaf": SearchParams(low=1, high=64, log=True),
    "criterion": SearchParams(choices=("gini", "entropy")),
}


def rows(count: int = 400, folds: int = 4) -> Development:
    random = np.random.default_rng(7)
    x = random.normal(size=(count, 4))
    label = (x[:, 0] + x[:, 1] * (x[:, 2] > 0) + random.normal(scale=0.7, size=count) > 0).astype(np.int64)
    times = np.datetime64("2024-01-01", "us") + np.arange(count).astype("timedelta64[h]")
    table = pa.table({"event_time": times} | {f"x{i}": x[:, i] for i in range(4)})
    parts = np.array_split(np.random.default_rng(1).permutation(count), folds)
    cut = tuple(Fold(np.setdiff1d(np.arange(count), part), np.sort(part)) for part in parts)
    return Development(LabelledRows(table, label), cut)


def spec(kind: str = TREE, **params: Any) -> Spec:
    return Spec("tree", kind, ("x0", "x1", "x2", "x3"), params=params)


def search(space: dict[str, SearchParams] | None = None, **asked: Any) -> Search:
    return Search(space or SPACE, TuningParams(**{"trials": 14, **asked}), "roc_auc")


def tried(found: TuningReport) -> list[tuple[Any, ...]]:
    """All of a search but how long it took."""
    return [(each.params, each.steps, each.state) for each in found.trials]


def shared_by(database: str) -> Store:
    """The registry of a team whose ledger is in a database."""
    return Store("http://nowhere", Path("nowhere"), database, "toy")


def search_until_killed(folder: Path, database: str, *, stored: int) -> None:
    """Search in a process that kills itself while it stores the trial after so many: half of it is written."""
    inserted = itertools.count()

    @event.listens_for(Engine, "before_cursor_execute")
    def kill(connection: object, cursor: object, statement: str, *others: object) -> None:
        if "INSERT INTO trial_user_attributes" in statement and next(inserted) == stored:
            os.kill(os.getpid(), signal.SIGKILL)

    tune(spec(), search(), rows(), folder, shared=shared_by(database))


def search_at_once(folder: Path, database: str) -> None:
    """Search as `slowly` does, and write what was found; begins when a line is read from standard input."""
    tune(spec(), search(trials=1), rows(), folder / "before")  # imports take longer than the search
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with slowly():
        _, found = tune(spec(), search(), rows(), folder, shared=shared_by(database))
    (folder / "found.json").write_text(json.dumps(found.to_json()))


@contextmanager
def slowly() -> Iterator[None]:
    """Take long between counting which trials are stored and storing the next, so that two searches meet there."""
    real = optuna.Study.add_trials

    def add_trials(self: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
        time.sleep(0.1)
        real(self, trials)

    optuna.Study.add_trials = add_trials  # type: ignore[method-assign]
    try:
        yield
    finally:
        optuna.Study.add_trials = real  # type: ignore[method-assign]
