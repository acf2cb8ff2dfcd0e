"""Direction: a number that is raised moves predictions one way."""

from __future__ import annotations

import numpy as np

from refit.config.behaviour import DirectionTest
from refit.evaluation.behaviour.sampled_rows import EXACT, SampledRows
from refit.problems.contract import Problem
from refit.schemas.behaviour import BehaviourResult


def judged(wanted: DirectionTest, sample: SampledRows, problem: Problem) -> BehaviourResult:
    """Predict the rows with a higher value, and compare; rows without a value are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = sample.table.column(wanted.column)
    raised = pc.add(column.cast(pa.float64()), wanted.add)
    if pa.types.is_integer(column.type) and float(wanted.add).is_integer():
        raised = raised.cast(column.type)
    elif not pa.types.is_floating(column.type):
        sample = _as_numbers(sample, wanted.column)
    after, before = sample.changed(wanted.column, raised), sample.predicted
    if wanted.class_name is not None:
        index = problem.classes.index(wanted.class_name) if wanted.class_name in problem.classes else None
        if index is None:
            return _failed(wanted, f"no row is of class {wanted.class_name!r}; there are {', '.join(problem.classes)}")
        after, before = after[:, index], before[:, index]
    there = column.is_valid().to_numpy()
    if not there.any():
        return _failed(wanted, f"no test row has a value of {wanted.column}")
    sign = 1 if wanted.prediction == "rises" else -1
    moved = np.where(there, sign * (after - before), 0.0)
    against, mean = moved < -EXACT, float(moved[there].mean())
    share = float(1 - against[there].mean())
    passed = share >= wanted.share - EXACT and mean >= -EXACT
    way = "upwards" if sign > 0 else "downwards"
    sentence = (
        f"with {wanted.column} raised by {wanted.add:g}, {share:.1%} of {int(there.sum()):,} predictions move {way} or "
        f"stay (mean {sign * mean:+.4g}); {wanted.share:.1%} have to, and the mean"
    )
    return BehaviourResult(
        name=wanted.name,
        kind="direction",
        passed=passed,
        sentence=sentence,
        rows=int(there.sum()),
        share=share,
        worst=sample.worst(-moved, against),
    )


def _as_numbers(sample: SampledRows, column: str) -> SampledRows:
    """The same rows with the column as a number with decimals, so that any amount can be added."""
    import pyarrow as pa

    index, values = sample.table.column_names.index(column), sample.table.column(column).cast(pa.float64())
    return SampledRows(sample.table.set_column(index, column, values), sample.predicted, sample.keys, sample.predict, 0)


def _failed(wanted: DirectionTest, why: str) -> BehaviourResult:
    return BehaviourResult(name=wanted.name, kind="direction", passed=False, sentence=why, rows=0)
