"""What the gate may know of a candidate, gathered from predictions: the same for a run and for a replay of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.comparison import Estimate, gain
from registry.promotion import Evidence, Opponent
from tasks.evaluate.judging import Holdout
from tasks.params import GateParams

Floats = NDArray[np.float64]

UNKNOWN = Estimate(math.nan, math.nan, 0.0)


@dataclass(frozen=True)
class Scored:
    """Predictions of the models for the same rows, and the threshold from which each calls a row 1."""

    p: Mapping[str, Floats]
    thresholds: Mapping[str, float]
    problems: Mapping[str, str]  # why champion or anchor could not be scored on these rows


def opponents(comparand: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Role and version of the registered models to score; the anchor only where it is not the champion itself."""
    champion, anchor = comparand["version"], comparand.get("anchor")
    roles = [("champion", str(champion))] if champion is not None else []
    if roles and anchor and anchor["version"] != champion:
        roles.append(("anchor", str(anchor["version"])))
    return roles


def evidence(
    test: Holdout,
    scored: Scored,
    values: Mapping[str, float | None],
    *,
    training: Mapping[str, Any],
    test_start: datetime,
    comparand: Mapping[str, Any],
    gate: GateParams,
) -> Evidence:
    """All that the gate decides by.

    Args:
        values: the candidate's own metrics; None is what could not be measured.
        training: `model_digest` and `seen_until` of the candidate.
        comparand: what `comparand.json` says.
    """
    roles = dict(opponents(comparand))

    def opponent(role: str, told: Mapping[str, Any]) -> Opponent:
        return Opponent(
            version=str(told["version"]),
            digest=str(told["model_digest"]),
            seen_until=_moment(told.get("seen_until")),
            gain=gain(gate.metric, test.sample, scored.p["candidate"], scored.p[role]) if role in scored.p else UNKNOWN,
            problem=scored.problems.get(role, ""),
        )

    return Evidence(
        candidate=training["model_digest"],
        seen_until=_moment(training.get("seen_until")),
        test_start=test_start,
        rows=test.rows,
        positive=test.positive,
        clusters=test.sample.clusters.effective,
        metrics={name: math.nan if value is None else value for name, value in values.items()},
        over_baseline=gain(gate.metric, test.sample, scored.p["candidate"], scored.p["baseline"]),
        champion=opponent("champion", comparand) if "champion" in roles else None,
        anchor=opponent("anchor", comparand["anchor"]) if "anchor" in roles else None,
        looks=int(comparand.get("looks") or 0),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
