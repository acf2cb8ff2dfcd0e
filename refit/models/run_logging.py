"""Logs stages to MLflow from the files that they wrote, so that any run can be logged again from them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import RefitError
from refit.evaluation.prediction_cost import in_money
from refit.files.artifacts import (
    DATA_DOCS,
    DECISION,
    EVALUATION,
    FEATURE_SET,
    METRICS,
    MODEL_CARD,
    REPORTS,
    SNAPSHOT,
    TRAINING,
    digest,
    read_json,
)
from refit.plain_text import as_markdown
from refit.problems import metric_named
from refit.runtime import provenance
from refit.runtime.context import Context
from refit.schemas.artifact import Part, omitted, utc_text
from refit.schemas.cross_validation import CrossValidation
from refit.schemas.gate_decision import Decision
from refit.schemas.serving_cost import FitCost
from refit.schemas.snapshot import Snapshot
from refit.schemas.training import IterationScores, LearnerReport, Scores, SizeScores, Training, TuningReport
from registry import relocation, tracking
from registry.champion import current_champion
from registry.store import RegistryError, Store, faults, locate
from registry.tracking import Content
from registry.urls import folder_url

if TYPE_CHECKING:
    from refit.config import CostParams, Params

REDUCTION = "validation_error_reduction_percent"
CLOCKED = [f"{name}_{part}" for name in ("latency_ms", "latency_1000_ms") for part in ("p50", "p95")]
KPIS = ("rows_per_second", *CLOCKED, "cost_training", "cost_per_1000")


class Kpis(Part):
    """Time and cost of a run, as `docs/training.md` explains them; empty if the run has no record of them."""

    rows_per_second: float | None = omitted(None)
    latency_ms_p50: float | None = omitted(None)
    latency_ms_p95: float | None = omitted(None)
    latency_1000_ms_p50: float | None = omitted(None)
    latency_1000_ms_p95: float | None = omitted(None)
    cost_training: float | None = omitted(None)
    cost_per_1000: float | None = omitted(None)
    currency: str | None = omitted(None)  # of the run's own params


@dataclass(frozen=True)
class ChampionScore:
    """A champion and its score on its own held-out validation rows, not on those of a later run."""

    version: str
    metric: str
    score: float

    def reduction(self, score: float | None) -> float | None:
        """Error reduction of another score in percent of the distance to a perfect score; negative if it is worse.

        None if there is no such distance.

        >>> ChampionScore("1", "roc_auc", 0.8).reduction(0.85)
        25.0
        """
        missing = abs(metric_named(self.metric).perfect - self.score)
        if score is None or not missing or not math.isfinite(missing):
            return None
        return round(100 * (1 - abs(metric_named(self.metric).perfect - score) / missing), 3)


def store_of(project: Path, params: Params) -> Store:
    """The project's registry: from the environment, the params, or SQLite in `.refit/`. Opens and creates nothing."""
    try:
        return locate(
            project,
            params.registry.tracking_uri,
            ledger_uri=params.registry.ledger_uri,
            scope=params.project.name,
        )
    except RegistryError as error:
        raise RefitError(str(error)) from None


@contextmanager
def opened(context: Context) -> Iterator[Store]:
    """Open the project's registry for a block in which its faults become one-line RefitErrors.

    If the project was copied or moved, the registry's paths are updated first, with a message.
    """
    store = store_of(context.project, context.params)
    try:
        with faults(store):
            if message := relocation.settle(store):
                context.progress(message)
            yield store
    except RegistryError as error:
        raise RefitError(str(error)) from error


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
    metrics, params = tracking.numbers_of(store, run_id)
    if not metrics.keys() >= {*KPIS}:
        return Kpis()
    return Kpis(**{name: metrics[name] for name in KPIS}, currency=params["cost.currency"])


def log_evaluation(context: Context, *, required: bool = False) -> str | None:
    """Log the evaluation to the candidate's run: metrics, plots, model card, decision. Returns the run's id."""
    with _best_effort(context, required), opened(context) as store:
        run_id = _log_training(context, store)
        tracking.log(store, run_id, "evaluation", _evaluation(context))
        return run_id
    return None


