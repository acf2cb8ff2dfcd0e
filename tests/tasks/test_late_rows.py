"""A stream learns each row once, also those whose labels came while validation had begun."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from quick import quick

from refit.config import override, parse
from refit.errors import UserError
from refit.files import artifacts
from refit.learners import load
from refit.learners.online.learner import Online
from refit.runtime.context import Context
from refit.schemas.feature_table import FeatureTable
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from tasks import featurize, train
from tests.tasks.orders import FEATURES, RAW, orders, write_batches

STREAM = {"name": "stream", "kind": "online"}
WINDOWS = ("train", "validation", "test")


def context_of(folder: Path, as_of: str, **changes: Any) -> Context:
    """A project whose features are made as of a time; its learner reads a stream."""
    folder.mkdir(exist_ok=True)
    (folder / "features.py").write_text(FEATURES)
    write_batches(folder, orders(), as_of)
    named = {"train.learners": [STREAM], "featurize.label.keep_late": True}
    named |= {path.replace("__", "."): value for path, value in changes.items()}
    context = Context(folder, parse(override(copy.deepcopy(RAW), named)))
    featurize.run(context)
    return context


def stream_of(context: Context) -> Online:
    """What `train` leaves, after a check that no labelled row before its end is missing."""
    train.run(context)
    stream = load(context.path(artifacts.CANDIDATE))
    assert isinstance(stream, Online)
    end = stream.position.until
    assert end is not None
    times = [row["ordered"] for row in orders() if row["returned"] is not None]
    assert stream.position.steps == sum(time <= end.replace(tzinfo=None) for time in times)
    return stream


@pytest.mark.ci
@pytest.mark.parametrize("delay", quick([48, 240, 480]))
def test_each_run_learns_every_row_once(delay: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"featurize__label__delay_hours": delay, "train__warm_start": "champion"}
    first = context_of(tmp_path / "project", "2019-08-31T23:00:00Z", **changes)
    WarmStart().write(first.path(artifacts.WARM_START))
    before = stream_of(first)
    learned = Training.read(first.path(artifacts.TRAINING))
    assert learned.refit_rows == before.position.steps
    shutil.copytree(first.path(artifacts.CANDIDATE), tmp_path / "project/before")
    shutil.rmtree(tmp_path / "project/data")
    second = context_of(tmp_path / "project", "2019-12-31T23:00:00Z", **changes)
    start = {"version": "1", "model_digest": learned.model_digest, "seen_until": learned.seen_until, "folder": "before"}
    WarmStart(**start).write(second.path(artifacts.WARM_START))
    after = stream_of(second)
    learned = Training.read(second.path(artifacts.TRAINING))
    assert learned.refit_rows == after.position.steps - before.position.steps > 300


def test_no_figure_of_the_windows_changes(tmp_path: Path) -> None:
    tables, described = [], []
    for keep in (True, False):
        context = context_of(tmp_path / str(keep), "2019-12-31T23:00:00Z", featurize__label__keep_late=keep)
        table = pq.read_table(context.path(artifacts.TABLE))
        late = table.filter(pc.equal(table["window"], "train late"))
        assert bool(len(late)) == keep
        tables.append(table.filter(pc.is_in(table["window"], pa.array(WINDOWS))))
        described.append(FeatureTable.read(context.path(artifacts.FEATURE_SET)))
    assert tables[0].equals(tables[1])
    assert described[0].numeric == described[1].numeric


def test_without_them_a_stream_is_refused_before_it_is_read(tmp_path: Path) -> None:
    context = context_of(tmp_path / "project", "2019-12-31T23:00:00Z", featurize__label__keep_late=False)
    WarmStart().write(context.path(artifacts.WARM_START))
    with pytest.raises(UserError, match=r"would never learn those whose .*: set featurize\.label\.keep_late: true"):
        train.run(context)


@pytest.mark.slow
def test_other_learners_never_see_them(tmp_path: Path) -> None:
    logistic = {"name": "it", "kind": "sklearn.linear_model.LogisticRegression", "exclude": ["shop"]}
    digests = []
    for keep in (True, False):
        changes: dict[str, Any] = {"train__learners": [logistic], "featurize__label__keep_late": keep}
        context = context_of(tmp_path / str(keep), "2019-12-31T23:00:00Z", **changes)
        WarmStart().write(context.path(artifacts.WARM_START))
        train.run(context)
        digests.append(Training.read(context.path(artifacts.TRAINING)).model_digest)
    assert digests[0] == digests[1]
