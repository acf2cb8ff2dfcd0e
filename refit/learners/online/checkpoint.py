"""What a fit of a stream has learned so far, written while it learns, for a process that is killed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refit.errors import RefitError, first_line
from refit.files.artifacts import atomic_folder, digest, read_json
from refit.learners.contract import Floats
from refit.learners.networks.surroundings import surroundings
from refit.schemas.online_state import PendingPredictions

Storing = Callable[[Path], None]
PENDING = "pending.json"
COST = 10  # times what a checkpoint took to write pass before the next


class StreamCheckpoint:
    """What a fit has learned so far, in a folder named by everything that determines the fit."""

    def __init__(self, save: Storing, load: Storing, folder: Path, every_seconds: float) -> None:
        self._save, self._load, self._folder, self._every = save, load, folder, every_seconds
        self._written, self._took = time.monotonic(), 0.0

    @classmethod
    def of(
        cls,
        described: Mapping[str, object],
        matrix: Floats,
        label: Floats,
        before: NDArray[np.int64],
        *,
        save: Storing,
        load: Storing,
    ) -> StreamCheckpoint | None:
        """The checkpoint of a fit; None where the fit has no folder for one.

        Args:
            described: what determines the fit, in addition to its rows.
            save: writes the learner's state to a folder; `load` reads it from there.
        """
        around = surroundings.get()
        if around.checkpoints is None:
            return None
        rows = hashlib.sha256(np.ascontiguousarray(matrix).tobytes() + label.tobytes() + before.tobytes())
        identity = digest({**described, "rows": rows.hexdigest()})
        return cls(save, load, around.checkpoints / f"online-{identity[:32]}", around.every_seconds)

    def restore(self, predicted: Floats) -> int:
        """Go on from what a killed process left, if it left anything; returns how many rows are learned."""
        if not self._folder.is_dir():
            return 0
        try:
            pending = PendingPredictions.parse(read_json(self._folder / PENDING), PENDING)
            self._load(self._folder)
        except (RefitError, OSError, LookupError, ValueError) as error:
            raise RefitError(
                f"{self._folder} cannot be used ({first_line(error)}); delete it, and training starts again"
            ) from None
        indices = np.asarray(pending.indices, dtype=np.int64)
        predicted[indices] = np.asarray(pending.predicted).reshape((len(indices), *predicted.shape[1:]))
        return pending.rows

    def write(self, predicted: Floats, rows: int) -> None:
        """Write the state, unless the last one is younger than `every_seconds`, or than ten times what it took."""
        started = time.monotonic()
        if started - self._written < max(self._every, COST * self._took):
            return
        pending = predicted[rows:]
        indices = rows + np.flatnonzero(~np.isnan(pending if pending.ndim == 1 else pending[:, 0]))
        values = predicted[indices].tolist()
        with atomic_folder(self._folder) as scratch:
            self._save(scratch)
            PendingPredictions(
                rows=rows,
                indices=tuple(indices.tolist()),
                predicted=tuple(tuple(each) if isinstance(each, list) else each for each in values),
            ).write(scratch / PENDING)
        self._written = time.monotonic()
        self._took = self._written - started
