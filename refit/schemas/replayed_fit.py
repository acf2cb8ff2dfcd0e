"""`fit.json` of a replay: a model trained at a past moment, which later replays use again."""

from __future__ import annotations

from collections.abc import Mapping

from refit.schemas.artifact import Artifact

__all__ = ["FitRecord"]


class FitRecord(Artifact):
    """What was measured while a model was trained."""

    learner: str
    model_digest: str
    threshold: float
    naive: Mapping[str, object]  # the naive guess from its rows, as its problem learns it
    rows: int
    seconds: float
    cpu_seconds: float
    latency_ms: float
    cpu_seconds_per_1000: float
    model_mb: float
