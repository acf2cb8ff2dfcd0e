"""The stage `train`: fits every enabled learner, measures how each learns, and writes the best as candidate."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refit.config.baselines import check_baselines
from refit.config.behaviour import check_behaviour
from refit.config.evaluate import check_columns
from refit.config.forecasting import KNOWN_AT
from refit.config.windows import LATE, UNLABELLED
from refit.errors import RefitError, UserError
from refit.files.artifacts import (
    CANDIDATE,
    CHECKPOINTS,
    FEATURE_SET,
    MODELS_USED,
    PROFILE,
    PROFILE_COUNTS,
    REFERENCE,
    STATE,
    TRAINING,
    UNSEEN,
    atomic_folder,
    digest,
    sha256,
    write_manifest,
)
from refit.learners import Floats, Learner, Spec, make, project_files
from refit.learners.embeddings import embedded
from refit.learners.fit_workers import fitting_with
from refit.learners.networks.surroundings import checkpoints_in
from refit.learners.spill import large_arrays_in
from refit.problems import metric_named
from refit.problems.contract import Problem, as_column
from refit.runtime import memory
from refit.runtime.context import Context, Progress
from refit.schemas.feature_table import FeatureColumns, FeatureTable
from refit.schemas.training import Training, TrainingRows
from refit.schemas.warm_start import WarmStart
from refit.storage.arrays import summarised
from tasks.train import group_models, interval_margins, segment_study, warm
from tasks.train.folds import PREDICTED_AT, Development, LabelledRows, development, require_late, require_learnable
from tasks.train.problem import problem_in
from tasks.train.specs import make_all, specs_of
from tasks.train.start import keep_names, parent_of, require_unseen, start_of, warn_of_parent
from tasks.train.table import read as read_table
from tasks.train.trial import Trained, Trial, fit_rows, fitted, last_rows, trial_reports

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.problems.contract import Naive

REFERENCE_ROWS = 10_000
LARGE = 8  # an array of this part of the memory that a stage may use lies in a file


def run(context: Context) -> None:
    """Train on `data/features/`; writes `models/candidate/` and `models/training.json`.

    Raises:
        UserError: a learner or an argument is unknown, the label is constant, or a window has too few rows.
        RefitError: an input is missing or damaged, or the predictions of a learner are invalid.
    """
    large = memory.allowed(context.params) // LARGE
    side_by_side = fitting_with(context.workers, context.params.resources.workers, context.path("data"), large=large)
    in_files = large_arrays_in(context.path(STATE) / "spill", above=large)
    with checkpoints_in(context.path(CHECKPOINTS)), in_files, side_by_side:
        _train(context)


def _train(context: Context) -> None:
    from refit.models.live_logging import epochs_logged
    from refit.models.run_logging import log_training

    started = time.monotonic()
    params = context.params
    features = FeatureTable.read(context.path(FEATURE_SET))
    start = start_of(context)
    specs = specs_of(params, features, context.project, parent_of(context, start, features))
    make_all(specs, params)
    if features.task != params.task:
        raise RefitError(f"the features were made for task {features.task!r}; run `refit stage featurize` again")
    of_train, of_validation = features.windows.train, features.windows.validation
    require_late(specs, of_train.late, params, apart=of_train.end < of_validation.start)
    train, validation = _windows(context, features, specs[0].problem)
    left_out = 0 if params.train.max_rows is None else max(0, of_train.rows - len(train))
    if left_out:
        context.progress(f"{len(train):,} of {of_train.rows:,} training rows, drawn by their keys (train.max_rows)")
    if fault := specs[0].problem.unusable(train.rows.select(list(features.features))):
        raise UserError(fault)
    cells = [name for name in train.rows.column_names if name not in (*features.arrays, PREDICTED_AT)]
    check_columns(params.evaluate, cells)
    check_baselines(params, features.features)
    check_behaviour(params.evaluate.behaviour, features, cells, context.project, params.train.task)
    inputs = inputs_digest(context, start)
    with epochs_logged(context, inputs):
        if start.version is None or params.train.warm_start is None:
            trained = from_scratch(specs, train, validation, context)
        else:
            require_unseen(context, start, features)
            opens = None if params.featurize.windows.training is None else of_train.start
            trained = warm.go_on(context, specs, start, train, validation, opens=opens)
    learner, best = trained.learner, trained.best
    warn_of_parent(context, start, features, trained.unseen.rows)
    keep_names(context, learner, start, _features(learner, train, validation))
    segments = segment_study.of_candidate(context, learner, (train.rows, validation.rows))
    context.path(TRAINING).unlink(missing_ok=True)  # never next to a candidate that it does not describe
    with atomic_folder(context.path(CANDIDATE)) as folder:
        learner.save(folder)
        for source in (FEATURE_SET, PROFILE, PROFILE_COUNTS):
            shutil.copyfile(context.path(source), folder / source.name)
        if context.path(MODELS_USED).is_dir():
            shutil.copytree(context.path(MODELS_USED), folder / MODELS_USED.name)
        _write_unseen(folder / UNSEEN, trained.unseen, trained.reference())
        _write_reference(folder / REFERENCE, train, validation, features)
        write_manifest(folder)
    target = learner.spec.problem
    seconds = time.monotonic() - started
    Training(
        learner=best.learner.spec.name,
        task=target.task,
        classes=target.classes,
        metric=params.train.metric,
        seed=params.train.seed,
        model_digest=learner.digest(),
        threshold=learner.threshold,
        intervals=interval_margins.interval_summary(learner),
        seen_until=_seen_until(features, start),
        split=features.split,
        inputs=inputs,
        baseline=_baseline(learner, train, validation, params.train.metric),
        rows=TrainingRows(train=len(train), validation=len(validation), left_out=left_out),
        refit_rows=trained.rows,
        started_from=start,
        seconds=round(seconds, 3),
        work_seconds=round(seconds + _work_beyond(trained.trials), 3),
        learners=trial_reports(trained, params.train.metric, segments, group_models.of_candidate(trained)),
    ).write(context.path(TRAINING))
    log_training(context)


def _seen_until(features: FeatureTable, start: WarmStart) -> datetime:
    """The end of the data that a candidate knows: of its rows, or of those that its start has learned from."""
    own = features.windows.validation.seen_until
    return max(own, start.known_until or own) if features.split is None else own


def _work_beyond(trials: Sequence[Trial]) -> float:
    """Return the seconds of trials of searches in addition to those that passed: parallel and earlier ones."""
    searches = [trial.tuning for trial in trials if trial.tuning]
    return max(0.0, sum(search.work_seconds - search.seconds for search in searches))


def from_scratch(
    specs: list[Spec], train: LabelledRows, validation: LabelledRows, context: Context, *, size_curves: bool = True
) -> Trained:
    """Choose the best learner and fit it again on both windows.

    Args:
        size_curves: fit smaller shares as well, to show whether more rows would help; the candidate is the same.
    """
    rows = development(train, validation, context.params, specs[0].problem)
    interval_margins.check(rows, context.params)
    for spec in specs:
        if spec.source and (why := project_files.unsafe_reason(spec)):
            context.progress(f"warning: {spec.name} is compared and never chosen: {why}")
    trials = [_run_trial(spec, rows, context, size_curves=size_curves) for spec in specs]
    best = choose(trials, context.params.train.metric)
    refitted, count = _refit(best, rows, context.progress)
    learner = interval_margins.with_intervals(refitted, best, rows, context.params, context.progress)
    return Trained(learner, best, trials, count, rows.whole.at(best.unseen))


def _run_trial(spec: Spec, rows: Development, context: Context, *, size_curves: bool) -> Trial:
    """Fit one learner with its configured arguments, or with the best ones of a search."""
    params = context.params
    space = next(learner.search for learner in params.train.learners if learner.name == spec.name)
    tuning = None
    if space:
        from tasks.train.search_space import Search
        from tasks.train.stored_trials import shared_store
        from tasks.train.tuning import tune

        search = Search(space, params.train.tuning, params.train.metric)
        alone, store = replace(spec, average=1), shared_store(context)
        best, tuning = tune(alone, search, rows, context.project, context.progress, context.workers, store)
        spec = replace(best, average=spec.average)
    trial = fitted(spec, rows, params, context.progress, size_curves=size_curves)
    return replace(trial, tuning=tuning)


def _features(learner: Learner, train: LabelledRows, validation: LabelledRows) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([train.rows, validation.rows]).select(list(learner.spec.features))


def _baseline(learner: Learner, train: LabelledRows, validation: LabelledRows, metric: str) -> Naive:
    both = np.concatenate([train.label, validation.label])
    return learner.spec.problem.opponent(learner, both, metric, _features(learner, train, validation))


def require_own(context: Context, learner: Learner, training: Training) -> Training:
    """Check what a training elsewhere says of itself against this project; return it with the baseline made here.

    Raises:
        RefitError: it says other than the project's features and params, or its model solves another problem.
    """
    params, features = context.params, FeatureTable.read(context.path(FEATURE_SET))
    specs, start = specs_of(params, features, context.project), start_of(context)
    train, validation = _windows(context, features, specs[0].problem)
    left_out = 0 if params.train.max_rows is None else max(0, features.windows.train.rows - len(train))
    given = {
        "task": (training.task, features.task),
        "classes": (training.classes, specs[0].problem.classes),
        "metric": (training.metric, params.train.metric),
        "seed": (training.seed, params.train.seed),
        "seen_until": (training.seen_until, _seen_until(features, start)),
        "split": (training.split, features.split),
        "started_from": (training.started_from, start),
        "rows": (training.rows, TrainingRows(train=len(train), validation=len(validation), left_out=left_out)),
        "threshold": (training.threshold, learner.threshold),
        "intervals": (training.intervals, interval_margins.interval_summary(learner)),
        "problem": (learner.spec.problem, specs[0].problem),
    }
    for name, (theirs, ours) in given.items():
        if theirs != ours:
            raise RefitError(f"the training says {name} {theirs}, and this project {ours}: it is no training of it")
    if unknown := sorted(set(learner.spec.features) - set(features.features)):
        raise RefitError(f"the model reads {', '.join(unknown)}, and the features are {', '.join(features.features)}")
    return training.model_copy(update={"baseline": _baseline(learner, train, validation, params.train.metric)})


def _write_unseen(path: Path, validation: LabelledRows, predicted: Floats) -> None:
    """Write the predictions that those of production are compared with, and their labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = validation.rows["label"]
    columns = {"event_time": validation.rows["event_time"], "prediction": as_column(predicted), "label": label}
    pq.write_table(pa.table(columns), path, compression="zstd")