def log_cross_validation(context: Context, report: CrossValidation) -> None:
    """Log a cross-validation as a separate run: means and deviations, and each fold as a step."""
    with _best_effort(context, required=False), opened(context) as store:
        experiment = tracking.ensure_experiment(store, context.params.project.name)
        content = report.to_json()
        identity_tags = {
            "refit.role": "cross_validation",
            "refit.cross_validation": digest([content["asked"], content["folds"]])[:20],
        }
        run_id = tracking.ensure_run(store, experiment, "cross-validation", identity_tags)
        metrics = [(f"cv_{name}", value, 0) for name, value in report.mean.items()]
        metrics += [(f"cv_{name}_deviation", value, 0) for name, value in report.deviation.items()]
        metrics += [
            (f"fold_{name}", value, index)
            for index, fold in enumerate(report.folds)
            for name, value in fold.scores.items()
        ]
        tags = {"refit.snapshot": report.snapshot, "refit.stand_in": ", ".join(report.stand_in)}
        logged = Content(
            params=_flat(shown_params(context.params)),
            metrics=[(name, value, step) for name, value, step in metrics if value is not None],
            tags={key: value for key, value in tags.items() if value},
            texts={"cross_validation.json": json.dumps(content, indent=1)},
        )
        tracking.log(store, run_id, "cross_validation", logged)


def identity(training: Training) -> dict[str, str]:
    """The tags that identify a candidate: the digests of its inputs and of its model."""
    return {"refit.candidate": training.inputs, "refit.model_digest": training.model_digest}


