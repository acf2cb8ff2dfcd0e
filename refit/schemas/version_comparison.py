"""Two versions of a model side by side, as `refit compare --json` prints it."""

from __future__ import annotations

from collections.abc import Mapping

from refit.schemas.artifact import Part, UtcTime
from refit.schemas.gate_decision import GainComparison
from refit.schemas.measured import Measured

__all__ = ["ComparedVersion", "Difference", "VersionComparison"]

Pair = tuple[Measured | None, Measured | None]


class ComparedVersion(Part):
    """One of the two versions; None for what the registry does not store about it."""

    version: str
    aliases: tuple[str, ...]
    created: str
    learner: str | None
    as_of: str | None
    seen_until: str | None
    snapshot: str | None
    batches: int | None
    rows: int | None  # of all batches
    fitted_rows: int | None
    test_start: UtcTime | None
    test_end: UtcTime | None
    test_rows: int | None
    git_commit: str | None
    uncommitted: bool  # whether code was used that was not committed
    release: str | None  # of Refit
    constraints: str | None  # digest of the pinned libraries
    candidate: str | None  # digest of all that it was made from, by which its card and MLflow's run are named
    run_id: str | None


class Difference(Part):
    """Something that differs between the two versions; None where a version does not have it."""

    name: str
    values: tuple[str | None, str | None]


class VersionComparison(Part):
    """Two versions of a model, side by side."""

    model: str
    of: tuple[ComparedVersion, ComparedVersion]
    metrics: Mapping[str, Pair]  # on the test rows of each
    gains: Mapping[str, Measured]  # of the second over the first, on the same rows; empty if the gate compared others
    confidence: float | None  # of the intervals; None if there are none
    gate: GainComparison | None  # how the gate compared the two, whichever of them was the candidate
    judged: str | None  # the version that was the candidate then
    same_test: bool  # whether both were judged on the same test rows
    params: tuple[Difference, ...]
    features: tuple[Difference, ...]
    shared_features: int | None  # how many both have; None if one does not say which it has
    notes: tuple[str, ...]  # what is not compared, and why

    @property
    def versions(self) -> tuple[str, str]:
        """Their numbers."""
        return self.of[0].version, self.of[1].version