def _write_reference(path: Path, train: LabelledRows, validation: LabelledRows, features: FeatureColumns) -> None:
    """Write rows spread evenly over the training data, as a reference to compare new rows with."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.concat_tables([train.rows, validation.rows]).select(["event_time", *features.features])
    indices = np.unique(np.linspace(0, len(rows) - 1, min(REFERENCE_ROWS, len(rows))).astype(np.int64))
    sample = rows.take(indices)
    table = summarised(sample, features.arrays)
    for name, numbers in embedded(sample, features.arrays).items():
        table = table.append_column(name, pa.array(numbers, from_pandas=True))
    pq.write_table(table, path, compression="zstd")


def choose(trials: list[Trial], metric: str) -> Trial:
    """Return the trial with the best validation score and a safe format; of equal ones the first by name.

    Raises:
        UserError: no trial has a safe format.
    """
    storable = [trial for trial in trials if trial.not_chosen is None]
    if not storable:
        reasons = "; ".join(f"{trial.learner.spec.name}: {trial.not_chosen}" for trial in trials)
        raise UserError(f"no learner can be stored without pickle, so there is no candidate: {reasons}")
    by_name = sorted(storable, key=lambda trial: trial.learner.spec.name)
    return max(by_name, key=lambda trial: metric_named(metric).gain(trial.validation[metric], 0.0))


def labelled_rows(context: Context, features: FeatureTable, target: Problem) -> LabelledRows:
    """Read the rows of the feature table, ordered by event time and key; those without a label apart.

    All are read, or as many of the training window as `train.max_rows` allows.

    Raises:
        RefitError: the table is missing, damaged or different.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = features.table.path(context.project)
    wanted = ["event_time", features.key, "window", "label", *features.extra_columns, *features.features]
    try:
        there = set(pq.read_schema(path).names)
        known_at = () if target.optional_label else (KNOWN_AT,)  # folds in time take rows whatever is known of them
        wanted += [name for name in (PREDICTED_AT, *known_at) if name in there]  # older tables lack the second
        table = read_table(
            path,
            list(dict.fromkeys(wanted)),
            key=features.key,
            max_rows=context.params.train.max_rows,
            seed=context.params.train.seed,
        )
    except (OSError, pa.ArrowException) as error:
        raise RefitError(f"{path} cannot be read ({error}); delete it and run `refit stage featurize` again") from None
    order = pc.sort_indices(table, [("event_time", "ascending"), (features.key, "ascending")]).to_numpy()
    if (np.diff(order) != 1).any():
        table = table.take(order)
    late, is_late = None, pc.ends_with(table["window"], f" {LATE}")
    if pc.any(is_late).as_py():
        apart, table = table.filter(is_late), table.filter(pc.invert(is_late))
        late = LabelledRows(apart, target.labels(apart["label"]))
    if not features.labels.unlabelled:
        return LabelledRows(table, target.labels(table["label"]), late=late)
    without = pc.ends_with(table["window"], f" {UNLABELLED}")
    rows = table.filter(pc.invert(without))
    return LabelledRows(rows, target.labels(rows["label"]), table.filter(without))


