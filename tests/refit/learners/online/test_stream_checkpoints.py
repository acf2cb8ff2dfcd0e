"""A fit of a stream that is killed, and goes on from its checkpoint."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.learners import load, make
from refit.learners.networks.surroundings import checkpoints_in
from refit.learners.online.learner import Online
from tests.refit.learners.online.test_online import KINDS, learned, spec_of, stream

SLOWER: Mapping[str, Any] = {"params": {"learning_rate": 0.1}}


DRIVER = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from test_online import KINDS, learned, stream
from refit.files.artifacts import atomic_folder
from refit.learners.networks.surroundings import checkpoints_in
name, rows, scratch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
table, label = stream(rows, delay_hours=5)
learned(KINDS[name][1], table.slice(0, 60), label[:60])  # imports what it needs
print("ready", flush=True)
with checkpoints_in(scratch / "checkpoints", every_seconds=0.02):
    learner = learned(KINDS[name][1], table, label)
    with atomic_folder(scratch / "stored") as folder:
        learner.save(folder)
"""


@pytest.mark.parametrize(
    ("name", "rows", "kills", "seconds"),
    [
        pytest.param("linear", 6_000, 3, 0.4, marks=pytest.mark.slow),
        pytest.param("linear", 20_000, 20, 0.4, marks=pytest.mark.slow),
        pytest.param("partial_fit", 6_000, 20, 2.0, marks=pytest.mark.slow),
        pytest.param("forest of river, watched", 4_000, 20, 0.4, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_places_it_ends_with_the_same_model(
    name: str, rows: int, kills: int, seconds: float, tmp_path: Path
) -> None:
    if "river" in name:
        pytest.importorskip("river", reason="needs the extra [online]")
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(path=[str(Path(__file__).parent), *filter(None, sys.path)]))
    command, chance = [sys.executable, str(driver), name, str(rows), str(tmp_path)], random.Random(kills)
    killed, places = 0, set()
    while not (tmp_path / "stored").exists():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if killed < kills:
            time.sleep(chance.uniform(0.05, seconds))  # some checkpoints later
            process.send_signal(signal.SIGKILL)
            killed += 1
            places |= {json.loads(file.read_text())["rows"] for file in tmp_path.glob("checkpoints/*/pending.json")}
        assert process.wait() in (0, -signal.SIGKILL)
    table, label = stream(rows, delay_hours=5)
    undisturbed, stored = learned(KINDS[name][1], table, label), load(tmp_path / "stored")
    assert isinstance(stored, Online)
    assert len(places) > 1, "it went on from where it was killed, and did not begin again"
    assert stored.position.steps == rows
    assert stored.digest() == undisturbed.digest()
    assert stored.record == undisturbed.record
    assert np.array_equal(stored.predict(table), undisturbed.predict(table))


def test_a_checkpoint_of_other_rows_or_arguments_is_left_alone(tmp_path: Path) -> None:
    table, label = stream(300)
    with pytest.raises(KeyboardInterrupt), checkpoints_in(tmp_path / "here", every_seconds=0.0):
        _interrupted_at(250, table, label)
    assert list((tmp_path / "here").glob("online-*"))
    with checkpoints_in(tmp_path / "here", every_seconds=9.0):
        other = learned({}, table.slice(1), label[1:])
        slower = learned(SLOWER, table, label)
    assert other.digest() == learned({}, table.slice(1), label[1:]).digest()
    assert slower.digest() == learned(SLOWER, table, label).digest()


def test_a_stream_may_end_with_a_checkpoint(tmp_path: Path) -> None:
    table, label = stream(320)
    with checkpoints_in(tmp_path / "here", every_seconds=0.0):
        assert learned({}, table, label).digest() == learned({}, table, label).digest()


def _interrupted_at(row: int, table: pa.Table, label: Any) -> None:
    learner = Online(spec_of({}))._started(table)
    step, rows = learner.model.learn, iter(range(10**6))

    def learn(*given: Any) -> None:
        if next(rows) == row:
            raise KeyboardInterrupt
        step(*given)

    learner.model.learn = learn  # type: ignore[method-assign]
    learner._learn(table, label, print)


def left_by_a_killed_fit(folder: Path, table: pa.Table, label: Any) -> list[Path]:
    with pytest.raises(KeyboardInterrupt), checkpoints_in(folder, every_seconds=0.0):
        _interrupted_at(250, table, label)
    return sorted(folder.glob("online-*"))


@pytest.mark.parametrize("file", ["stream.json", "pending.json", "detectors.json"])
def test_a_checkpoint_that_cannot_be_read_is_a_warning_and_the_stream_starts_again(file: str, tmp_path: Path) -> None:
    table, label = stream(300)
    (left,) = left_by_a_killed_fit(tmp_path / "here", table, label)
    (left / file).write_text("{")
    said: list[str] = []
    learner = make(spec_of({}))
    with checkpoints_in(tmp_path / "here", every_seconds=9.0):
        learner.fit(table, label, progress=lambda what, *_: said.append(what))
    assert any("cannot be used" in each and each.endswith("the stream starts again") for each in said)
    assert learner.digest() == learned({}, table, label).digest()


def test_a_checkpoint_of_rows_of_other_times_or_of_other_libraries_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, label = stream(300)
    later, _ = stream(300, first=1)  # the same rows, an hour later
    undisturbed = learned({}, later, label)
    left_by_a_killed_fit(tmp_path / "here", table, label)
    with checkpoints_in(tmp_path / "here", every_seconds=9.0):
        assert learned({}, later, label).digest() == undisturbed.digest()
    of_these = left_by_a_killed_fit(tmp_path / "there", table, label)
    monkeypatch.setattr("refit.learners.online.checkpoint.version", lambda name: "0.1")
    assert len(left_by_a_killed_fit(tmp_path / "there", table, label)) == len(of_these) + 1


def test_a_full_disk_costs_the_checkpoints_alone(tmp_path: Path) -> None:
    table, label = stream(300)
    undisturbed, said = learned({}, table, label), []
    learner = make(spec_of({}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with checkpoints_in(tmp_path / "here", every_seconds=0.0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            learner.fit(table, label, progress=lambda what, *_: said.append(what))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert any(each.startswith("warning: no checkpoint of the stream (") for each in said)
    assert learner.digest() == undisturbed.digest()
