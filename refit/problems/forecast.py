"""Forecasts: the value of a series some steps ahead; its naive opponent is the value of the season before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from refit.problems.regression import Regression


@dataclass(frozen=True)
class Forecast(Regression):
    """A regression on rows that are forecasts to make; models record it as a regression."""

    name: ClassVar[str] = "forecast"
    can_leak: ClassVar[bool] = False  # the value before is often nearly the next one
    folds: ClassVar[Literal["kfold", "stratified", "time"]] = "time"
