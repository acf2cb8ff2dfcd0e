"""Fits the models of many groups of rows, in this process or by workers, which are given the rows of their group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError, machine_fault
from refit.files.artifacts import atomic_folder
from refit.learners import load, make
from refit.learners.contract import Batch, FitReport, Labels, Learner, Spec
from refit.learners.fit_workers import FitWorkers
from refit.learners.networks.surroundings import alone
from refit.learners.newest import newest, taken
from refit.learners.spill import large_arrays_in
from refit.runtime.context import Progress

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Fitted", "GroupFit", "LabelledGroups", "event_times", "fit_all", "is_learnable", "needed"]

HELD_BACK = 0.2  # share of a group's rows, the newest, that chooses the number of iterations
EVENT_TIME = "event_time"
ROWS, LABELS, MODEL = "rows.arrow", "labels.npy", "model"

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class GroupFit:
    """One model to fit."""

    spec: Spec
    where: str
    iterations: int | None
    required: bool = False  # an error is raised: nothing can stand in for this model


@dataclass(frozen=True)
class Fitted:
    """A fitted model with its report."""

    model: Learner
    report: FitReport


class LabelledGroups:
    """Rows with their labels: all of them, followed by those of each group.

    The rows of groups are copied once, so that each group's lie next to each other: a group alone would copy the table,
    as rows of a table in chunks are taken from the whole of its columns.
    """

    def __init__(self, rows: pa.Table, label: Labels, groups: Sequence[Indices]) -> None:
        order = np.concatenate([np.arange(0), *groups])
        self._all: Batch = rows, label
        self._grouped: Batch = rows.take(order), label[order]
        self._edges = np.cumsum([0, *map(len, groups)]).tolist()

    def size(self, number: int) -> int:
        return len(self._all[1]) if number == 0 else self._edges[number] - self._edges[number - 1]

    def of(self, number: int) -> Batch:
        """The rows of a group, numbered from 1 on, with their labels; 0 means all."""
        if number == 0:
            return self._all
        rows, label = self._grouped
        start, end = self._edges[number - 1 : number + 1]
        return rows.slice(start, end - start), label[start:end]


@dataclass(frozen=True)
class _Part:
    """A fit as it is sent to a worker; its rows lie in the folder, and its model will."""

    folder: Path
    fit: GroupFit
    searches: bool
    threads: int
    large: int


def needed(spec: Spec, rows: pa.Table) -> pa.Table:
    """The columns that a model may read: its features, and when the row was."""
    return rows.select([name for name in rows.column_names if name in (*spec.features, EVENT_TIME)])


def is_learnable(spec: Spec, times: NDArray[Any], label: Labels) -> bool:
    """Whether labels of a group's older rows have each class and those of its newest vary; of numbers, both vary."""
    older, newest_ones = (label[part] for part in _divided(times))
    classes = len(np.unique(older)) if spec.classes else 0
    return classes == len(spec.classes) and _vary(spec, older) and _vary(spec, newest_ones)


def fit_all(
    fits: Sequence[GroupFit],
    rows: LabelledGroups,
    workers: FitWorkers | None,
    name: str,
    progress: Progress,
) -> tuple[Fitted, list[Fitted | UserError]]:
    """Fit the models; the first is that of all rows, and the others, in the order given, are those of the groups.

    The smallest that can be fitted is fitted first. It shows whether this learner has iterations to choose, and whether
    its models can be stored: workers hand them over in files, so others are fitted in this process.

    Returns:
        the model of all rows, and of each group its model, or the error for which its rows have none.

    Raises:
        UserError: the model of all rows cannot be fitted.
    """
    fitted: dict[int, Fitted | UserError] = {}

    def done(count: int) -> None:
        progress(f"fitting the models of {name}", count, len(fits))

    waiting = sorted(range(len(fits)), key=rows.size, reverse=True)  # so that none is waited for at the end
    with alone():  # workers neither judge curves nor write checkpoints
        searches, first = fits[0].iterations is None, None
        while waiting and not isinstance(first, Fitted):
            index = waiting.pop()
            first = fitted[index] = _tried(fits[index], *rows.of(index), searches=searches)
            done(len(fitted))
        if isinstance(first, Fitted):
            searches = searches and first.report.iterations is not None
        if workers is not None and waiting and isinstance(first, Fitted) and first.model.unsafe_reason() is None:
            before, chosen = len(fitted), [(fits[index], rows.of(index)) for index in waiting]
            by_workers = _fit_by(workers, chosen, lambda count: done(before + count), searches=searches)
            fitted |= dict(zip(waiting, by_workers, strict=True))
        else:
            for index in waiting:
                fitted[index] = _tried(fits[index], *rows.of(index), searches=searches)
                done(len(fitted))
    of_all, *of_groups = (fitted[index] for index in range(len(fits)))
    assert isinstance(of_all, Fitted)
    return of_all, of_groups


