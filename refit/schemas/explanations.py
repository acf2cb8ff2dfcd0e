"""What each feature adds to single predictions, as `refit explain --row --json` prints it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from refit.schemas.artifact import Part, omitted

__all__ = ["ExplainedRow", "FeatureContribution", "Method", "RowExplanations", "Unit"]

Unit = Literal["probability", "number", "log-odds", "log", "loss"]
Method = Literal["trees", "boosting library", "linear", "sampling"]


class FeatureContribution(Part):
    """The value of a feature in one row, and what it adds to the prediction."""

    name: str
    value: bool | int | float | str | None
    adds: float
    patches: tuple[tuple[float, ...], ...] = omitted(())  # of an image, from its top: what covering each costs


class ExplainedRow(Part):
    """One prediction: the base, its contributions by size, and their sum; of several classes, of the likeliest."""

    key: str
    prediction: float
    predicted_class: str | None = Field(alias="class")
    task: str
    log_odds: bool  # whether contributions are log-odds of a probability
    base: float
    total: float
    features: tuple[FeatureContribution, ...]


class RowExplanations(Part):
    """Explanations of some rows by the champion."""

    model: str
    version: str
    source: str  # where the rows come from
    unit: Unit  # in which contributions add up
    method: Method
    calibrated: bool
    in_words: str  # the unit
    not_shown: int  # rows beyond the limit
    rows: tuple[ExplainedRow, ...]
