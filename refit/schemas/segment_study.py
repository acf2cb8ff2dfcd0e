"""What a training says of the segments of a clustering: how many, how stable, what sets each apart, and a map."""

from __future__ import annotations

from pydantic import Field

from refit.schemas.artifact import Part

__all__ = ["Division", "MapPoint", "Segment", "SegmentStudy", "Trait"]


class Division(Part):
    """One number of segments that the learner was asked for, on all training rows."""

    requested: int | None = Field(alias="asked")  # None if the learner finds the number itself
    segments: int  # that it found, without noise
    silhouette: float
    bic: float  # Bayesian information criterion of the mixture: lower is better
    gap: float | None  # gap statistic (Tibshirani et al. 2001): higher is better; None if it was not computed
    gap_error: float | None
    stability: float | None  # mean adjusted Rand index of fits to bootstrap samples with the fit to all rows
    stability_error: float | None  # standard error of that mean


class Trait(Part):
    """A column in which a segment differs from the other rows."""

    name: str
    words: str
    strength: float  # 0: as elsewhere; 1: every row of the segment lies above, or below, every other row
    inside: float | None  # median, or share of the category
    outside: float | None


class Segment(Part):
    """A segment in words and numbers, strongest traits first."""

    name: str
    rows: int
    share: float
    silhouette: float
    words: str
    traits: tuple[Trait, ...]


class MapPoint(Part):
    """A training row on the first two principal components."""

    x: float
    y: float
    segment: str


class SegmentStudy(Part):
    """The study of the candidate's segments on the training rows."""

    rows: int  # on which divisions were compared
    divisions: tuple[Division, ...]
    chosen: int | None  # the number asked for by the candidate
    segments: tuple[Segment, ...]
    explained: tuple[float, float]  # shares of the variance along the axes of the map
    points: tuple[MapPoint, ...]
