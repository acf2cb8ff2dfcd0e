"""Fits every enabled learner, shows how each learns, and writes the best one as the candidate."""

from __future__ import annotations

import resource
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import metrics
from tasks.artifacts import (
    CANDIDATE,
    FEATURE_SET,
    PROFILE,
    PROFILE_COUNTS,
    REFERENCE,
    TABLE,
    TRAINING,
    UNSEEN,
    FileRef,
    atomic_folder,
    digest,
    read_json,
    sha256,
    write_json,
    write_manifest,
)
from tasks.context import Context, Progress
from tasks.errors import RefitError, UserError
from tasks.learners import FitReport, Floats, Labels, Learner, Spec, make
from tasks.params import Params
from tasks.train.verdict import SizePoint, verdict

if TYPE_CHECKING:
    import pyarrow as pa

SIZE_SHARES = (0.1, 0.3)  # of the training window, most recent rows; the whole of it is the main fit
FEWEST_ROWS = 20  # in each window
REFERENCE_ROWS = 10_000


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


def run(context: Context) -> None:
    """The stage: `data/features/` to `models/candidate/` and `models/training.json`.

    Raises:
        UserError: a learner or an argument is unknown, the label is constant, or a window has too few rows.
        RefitError: an input is missing or torn, or a learner predicts what is no probability.
    """
    from tasks.tracking import log_training

    started = time.monotonic()
    params = context.params
    features = read_json(context.path(FEATURE_SET))
    specs = _specs(params, features)
    _make_all(specs, params)
    train, validation = _windows(context, features)
    trials = [_trial(spec, train, validation, params, context.progress) for spec in specs]
    best = choose(trials, params.train.metric)
    learner, rows = _refit(best, train, validation, context.progress)
    inputs = _inputs(context, features)
    context.path(TRAINING).unlink(missing_ok=True)  # never beside a candidate that it does not describe
    with atomic_folder(context.path(CANDIDATE)) as folder:
        learner.save(folder)
        for kept in (FEATURE_SET, PROFILE, PROFILE_COUNTS):
            shutil.copyfile(context.path(kept), folder / kept.name)
        _write_unseen(folder / UNSEEN, validation, best.predicted)
        _write_reference(folder / REFERENCE, train, validation, features["features"])
        write_manifest(folder)
    both = np.concatenate([train.label, validation.label])
    write_json(
        context.path(TRAINING),
        {
            "learner": best.learner.spec.name,
            "metric": params.train.metric,
            "seed": params.train.seed,
            "model_digest": learner.digest(),
            "threshold": learner.threshold,
            "seen_until": features["windows"]["validation"]["end"],
            "inputs": inputs,
            "baseline": {"rate": float(both.mean())},
            "rows": {"train": len(train), "validation": len(validation)},
            "refit_rows": rows,
            "seconds": round(time.monotonic() - started, 3),
            "learners": [_told(trial, trials, params.train.metric) for trial in trials],
        },
    )
    log_training(context)


def _write_unseen(path: Path, validation: Window, predicted: Floats) -> None:
    """The validation window with predictions of the fit that had not seen it: what the model is worth on new rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"event_time": validation.rows["event_time"], "prediction": predicted, "label": validation.label}
    pq.write_table(pa.table(columns), path, compression="zstd")


def _write_reference(path: Path, train: Window, validation: Window, features: list[str]) -> None:
    """Rows spread evenly over what the candidate learned from, so that one can ask later whether new ones are alike."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.concat_tables([train.rows, validation.rows]).select(["event_time", *features])
    places = np.unique(np.linspace(0, len(rows) - 1, min(REFERENCE_ROWS, len(rows))).astype(np.int64))
    pq.write_table(rows.take(places), path, compression="zstd")


def choose(trials: list[Trial], metric: str) -> Trial:
    """The trial with the best validation score among those with a safe format; of equal ones the first by name.

    Raises:
        UserError: none has a safe format.
    """
    storable = [trial for trial in trials if trial.not_chosen is None]
    if not storable:
        reasons = "; ".join(f"{trial.learner.spec.name}: {trial.not_chosen}" for trial in trials)
        raise UserError(f"no learner can be stored without pickle, so there is no candidate: {reasons}")
    by_name = sorted(storable, key=lambda trial: trial.learner.spec.name)
    return max(by_name, key=lambda trial: metrics.gain(metric, trial.validation[metric], 0.0))


def _specs(params: Params, features: dict[str, Any]) -> list[Spec]:
    return [
        Spec(
            name=learner.name,
            kind=learner.kind,
            params=learner.params,
            features=tuple(features["features"]),
            categorical=frozenset(features["categorical"]),
            seed=params.train.seed,
            metric=params.train.metric,
            trusted_types=params.registry.trusted_types,
        )
        for learner in params.train.learners
        if learner.enabled
    ]


