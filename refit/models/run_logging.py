"""Logs stages to MLflow from the files that they wrote, so that any run can be logged again from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refit.files.artifacts import TRAINING
from refit.models import run_content
from refit.models.run_content import REDUCTION, ChampionScore, Kpis
from refit.runtime import provenance
from refit.runtime.context import Context
from refit.runtime.registry_store import opened
from refit.schemas.cross_validation import CrossValidation
from refit.schemas.training import Scores, Training
from registry import tracking
from registry.champion import current_champion
from registry.store import RegistryError, Store
from registry.tracking import Content


def log_training(context: Context, *, required: bool = False) -> str | None:
    """Log the training to MLflow: a run for the candidate and a nested run for each learner. Returns the run's id.

    Logging it again changes nothing. Unless `required`, an unreachable registry is only a warning: `register` writes
    what is missing.
    """
    with _best_effort(context, required), opened(context) as store:
        return _log_training(context, store)
    return None


def kpis(store: Store, run_id: str | None) -> Kpis:
    """Time and cost of a run's training and of its model's predictions; empty unless the run has all of them."""
    return Kpis.of(*tracking.numbers_of(store, run_id))


def log_evaluation(context: Context, *, required: bool = False) -> str | None:
    """Log the evaluation to the candidate's run: metrics, plots, model card, decision. Returns the run's id."""
    with _best_effort(context, required), opened(context) as store:
        run_id = _log_training(context, store)
        tracking.log(
            store, run_id, "evaluation", run_content.of_evaluation(context, Training.read(context.path(TRAINING)))
        )
        return run_id
    return None


def log_cross_validation(context: Context, report: CrossValidation) -> None:
    """Log a cross-validation as a separate run: means and deviations, and each fold as a step."""
    with _best_effort(context, required=False), opened(context) as store:
        experiment = tracking.ensure_experiment(store, context.params.project.name)
        tags = run_content.cross_validation_identity(report)
        origin = run_content.origin_of(context, provenance.commit_hash(context.project))
        run_id = tracking.ensure_run(store, experiment, "cross-validation", tags, origin=origin)
        tracking.log(store, run_id, "cross_validation", run_content.of_cross_validation(context.params, report))


@contextmanager
def _best_effort(context: Context, required: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if required:
            raise
        context.progress(f"warning: MLflow was not updated: {error}; `register` will do it")


def _log_training(context: Context, store: Store) -> str:
    training = Training.read(context.path(TRAINING))
    name = context.params.project.name
    experiment = tracking.ensure_experiment(store, name)
    tracking.end_abandoned(store, experiment)
    commit = provenance.commit_hash(context.project)
    named, origin = training.identity, run_content.origin_of(context, commit)
    run_id = tracking.ensure_run(
        store,
        experiment,
        training.run_name,
        named | {"refit.role": "candidate"},
        origin=origin,
        seconds=training.seconds,
    )
    tracking.log(store, run_id, "training", run_content.of_training(context, training, commit))
    champion, price = _champion_score(context, store, training), context.params.cost
    _log_against(store, run_id, champion, training.chosen.validation)
    for learner in training.learners:
        tags = named | {"refit.role": "learner", "refit.learner": learner.name}
        seconds = learner.work_seconds
        nested = tracking.ensure_run(
            store, experiment, learner.name, tags, parent=run_id, origin=origin, seconds=seconds
        )
        tracking.log(store, nested, "training", run_content.of_learner(learner, price))
        _log_against(store, nested, champion, learner.validation)
        if learner.tuning:
            trials = list(run_content.of_trials(learner.tuning, named | origin, price, champion))
            tracking.log_children(store, experiment, nested, "trial", trials)
    return run_id


def _log_against(store: Store, run_id: str, champion: ChampionScore | None, scores: Scores) -> None:
    """Log the error reduction of a run against the champion at the time when the run was first logged."""
    if champion is None or tracking.is_logged(store, run_id, "against"):
        return
    tags = {"compared_with": f"version {champion.version}"}
    value = champion.reduction(scores.get(champion.metric))
    tracking.log(
        store, run_id, "against", Content(metrics=[(REDUCTION, value, 0)] if value is not None else [], tags=tags)
    )


def _champion_score(context: Context, store: Store, training: Training) -> ChampionScore | None:
    """The champion, unless it is this candidate or its run has no score to compare with."""
    try:
        champion = current_champion(store, context.params.project.name)
    except RegistryError:
        return None  # the stages that need the registry report the problem
    if champion is None or champion.tags.get("refit.model_digest") == training.model_digest:
        return None
    metrics, _ = tracking.numbers_of(store, champion.run_id)
    score = run_content.validation_score(metrics, training.metric)
    return None if score is None else ChampionScore(champion.version, training.metric, score)
