"""Evaluates one learner: fits and scores it on every fold, with curves that show how it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.config import Params
from refit.errors import RefitError, UserError
from refit.evaluation.prediction_cost import GLANCE, serving
from refit.files.artifacts import defined
from refit.learners import FitReport, Floats, Learner, Spec, make
from refit.learners.averaged import members_of
from refit.learners.contract import middle_iterations, not_finite
from refit.learners.per_group import TooFewGroups, values_of
from refit.runtime.context import Progress
from refit.schemas.segment_study import SegmentStudy
from refit.schemas.serving_cost import FitCost
from refit.schemas.training import GroupModels, IterationScores, LearnerReport, SeedScores, SizeScores, TuningReport
from tasks.train.calibration_and_threshold import Finish, finish_from, pooled
from tasks.train.effort import Effort, largest, measured
from tasks.train.folds import FEWEST_ROWS, Development, Fold, Indices, LabelledRows
from tasks.train.verdict import verdict

if TYPE_CHECKING:
    import pyarrow as pa

SIZE_SHARES = (0.1, 0.3)  # of the most recent rows of the training window; the main fit uses all of them


@dataclass(frozen=True)
class FoldFit:
    """A learner fitted on one fold."""

    learner: Learner
    report: FitReport
    predicted: Floats  # for the scored rows, which it has not seen
    on_training: tuple[LabelledRows, Floats]  # the newest fitted rows, as many as are scored, with predictions
    effort: Effort


@dataclass(frozen=True)
class Trial:
    """One learner fitted on every fold, and scored out of sample."""

    learner: Learner  # fitted on the last fold
    report: FitReport  # of that fit, with the middle number of iterations of all folds
    training: dict[str, float]  # means over the folds
    validation: dict[str, float]
    by_fold: tuple[dict[str, float], ...]  # validation scores of each
    unseen: Indices  # of the scored rows, ascending, each once
    predicted: Floats  # out-of-fold, for these rows, as the candidate would predict them (calibrated)
    finish: Finish
    cost: FitCost
    not_chosen: str | None
    values: frozenset[str] = frozenset()  # many models: those with a model of their own in each fold
    size_curve: tuple[SizeScores, ...] = ()
    by_seed: tuple[float, ...] = ()  # the validation metric of a fit with each seed, if there are several
    tuning: TuningReport | None = None

    @property
    def threshold(self) -> float:
        return self.finish.threshold


@dataclass(frozen=True)
class Trained:
    """The candidate, the trials that led to it, and the out-of-fold rows of the best one."""

    learner: Learner
    best: Trial
    trials: list[Trial]
    rows: int
    unseen: LabelledRows

    def reference(self) -> Floats:
        """(unseen rows,) predictions that those of production are compared with: of fits that have not seen the rows.

        Where predictions of two fits do not mean the same (`Problem.poolable`), they are the candidate's own, under the
        names that it has by now.
        """
        if self.learner.spec.problem.poolable:
            return self.best.predicted
        return self.learner.spec.problem.reported(predict(self.learner, self.unseen))


def fit_rows(learner: Learner, rows: LabelledRows, *, before: Learner | None = None, **named: Any) -> FitReport:
    """Fit a learner to rows, or continue from `before`; rows without a label go to learners that declare their use."""
    step = learner.fit if before is None else partial(learner.resume, before)
    if rows.unlabelled is not None and learner.declaration.unlabelled != "ignored":
        named["unlabelled"] = rows.unlabelled
    return step(rows.rows, rows.label, **named)


def last_rows(learner: Learner, everything: LabelledRows, in_time: LabelledRows) -> LabelledRows:
    """Return the rows of the last fit: a learner of a stream reads late ones in their place, and others none."""
    return everything if members_of(learner)[0].declaration.order else in_time


def fit_fold(
    spec: Spec, development: Development, fold: Fold, progress: Progress, *, before: Learner | None = None
) -> FoldFit:
    """Fit a learner on one fold, or continue from `before`, and predict the scored rows."""
    train, validation = development.windows(fold)
    learner = make(spec)
    seen = validation.rows, validation.label
    with measured() as effort:
        report = fit_rows(learner, train, before=before, validation=seen, progress=progress)
    recent = train.recent(len(validation))  # as many rows as are scored, and close to them in time
    return FoldFit(learner, report, predict(learner, validation), (recent, predict(learner, recent)), effort)


def fitted(
    spec: Spec, development: Development, params: Params, progress: Progress, *, size_curves: bool = True
) -> Trial:
    """Fit one learner on every fold, and compute the learning curves on the last one."""
    fits = []
    for number, fold in enumerate(development.folds, start=1):
        fold_name = f", fold {number} of {len(development.folds)}" if len(development.folds) > 1 else ""
        progress(f"fitting {spec.name}{fold_name}")
        fits.append(fit_fold(spec, development, fold, progress))
    trial = scored(fits, development, params)
    metric = spec.metric
    require_finite(metric, trial.training[metric], *(each[metric] for each in trial.by_fold))
    sizes: tuple[SizeScores, ...] = ()
    if size_curves and spec.kind != "baseline" and not spec.problem.played:
        train, validation = development.windows(development.folds[-1])
        smaller = _size_curve(replace(spec, average=1), trial.report, train, validation, progress)
        on_training = _on_training(fits[-1], trial.finish)[metric]
        validation_score = trial.by_fold[-1][metric]
        sizes = (*smaller, SizeScores(rows=len(train), training=on_training, validation=validation_score))
    return replace(trial, size_curve=sizes, by_seed=_by_seed(spec, development, fits, params, progress))


def scored(fits: Sequence[FoldFit], development: Development, params: Params) -> Trial:
    """Combine the fits of all folds into a trial, without the curves that need more fits."""
    finish, predicted = finish_from(development, [fit.predicted for fit in fits], params)
    learner, label = fits[-1].learner, development.whole.label
    by_fold = tuple(
        learner.spec.problem.scores(label[fold.scored], p, finish.threshold)
        for fold, p in zip(development.folds, predicted, strict=True)
    )
    return Trial(
        learner=learner,
        report=replace(fits[-1].report, iterations=middle_iterations([fit.report for fit in fits])),
        training=_means([_on_training(fit, finish) for fit in fits]),
        validation=_means(by_fold),
        by_fold=by_fold,
        unseen=development.unseen,
        predicted=learner.spec.problem.reported(pooled(development, predicted)),
        finish=finish,
        cost=fit_cost(fits, development),
        not_chosen=learner.unsafe_reason(),
        values=frozenset.intersection(*(values_of(fit.learner) for fit in fits)),
    )


def fit_cost(fits: Sequence[FoldFit], development: Development) -> FitCost:
    """Return the cost of fits, and of predictions of the last."""
    folds = development.folds[: len(fits)]
    seconds = sum(fit.effort.seconds for fit in fits)
    return FitCost(
        seconds=round(seconds, 3),
        rows_per_second=round(sum(len(fold.fitted) for fold in folds) / max(seconds, 1e-9)),
        peak_memory_mb=largest([fit.effort for fit in fits]),
        **dict(serving(fits[-1].learner, development.windows(folds[-1])[1].rows, GLANCE)),
    )


def _on_training(fit: FoldFit, finish: Finish) -> dict[str, float]:
    recent, predicted = fit.on_training
    return fit.learner.spec.problem.scores(recent.label, finish.calibrated(predicted), finish.threshold)


def _by_seed(
    spec: Spec, development: Development, fits: Sequence[FoldFit], params: Params, progress: Progress
) -> tuple[float, ...]:
    """Return the score of a fit with each seed: the averaged ones, or additional fits."""
    if params.train.seeds == 1 or spec.kind == "baseline":
        return ()
    by_seed = []
    for number in range(params.train.seeds):
        values = []
        for fold, fit in zip(development.folds, fits, strict=True):
            _, scored = development.windows(fold)
            if spec.average > 1:
                p = predict(members_of(fit.learner)[number], scored)
            elif number == 0:
                p = fit.predicted
            else:
                progress(f"fitting {spec.name}, seed {number + 1} of {params.train.seeds}")
                p = fit_fold(replace(spec, seed=spec.seed + number), development, fold, progress).predicted
            values.append(spec.problem.score(spec.metric, scored.label, p))
        by_seed.append(float(np.mean(values)))
    return tuple(by_seed)


def _means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}


def _size_curve(
    spec: Spec, report: FitReport, train: LabelledRows, validation: LabelledRows, progress: Progress
) -> list[SizeScores]:
    """Score the same learner, with the same iterations, fitted on smaller parts of the most recent rows."""
    score = partial(spec.problem.score, spec.metric)
    points = []
    for share in SIZE_SHARES:
        part = replace(train.recent(round(share * len(train))), unlabelled=train.unlabelled)
        if len(part) < FEWEST_ROWS or spec.problem.constant_labels(part.label):
            continue
        progress(f"learning curve of {spec.name}, {len(part):,} rows")
        learner = make(spec)
        try:
            fit_rows(learner, part, iterations=report.iterations)
        except UserError as error:
            if not spec.problem.of_features and not isinstance(error, TooFewGroups):
                raise
            continue  # fewer rows than clusters or groups, or noise alone: true of the part, not of the learner
        recent = part.recent(len(validation))
        training = score(recent.label, predict(learner, recent))
        validated = score(validation.label, predict(learner, validation))
        points.append(SizeScores(rows=len(part), training=training, validation=validated))
    return points


def predict(learner: Learner, window: LabelledRows) -> Floats:
    """Return valid predictions as the metrics take them, or raise an error that names the learner."""
    target = learner.spec.problem

    def valid(rows: pa.Table) -> Floats:
        predicted = learner.predict(rows)
        if problem := target.check_predictions(predicted, rows.num_rows):
            raise RefitError(
                f"learner {learner.spec.name!r} predicted {problem}; change its params, or disable it in train.learners"
            )
        return predicted

    return target.judged(valid, window.rows, target.reference(window.rows.select(list(learner.spec.features))))


def require_finite(metric: str, *scores: float) -> None:
    """Raise an error if a metric is not finite on these labels, as learners cannot be compared by it."""
    if not np.isfinite(scores).all():
        raise not_finite(metric, "train.metric")


def trial_reports(
    trained: Trained, metric: str, segments: SegmentStudy | None, models: GroupModels | None
) -> tuple[LearnerReport, ...]:
    """Return what `models/training.json` says of all trials; `segments` and `models` are the candidate's, if any."""
    reports = [trial_report(each, trained.trials, metric) for each in trained.trials]
    best = next(index for index, each in enumerate(trained.trials) if each is trained.best)
    reports[best] = reports[best].model_copy(update={"segments": segments, "models": models})
    return tuple(reports)


