"""The stage `evaluate`: compares candidate, champion and baseline on the same test rows, applies the gate, reports."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit import learners
from refit.config import GateParams
from refit.errors import RefitError, UserError
from refit.evaluation import curves, holdout, opponents, prediction_cost, prequential
from refit.evaluation.details import measures_of
from refit.evaluation.evidence import evidence
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.evaluation.slices import evaluated_slices
from refit.files import artifacts
from refit.files.artifacts import digest, write_json
from refit.gate.evidence import Evidence
from refit.gate.promotion import decide
from refit.learners import Learner, judged_by
from refit.models import incumbent, run_logging
from refit.models.feature_models import stored_with
from refit.problems import problem_of
from refit.problems.contract import HALF, Problem, aligned
from refit.reports.model_card import charts, image_charts, model_card
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.evaluation import (
    EvaluatedCandidate,
    EvaluatedRows,
    Evaluation,
    Measurements,
    PredictedRows,
    Timings,
)
from refit.schemas.feature_table import FeatureTable
from refit.schemas.gate_decision import Decision, EvaluatedWindow, GateVerdict
from refit.schemas.incumbent import Incumbent
from refit.schemas.measured import Measured
from refit.schemas.training import Training
from refit.storage.columns import rows_of_window
from tasks import featurize
from tasks.evaluate import behavioural_tests, candidate_intervals, naive_opponents, predictions_file
from tasks.evaluate.explanation import explained
from tasks.evaluate.importance import groups_of, permutation_importance
from tasks.evaluate.metrics_file import flat_metrics
from tasks.evaluate.remarks import remarks

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EvaluationInputs:
    """The candidate, with the results of earlier stages and the registry's incumbent."""

    features: FeatureTable
    training: Training
    incumbent: Incumbent
    learner: Learner


@dataclass(frozen=True)
class Model:
    """A registered model that the candidate is compared with."""

    name: str
    learner: Learner
    features: FeatureTable
    folder: Path  # as it was registered


def run(context: Context) -> None:
    """Evaluate `models/candidate` on the test window, decide, and write `reports/` (except what `validate` writes).

    Raises:
        RefitError: the candidate's files differ from their manifest, `comparand.json` differs from the registry, or a
            model's predictions are invalid for its task.
        UserError: a slice of the report or of the gate, or the cluster, is not a column.
    """
    started = time.perf_counter()
    params = context.params.evaluate
    given = _read(context)
    models = _models(context, given)
    rows = _test_rows(context, given)
    target = _target(given, models, rows)
    test = holdout.holdout(rows, context.params.project.zone, params.gate.cluster, target)
    test = replace(test, forecast=given.features.forecast)
    context.progress("scoring candidate, champion and baseline")
    scored = _score(context, given, models, test)
    serving = prediction_cost.serving(given.learner, test.table, prediction_cost.THOROUGH)
    rows_per_second = prediction_cost.rows_at_once(given.learner, test.table)
    cost = prediction_cost.cost(serving.cpu_seconds_per_1000, given.training.work_seconds, context.params.cost)
    measured = _measure(context, given, test, scored)
    gate_evidence = evidence(
        test,
        scored,
        _values(measured, {"latency_ms": serving.latency_ms.p50, "cost_per_1000": cost.per_1000}, params.gate),
        candidate=measured.candidate,
        test_start=measured.test.start,
        incumbent=given.incumbent,
        gate=params.gate,
        splits={"candidate": given.features.split_rule}
        | {role: each.features.split_rule for role, each in models.items()},
        remarks=[
            *remarks(given.learner, given.training, test),
            *prequential.remarks(measured.prequential),
            *naive_opponents.remarks(measured.opponents_on_parts, scored.opponents, params.gate.metric),
            *context.params.register_.remarks,
        ],
        behaviour=measured.behaviour,
        pending=given.features.labels.pending_test,
    )
    verdict = decide(gate_evidence, params.gate)
    reduction = gate_evidence.error_reduction
    error_reduction = None if reduction is None else with_interval(reduction, params.confidence, -math.inf, 1.0)
    evaluation = Evaluation(
        **dict(measured),
        error_reduction=error_reduction,
        decision=_decision(verdict, gate_evidence, given, params.gate, error_reduction),
        timings=Timings(
            latency_ms=serving.latency_ms,
            latency_1000_ms=serving.latency_1000_ms,
            rows_per_second=rows_per_second,
            cost=cost,
            evaluate_seconds=round(time.perf_counter() - started, 2),
        ),
    )
    _write(context, given, test, scored, evaluation)
    run_logging.log_evaluation(context)


