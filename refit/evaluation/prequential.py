"""How a learner of a stream does on test rows that it goes on learning, next to what needs no learning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.evaluation.holdout import Holdout, tidy
from refit.learners import Floats, Learner
from refit.learners.online import step_errors
from refit.learners.online.learner import Online
from refit.learners.online.stream_times import Moments, from_microseconds
from refit.learners.postprocessed import fitted_within
from refit.plain_text import number
from refit.problems.contract import aligned
from refit.schemas.online_state import StepBlock
from refit.schemas.prequential_report import PrequentialPoint, PrequentialReport

if TYPE_CHECKING:
    from refit.evaluation.scored import Scored

POINTS = 150  # of a curve
NEWEST = 20  # a rolling mean on test rows is over one part of so many, or over FEWEST steps
FEWEST = 50
GOES_ON, NO_CHANGE = "prequential", "no_change"


def report(learner: Learner, test: Holdout, scored: Scored) -> PrequentialReport | None:
    """What a learner of a stream predicted before it learned it; None for other learners.

    On test rows a copy goes on learning: each label from the time it is known. The candidate and the champion of the
    gate learn nothing there, because only rows that neither has learned can be compared. A copy that cannot learn them
    (it diverges) ends nothing: the report says so.
    """
    stream = fitted_within(learner)
    if not isinstance(stream, Online):
        return None
    labels = np.asarray(test.labels)
    classes = stream.spec.problem.classes
    own = labels if classes == test.problem.classes else _codes(test, classes)
    # Classes that it has not learned it cannot learn.
    learnable = own >= 0 if classes else np.ones(len(own), dtype=np.bool_)
    rows = test.table.filter(learnable) if not learnable.all() else test.table
    problem, labels, moments = test.problem, labels[learnable], Moments.of(rows)
    errors, alarms, fault = {}, stream.record.alarms, ""
    try:
        predicted, after = stream.prequential(rows, own[learnable])
    except UserError as failure:
        fault = failure.sentence
    else:
        errors[GOES_ON] = step_errors.errors_of(problem, labels, aligned(predicted, classes, problem.classes))
        alarms = after.record.alarms
    before = moments.learned_before(len(labels))
    errors[NO_CHANGE] = step_errors.no_change_errors(stream.spec.problem, own[learnable], before, stream.last_label)
    for name in ("candidate", "champion"):
        if name in scored.p:
            errors[name] = step_errors.errors_of(problem, labels, scored.p[name][learnable])
    window = max(FEWEST, len(labels) // NEWEST)
    event = moments.event
    steps, error, no_change = step_errors.totals(stream.record.blocks)
    return PrequentialReport(
        measure="mae" if problem.task == "regression" else "accuracy",
        window=window,
        learned_steps=steps,
        learned=_values(problem.task, {GOES_ON: _mean(error, steps), NO_CHANGE: _mean(no_change, steps)}),
        learned_points=tuple(_of_blocks(problem.task, stream.record.blocks)),
        test_steps=len(labels),
        test=_values(problem.task, {name: _mean(each.sum(), len(labels)) for name, each in errors.items()}),
        whole=_whole(problem.task, (steps, error, no_change), errors),
        test_points=tuple(_of_steps(problem.task, errors, window, None if event is None else event.tolist())),
        alarms=tuple(alarms),
        problem=fault,
    )


def _whole(task: str, learned: tuple[int, float, float], errors: Mapping[str, Floats]) -> dict[str, float]:
    """Training and test steps together: one pass through the stream."""
    steps, error, no_change = learned
    rows = steps + len(errors[NO_CHANGE])
    before = {GOES_ON: error, NO_CHANGE: no_change}
    sums = {name: total + errors[name].sum() for name, total in before.items() if name in errors}
    return _values(task, {name: _mean(each, rows) for name, each in sums.items()})


def _mean(total: float, count: int) -> float:
    return float(total) / count if count else math.nan


def _codes(test: Holdout, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels as codes of the learner's own classes; -1 for a class that it has not learned."""
    codes = [classes.index(name) if name in classes else -1 for name in test.problem.classes]
    own: NDArray[np.int64] = np.asarray(codes, dtype=np.int64)[np.asarray(test.labels)]
    return own


def _values(task: str, errors: Mapping[str, float]) -> dict[str, float]:
    """Accuracies, or mean absolute errors; without those that are undefined."""
    values = {name: tidy(error if task == "regression" else 1 - error) for name, error in errors.items()}
    return {name: value for name, value in values.items() if value is not None}


def _of_blocks(task: str, blocks: Sequence[StepBlock]) -> Iterator[PrequentialPoint]:
    """Points of the record, a few blocks each."""
    size = -(-len(blocks) // POINTS)
    for end in range(size, len(blocks) + size, size):
        part, so_far = (step_errors.totals(each) for each in (blocks[end - size : end], blocks[:end]))
        if not part[0]:
            continue
        rolling, cumulative = (
            {GOES_ON: errors / steps, NO_CHANGE: no_change / steps} for steps, errors, no_change in (part, so_far)
        )
        yield PrequentialPoint(
            time=blocks[min(end, len(blocks)) - 1].until,
            step=so_far[0],
            rolling=_values(task, rolling),
            cumulative=_values(task, cumulative),
        )


def _of_steps(
    task: str, errors: Mapping[str, Floats], window: int, event: Sequence[int] | None
) -> Iterator[PrequentialPoint]:
    sums = {name: np.concatenate([[0.0], np.cumsum(each)]) for name, each in errors.items()}
    rows = len(errors[NO_CHANGE])
    if not rows:
        return
    for step in np.unique(np.linspace(min(window, rows), rows, POINTS).astype(np.int64)).tolist():
        first = max(0, step - window)
        rolling = {name: float((each[step] - each[first]) / (step - first)) for name, each in sums.items()}
        yield PrequentialPoint(
            time=None if event is None else from_microseconds(event[step - 1]),
            step=step,
            rolling=_values(task, rolling),
            cumulative=_values(task, {name: float(each[step] / step) for name, each in sums.items()}),
        )


def flat(measured: PrequentialReport | None) -> Iterator[tuple[str, float]]:
    """The figures for `metrics.json`."""
    if measured is not None:
        for part, values in (("whole", measured.whole), ("test", measured.test)):
            yield from ((f"{part}_{name}_{measured.measure}", value) for name, value in values.items())


def remarks(measured: PrequentialReport | None) -> Iterator[str]:
    """Warn where the model could not go on learning, or where predicting the label known last does as well."""
    if measured is not None and measured.problem:
        yield f"it could not go on learning the test rows: {measured.problem}"
    if measured is None or not {"candidate", NO_CHANGE} <= set(measured.test):
        return
    ours, other = measured.test["candidate"], measured.test[NO_CHANGE]
    better = ours < other if measured.measure == "mae" else ours > other
    if not better:
        word = "a mean absolute error of" if measured.measure == "mae" else "an accuracy of"
        yield (
            f"predicting the label known last has {word} {number(other)} on the test rows, the candidate "
            f"{number(ours)}: it has learned no more than that nothing changes"
        )
