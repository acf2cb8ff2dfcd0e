"""The example of a stream: what it reaches on the public file, and the same model however often it is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from driving import drive

from flows.run_options import RunOptions
from flows.session import session
from refit.files.artifacts import CANDIDATE, CHECKPOINTS, EVALUATION, TABLE, TRAINING, read_json
from refit.learners import load
from tasks.stages import run_remembered

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHARED = Path(os.environ.get("REFIT_SHARED_DATA", EXAMPLES.parent.parent / "shared/data"))
KILLS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "elec2").is_dir(), reason="REFIT_SHARED_DATA has no elec2"),
]


@pytest.fixture
def project(example: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("river", reason="needs the extra [online]")
    monkeypatch.setenv("REFIT_SHARED_DATA", str(SHARED.resolve()))
    return example("electricity")


def test_it_beats_no_change_and_goes_on_with_new_rows_alone(project: Path) -> None:
    first = drive(project, as_of="1998-09-01")
    assert first["model"]["alias"] == "champion"
    learned = read_json(project / TRAINING)["refit_rows"]
    second = drive(project)
    assert second["model"]["alias"] == "challenger", "as README.md says: the gain of one month is not certain"
    training, stream = read_json(project / TRAINING), read_json(project / EVALUATION)["prequential"]
    assert training["started_from"]["version"] == "1"
    position = load(project / CANDIDATE).position  # type: ignore[attr-defined]
    half_hours = (position.until - datetime(1996, 5, 7, tzinfo=UTC)) // timedelta(minutes=30)  # line 1 is the header
    assert position.steps == half_hours == learned + training["refit_rows"], "each row once"
    assert stream["learned_steps"] == position.steps
    assert stream["learned_steps"] + stream["test_steps"] > 45_000
    assert abs(stream["whole"]["no_change"] - 0.8533) < 0.001
    assert stream["whole"]["prequential"] >= 0.87
    assert stream["test"]["prequential"] > stream["test"]["candidate"] > stream["test"]["champion"]


def test_killed_at_20_random_places_it_gives_the_same_predictions(project: Path) -> None:
    with session(project, RunOptions(as_of="1998-09-01")) as run:
        for stage in ("ingest", "validate", "featurize", "train"):
            run_remembered(stage, run.context())
    undisturbed, rows = load(project / CANDIDATE), pq.read_table(project / TABLE)
    predicted = undisturbed.predict(rows)
    command, chance = [sys.executable, "-u", "-m", "refit", "stage", "train"], random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        assert any("fitting stream" in line for line in process.stdout), "it was killed before it began"
        time.sleep(chance.uniform(0.0, 2.0))
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert list((project / CHECKPOINTS).glob("online-*"))
    subprocess.run(command, cwd=project, check=True)
    again = load(project / CANDIDATE)
    assert again.digest() == undisturbed.digest()
    assert np.array_equal(again.predict(rows), predicted)
