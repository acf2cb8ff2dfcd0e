"""Nested cross-validation of the configured training, tuning included: each outer fold is scored once.

The score of the best of many trials is optimistic on the rows that chose it. Here the rows of an outer fold choose
nothing in its training (Varma and Simon 2006, "Bias in error estimation when using cross-validation for model
selection", BMC Bioinformatics 7).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC

import numpy as np

from refit.config import Params
from refit.files.artifacts import FEATURE_SET, REPORTS, defined
from refit.learners import Floats, Labels, Learner, Spec
from refit.learners.intervals import score
from refit.learners.prediction_intervals import IntervalLearner
from refit.problems.contract import Problem
from refit.runtime.context import Context
from refit.schemas.cross_validation import CrossValidation, IntervalCoverage, OuterFold
from refit.schemas.feature_table import FeatureTable
from refit.schemas.training import Scores
from tasks.train import from_scratch, labelled_rows
from tasks.train.folds import Fold, LabelledRows, cut, newest
from tasks.train.problem import problem_in
from tasks.train.specs import make_all, specs_of
from tasks.train.start import parent_of, require_unseen_by_parent, start_of
from tasks.train.trial import predict

REPORT = REPORTS / "cross_validation.json"
HELD_BACK = (
    0.2  # newest rows of an outer fold that learners are compared on, where neither a split nor folds are asked for
)


@dataclass(frozen=True)
class Outer:
    """The result of one outer fold."""

    learner: str
    params: Mapping[str, object]
    threshold: float
    predicted: Floats
    baseline: Floats
    intervals: IntervalCoverage | None  # None if it has no intervals
    rows: int
    seconds: float


def run(context: Context) -> CrossValidation:
    """Cross-validate on all labelled rows of the feature table. Writes and returns `reports/cross_validation.json`.

    Raises:
        UserError: the rows cannot be split into these folds, or a fold has too few rows to learn from.
        RefitError: there is no feature table yet.
    """
    params = context.params
    features = FeatureTable.read(context.path(FEATURE_SET))
    start, problem = start_of(context), problem_in(params, context.project, features.classes)
    whole = labelled_rows(context, features, problem)
    folds = cut(whole, params.evaluate.cross_validation, params, problem, where="evaluate.cross_validation")
    first = min(whole.rows["event_time"].to_numpy()[fold.scored].min() for fold in folds)
    require_unseen_by_parent(context, start, features, first.astype("datetime64[us]").item().replace(tzinfo=UTC))
    specs = specs_of(params, features, context.project, parent_of(context, start, features))
    make_all(specs, params)
    began = time.monotonic()
    outer = []
    for number, fold in enumerate(folds, start=1):
        context.progress(f"outer fold {number} of {len(folds)}", number - 1, len(folds))
        outer.append(_outer(context, specs, whole, fold))
    label = whole.label
    scores = [_scores(label[fold.scored], each, problem) for fold, each in zip(folds, outer, strict=True)]
    baselines = [problem.scores(label[fold.scored], each.baseline) for fold, each in zip(folds, outer, strict=True)]
    report = CrossValidation(
        model=params.project.name,
        as_of=features.as_of,
        snapshot=features.snapshot,
        stand_in=features.stand_in,
        rows=len(whole),
        metric=params.train.metric,
        folding=params.evaluate.cross_validation,
        mean=_means(scores),
        deviation=defined({name: float(np.std([each[name] for each in scores], ddof=1)) for name in scores[0]}),
        pooled=_pooled_scores(label, folds, outer, problem),
        baseline=_means(baselines),
        folds=tuple(
            OuterFold(
                learner=each.learner,
                params=each.params,
                rows=each.rows,
                scored=len(fold.scored),
                threshold=each.threshold,
                scores=defined(fold_scores),
                intervals=each.intervals,
                seconds=each.seconds,
            )
            for fold, each, fold_scores in zip(folds, outer, scores, strict=True)
        ),
        seconds=round(time.monotonic() - began, 3),
        file=REPORT.as_posix(),
    )
    report.write(context.path(REPORT))
    return report


def _outer(context: Context, specs: Sequence[Spec], whole: LabelledRows, fold: Fold) -> Outer:
    """Train on the training rows of a fold as the stage does, and predict the other rows."""
    inside, outside, target = whole.fitted(fold), whole.at(fold.scored), specs[0].problem
    began = time.monotonic()
    trained = from_scratch(list(specs), *_compared_on(inside, context.params), context, size_curves=False)
    seconds = time.monotonic() - began
    names = list(specs[0].features)
    features = inside.rows.select(names)
    naive = target.opponent(trained.learner, inside.label, context.params.train.metric, features)
    return Outer(
        learner=trained.learner.spec.name,
        params=trained.learner.spec.params,
        threshold=trained.learner.threshold,
        predicted=predict(trained.learner, outside),
        baseline=target.judged(
            lambda rows: target.guess_for(rows, naive), outside.rows, target.reference(outside.rows.select(names))
        ),
        intervals=_intervals(trained.learner, outside),
        rows=len(inside),
        seconds=round(seconds, 3),
    )


def _intervals(learner: Learner, outside: LabelledRows) -> IntervalCoverage | None:
    if not isinstance(learner, IntervalLearner):
        return None
    band = learner.interval(outside.rows)
    covered = float((score(band, outside.label) <= 0).mean())
    return IntervalCoverage(coverage=covered, width=defined(float(np.diff(band).mean())))


def _compared_on(inside: LabelledRows, params: Params) -> tuple[LabelledRows, LabelledRows]:
    """Rows to fit and rows to compare learners on, in place of the two windows of the stage `train`."""
    if params.featurize.split:
        drawn = inside.rows["window"].to_numpy() == "validation"
        own = [] if inside.unlabelled is None else inside.unlabelled["window"].to_pylist()
        is_first = np.array([not window.startswith("validation") for window in own], dtype=bool)
        fold = Fold(np.flatnonzero(~drawn), np.flatnonzero(drawn), np.flatnonzero(is_first))
    else:
        fold = newest(inside, HELD_BACK, params)
    return inside.fitted(fold), inside.rest(fold)


def _means(scores: Sequence[Mapping[str, float]]) -> Scores:
    means: Scores = defined({name: float(np.mean([each[name] for each in scores])) for name in scores[0]})
    return means


def _pooled_scores(label: Labels, folds: Sequence[Fold], outer: Sequence[Outer], problem: Problem) -> Scores:
    """Scores of the predictions of all folds; none at a threshold, as these differ."""
    indices = np.concatenate([fold.scored for fold in folds])
    scores = problem.scores(label[indices], np.concatenate([each.predicted for each in outer]))
    fair = {name for name in scores if problem.metric(name).comparable or name == "calibration_error"}
    pooled_scores: Scores = defined({name: value for name, value in scores.items() if name in fair})
    return pooled_scores


def _scores(label: Labels, outer: Outer, problem: Problem) -> dict[str, float]:
    scores = problem.scores(label, outer.predicted, outer.threshold)
    return scores | (_calls(label, outer) if problem.has_threshold else {})


def _calls(label: Labels, outer: Outer) -> dict[str, float]:
    """Share of rows at or above the threshold, precision and recall; precision is 0 if there is no such row."""
    positive = outer.predicted >= outer.threshold
    hit = float(np.sum(positive & (label == 1)))
    return {
        "called": float(np.mean(positive)),
        "precision": hit / max(1.0, float(positive.sum())),
        "recall": hit / max(1.0, float(label.sum())),
    }