@contextmanager
def _best_effort(context: Context, required: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if required:
            raise
        context.progress(f"warning: MLflow was not told: {error}; `register` will do it")


def _log_training(context: Context, store: Store) -> str:
    training = Training.read(context.path(TRAINING))
    name = context.params.project.name
    experiment = tracking.ensure_experiment(store, name)
    tracking.end_abandoned(store, experiment)
    named = identity(training)
    candidate = named | {"refit.role": "candidate"}
    run_id = tracking.ensure_run(store, experiment, f"{training.learner} {training.inputs[:8]}", candidate)
    tracking.log(store, run_id, "training", _training(context, training))
    champion, price = _champion_score(context, store, training), context.params.cost
    _log_against(store, run_id, champion, training.chosen.validation)
    for learner in training.learners:
        tags = named | {"refit.role": "learner", "refit.learner": learner.name}
        nested = tracking.ensure_run(store, experiment, learner.name, tags, parent=run_id)
        tracking.log(store, nested, "training", _learner(learner, price))
        _log_against(store, nested, champion, learner.validation)
        if learner.tuning:
            trials = list(_trials(learner.tuning, named, price, champion))
            tracking.log_children(store, experiment, nested, "trial", trials)
    return run_id


def _log_against(store: Store, run_id: str, champion: ChampionScore | None, scores: Scores) -> None:
    """Log the error reduction of a run against the champion at the time when the run was first logged."""
    if champion is None or tracking.is_logged(store, run_id, "against"):
        return
    tags = {"refit.against": f"version {champion.version}"}
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
    score = metrics.get(f"validation_{training.metric}")
    return None if score is None else ChampionScore(champion.version, training.metric, score)


def _trials(
    tuning: TuningReport, named: Mapping[str, str], price: CostParams, champion: ChampionScore | None
) -> Iterator[tuple[str, Content]]:
    """Name and content of a run for each trial of a search."""
    for number, trial in enumerate(tuning.trials):
        steps = [("score", value, fold) for fold, value in enumerate(trial.steps)]
        steps += [("score_by_epoch", value, step) for step, value in trial.epochs]
        value = [("value", trial.value, 0)] if trial.value is not None else []
        costs = _cost_metrics(trial.cost, trial.seconds, price)
        reduction = None if champion is None else champion.reduction(trial.value)
        if reduction is not None:
            costs.append((REDUCTION, reduction, 0))
        trial_tags = {"refit.state": trial.state, "refit.problem": trial.problem}
        yield (
            f"trial {number}" + (" (best)" if number == tuning.best else ""),
            Content(
                params=dict(trial.params),
                metrics=[*steps, *value, ("seconds", trial.seconds, 0), *costs],
                tags={**named, **{key: text for key, text in trial_tags.items() if text}},
            ),
        )


def _training(context: Context, training: Training) -> Content:
    snapshot = Snapshot.read(context.path(SNAPSHOT)) if context.path(SNAPSHOT).is_file() else None
    tags = {
        "refit.learner": training.learner,
        "refit.as_of": utc_text(snapshot.as_of) if snapshot else None,
        "refit.snapshot": snapshot.digest if snapshot else None,
        "refit.stand_in": ", ".join(snapshot.stand_in or ()) if snapshot else None,
        "refit.git_commit": provenance.commit_hash(context.project),
        "refit.trigger": context.trigger,
        **_flow_run(context.flow_run),
    }
    return Content(
        params=_flat(shown_params(context.params)),
        metrics=[
            *_scores(training.chosen),
            *_cost_metrics(training.chosen, training.work_seconds, context.params.cost),
        ],
        tags={key: value for key, value in tags.items() if value},
        files={context.path(path): "training" for path in (TRAINING, FEATURE_SET) if context.path(path).is_file()},
        dataset={
            "name": context.params.project.name,
            "digest": snapshot.digest,
            "source": str(context.path(SNAPSHOT)),
            "context": "training",
        }
        if snapshot
        else None,
    )


def _cost_metrics(cost: FitCost | None, work_seconds: float, price: CostParams) -> list[tuple[str, float, int]]:
    """Time, memory and cost of a training and of its predictions, as metrics.

    Args:
        work_seconds: duration of the whole training, including every trial of its search.
    """
    values: dict[str, float | None] = {}
    if cost is not None:
        values = {"rows_per_second": cost.rows_per_second, "peak_memory_mb": cost.peak_memory_mb}
        for name, latency in (("latency_ms", cost.latency_ms), ("latency_1000_ms", cost.latency_1000_ms)):
            values |= {f"{name}_p50": latency.p50, f"{name}_p95": latency.p95}
        values["cost_per_1000"] = in_money(cost.cpu_seconds_per_1000, price)
    values["cost_training"] = in_money(work_seconds, price)
    return [(name, float(value), 0) for name, value in values.items() if value is not None]


def _learner(learner: LearnerReport, price: CostParams) -> Content:
    points: list[tuple[str, int, IterationScores | SizeScores]] = [
        *(("curve", point.iteration, point) for point in learner.curve),
        *(("by_rows", size.rows, size) for size in learner.size_curve),
    ]
    tags = {"refit.verdict": learner.verdict, "refit.kind": learner.kind}
    return Content(
        params={"kind": learner.kind, **_flat(learner.params)},
        metrics=[
            *_scores(learner),
            *_cost_metrics(learner, learner.work_seconds, price),
            *((f"{curve}_training", point.training, step) for curve, step, point in points),
            *((f"{curve}_validation", point.validation, step) for curve, step, point in points),
        ],
        tags={key: value for key, value in tags.items() if value},
    )


def _scores(learner: LearnerReport) -> list[tuple[str, float, int]]:
    scores: dict[str, float | None] = {
        **{f"validation_{name}": value for name, value in learner.validation.items()},
        **{f"training_{name}": value for name, value in learner.training.items()},
        "fit_seconds": learner.seconds,
        "iterations": learner.iterations,
    }
    if seeds := learner.seeds:
        scores |= {"seeds_mean": seeds.mean, "seeds_deviation": seeds.deviation}
    return [(name, float(value), 0) for name, value in scores.items() if value is not None]


def _evaluation(context: Context) -> Content:
    metrics = read_json(context.path(METRICS))
    decision = Decision.read(context.path(DECISION))
    reports = context.path(REPORTS)
    plots = [*sorted((reports / "figures").glob("*")), *sorted((reports / "plots").glob("*"))]
    files: dict[Path, str | None] = dict.fromkeys(plots, "plots")
    files |= {context.path(path): "evaluation" for path in (EVALUATION, DECISION) if context.path(path).is_file()}
    if (card := context.path(MODEL_CARD)).is_file():
        files[card] = None
    shown = [
        (f"test_{name.removeprefix('test_')}", float(value), 0)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if (share := metrics.get("error_reduction")) is not None:
        shown.append(("test_error_reduction_percent", 100 * share, 0))
    tags = {"refit.decision": "promote" if decision.promote else "refuse"}
    note = [f"**{tags['refit.decision']}** ({decision.mode}): {as_markdown('; '.join(decision.reasons))}"]
    if (docs := context.path(DATA_DOCS) / "index.html").is_file():
        tags["refit.data_docs"] = folder_url(docs)
        note.append(f"Data Docs: {folder_url(docs)}")
    if card.is_file():
        note.append("Model card: `model_card.html` among the artifacts")
    return Content(
        metrics=shown,
        tags=tags | {"mlflow.note.content": "\n\n".join(note)},
        files=files,
    )


def shown_params(params: Params) -> dict[str, object]:
    """The params to compare between runs, without schemas and suites, which are in the stored params."""
    shown = params.model_dump(mode="json", by_alias=True)
    shown["ingest"].pop("sources")
    shown["validate"].pop("suites")
    shown["train"]["learners"] = {learner.pop("name"): learner for learner in shown["train"]["learners"]}
    return shown


def _flat(value: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested mapping with dotted keys.

    >>> _flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, object] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = inner
    return flat


def _flow_run(flow_run: str | None) -> dict[str, str]:
    if not flow_run:
        return {}
    ui = os.environ.get("PREFECT_UI_URL", "").rstrip("/")
    return {"refit.prefect_flow_run": flow_run} | (
        {"refit.prefect_url": f"{ui}/runs/flow-run/{flow_run}"} if ui else {}
    )
