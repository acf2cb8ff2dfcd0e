"""Classification into several classes: precision and recall of each, which are confused, and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation.calibration_bins import Reliability, reliability
from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.schemas.artifact import Part
from refit.schemas.evaluation import Details, Facts
from refit.schemas.measured import Measured

Floats = NDArray[np.float64]


class MulticlassFacts(Facts):
    """Different labels, the share called rightly, and the mean probability of the called class."""

    model_config = ConfigDict(extra="forbid")

    classes: int
    right: float | None
    predicted: float | None


class ClassScores(Part):
    """How one class is recognised."""

    name: str
    rows: int
    called: int
    precision: Measured | None  # None if it was never called
    recall: Measured | None  # None if no row is of the class
    f1: float | None


class ClassConfusion(Part):
    """Counts of rows by class (one list each) and called class."""

    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


class MulticlassDetails(Details):
    """What is measured of a probability for each class."""

    model_config = ConfigDict(extra="forbid")

    classes: tuple[ClassScores, ...]
    confusion: ClassConfusion
    calibration: Reliability


def facts(labels: NDArray[Any], predicted: Floats) -> MulticlassFacts:
    right = predicted.argmax(axis=1) == labels
    return MulticlassFacts(
        classes=len(np.unique(labels)), right=tidy(right.mean()), predicted=tidy(predicted.max(axis=1).mean())
    )


def details(test: Holdout, scored: Scored, confidence: float) -> MulticlassDetails:
    candidate = scored.p["candidate"]
    predicted_class, sure = candidate.argmax(axis=1), candidate.max(axis=1)
    names = test.problem.classes
    count = len(names)
    matrix = np.bincount(test.labels * count + predicted_class, minlength=count**2).reshape(count, count)
    return MulticlassDetails(
        classes=tuple(by_class(test, predicted_class, confidence)),
        confusion=ClassConfusion(names=names, rows=tuple(map(tuple, matrix.tolist()))),
        calibration=reliability(test.sample, sure, predicted_class == test.labels, confidence),
    )


def by_class(test: Holdout, predicted_class: NDArray[np.int64], confidence: float) -> Iterator[ClassScores]:
    """Precision, recall and F1 of each class, with clustered intervals of the first two."""
    for code, name in enumerate(test.problem.classes):
        is_it, is_called = test.labels == code, predicted_class == code
        total = int(is_it.sum() + is_called.sum())
        yield ClassScores(
            name=name,
            rows=int(is_it.sum()),
            called=int(is_called.sum()),
            precision=_share(test, is_it, is_called, confidence),
            recall=_share(test, is_called, is_it, confidence),
            f1=tidy(2 * int((is_it & is_called).sum()) / total) if total else None,
        )


def _share(test: Holdout, hit: NDArray[np.bool_], among: NDArray[np.bool_], confidence: float) -> Measured | None:
    """The share of hits among some rows; None if there are no such rows."""
    if not among.any():
        return None
    estimate = jackknife(leave_out_mean(hit[among].astype(np.float64), test.sample.only(among).clusters))
    return with_interval(estimate, confidence, 0.0, 1.0)


MEASURES = Measures(details, facts)
