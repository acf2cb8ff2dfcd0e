"""Binary classification: calibration, calls at the threshold, curves, and the distribution of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation import curves
from refit.evaluation.calibration_bins import Reliability, reliability
from refit.evaluation.curves import CountsAt, CurvePoints, ScoreHistogram
from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy
from refit.evaluation.scored import Scored
from refit.schemas.artifact import Part, omitted
from refit.schemas.evaluation import Details, Facts

Floats = NDArray[np.float64]


class BinaryFacts(Facts):
    """Positive labels, and the mean probability."""

    model_config = ConfigDict(extra="forbid")

    positive: int
    rate: float | None
    predicted: float | None


class BinaryConfusion(Part):
    """The confusion matrix, with rows classified as 1 at or above the threshold."""

    threshold: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def cells(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of negative and of positive labels, each by what they are called, negative first."""
        return (self.true_negative, self.false_positive), (self.false_negative, self.true_positive)


class BinaryCurves(Part):
    """The curves of candidate and champion, and the probabilities of each class."""

    roc: Mapping[str, CurvePoints]
    precision_recall: Mapping[str, CurvePoints]
    scores: ScoreHistogram


class BinaryDetails(Details):
    """What is measured of probabilities of 1."""

    model_config = ConfigDict(extra="forbid")

    calibration: Reliability
    confusion: BinaryConfusion
    curves: BinaryCurves
    thresholds: tuple[CountsAt, ...] = omitted(())  # of the candidate, ascending; its own is one of them


def facts(labels: NDArray[Any], predicted: Floats) -> BinaryFacts:
    return BinaryFacts(positive=int(labels.sum()), rate=tidy(labels.mean()), predicted=tidy(predicted.mean()))


def details(test: Holdout, scored: Scored, confidence: float) -> BinaryDetails:
    candidate, threshold = scored.p["candidate"], scored.thresholds["candidate"]
    shown = {name: p for name, p in scored.p.items() if name in ("candidate", "champion")}
    return BinaryDetails(
        calibration=reliability(test.sample, candidate, test.labels, confidence),
        confusion=confusion(test, candidate, threshold),
        curves=BinaryCurves(
            roc={name: curves.roc(test.labels, p) for name, p in shown.items()},
            precision_recall={name: curves.precision_recall(test.labels, p) for name, p in shown.items()},
            scores=curves.histogram(test.labels, candidate),
        ),
        thresholds=curves.at_thresholds(test.labels, candidate, threshold),
    )


def confusion(test: Holdout, p: Floats, threshold: float) -> BinaryConfusion:
    """The confusion matrix, with rows classified as 1 at or above the threshold."""
    predicted, positive = p >= threshold, test.labels == 1
    return BinaryConfusion(
        threshold=threshold,
        true_positive=int((predicted & positive).sum()),
        false_positive=int((predicted & ~positive).sum()),
        false_negative=int((~predicted & positive).sum()),
        true_negative=int((~predicted & ~positive).sum()),
    )


MEASURES = Measures(details, facts)