def _make_all(specs: list[Spec], params: Params) -> None:
    """Make every learner once, so that a mistake in the last one is found before the first is fitted."""
    place = {learner.name: index for index, learner in enumerate(params.train.learners)}
    problems = []
    for spec in specs:
        try:
            make(spec, where=f"params.yaml: train.learners[{place[spec.name]}]")
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(
            problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} learners are wrong:", *problems])
        )


def _windows(context: Context, features: dict[str, Any]) -> tuple[Window, Window]:
    """The training and validation windows, ordered by event time and key whatever the order of the file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = FileRef(TABLE.as_posix(), **features["table"]).resolve(context.project)
    wanted = ["event_time", features["key"], "window", "label", *features["features"]]
    try:
        table = pq.read_table(path, columns=list(dict.fromkeys(wanted)), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise RefitError(f"{path} cannot be read ({error}); delete it and run `refit stage featurize` again") from None
    order = pc.sort_indices(table, [("event_time", "ascending"), (features["key"], "ascending")]).to_numpy()
    if (np.diff(order) != 1).any():
        table = table.take(order)
    windows = []
    for name in ("train", "validation"):
        rows = table.filter(pc.equal(table["window"], name))
        windows.append(_checked(name, Window(rows, rows["label"].to_numpy().astype(np.int64))))
    return windows[0], windows[1]


def _checked(name: str, window: Window) -> Window:
    advice = "widen featurize.windows, or move --as-of"
    if len(window) < FEWEST_ROWS:
        raise UserError(
            f"the {name} window has {len(window)} rows, {FEWEST_ROWS} are the fewest to learn from; {advice}"
        )
    if len(np.unique(window.label)) == 1:
        raise UserError(
            f"the label is constant in the {name} window: all {len(window):,} rows are {window.label[0]}; "
            f"both classes are needed: check featurize.label, or {advice}"
        )
    return window


def _trial(spec: Spec, train: Window, validation: Window, params: Params, progress: Progress) -> Trial:
    """Fit one learner on the training window, with the curves that show how it learns."""
    progress(f"fitting {spec.name}")
    learner = make(spec)
    started = time.monotonic()
    report = learner.fit(train.rows, train.label, validation=(validation.rows, validation.label), progress=progress)
    seconds = time.monotonic() - started
    recent = train.recent(len(validation))  # as many rows as the validation window, and as near to it in time
    predicted = _predict(learner, validation)
    threshold = metrics.best_f1_threshold(validation.label, predicted)
    task, metric = params.train.task, params.train.metric
    on_validation = metrics.scores(task, validation.label, predicted, threshold)
    on_training = metrics.scores(task, recent.label, _predict(learner, recent), threshold)
    sizes: tuple[SizePoint, ...] = ()
    if spec.kind != "baseline":
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
        peak_memory_mb=_peak_memory_mb(),
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
        training = score(recent.label, _predict(learner, recent))
        points.append(SizePoint(len(part), training, score(validation.label, _predict(learner, validation))))
    return points


def _refit(best: Trial, train: Window, validation: Window, progress: Progress) -> tuple[Learner, int]:
    """The candidate: the best learner on both windows, with the iterations that the validation window fixed."""
    import pyarrow as pa

    rows = pa.concat_tables([train.rows, validation.rows])
    label = np.concatenate([train.label, validation.label])
    progress(f"fitting {best.learner.spec.name} on {len(label):,} rows")
    learner = make(best.learner.spec)
    learner.fit(rows, label, iterations=best.report.iterations, progress=progress)
    learner.threshold = best.threshold
    return learner, len(label)


def _predict(learner: Learner, window: Window) -> Floats:
    """Predictions that are probabilities, or an error that says which learner's are not."""
    predicted = learner.predict(window.rows)
    wrong = int(np.sum(~((predicted >= 0) & (predicted <= 1))))
    if predicted.shape != (len(window),) or wrong:
        raise RefitError(
            f"learner {learner.spec.name!r} predicted {wrong} values of {len(window):,} that are no probability "
            f"(NaN or outside 0 to 1); change its params, or disable it in train.learners"
        )
    return predicted


def _inputs(context: Context, features: dict[str, Any]) -> str:
    """The candidate's name: a digest of everything that decided it."""
    return digest(
        {
            "features": sha256(context.path(FEATURE_SET)),
            "table": features["table"]["sha256"],
            "train": context.params.train.model_dump(mode="json"),
            "trusted_types": context.params.registry.trusted_types,
        }
    )


def _told(trial: Trial, trials: list[Trial], metric: str) -> dict[str, Any]:
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


def _peak_memory_mb() -> float:
    """The process's high-water mark so far (Linux counts it in KiB)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
