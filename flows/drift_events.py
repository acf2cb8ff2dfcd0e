"""The event by which a drift decision requests a retraining; deployments are triggered by it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import JsonValue

from refit.schemas.artifact import utc_text
from refit.schemas.drift_decision import DayWindow, DriftDecision

DETECTED = "drift.detected"
_DAY_ZERO, _ONE_DAY = datetime(1970, 1, 1, tzinfo=UTC), timedelta(days=1)
_NAMESPACE = uuid.UUID("6f1f2f57-6c0b-4d0a-9a3c-0d6c8b1d5e11")


def announce(decision: DriftDecision, project: Path) -> DriftDecision:
    """Emit `drift.detected` of `refit.model.<name>` if the decision is to retrain; return the decision.

    The event's id depends on the decision alone, so that announcing it twice gives the same event.
    """
    if decision.verdict == "retrain":
        from prefect.events import emit_event

        emit_event(
            DETECTED,
            resource={
                "prefect.resource.id": f"refit.model.{decision.model}",
                "prefect.resource.name": decision.model,
            },
            payload=payload_of(decision, project),
            id=uuid.uuid5(_NAMESPACE, f"{decision.model}/{decision.version}/{utc_text(decision.as_of)}"),
        )
    return decision


def payload_of(decision: DriftDecision, project: Path) -> dict[str, JsonValue]:
    """Return the event's payload: project, model, reason, the window that drifted, its drifted columns, and `as_of`.

    The window goes on to the end of the decision's day, if it is the newest one: a further decision about the same week
    asks for a retraining of its own, as often as cool-down and budget let it.
    """
    window = _newest_window(decision)
    if window and decision.window and window == decision.window.span:
        day, rest = divmod(decision.as_of - _DAY_ZERO, _ONE_DAY)
        seen = (_DAY_ZERO + (day + bool(rest)) * _ONE_DAY).date()
        window = DayWindow(first=window.first, end=max(window.end, seen))
    return {
        "project": str(project),
        "model": decision.model,
        "version": decision.version,
        "reason": _reason(decision),
        "window": window.to_json() if window else None,
        "columns": list(decision.columns),
        "as_of": utc_text(decision.as_of),
    }


def _reason(decision: DriftDecision) -> str:
    """Name what asked for the retraining; a model's age alone is no drift."""
    if decision.causes == ("schedule",):
        return f"schedule: due every {decision.policy.retrain_every_days:g} days"
    return f"drift: {', '.join(decision.causes)}"


def _newest_window(decision: DriftDecision) -> DayWindow | None:
    """Return the newest window that has rows; a schedule may request a retraining after windows without any."""
    with_rows = [window.span for window in decision.windows if window.performance.rows]
    return with_rows[-1] if with_rows else decision.window
