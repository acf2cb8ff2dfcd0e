"""The learner under test, in this process and in a fresh process that refuses pickles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners import Floats, Learner, Spec, make
from refit.learners.conformance.sample import SEEN_ROWS, TRAIN_ROWS, Rows, sample


class Broken(Exception):
    """A rule is broken; the message states in one sentence what was done and what happened."""


class NotApplicable(Exception):
    """The rule does not apply to this learner; the message states why."""


class Subject:
    """One learner under test, with rows to fit; what several rules need is fitted once."""

    def __init__(self, spec: Spec) -> None:
        self.train = sample(spec.task, TRAIN_ROWS, seed=1)
        self.seen = sample(spec.task, SEEN_ROWS, seed=2)
        self.spec = replace(spec, classes=self.train.classes)

    def fit(self, rows: Rows | None = None, **changes: Any) -> Learner:
        """Fit a new learner, to the training rows by default."""
        rows_to_fit = self.train if rows is None else rows
        learner = make(replace(self.spec, **changes))
        learner.fit(rows_to_fit.table, rows_to_fit.label)
        return learner

    @cached_property
    def fitted(self) -> Learner:
        return self.fit()

    @cached_property
    def predicted(self) -> Floats:
        return self.fitted.predict(self.seen.table)

    @cached_property
    def fresh_process(self) -> Mapping[str, object]:
        """The report of a fresh process that loads the stored learner."""
        load_in_fresh_process([self])
        return self.fresh_process


def load_in_fresh_process(subjects: Sequence[Subject]) -> None:
    """Store the learners and let one fresh process, which refuses pickles, load each and fit it again.

    Raises:
        Broken: the process failed; the message has its last line of output.
    """
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as scratch:
        for index, subject in enumerate(subjects):
            folder = Path(scratch, f"{index:03d}")
            (folder / "stored").mkdir(parents=True)
            subject.fitted.save(folder / "stored")
            pq.write_table(subject.train.table.append_column("label", [subject.train.label]), folder / "train.parquet")
            pq.write_table(subject.seen.table, folder / "seen.parquet")
            (folder / "trusted.json").write_text(json.dumps(subject.spec.trusted_types))
            if start := subject.spec.start:
                (folder / "start.json").write_text(json.dumps({**asdict(start), "folder": str(start.folder)}))
        search_path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONPATH": search_path, "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu"}
        command = [sys.executable, "-P", "-m", "refit.learners.conformance", scratch]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise Broken(f"a fresh process cannot load it: {last}")
    for subject, report in zip(subjects, json.loads(done.stdout.splitlines()[-1]), strict=True):
        subject.__dict__["fresh_process"] = report  # where `cached_property` stores its value


def bits(values: NDArray[np.float64]) -> list[str]:
    """Numbers as exact hexadecimal texts."""
    return [float(value).hex() for value in np.ravel(values)]