def _read(context: Context) -> EvaluationInputs:
    opponent = incumbent.check(context)
    candidate = context.path(artifacts.CANDIDATE)
    learner = learners.load(candidate, trusted_types=context.params.registry.trusted_types)
    training = Training.read(context.path(artifacts.TRAINING))
    if training.model_digest != (stored_digest := learner.digest()):
        raise RefitError(
            f"{artifacts.TRAINING} names model {training.model_digest[:12]}, {artifacts.CANDIDATE} holds "
            f"{stored_digest[:12]}; run `refit stage train` again"
        )
    return EvaluationInputs(
        features=FeatureTable.read(context.path(artifacts.FEATURE_SET)),
        training=training,
        incumbent=opponent,
        learner=learner,
    )


def _test_rows(context: Context, given: EvaluationInputs) -> pa.Table:
    """Read the test window of the feature table, in canonical order."""
    import pyarrow as pa

    path = context.path(artifacts.TABLE)
    if not path.is_file():
        raise RefitError(f"{path} does not exist yet; `refit stage featurize` makes it")
    path = given.features.table.path(context.project)
    try:
        table = rows_of_window(path, "test")
    except (OSError, pa.ArrowException) as error:
        raise RefitError(f"{path} cannot be read ({error}); delete it and run `refit stage featurize` again") from None
    return table.sort_by([("event_time", "ascending"), (given.features.key, "ascending")])


def _models(context: Context, given: EvaluationInputs) -> dict[str, Model]:
    """Load the registered models to compare the candidate with, by role."""
    loaded = {}
    for role, model in given.incumbent.opponents.items():
        folder = incumbent.fetch_model(context, model.version)
        learner = learners.load(folder, trusted_types=context.params.registry.trusted_types)
        features = FeatureTable.read(folder / artifacts.FEATURE_SET.name)
        loaded[role] = Model(f"the {role} (version {model.version})", learner, features, folder)
    return loaded


def _target(given: EvaluationInputs, models: Mapping[str, Model], rows: pa.Table) -> Problem:
    """Return the candidate's target, with the classes of all models and of the test rows."""
    spec = given.learner.spec
    if not spec.classes:
        return spec.problem
    others = {name for each in models.values() for name in each.learner.spec.classes}
    return problem_of(spec.task, sorted({*spec.classes, *others, *rows.column("label").unique().to_pylist()}))


def _score(context: Context, given: EvaluationInputs, models: Mapping[str, Model], test: Holdout) -> Scored:
    """Score candidate and naive baseline, and champion and anchor with their own features, on the same rows.

    If the features of a registered model can no longer be computed, the candidate is refused, but no error is raised:
    otherwise no successor could ever be registered.
    """
    target = test.problem
    reference = target.reference(test.table.select(list(given.learner.spec.features)))

    def predicted(name: str, learner: Learner, rows: pa.Table) -> Floats:
        return target.judged(lambda part: _predictions(name, learner, part, target), rows, reference)

    p = {
        "candidate": predicted("the candidate", given.learner, test.table),
        "baseline": target.judged(lambda rows: target.guess_for(rows, given.training.baseline), test.table, reference),
    }
    thresholds, problems = {"candidate": given.learner.threshold, "baseline": HALF}, {}
    for role, model in models.items():
        if why := _incomparable(model, given):
            problems[role] = why
            continue
        try:
            table = _own_rows(context, given, test, model)
        except UserError as error:
            problems[role] = f"its features cannot be computed for these rows ({error})"
            continue
        try:
            p[role] = predicted(model.name, judged_by(model.learner, given.learner.spec), table)
        except UserError as error:
            if not test.problem.played:
                raise
            problems[role] = f"it cannot play these episodes ({error})"
        thresholds[role] = model.learner.threshold
    bands = candidate_intervals.bands(context, given.learner, test, given.features.key)
    naive = naive_opponents.fitted(context, given.features, target)
    return Scored(p, thresholds, problems, bands, given.learner, naive)


