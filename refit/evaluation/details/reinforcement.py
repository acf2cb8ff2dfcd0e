"""Reinforcement: the returns of the test episodes, one by one next to those of champion and opponent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy
from refit.evaluation.scored import Scored
from refit.schemas.artifact import Part
from refit.schemas.evaluation import Details, Facts

Floats = NDArray[np.float64]

MOST_POINTS = 400  # drawn episodes, evenly spread over the window
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


class ReinforcementFacts(Facts):
    """Mean and lowest return of some episodes."""

    model_config = ConfigDict(extra="forbid")

    mean: float | None
    lowest: float | None


class PairedReturns(Part):
    """How often the candidate earned more, the same and less than another model in the same episode."""

    more: int
    same: int
    less: int


class ReinforcementDetails(Details):
    """What is measured of returns."""

    model_config = ConfigDict(extra="forbid")

    returns: Mapping[str, tuple[float | None, ...]]  # by model, of the same episodes in their order
    quantiles: Mapping[str, Mapping[str, float | None]]  # by model
    paired: Mapping[str, PairedReturns]  # by the other model


def facts(labels: NDArray[Any], predicted: Floats) -> ReinforcementFacts:
    return ReinforcementFacts(mean=tidy(predicted.mean()), lowest=tidy(predicted.min()))


def details(test: Holdout, scored: Scored, confidence: float) -> ReinforcementDetails:
    rows = np.unique(np.linspace(0, test.rows - 1, min(MOST_POINTS, test.rows)).astype(np.int64))
    ours = scored.p["candidate"]
    others = {name: p for name, p in scored.p.items() if name != "candidate"}
    return ReinforcementDetails(
        returns={name: tuple(tidy(value) for value in p[rows]) for name, p in scored.p.items()},
        quantiles={name: {str(q): tidy(np.quantile(p, q)) for q in SHARES} for name, p in scored.p.items()},
        paired={
            name: PairedReturns(more=int((ours > p).sum()), same=int((ours == p).sum()), less=int((ours < p).sum()))
            for name, p in others.items()
        },
    )


MEASURES = Measures(details, facts)
