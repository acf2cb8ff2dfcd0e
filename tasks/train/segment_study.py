"""Describes the segments of a clustering that became the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refit.config.train import SearchParams
from refit.evaluation.segment_study import COUNTS, study
from refit.learners import Learner
from refit.learners.clusterer import Clusterer
from refit.runtime.context import Context
from refit.schemas.segment_study import SegmentStudy

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_COUNTS = range(2, 9)
MOST_COUNTS = 12
NOT_DESCRIBED = ("event_time", "window", "label")


def of_candidate(context: Context, learner: Learner, windows: Sequence[pa.Table]) -> SegmentStudy | None:
    """Study the candidate on its training rows; None if it is no clustering.

    The numbers of segments that are compared are those that the params search.
    """
    if not isinstance(learner, Clusterer):
        return None
    import pyarrow as pa

    rows = pa.concat_tables(windows)
    own = next(each for each in context.params.train.learners if each.name == learner.spec.name)
    spaces = [own.search[name] for name in COUNTS if name in own.search]
    counts = _numbers(spaces[0]) if spaces else list(DEFAULT_COUNTS)
    columns = [name for name in rows.column_names if name not in (*NOT_DESCRIBED, *_keys(context))]
    features = learner.spec.features
    return study(
        learner, rows.select(columns), features, [n for n in counts if n < len(rows)], progress=context.progress
    )


def _numbers(space: SearchParams) -> list[int]:
    if space.choices:
        return sorted(choice for choice in space.choices if isinstance(choice, int))[:MOST_COUNTS]
    low, high, step = int(space.low or 1), int(space.high or 1), int(space.step or 1)
    numbers = list(range(low, high + 1, step))
    return numbers[:: -(-len(numbers) // MOST_COUNTS)]


def _keys(context: Context) -> tuple[str, ...]:
    return tuple(key for source in context.params.ingest.sources.values() for key in source.key)
