"""Fits the models of many groups of rows, in this process or by workers, which are given the rows of their group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

__all__ = ["GroupFit", "fit_all", "is_learnable"]

HELD_BACK = 0.2  # share of a group's rows, the newest, that chooses the number of iterations
EVENT_TIME = "event_time"
ROWS, LABELS, MODEL = "rows.arrow", "labels.npy", "model"

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class GroupFit:
    """One model to fit: its spec, and the rows of its group; None means all."""

    spec: Spec
    where: str
    iterations: int | None
    rows: Indices | None = None


@dataclass(frozen=True)
class LabelledGroups:
    """Rows with their labels, from which those of a fit are taken."""

    rows: pa.Table
    label: Labels

    def size(self, fit: GroupFit) -> int:
        return len(self.label) if fit.rows is None else len(fit.rows)

    def of(self, fit: GroupFit) -> Batch:
        """The rows of a fit, with their labels."""
        return (self.rows, self.label) if fit.rows is None else (taken(self.rows, fit.rows), self.label[fit.rows])


@dataclass(frozen=True)
class _Part:
    """A fit as it is sent to a worker; its rows lie in the folder, and its model will."""

    folder: Path
    spec: Spec
    where: str
    iterations: int | None
    searches: bool
    threads: int
    large: int


def is_learnable(spec: Spec, train: pa.Table, label: Labels, rows: Indices) -> bool:
    """Whether labels of a group's older rows have each class and those of its newest vary; of numbers, both vary."""
    older, newest_ones = (label[rows[part]] for part in _divided(_times(train)[rows]))
    classes = len(np.unique(older)) if spec.classes else 0
    return classes == len(spec.classes) and _vary(spec, older) and _vary(spec, newest_ones)


def fit_all(
    fits: Sequence[GroupFit],
    train: pa.Table,
    label: Labels,
    workers: FitWorkers | None,
    name: str,
    progress: Progress,
) -> tuple[list[Learner], list[FitReport]]:
    """Fit the models, and return them in the order given; the first is that of all rows.

    The smallest is fitted first. It shows whether this learner has iterations to choose, and whether its models can be
    stored: workers hand them over in files, so others are fitted in this process.
    """
    wanted = (*fits[0].spec.features, EVENT_TIME)
    rows = LabelledGroups(train.select([each for each in train.column_names if each in wanted]), label)

    def done(count: int) -> None:
        progress(f"fitting the models of {name}", count, len(fits))

    by_size = sorted(range(len(fits)), key=lambda index: rows.size(fits[index]))
    smallest, others = by_size[0], by_size[:0:-1]  # the largest first, so that none is waited for at the end
    with alone():  # workers neither judge curves nor write checkpoints
        searches = fits[smallest].iterations is None
        model, report = _fit(fits[smallest], *rows.of(fits[smallest]), searches=searches)
        fitted = {smallest: (model, report)}
        searches = searches and report.iterations is not None
        done(1)
        if workers is not None and model.unsafe_reason() is None:
            chosen = [fits[index] for index in others]
            by_workers = _fit_by(workers, chosen, rows, lambda count: done(1 + count), searches=searches)
            fitted |= dict(zip(others, by_workers, strict=True))
        else:
            for index in others:
                fitted[index] = _fit(fits[index], *rows.of(fits[index]), searches=searches)
                done(len(fitted))
    in_order = [fitted[index] for index in range(len(fits))]
    return [model for model, _ in in_order], [report for _, report in in_order]


def _fit_by(
    workers: FitWorkers, fits: Sequence[GroupFit], rows: LabelledGroups, done: Callable[[int], None], *, searches: bool
) -> list[tuple[Learner, FitReport]]:
    """Fit models by workers: each reads the rows of its group from a folder, and writes its model there."""
    pool = workers.started()
    with workers.folder() as folder:
        parts = []
        for number, fit in enumerate(fits):
            part = _Part(
                folder / f"{number:05d}", fit.spec, fit.where, fit.iterations, searches, pool.threads, workers.large
            )
            part.folder.mkdir()
            _write(part.folder, *rows.of(fit))
            parts.append(part)
        reports = pool.map(fit_part, parts, done)
        models = [load(part.folder / MODEL, trusted_types=part.spec.trusted_types) for part in parts]
    return list(zip(models, reports, strict=True))


def fit_part(part: _Part) -> FitReport:
    """Fit one model in a worker, and write it next to its rows."""
    import pyarrow as pa
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with pa.memory_map(str(part.folder / ROWS)) as file:
        rows = pa.ipc.open_file(file).read_all()
    label = np.load(part.folder / LABELS, allow_pickle=False)
    fit = GroupFit(part.spec, part.where, part.iterations)
    make(fit.spec, where=fit.where)  # imports its library, so that the limit of threads reaches it
    with large_arrays_in(part.folder, above=part.large), threadpool_limits(part.threads, user_api="openmp"):
        learner, report = _fit(fit, rows, label, searches=part.searches)
    with atomic_folder(part.folder / MODEL) as folder:
        learner.save(folder)
    return report


def _fit(fit: GroupFit, rows: pa.Table, label: Labels, *, searches: bool) -> tuple[Learner, FitReport]:
    """Fit a model to all rows, with the iterations that its newest rows choose where there are some to choose."""
    iterations = fit.iterations
    if searches:
        older, newest_ones = _divided(_times(rows))
        if _vary(fit.spec, label[older]) and _vary(fit.spec, label[newest_ones]):
            search = make(fit.spec, where=fit.where)
            unseen: Batch = taken(rows, newest_ones), label[newest_ones]
            iterations = search.fit(taken(rows, older), label[older], validation=unseen).iterations
    learner = make(fit.spec, where=fit.where)
    report = learner.fit(rows, label, iterations=iterations)
    return learner, replace(report, iterations=iterations)


def _divided(times: NDArray[Any]) -> tuple[Indices, Indices]:
    """Indices of the older and of the newest rows, each ascending."""
    last = newest(times, round(HELD_BACK * len(times)))
    return np.setdiff1d(np.arange(len(times)), last), last


def _vary(spec: Spec, label: Labels) -> bool:
    return len(label) > 0 and not spec.problem.constant_labels(label)


def _times(rows: pa.Table) -> NDArray[Any]:
    return rows[EVENT_TIME].to_numpy() if EVENT_TIME in rows.column_names else np.arange(rows.num_rows)


def _write(folder: Path, rows: pa.Table, label: Labels) -> None:
    import pyarrow as pa

    with pa.OSFile(str(folder / ROWS), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    np.save(folder / LABELS, label, allow_pickle=False)