def trial_report(trial: Trial, trials: Sequence[Trial], metric: str) -> LearnerReport:
    """Return what `models/training.json` says of a trial."""
    spec, report = trial.learner.spec, trial.report
    baseline = next((t.validation[metric] for t in trials if t.learner.spec.kind == "baseline"), None)
    return LearnerReport(
        name=spec.name,
        kind=spec.kind,
        params=spec.params,
        training=defined(trial.training),
        validation=defined(trial.validation),
        threshold=trial.threshold,
        calibration=trial.finish.calibration,
        seeds=_spread(trial.by_seed),
        folds=tuple(defined(scores) for scores in trial.by_fold) if len(trial.by_fold) > 1 else (),
        iterations=report.iterations,
        curve=tuple(
            IterationScores(iteration=point.iteration, training=point.training, validation=point.validation)
            for point in report.curve
        ),
        curve_metric="" if spec.stopping_metric.name == metric else spec.stopping_metric.name,
        size_curve=trial.size_curve,
        warnings=tuple(report.warnings),
        not_chosen=trial.not_chosen,
        tuning=trial.tuning,
        verdict=verdict(
            metric,
            training=trial.training[metric],
            validation=trial.validation[metric],
            baseline=baseline,
            last_iteration_best=bool(report.curve) and report.curve[-1].iteration == report.iterations,
            size_curve=trial.size_curve,
            regularisers=report.regularisers,
            played=spec.problem.played and spec.kind != "baseline",
        ),
        **dict(trial.cost),
    )


def _spread(by_seed: Sequence[float]) -> SeedScores | None:
    if not by_seed:
        return None
    return SeedScores(values=tuple(by_seed), mean=float(np.mean(by_seed)), deviation=float(np.std(by_seed, ddof=1)))
