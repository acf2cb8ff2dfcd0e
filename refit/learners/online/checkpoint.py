"""What a fit of a stream has learned so far, written while it learns, for a process that is killed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import RefitError, first_line
from refit.files.artifacts import atomic_folder, digest, read_json
from refit.learners.contract import Floats
from refit.learners.networks.surroundings import say_resumed, surroundings
from refit.runtime.context import Progress, silent
from refit.schemas.online_state import PendingPredictions

Storing = Callable[[Path], None]
PENDING = "pending.json"
COST = 10  # times what a checkpoint took to write pass before the next
LIBRARIES = ("numpy", "river", "scikit-learn")  # other versions may learn something else from the same rows


class StreamCheckpoint:
    """What a fit has learned so far, in a folder named by everything that determines the fit."""

    def __init__(
        self, learner: str, save: Storing, load: Storing, folder: Path, every_seconds: float, progress: Progress
    ) -> None:
        self._learner, self._save, self._load, self._folder, self._every = learner, save, load, folder, every_seconds
        self._progress, self._written, self._took = progress, time.monotonic(), 0.0

    @classmethod
    def of(
        cls,
        learner: str,
        described: Mapping[str, object],
        rows: Iterable[NDArray[Any] | None],
        *,
        save: Storing,
        load: Storing,
        progress: Progress = silent,
    ) -> StreamCheckpoint | None:
        """The checkpoint of a fit; None where the fit has no folder for one.

        Args:
            learner: its name, for messages.
            described: what determines the fit, in addition to its rows and the versions of libraries.
            rows: arrays of all that is read of the rows: features, labels, times.
            save: writes the learner's state to a folder.
            load: takes over the state from there, or raises an error and changes nothing.
        """
        around = surroundings.get()
        if around.checkpoints is None:
            return None
        hasher = hashlib.sha256()
        for each in rows:
            hasher.update(b"none" if each is None else f"{each.dtype}{each.shape}".encode())
            hasher.update(b"" if each is None else np.ascontiguousarray(each).tobytes())
        identity = digest({**described, "rows": hasher.hexdigest(), "libraries": _versions()})
        folder = around.checkpoints / f"online-{identity[:32]}"
        return cls(learner, save, load, folder, around.every_seconds, progress)

    def restore(self, predicted: Floats) -> int:
        """Go on from what a killed process left, if it left anything; returns how many rows are learned.

        What cannot be used is a warning, and the stream is learned from its start.
        """
        if not self._folder.is_dir():
            return 0
        try:
            pending = PendingPredictions.parse(read_json(self._folder / PENDING), PENDING)
            indices = np.asarray(pending.indices, dtype=np.int64)
            values = np.asarray(pending.predicted, dtype=np.float64).reshape(predicted[indices].shape)
            self._load(self._folder)
        except (RefitError, OSError, LookupError, ValueError) as error:
            self._progress(f"warning: {self._folder} cannot be used ({first_line(error)}); the stream starts again")
            return 0
        predicted[indices] = values
        reached = None if pending.rows == len(predicted) else f"row {pending.rows:,} of {len(predicted):,}"
        say_resumed(self._progress, self._learner, reached, self._folder / PENDING)
        return pending.rows

    def write(self, predicted: Floats, rows: int) -> None:
        """Write the state, unless the last one is younger than `every_seconds`, or than ten times what it took.

        A full disk is only a warning.
        """
        started = time.monotonic()
        if started - self._written < max(self._every, COST * self._took):
            return
        pending = predicted[rows:]
        indices = rows + np.flatnonzero(~np.isnan(pending if pending.ndim == 1 else pending[:, 0]))
        values = predicted[indices].tolist()
        try:
            with atomic_folder(self._folder) as scratch:
                self._save(scratch)
                PendingPredictions(
                    rows=rows,
                    indices=tuple(indices.tolist()),
                    predicted=tuple(tuple(each) if isinstance(each, list) else each for each in values),
                ).write(scratch / PENDING)
        except (OSError, RefitError) as error:
            self._progress(f"warning: no checkpoint of the stream ({first_line(error)}); it is learned without one")
        self._written = time.monotonic()
        self._took = self._written - started


def _versions() -> dict[str, str]:
    """The installed versions of what learns."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # of an extra
            continue
    return versions