def _fit_by(
    workers: FitWorkers, fits: Sequence[tuple[GroupFit, Batch]], done: Callable[[int], None], *, searches: bool
) -> list[Fitted | UserError]:
    """Fit models by workers: each reads the rows of its group from a folder, and writes its model there."""
    pool = workers.started()
    with workers.folder() as folder:
        parts = []
        for number, (fit, of_fit) in enumerate(fits):
            part = _Part(folder / f"{number:05d}", fit, searches, pool.threads, workers.large)
            part.folder.mkdir()
            _write(part.folder, *of_fit)
            parts.append(part)
        return [
            report
            if isinstance(report, UserError)
            else Fitted(load(part.folder / MODEL, trusted_types=part.fit.spec.trusted_types), report)
            for part, report in zip(parts, pool.map(fit_part, parts, done), strict=True)
        ]


def fit_part(part: _Part) -> FitReport | UserError:
    """Fit one model in a worker, and write it next to its rows; return the error if these cannot be fitted."""
    import pyarrow as pa
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with pa.memory_map(str(part.folder / ROWS)) as file:
        rows = pa.ipc.open_file(file).read_all()
    label = np.load(part.folder / LABELS, allow_pickle=False)
    make(part.fit.spec, where=part.fit.where)  # imports its library, so that the limit of threads reaches it
    with large_arrays_in(part.folder, above=part.large), threadpool_limits(part.threads, user_api="openmp"):
        fitted = _tried(part.fit, rows, label, searches=part.searches)
    if isinstance(fitted, UserError):
        return fitted
    with atomic_folder(part.folder / MODEL) as folder:
        fitted.model.save(folder)
    return fitted.report


def _tried(fit: GroupFit, rows: pa.Table, label: Labels, *, searches: bool) -> Fitted | UserError:
    """Fit a model; return the error if its rows cannot be fitted."""
    try:
        return _fit(fit, rows, label, searches=searches)
    except UserError as error:
        if fit.required or machine_fault(error) is not None:
            raise
        return error


def _fit(fit: GroupFit, rows: pa.Table, label: Labels, *, searches: bool) -> Fitted:
    """Fit a model to all rows, with the iterations that its newest rows choose where there are some to choose."""
    iterations = fit.iterations
    if searches:
        older, newest_ones = _divided(event_times(rows))
        if _vary(fit.spec, label[older]) and _vary(fit.spec, label[newest_ones]):
            search = make(fit.spec, where=fit.where)
            unseen: Batch = taken(rows, newest_ones), label[newest_ones]
            iterations = search.fit(taken(rows, older), label[older], validation=unseen).iterations
    learner = make(fit.spec, where=fit.where)
    report = learner.fit(rows, label, iterations=iterations)
    return Fitted(learner, replace(report, iterations=iterations))


def _divided(times: NDArray[Any]) -> tuple[Indices, Indices]:
    """Indices of the older and of the newest rows, each ascending."""
    last = newest(times, round(HELD_BACK * len(times)))
    return np.setdiff1d(np.arange(len(times)), last), last


def _vary(spec: Spec, label: Labels) -> bool:
    return len(label) > 0 and not spec.problem.constant_labels(label)


def event_times(rows: pa.Table) -> NDArray[Any]:
    """(rows,) when each row was; its number where the table does not say."""
    return rows[EVENT_TIME].to_numpy() if EVENT_TIME in rows.column_names else np.arange(rows.num_rows)


def _write(folder: Path, rows: pa.Table, label: Labels) -> None:
    import pyarrow as pa

    with pa.OSFile(str(folder / ROWS), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    np.save(folder / LABELS, label, allow_pickle=False)
