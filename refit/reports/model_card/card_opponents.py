"""The table of the candidate and its naive opponents on parts of the test rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refit.problems import metric_named
from refit.schemas.evaluation import Evaluation


@dataclass(frozen=True)
class PartRow:
    """Scores on a part of the test rows."""

    by: str
    value: str
    rows: int
    candidate: float | None
    scores: tuple[float | None, ...]  # of the opponents, in their order
    lost: bool  # an opponent does better


def on_parts(evaluation: Evaluation) -> Iterator[PartRow]:
    """A row of the table for each part."""
    gain = metric_named(evaluation.metric).gain
    for part in evaluation.opponents_on_parts:
        ours = part.scores["candidate"]
        scores = tuple(part.scores.get(each.name) for each in evaluation.opponents)
        lost = ours is not None and any(score is not None and gain(ours, score) < 0 for score in scores)
        yield PartRow(part.by, part.value, part.rows, ours, scores, lost)
