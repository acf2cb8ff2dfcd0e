"""`models/receipt.json`: the version that a candidate was registered as, and what became of the decision on it."""

from __future__ import annotations

from typing import Literal

from refit.schemas.artifact import Artifact, Part, UtcTime
from refit.schemas.gate_decision import Decision

__all__ = ["Outcome", "Receipt"]


class Outcome(Part):
    """What the ledger says about a decision, or why it has no line."""

    action: str | None
    reasons: tuple[str, ...]


class Receipt(Artifact):
    """A registered candidate."""

    model: str
    version: str
    alias: Literal["champion", "challenger"]
    run_id: str | None
    candidate: str  # digest of its inputs
    model_digest: str
    decision: Decision
    outcome: Outcome
    registered_at: UtcTime
