"""Judges the newest windows against the champion's reference, decides whether to retrain, and stores the decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np

from refit.config.windows import label_wait
from refit.drift import inputs, multivariate, performance
from refit.drift.distribution_summaries import distributions
from refit.drift.performance import Backtest, finite_or_none
from refit.drift.retrain_decision import DriftEvidence, decide
from refit.errors import UserError
from refit.reports.drift import drift_report
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.drift_decision import (
    BacktestWindow,
    DayWindow,
    DecisionPolicy,
    Distribution,
    DriftDecision,
    InputVerdict,
    JudgedWindow,
    PerformanceVerdict,
    Separation,
)
from refit.storage import adoption, drift_decisions
from refit.storage.prediction_log import PREDICTION
from refit.storage.snapshots import LATEST
from registry import tracking as mlflow_runs
from registry import versions
from registry.locking import registry_lock
from registry.tracking import Content
from tasks.drift import observations
from tasks.drift.interval_coverage import interval_coverage
from tasks.drift.observations import Observed, Reference
from tasks.score.champion_model import Champion, load_champion
from tasks.score.data_as_of import validated_data_at

if TYPE_CHECKING:
    import pyarrow as pa

DECISIONS = drift_decisions.DECISIONS
SHOWN = 8  # windows that are judged and plotted; the decision uses the newest few
WORST = 6  # columns of the newest window whose distributions are stored


def run(context: Context, *, as_of: str = LATEST) -> DriftDecision:
    """Judge the newest complete windows against the champion's reference, and return the decision as stored.

    Args:
        as_of: `now`, a date or time in the project's zone, or `latest`: now, or the end of the data if that is earlier.

    Raises:
        UserError: there is no champion, or `as_of` is not a time.
        RefitError: the champion's files differ from the registered ones, or hold no reference.
    """
    policy = DecisionPolicy.of(context.params.drift, context.params.evaluate)
    champion = load_champion(context)
    adoption.adopt(context)
    _require_task(champion, context)
    reference = observations.reference(context, champion)
    validated = validated_data_at(context, as_of)
    moment = validated.as_of
    windows = observations.windows(moment, reference.after, context.params, max(SHOWN, context.params.drift.windows))
    arrived = observations.labels(context, champion, validated)
    labels = observations.ripe(arrived, moment, context.params)
    observed = observations.observe(context, champion, validated, labels, windows, reference) if windows else None
    backtest = performance.backtest(reference.backtest, policy)
    evidence = _gather_evidence(context, champion, reference, policy, backtest, observed, labels, windows, moment)
    empty = observations.empty_window(arrived["event_time"].to_numpy(), moment, context.params)
    evidence = replace(evidence, empty=empty)
    if observed:
        context.progress("how many labels the prediction intervals held")
        newest = windows[-policy.windows :]
        evidence = replace(evidence, coverage=interval_coverage(context, champion, validated, labels, newest))
    distributed = tuple(_distributions(reference, observed, evidence))
    with registry_store.opened(context) as store, registry_lock(store):  # two machines do not decide on the same drift
        requests = _requests(context, champion, moment)
        losses = [past.since for past in requests if past.since]
        evidence = replace(
            evidence, retrained=tuple(sorted({past.as_of for past in requests})), changed=max(losses, default=None)
        )
        outcome = decide(evidence, policy)
        judged = [
            JudgedWindow(first=window.first, end=window.end, inputs=drifted, performance=measured)
            for (window, drifted), measured in zip(evidence.dated_inputs, evidence.performance, strict=False)
        ]
        made = DriftDecision(
            model=champion.version.model,
            version=champion.version.version,
            as_of=moment.replace(microsecond=0),
            verdict=outcome.verdict,
            reasons=outcome.reasons,
            causes=outcome.causes,
            blocked=outcome.blocked,
            window=windows[-1] if judged else None,
            columns=tuple(each.column for each in judged[-1].inputs.columns if each.breached) if judged else (),
            multivariate=evidence.multivariate,
            trained_as_of=evidence.trained_as_of.replace(microsecond=0),
            new_labelled=evidence.new_labelled,
            windows=tuple(judged),
            seen_until=reference.end,
            policy=policy,
            backtest=tuple(_backtest(backtest, policy)),
            distributions=distributed,
            report=str(drift_report.REPORT),
            lasting=evidence.lasting,
            since=outcome.since,
            coverage=evidence.coverage,
            made_at=context.now(),
        )
        drift_decisions.store_decision(context, store, made)
    drift_report.write(context, made, decisions(context))
    _log(context, champion, made)
    return made


def _require_task(champion: Champion, context: Context) -> None:
    was, now = champion.learner.spec.task, context.params.task
    if was != now:
        raise UserError(
            f"version {champion.version.version} (the champion) was made for task {was!r}, train.task is {now!r}: its "
            "predictions cannot be held against such labels; `refit run`, then `refit promote VERSION --why ...`"
        )


def _gather_evidence(
    context: Context,
    champion: Champion,
    reference: Reference,
    policy: DecisionPolicy,
    backtest: Backtest,
    observed: Observed | None,
    labels: pa.Table,
    windows: Sequence[DayWindow],
    moment: datetime,
) -> DriftEvidence:
    """Judge every window and collect the other evidence that the decision uses."""
    judged_inputs: list[InputVerdict] = []
    judged_performance: list[PerformanceVerdict] = []
    for index, window in enumerate(windows if observed else ()):
        assert observed is not None
        context.progress("judging windows", index, len(windows))
        judged_inputs.append(
            observations.judged_inputs(reference.learned, reference.predicted, observed.sketch, window, policy)
        )
        judged_performance.append(performance.judge_window(backtest, observed.scored, window, policy))
    if observed is None:
        judged_inputs = [inputs.empty_verdict(window) for window in windows]
    trained = _newest_training(context, champion)
    ripe = trained - label_wait(context.params)
    return DriftEvidence(
        as_of=moment,
        trained_as_of=trained,
        new_labelled=int((labels["event_time"].to_numpy() >= np.datetime64(ripe.replace(tzinfo=None))).sum()),
        windows=tuple(windows),
        inputs=tuple(judged_inputs),
        performance=tuple(judged_performance),
        lasting=performance.lasting_loss(backtest, judged_performance, policy, windows) if judged_performance else None,
        learned_from=reference.learned.days[0].astype(date) if len(reference.learned.days) else None,
        multivariate=_separation(context, reference, observed, windows[-1]) if observed else None,
        zone=context.params.project.zone,
    )


def _separation(context: Context, reference: Reference, observed: Observed, window: DayWindow) -> Separation | None:
    """Test whether a classifier separates the newest window from the training rows; None if switched off."""
    most = context.params.drift.multivariate_rows
    if not most:
        return None
    context.progress("can a classifier tell new rows from old ones?")
    days = observed.scored.days
    inside = (days >= np.datetime64(window.first)) & (days < np.datetime64(window.end))
    return multivariate.separate(
        reference.rows, observed.rows.filter(inside), reference.days, window.days, rows=most, seed=0
    )


def _newest_training(context: Context, champion: Champion) -> datetime:
    """Return `as_of` of the newest registered version, promoted or not."""
    with registry_store.opened(context) as store:
        registered = versions.tagged_by_client(store, champion.version.model, {})
    return max(datetime.fromisoformat(each.tags["refit.as_of"]) for each in registered if "refit.as_of" in each.tags)


def _requests(context: Context, champion: Champion, moment: datetime) -> list[DriftDecision]:
    """Return the earlier decisions that requested a retraining of this model."""
    now = moment.replace(microsecond=0)
    return [
        past
        for past in decisions(context)
        if past.model == champion.version.model and past.verdict == "retrain" and past.as_of < now
    ]


def decisions(context: Context) -> list[DriftDecision]:
    """Return every stored decision, oldest first.

    Raises:
        RefitError: a file in the folder is not a decision.
    """
    return drift_decisions.read_all(context)


def _backtest(backtest: Backtest, policy: DecisionPolicy) -> Iterator[BacktestWindow]:
    """Yield the usual skill: that of each backtest window."""
    excluded = set(backtest.excluded)
    for window, skill, estimated in zip(backtest.windows, backtest.skills, backtest.estimated, strict=True):
        lower, upper = map(finite_or_none, skill.interval(policy.confidence))
        yield BacktestWindow(
            first=window.first,
            end=window.end,
            skill=finite_or_none(skill.value),
            lower=lower,
            upper=upper,
            estimated_skill=finite_or_none(estimated),
            excluded=window in excluded,
        )


def _distributions(reference: Reference, observed: Observed | None, evidence: DriftEvidence) -> Iterator[Distribution]:
    """Yield the reference and current distributions of the columns of the newest window that drifted most."""
    if observed is None:
        return
    newest = evidence.windows[-1]
    current = observed.sketch.between(newest.first, newest.end)
    worst = [each.column for each in evidence.inputs[-1].columns[:WORST]]
    counted = [PREDICTION if name == observations.SHOWN_PREDICTION else name for name in worst]
    summaries = distributions(reference.learned.join(reference.predicted), current, counted)
    for summary, name in zip(summaries, worst, strict=True):
        yield summary.model_copy(update={"column": name})


def _log(context: Context, champion: Champion, made: DriftDecision) -> None:
    """Log the windows as metrics of one MLflow run per version, with the day of a window's end as step."""
    model, version = champion.version.model, champion.version.version
    metrics = [metric for window in made.windows for metric in _metrics(window)]
    tags = {"refit.drift_verdict": made.verdict, "mlflow.note.content": "\n\n".join(made.reasons)}
    files = {context.path(made.report): "drift"}
    with registry_store.opened(context) as store:
        experiment = mlflow_runs.ensure_experiment(store, model)
        identity = {"refit.drift": version, "refit.role": "drift"}
        run = mlflow_runs.ensure_run(store, experiment, f"drift of version {version}", identity)
        mlflow_runs.log(store, run, f"drift {utc_text(made.as_of)}", Content(metrics=metrics, tags=tags, files=files))


def _metrics(window: JudgedWindow) -> Iterator[tuple[str, float, int]]:
    step = window.end.toordinal() - date(1970, 1, 1).toordinal()
    drifted, measured = window.inputs, window.performance
    yield "drifted_columns", float(sum(each.breached for each in drifted.columns)), step
    yield "scored_rows", float(measured.rows), step
    values = {
        "skill": measured.skill,
        measured.metric: measured.value,
        "threshold": measured.threshold,
        "estimated": measured.estimated,
        "labelled": measured.labelled,
    }
    for name, value in values.items():
        if value is not None:
            yield name, float(value), step
    for column in drifted.columns:
        for effect, size in column.effects.items():
            yield f"{effect}/{column.column}", size, step
