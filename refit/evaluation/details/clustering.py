"""Clustering: the share of each segment among the test rows, next to the champion's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.problems.clustering import segment_name
from refit.schemas.artifact import Part
from refit.schemas.evaluation import Details, Facts
from refit.schemas.measured import Measured

Floats = NDArray[np.float64]


class SegmentShare(Part):
    """The share of one segment among the test rows."""

    name: str
    rows: int
    share: Measured
    champion: float | None  # the share of the champion's segment of that name; None if there is no champion
    same: float | None  # share of this segment's rows that the champion puts into its segment of that name


class ClusteringDetails(Details):
    """What is measured of segments."""

    model_config = ConfigDict(extra="forbid")

    segments: tuple[SegmentShare, ...]


class ClusteringFacts(Facts):
    """The number of segments in some rows, and the largest."""

    model_config = ConfigDict(extra="forbid")

    segments: int
    largest: str
    largest_share: float | None


def facts(labels: NDArray[Any], predicted: Floats) -> ClusteringFacts:
    numbers, counts = np.unique(predicted[:, 0], return_counts=True)
    top = int(counts.argmax())
    return ClusteringFacts(
        segments=len(numbers),
        largest=segment_name(numbers[top]),
        largest_share=tidy(counts[top] / counts.sum()),
    )


def details(test: Holdout, scored: Scored, confidence: float) -> ClusteringDetails:
    ours = scored.p["candidate"][:, 0]
    theirs = scored.p["champion"][:, 0] if "champion" in scored.p else None
    segments = []
    for number in np.unique(ours if theirs is None else np.concatenate([ours, theirs])):
        inside = (ours == number).astype(np.float64)
        estimate = jackknife(leave_out_mean(inside, test.sample.clusters))
        both = None if theirs is None or not inside.any() else tidy((theirs[inside > 0] == number).mean())
        segments.append(
            SegmentShare(
                name=segment_name(number),
                rows=int(inside.sum()),
                share=with_interval(estimate, confidence, 0.0, 1.0),
                champion=None if theirs is None else tidy((theirs == number).mean()),
                same=both,
            )
        )
    return ClusteringDetails(segments=tuple(segments))


MEASURES = Measures(details, facts)