def _windows(context: Context, features: FeatureTable, target: Problem) -> tuple[LabelledRows, LabelledRows]:
    """Return the training and validation windows; with cross-validation the folds are checked instead of these."""
    everything = labelled_rows(context, features, target)
    train, validation = everything.named("train"), everything.named("validation")
    if context.params.train.cross_validation is None:
        require_learnable_windows(train, validation, target)
    return train, validation


def require_learnable_windows(train: LabelledRows, validation: LabelledRows, target: Problem) -> None:
    """Raise UserError if nothing can be learned from one of the windows."""
    advice = "widen featurize.windows, or move --as-of"
    for name, window in (("train", train), ("validation", validation)):
        count = f"has {len(window)} rows"
        require_learnable(f"the {name} window", window.label, target, count=count, advice=advice)


def _refit(best: Trial, rows: Development, progress: Progress) -> tuple[Learner, int]:
    """Fit the candidate: the best learner on all rows, with the iterations found out of sample; with their count.

    A policy is taken as it is (`Problem.played`): of the last fold, whose scored episodes it did not learn from.
    """
    if best.learner.spec.problem.played:
        return best.learner, len(rows.folds[-1].fitted)
    learner = make(best.learner.spec)
    whole = last_rows(learner, rows.whole.with_late(), rows.whole)
    progress(f"fitting {best.learner.spec.name} on {len(whole):,} rows")
    fit_rows(learner, whole, iterations=best.report.iterations, progress=progress)
    return best.finish.on(learner), len(whole)


def inputs_digest(context: Context, start: WarmStart) -> str:
    """Return the candidate's identity: a digest of everything that determines it."""
    features = FeatureTable.read(context.path(FEATURE_SET))
    enabled = [learner.kind for learner in context.params.train.learners if learner.enabled]
    code = {kind: source for kind in enabled if (source := project_files.read_source(context.project, kind))}
    code |= problem_in(context.params, context.project).sources
    later = {"start_from"} | {name for name in ("problem", "max_rows") if getattr(context.params.train, name) is None}
    return digest(
        {
            **({"code": code} if code else {}),
            "features": sha256(context.path(FEATURE_SET)),
            "table": features.table.sha256,
            "train": context.params.train.model_dump(mode="json", exclude=later),
            "trusted_types": context.params.registry.trusted_types,
            "start": start.identity,
        }
    )
