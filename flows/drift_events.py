"""The event with which a drift decision asks for a retraining; deployments wait for it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

DETECTED = "drift.detected"
_NAMESPACE = uuid.UUID("6f1f2f57-6c0b-4d0a-9a3c-0d6c8b1d5e11")


def announce(told: dict[str, Any], project: Path) -> dict[str, Any]:
    """Emit `drift.detected` of `refit.model.<name>` for a decision to retrain, and for no other; returns the decision.

    The same decision gives the same event, by its id, however often it is announced.
    """
    if told["verdict"] == "retrain":
        from prefect.events import emit_event

        emit_event(
            DETECTED,
            resource={"prefect.resource.id": f"refit.model.{told['model']}", "prefect.resource.name": told["model"]},
            payload=payload_of(told, project),
            id=uuid.uuid5(_NAMESPACE, f"{told['model']}/{told['version']}/{told['as_of']}"),
        )
    return told


def payload_of(told: dict[str, Any], project: Path) -> dict[str, Any]:
    """What the retraining is told: where, why, which window of data showed it, which columns moved, as of when."""
    return {
        "project": str(project),
        "model": told["model"],
        "version": told["version"],
        "reason": f"drift: {', '.join(told['causes'])}",
        "window": _seen(told),
        "columns": told["columns"],
        "as_of": told["as_of"],
    }


def _seen(told: dict[str, Any]) -> dict[str, str] | None:
    """The newest window that has rows: a schedule may ask for a retraining after windows without any."""
    with_rows = [window for window in told["windows"] if window["performance"]["rows"]]
    newest = with_rows[-1] if with_rows else told["window"]
    return newest and {edge: newest[edge] for edge in ("first", "end")}
