"""Permutation importance: the loss of a metric when a feature, or a whole view, is shuffled between rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.definition import FeatureSet
from refit.evaluation.holdout import Holdout, with_interval
from refit.gate.comparison import gain
from refit.learners import Floats, Learner
from refit.learners.encoding import Original
from refit.problems.contract import aligned
from refit.runtime.context import Progress, silent
from refit.schemas.evaluation import FeatureLoss, Importance

if TYPE_CHECKING:
    import pyarrow as pa

ITSELF = "the row itself"


def permutation_importance(
    learner: Learner,
    test: Holdout,
    groups: Mapping[str, Sequence[str]],
    *,
    metric: str,
    rows: int,
    seed: int,
    confidence: float,
    progress: Progress = silent,
) -> Importance:
    """Measure the metric lost when a feature is shuffled between rows, with intervals clustered as in the gate.

    Correlated features hide each other: shuffling one of two copies costs nothing, so whole groups are shuffled too.
    Each shuffle depends only on the seed and the name, not on other features.

    Args:
        groups: features by view.
        rows: number of test rows to sample; 0 skips the measurement.

    Raises:
        UserError: a feature is missing.
    """
    if not rows or test.problem.inexplicable:
        return Importance(rows=0, features=(), groups=())
    chosen = np.arange(test.rows)
    if rows < test.rows:
        chosen = np.sort(np.random.default_rng(seed).choice(test.rows, rows, replace=False))
    table, sample = test.table.take(chosen), test.sample.only(chosen)

    original = Original(table)

    reference = test.problem.reference(table.select(list(learner.spec.features)))

    def predicted(rows: pa.Table, shuffled: Sequence[str] = ()) -> Floats:
        def aligned_ones(part: pa.Table) -> Floats:
            return aligned(learner.predict(part), learner.spec.classes, test.problem.classes)

        with original.changed(rows, shuffled):
            return test.problem.judged(aligned_ones, rows, reference)

    intact = predicted(table)
    view_of = {feature: group for group, features in groups.items() for feature in features}
    shared = {group: tuple(features) for group, features in groups.items() if len(features) > 1}
    jobs = [(name, (name,)) for name in learner.spec.features] + list(shared.items())
    losses = []
    for done, (name, columns) in enumerate(jobs):
        progress("permutation importance", done, len(jobs))
        order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(len(chosen))
        lost = gain(metric, sample, intact, predicted(_shuffled(table, columns, order), columns))
        losses.append(FeatureLoss(name=name, **dict(with_interval(lost, confidence, -np.inf))))
    of_features, of_groups = losses[: len(learner.spec.features)], losses[len(learner.spec.features) :]
    features = [each.model_copy(update={"group": view_of.get(each.name, ITSELF)}) for each in of_features]
    alone = [
        each.model_copy(update={"name": each.group, "group": None}) for each in features if each.group not in shared
    ]
    return Importance(rows=len(chosen), features=_by_loss(features), groups=_by_loss([*of_groups, *alone]))


def _shuffled(table: pa.Table, columns: Iterable[str], order: Any) -> pa.Table:
    for name in columns:
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), table.column(index).take(order))
    return table


def _by_loss(losses: Iterable[FeatureLoss]) -> tuple[FeatureLoss, ...]:
    return tuple(sorted(losses, key=lambda loss: (-(loss.value or 0.0), loss.name)))


def groups_of(feature_set: FeatureSet, features: Sequence[str]) -> dict[str, list[str]]:
    """Group features by the view or static table that they come from; those of the row itself form one group."""
    origin, groups = feature_set.origins(), dict[str, list[str]]()
    for name in features:
        groups.setdefault(origin.get(name, ITSELF), []).append(name)
    return groups