def _incomparable(model: Model, given: EvaluationInputs) -> str:
    """The reason why the losses of a registered model are no losses of what the candidate's are of; empty if none."""
    theirs, ours = model.learner.spec, given.learner.spec
    if theirs.task != ours.task:
        return f"it was made for task {theirs.task!r}, the candidate for {ours.task!r}"
    reads_the_same = set(theirs.features) == set(ours.features)  # a learner may exclude some of the table's
    if ours.problem.of_features and not (reads_the_same and model.features.makes_the_same(given.features)):
        return "its features are others, and so is the loss of them: compare by hand, `refit promote`"
    if ours.problem.played and not reads_the_same:
        return "its features are others, and so are the episodes that they set: compare by hand, `refit promote`"
    return ""


def _own_rows(context: Context, given: EvaluationInputs, test: Holdout, model: Model) -> pa.Table:
    """Return the test rows with the features of a registered model, in the order of the test table.

    Raises:
        UserError: the stored definitions do not fit the current sources.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    features = model.features
    if features.definitions_digest == given.features.definitions_digest:
        return test.table
    table = featurize.rows_for(context, features.definitions, "test", stored_with(context, model.folder))
    key = given.features.key
    indices = pc.index_in(test.table.column(key), value_set=pa.array(table.column(features.key).combine_chunks()))
    if indices.null_count:
        raise UserError(f"{indices.null_count:,} of {test.rows:,} test rows are not among them")
    return table.take(indices)


def _predictions(model: str, learner: Learner, table: pa.Table, target: Problem) -> Floats:
    """Return a model's predictions, with a column for each class of the target."""
    predicted = learner.predict(table)
    if problem := learner.spec.problem.check_predictions(predicted, table.num_rows):
        raise RefitError(f"{model} predicts {problem}, of the test rows; it cannot be judged: train again")
    return aligned(np.asarray(predicted, dtype=np.float64), learner.spec.classes, target.classes)


