"""What is learned from out-of-fold predictions: calibration curves and the margins of prediction intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from refit.schemas.artifact import Part, omitted

__all__ = [
    "ClassCurves",
    "IntervalSettings",
    "IsotonicCurve",
    "MarginSummary",
    "MarginsByGroup",
    "SigmoidCurve",
    "StoredCalibration",
    "StoredIntervals",
    "StoredMargin",
    "TemperatureScale",
]


class SigmoidCurve(Part):
    """Platt scaling: a linear function of the log-odds."""

    kind: Literal["sigmoid"] = "sigmoid"
    slope: float
    intercept: float


class IsotonicCurve(Part):
    """A non-decreasing piecewise linear curve, constant beyond its first and last point."""

    kind: Literal["isotonic"] = "isotonic"
    x: tuple[float, ...]
    y: tuple[float, ...]


class TemperatureScale(Part):
    """One power for the probabilities of all classes."""

    kind: Literal["temperature"] = "temperature"
    power: float


class ClassCurves(Part):
    """An isotonic curve for each class."""

    kind: Literal["isotonic by class"] = "isotonic by class"
    x: tuple[tuple[float, ...], ...]
    y: tuple[tuple[float, ...], ...]


StoredCalibration = Annotated[
    SigmoidCurve | IsotonicCurve | TemperatureScale | ClassCurves, Field(discriminator="kind")
]


class MarginSummary(Part):
    """By how much a band is widened at both ends, and the number of rows that it is computed from."""

    value: float
    rows: int


class StoredMargin(MarginSummary):
    """A margin with the scores that it is computed from."""

    scores: tuple[float, ...]  # newest last if margins are adaptive


class IntervalSettings(Part):
    """How prediction intervals are formed."""

    level: float  # share of labels inside
    by: Literal["residuals", "quantiles"]  # how the band is formed before it is widened
    within: str | None = None  # the column by whose values margins are grouped
    rate: float | None = None  # how far one label moves the level; None for fixed margins
    missing: str = omitted("None")  # the group of rows without a value; "None" in models stored before this was


class StoredIntervals(IntervalSettings):
    """The margins of prediction intervals: a common one, and one for each value of a column with enough rows."""

    common: StoredMargin
    groups: Mapping[str, StoredMargin] = {}


class MarginsByGroup(IntervalSettings):
    """The same without the scores."""

    common: MarginSummary
    groups: Mapping[str, MarginSummary]
