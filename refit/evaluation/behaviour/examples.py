"""Minimum functionality: rows written by hand are predicted as they say."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from refit.config import nearest
from refit.config.behaviour import ExampleRow, ExamplesTest
from refit.config.section import first_complaint
from refit.errors import UserError
from refit.evaluation.behaviour.sampled_rows import EXACT, SHOWN_ROWS
from refit.evaluation.holdout import Holdout
from refit.schemas.behaviour import BehaviourResult

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Floats
    from refit.problems.contract import Problem

ANSWERS = ("expected", "at_least", "at_most")


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
        UserError: the file is missing, or a value is not of its feature's type.
    """
    rows = wanted.rows or tuple(_read(project, wanted.file or "", features))
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
        passed=share >= wanted.share,
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
    elif row.expected is not None and problem.has_threshold:
        if int(predicted >= threshold) != _whole(row.expected):
            return f"{int(predicted >= threshold)} at {predicted:.4g}, not {row.expected}"
    elif row.expected is not None and row.at_least is None and row.at_most is None:
        return f"{predicted:.4g}: a number needs at_least or at_most, not expected"
    if row.at_least is not None and value < row.at_least - EXACT:
        return f"{value:.4g}, at least {row.at_least:g} is expected"
    if row.at_most is not None and value > row.at_most + EXACT:
        return f"{value:.4g}, at most {row.at_most:g} is expected"
    return ""


def _whole(value: object) -> int | None:
    try:
        return int(float(str(value)))
    except ValueError:
        return {"true": 1, "false": 0}.get(str(value).lower())


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
        return bool(_whole(value))
    return int(value) if pa.types.is_integer(kind) else float(value)


def _read(project: Path, file: str, features: Sequence[str]) -> Iterator[ExampleRow]:
    """The rows of a CSV file; an empty cell is a missing value."""
    where, path = f"params.yaml: evaluate.behaviour: file {file}", project / file
    if not path.resolve().is_relative_to(project.resolve()) or not path.is_file():
        raise UserError(f"{where}: no such file in the project")
    with path.open(newline="", encoding="utf-8") as text:
        reader = csv.DictReader(text)
        heads = reader.fieldnames or ()
        if unknown := [name for name in heads if name not in (*features, *ANSWERS)]:
            raise UserError(f"{where}: the features have no column {unknown[0]!r}{nearest(unknown[0], features)}")
        count = 0
        for count, cells in enumerate(reader, start=1):
            there = {name: cell for name, cell in cells.items() if cell not in (None, "")}
            answers: dict[str, Any] = {name: there.pop(name) for name in ANSWERS if name in there}
            try:
                numbers = {name: float(answers[name]) for name in ANSWERS[1:] if name in answers}
                yield ExampleRow(given=there, **{**answers, **numbers})
            except ValidationError as error:
                raise UserError(f"{where}, row {count}: {first_complaint(error)}") from None
            except ValueError as error:
                raise UserError(f"{where}, row {count}: {error}") from None
        if not count:
            raise UserError(f"{where}: it has no row; the first line names features, and expected, at_least or at_most")
