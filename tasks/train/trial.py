"""One learner tried: fitted on one window, scored on the next, with the curves that show how it learns."""

from __future__ import annotations

import resource
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import metrics
from tasks.context import Progress
from tasks.errors import RefitError
from tasks.learners import FitReport, Floats, Labels, Learner, Spec, make
from tasks.params import Params
from tasks.train.verdict import SizePoint, verdict

if TYPE_CHECKING:
    import pyarrow as pa

SIZE_SHARES = (0.1, 0.3)  # of the training window, most recent rows; the whole of it is the main fit
FEWEST_ROWS = 20  # in each window


@dataclass(frozen=True)
class Window:
    """Rows of one window in canonical order, with their labels."""

    rows: pa.Table
    label: Labels

    def __len__(self) -> int:
        return len(self.label)

    def recent(self, rows: int) -> Window:
        """The last `rows` rows."""
        start = max(0, len(self) - rows)
        return Window(self.rows.slice(start), self.label[start:])


@dataclass(frozen=True)
class Trial:
    """One learner fitted on the training window and scored on the validation window."""

    learner: Learner
    report: FitReport
    training: dict[str, float]
    validation: dict[str, float]
    predicted: Floats  # for the validation window, by this fit, which has not seen it
    threshold: float
    seconds: float
    rows_per_second: float
    peak_memory_mb: float
    size_curve: tuple[SizePoint, ...]
    not_chosen: str | None


@dataclass(frozen=True)
class Trained:
    """The candidate, the trials that led to it, and the rows that the best of them had not seen."""

    learner: Learner
    best: Trial
    trials: list[Trial]
    rows: int
    unseen: Window


def fitted(
    spec: Spec, train: Window, validation: Window, params: Params, progress: Progress, *, size_curves: bool = True
) -> Trial:
    """Fit one learner on the training window, with the curves that show how it learns."""
    progress(f"fitting {spec.name}")
    learner = make(spec)
    started = time.monotonic()
    report = learner.fit(train.rows, train.label, validation=(validation.rows, validation.label), progress=progress)
    seconds = time.monotonic() - started
    recent = train.recent(len(validation))  # as many rows as the validation window, and as near to it in time
    predicted = predict(learner, validation)
    threshold = metrics.best_f1_threshold(validation.label, predicted)
    task, metric = params.train.task, params.train.metric
    on_validation = metrics.scores(task, validation.label, predicted, threshold)
    on_training = metrics.scores(task, recent.label, predict(learner, recent), threshold)
    sizes: tuple[SizePoint, ...] = ()
    if size_curves and spec.kind != "baseline":
        smaller = _size_curve(spec, report, train, validation, progress)
        sizes = (*smaller, SizePoint(len(train), on_training[metric], on_validation[metric]))
    return Trial(
        learner=learner,
        report=report,
        training=on_training,
        validation=on_validation,
        predicted=predicted,
        threshold=threshold,
        seconds=round(seconds, 3),
        rows_per_second=round(len(train) / max(seconds, 1e-9)),
        peak_memory_mb=peak_memory_mb(),
        size_curve=sizes,
        not_chosen=learner.obstacle(),
    )


def _size_curve(
    spec: Spec, report: FitReport, train: Window, validation: Window, progress: Progress
) -> list[SizePoint]:
    """Scores of the same learner, with the same iterations, fitted on fewer and fewer recent rows."""
    score = metrics.METRICS[spec.metric]
    points = []
    for share in SIZE_SHARES:
        part = train.recent(round(share * len(train)))
        if len(part) < FEWEST_ROWS or len(np.unique(part.label)) == 1:
            continue
        progress(f"learning curve of {spec.name}, {len(part):,} rows")
        learner = make(spec)
        learner.fit(part.rows, part.label, iterations=report.iterations)
        recent = part.recent(len(validation))
        training = score(recent.label, predict(learner, recent))
        points.append(SizePoint(len(part), training, score(validation.label, predict(learner, validation))))
    return points


def predict(learner: Learner, window: Window) -> Floats:
    """Predictions that are probabilities, or an error that says which learner's are not."""
    predicted = learner.predict(window.rows)
    wrong = int(np.sum(~((predicted >= 0) & (predicted <= 1))))
    if predicted.shape != (len(window),) or wrong:
        raise RefitError(
            f"learner {learner.spec.name!r} predicted {wrong} values of {len(window):,} that are no probability "
            f"(NaN or outside 0 to 1); change its params, or disable it in train.learners"
        )
    return predicted


def told(trial: Trial, trials: list[Trial], metric: str) -> dict[str, Any]:
    """A trial as `models/training.json` has it."""
    spec = trial.learner.spec
    baseline = next((t.validation[metric] for t in trials if t.learner.spec.kind == "baseline"), None)
    return {
        "name": spec.name,
        "kind": spec.kind,
        "params": spec.params,
        "training": trial.training,
        "validation": trial.validation,
        "threshold": trial.threshold,
        "iterations": trial.report.iterations,
        "seconds": trial.seconds,
        "rows_per_second": trial.rows_per_second,
        "peak_memory_mb": trial.peak_memory_mb,
        "curve": [asdict(point) for point in trial.report.curve],
        "size_curve": [asdict(point) for point in trial.size_curve],
        "warnings": list(trial.report.warnings),
        "not_chosen": trial.not_chosen,
        "verdict": verdict(
            metric,
            training=trial.training[metric],
            validation=trial.validation[metric],
            baseline=baseline,
            last_iteration_best=bool(trial.report.curve)
            and trial.report.curve[-1].iteration == trial.report.iterations,
            size_curve=trial.size_curve,
        ),
    }


def peak_memory_mb() -> float:
    """The process's high-water mark so far (Linux counts it in KiB)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
