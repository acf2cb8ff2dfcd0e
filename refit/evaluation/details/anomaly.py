"""Anomaly detection: the mass-volume curve of each model, and what a budget finds where labels are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy
from refit.evaluation.scored import Scored
from refit.metrics.mass_volume import log_volumes
from refit.problems.anomaly import known
from refit.schemas.artifact import Part
from refit.schemas.evaluation import Details, Facts

Floats = NDArray[np.float64]

MASSES = (*(round(0.02 * step, 2) for step in range(5, 50)), 0.99, 0.995, 0.999)
BUDGETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class BudgetPoint(Part):
    """What the most unusual rows hold."""

    budget: float  # share of the rows that are looked at
    rows: int
    precision: float | None  # share of them that are anomalies by their label
    recall: float | None  # share of all anomalies that are among them


class AnomalyDetails(Details):
    """What is measured of anomaly scores."""

    model_config = ConfigDict(extra="forbid")

    masses: tuple[float, ...]  # shares of the rows
    log_volumes: Mapping[str, tuple[float | None, ...]]  # by model: log of the volume that holds each share
    budgets: Mapping[str, tuple[BudgetPoint, ...]]  # by model; empty without a label of an anomaly


class AnomalyFacts(Facts):
    """How many of some rows are called anomalies, and how many are by their label."""

    model_config = ConfigDict(extra="forbid")

    flagged: float | None
    positive: int


def facts(labels: NDArray[Any], predicted: Floats) -> AnomalyFacts:
    return AnomalyFacts(flagged=tidy(predicted[:, 2].mean()), positive=int(labels[known(labels)].sum()))


def details(test: Holdout, scored: Scored, confidence: float) -> AnomalyDetails:
    judged = known(test.labels)
    labels = test.labels[judged]
    return AnomalyDetails(
        masses=MASSES,
        log_volumes={
            name: tuple(tidy(value) for value in np.quantile(log_volumes(p), MASSES)) for name, p in scored.p.items()
        },
        budgets={name: _budgets(labels, p[judged, 0]) for name, p in scored.p.items()} if labels.any() else {},
    )


def _budgets(labels: NDArray[Any], scores: Floats) -> tuple[BudgetPoint, ...]:
    hits = np.cumsum(labels[np.argsort(-scores, kind="stable")])
    points = []
    for budget in BUDGETS:
        rows = max(1, round(budget * len(labels)))
        anomalies = float(hits[rows - 1])
        points.append(
            BudgetPoint(budget=budget, rows=rows, precision=tidy(anomalies / rows), recall=tidy(anomalies / hits[-1]))
        )
    return tuple(points)


MEASURES = Measures(details, facts)
