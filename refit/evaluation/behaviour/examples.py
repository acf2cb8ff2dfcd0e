"""Minimum functionality: rows written by hand are predicted as they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config.behaviour import ExampleRow, ExamplesTest, example_rows, zero_or_one
from refit.errors import UserError
from refit.evaluation.behaviour.sampled_rows import EXACT, SHOWN_ROWS
from refit.evaluation.holdout import Holdout
from refit.schemas.behaviour import BehaviourResult

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Floats
    from refit.problems.contract import Problem


def judged(
    wanted: ExamplesTest,
    predict: Callable[[pa.Table], Floats],
    features: Sequence[str],
    test: Holdout,
    threshold: float,
    project: Path,
) -> BehaviourResult:
    """Predict the rows, and compare each with its answer.

    Raises:
        UserError: the file or an answer is wrong, or a value is not of its feature's type.
    """
    rows = example_rows(wanted, project, features, test.problem.name)
    predicted = predict(_table(rows, features, test.table, wanted.name))
    failures = [
        f"row {number} ({why})"
        for number, (row, each) in enumerate(zip(rows, predicted, strict=True), start=1)
        if (why := _failure_text(row, each, threshold, test.problem))
    ]
    share = 1 - len(failures) / len(rows)
    more = f"; wrong: {', '.join(failures[:SHOWN_ROWS])}" if failures else ""
    return BehaviourResult(
        name=wanted.name,
        kind="examples",
        passed=share >= wanted.share - EXACT,
        sentence=f"{share:.1%} of {len(rows):,} rows are predicted as they say; {wanted.share:.1%} have to be{more}",
        rows=len(rows),
        share=share,
        worst=tuple(failures[:SHOWN_ROWS]),
    )


def _failure_text(row: ExampleRow, predicted: Any, threshold: float, problem: Problem) -> str:
    """What is wrong with a prediction; empty if it is as the row says."""
    value = predicted
    if problem.classes:
        best = problem.classes[int(predicted.argmax())]
        if row.expected is not None:
            if best != str(row.expected):
                return f"{best}, not {row.expected}"
            value = predicted[problem.classes.index(best)]
        else:
            value = predicted.max()
    elif row.expected is not None and int(predicted >= threshold) != zero_or_one(row.expected):
        return f"{int(predicted >= threshold)} at {predicted:.4g}, not {row.expected}"
    if row.at_least is not None and value < row.at_least - EXACT:
        return f"{value:.4g}, at least {row.at_least:g} is expected"
    if row.at_most is not None and value > row.at_most + EXACT:
        return f"{value:.4g}, at most {row.at_most:g} is expected"
    return ""


def _table(rows: Sequence[ExampleRow], features: Sequence[str], like: pa.Table, name: str) -> pa.Table:
    """The rows as a table of the features, in the types of the test rows."""
    import pyarrow as pa

    columns = {}
    for feature in features:
        kind = like.schema.field(feature).type
        try:
            columns[feature] = pa.array([_cell(row.given.get(feature), kind) for row in rows], kind)
        except (pa.ArrowException, ValueError, TypeError):
            values = sorted({str(row.given[feature]) for row in rows if row.given.get(feature) is not None})
            raise UserError(
                f"params.yaml: evaluate.behaviour: {name!r}: feature {feature!r} is of type {kind}, and "
                f"{', '.join(values[:SHOWN_ROWS])} is not"
            ) from None
    return pa.table(columns)


def _cell(value: Any, kind: pa.DataType) -> Any:
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_string(kind):
        return str(value)
    if pa.types.is_boolean(kind):
        if (answer := zero_or_one(value)) is None:
            raise ValueError("neither true nor false")
        return bool(answer)
    if pa.types.is_integer(kind):
        return value if isinstance(value, float) else int(value)  # pyarrow refuses a number with decimals
    return float(value)
