"""What a fit of a stream has learned so far, written while it learns, for a process that is killed."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import RefitError, first_line
from refit.files.artifacts import atomic_folder, digest, read_json
from refit.learners import canonical
from refit.learners.contract import Floats
from refit.learners.networks.surroundings import surroundings

if TYPE_CHECKING:
    from refit.learners.online.learner import Online

PENDING = "pending.json"
COST = 10  # times what a checkpoint took to write pass before the next


class Checkpoint:
    """What a fit has learned so far, in a folder named by everything that determines the fit."""

    def __init__(self, learner: Online, folder: Path, every_seconds: float) -> None:
        self._learner, self._folder, self._every = learner, folder, every_seconds
        self._written, self._took = time.monotonic(), 0.0

    @classmethod
    def of(cls, learner: Online, matrix: Floats, label: Floats, before: NDArray[np.int64]) -> Checkpoint | None:
        around = surroundings.get()
        if around.checkpoints is None or learner.unsafe_reason() is not None:
            return None
        rows = hashlib.sha256(np.ascontiguousarray(matrix).tobytes() + label.tobytes() + before.tobytes())
        spec = {"arguments": learner._arguments.model_dump(), "task": learner.spec.task, "seed": learner.spec.seed}
        described = {**spec, "classes": learner.spec.classes, "start": learner.position.to_json()}
        identity = digest({**described, "model": canonical.digest(learner.model.learned()), "rows": rows.hexdigest()})
        return cls(learner, around.checkpoints / f"online-{identity[:32]}", around.every_seconds)

    def restore(self, predicted: Floats) -> int:
        """Go on from what a killed process left, if it left anything; returns how many rows are learned."""
        if not self._folder.is_dir():
            return 0
        learner = self._learner
        try:
            entries: Any = read_json(self._folder / PENDING)
            rows, places = int(entries["rows"]), np.asarray(entries["places"], dtype=np.int64)
            learner._load(self._folder)
        except (RefitError, OSError, LookupError, ValueError) as error:
            raise RefitError(
                f"{self._folder} cannot be used ({first_line(error)}); delete it, and training starts again"
            ) from None
        predicted[places] = np.asarray(entries["predicted"]).reshape((len(places), *predicted.shape[1:]))
        return rows

    def write(self, predicted: Floats, rows: int) -> None:
        """Write the state, unless the last one is younger than `every_seconds`, or than ten times what it took."""
        started = time.monotonic()
        if started - self._written < max(self._every, COST * self._took):
            return
        pending = predicted[rows:]
        places = rows + np.flatnonzero(~np.isnan(pending if pending.ndim == 1 else pending[:, 0]))
        with atomic_folder(self._folder) as scratch:
            self._learner._save(scratch)
            entries = {"rows": rows, "places": places.tolist(), "predicted": predicted[places].tolist()}
            (scratch / PENDING).write_text(json.dumps(entries))
        self._written = time.monotonic()
        self._took = self._written - started