def _measure(context: Context, given: EvaluationInputs, test: Holdout, scored: Scored) -> Measurements:
    """Measure everything on the test rows except timings, so that the result is reproducible."""
    params, training, window = context.params.evaluate, given.training, given.features.windows.test
    metric, confidence, candidate = params.gate.metric, params.confidence, scored.p["candidate"]
    context.progress("metrics, intervals and slices")
    others = [name for name in scored.p if name != "candidate"]
    metrics = {n: holdout.measure(test, p, scored.thresholds[n], confidence) for n, p in scored.p.items()}
    measures = measures_of(problem := "forecast" if test.forecast else test.problem.task)
    gains = {n: holdout.gains(test, candidate, scored.p[n], confidence) for n in others}
    slices = evaluated_slices(test, params.slices, scored.p, metric, confidence, measures.facts)
    details, daily = measures.details(test, scored, confidence), curves.daily(test, scored.p, metric)
    guesses = opponents.predictions(test.problem, test.table, scored.opponents)
    importance = permutation_importance(
        given.learner,
        test,
        groups_of(given.features.definitions.feature_set, given.learner.spec.features),
        metric=metric,
        rows=params.permutation_rows,
        seed=context.params.train.seed,
        confidence=confidence,
        progress=context.progress,
    )
    context.progress("how predictions follow features")
    return Measurements(
        task=problem,
        as_of=given.features.as_of,
        overrides=dict(run_file.read(context.project).overrides),
        snapshot=given.features.snapshot,
        stand_in=given.features.stand_in,
        candidate=EvaluatedCandidate(
            learner=training.learner,
            kind=given.learner.spec.kind,
            inputs=training.inputs,
            model_digest=training.model_digest,
            seen_until=training.seen_until,
            split=training.split,
            threshold=scored.thresholds["candidate"] if test.problem.has_threshold else None,
            features=len(given.learner.spec.features),
            model_mb=prediction_cost.megabytes(context.path(artifacts.CANDIDATE)),
        ),
        incumbent=given.incumbent,
        test=EvaluatedRows(
            start=window.start,
            end=window.end,
            rows=test.rows,
            facts=measures.facts(test.labels, candidate),
            days=len(np.unique(test.days)),
            cluster=params.gate.cluster,
            clusters=test.sample.clusters.count,
            effective_clusters=tidy(test.sample.clusters.effective),
        ),
        metric=metric,
        confidence=confidence,
        metrics=metrics,
        gains=gains,
        slices=slices,
        details=details,
        daily=daily,
        learning_metric=training.metric,
        learners=training.learners,
        importance=importance,
        explained=explained(given.learner, test, importance.features, params.explain, context.params.train.seed),
        prequential=prequential.report(given.learner, test, scored),
        opponents=naive_opponents.evaluated(test, scored, guesses, metric, confidence),
        opponents_on_parts=naive_opponents.by_part(test, scored, guesses, params.slices, metric),
        behaviour=behavioural_tests.judged(context, given.learner, given.features, test, scored),
    )


def _values(measured: Measurements, timed: Mapping[str, float], gate: GateParams) -> dict[str, float | None]:
    """Return the candidate's metrics; timings are included only if the gate has a ceiling for them."""
    values = {name: each.value for name, each in measured.metrics["candidate"].items()}
    values["model_mb"] = measured.candidate.model_mb
    return values | {name: value for name, value in timed.items() if name in gate.ceilings}


def _decision(
    verdict: GateVerdict,
    evidence: Evidence,
    given: EvaluationInputs,
    policy: GateParams,
    error_reduction: Measured | None,
) -> Decision:
    """Return the verdict with what is needed to plot and explain it."""
    window = given.features.windows.test
    return Decision(
        **dict(verdict),
        candidate=evidence.candidate,
        inputs=given.training.inputs,
        incumbent=given.incumbent,
        test=EvaluatedWindow(
            start=window.start,
            end=window.end,
            rows=evidence.rows + evidence.unlabelled,
            digest=digest(window.bounds),
        ),
        looks=evidence.looks,
        policy=policy,
        error_reduction=error_reduction,
    )


def _write(context: Context, given: EvaluationInputs, test: Holdout, scored: Scored, evaluation: Evaluation) -> None:
    """Write everything under `reports/`; the decision last, so that it never lies next to another run's numbers."""
    context.progress("plots and report")
    context.path(artifacts.DECISION).unlink(missing_ok=True)
    classes = given.learner.spec.classes
    predictions_file.write(context.path(artifacts.JUDGED_ROWS), given.features.key, classes, test, scored)
    recorded = PredictedRows(sha256=artifacts.sha256(context.path(artifacts.JUDGED_ROWS)), rows=test.rows)
    evaluation = evaluation.model_copy(update={"predictions": recorded})
    pictures = image_charts.charts(test, scored.p["candidate"], given.learner.spec, scored.thresholds["candidate"])
    drawn = charts.draw(context.path(artifacts.REPORTS), evaluation, pictures)
    write_json(context.path(artifacts.METRICS), flat_metrics(evaluation))
    evaluation.write(context.path(artifacts.EVALUATION))
    model_card.write(context, evaluation, given.features, given.training, drawn)
    evaluation.decision.write(context.path(artifacts.DECISION))
