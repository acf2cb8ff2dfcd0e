"""Judges the newest windows against the champion's reference, decides whether to retrain, and stores the decision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.drift import decision, inputs, multivariate, performance
from refit.drift.decision import Decision, Evidence
from refit.drift.distribution_summaries import distributions
from refit.drift.inputs import InputVerdict, Window
from refit.drift.multivariate import Separation
from refit.drift.performance import Backtest, PerformanceVerdict
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.models import run_logging
from refit.reports.drift import drift_report
from refit.runtime.context import Context
from refit.storage.batches import utc_text
from refit.storage.prediction_log import PREDICTION
from refit.storage.snapshots import LATEST
from registry import tracking as mlflow_runs
from registry import versions
from registry.tracking import Content
from tasks.drift import observations
from tasks.drift.observations import Observed, Reference
from tasks.score.champion_model import Champion, load_champion
from tasks.score.data_as_of import validated_data_at

if TYPE_CHECKING:
    import pyarrow as pa

DRIFT = artifacts.REPORTS / "drift"
DECISIONS = DRIFT / "decisions"
SHOWN = 8  # windows that are judged and plotted; the decision uses the newest few
WORST = 6  # columns of the newest window whose distributions are stored


def run(context: Context, *, as_of: str = LATEST) -> dict[str, Any]:
    """Judge the newest complete windows against the champion's reference, and return the decision as stored.

    Args:
        as_of: `now`, a date or time in the project's zone, or `latest`: now, or the end of the data if that is earlier.

    Raises:
        UserError: there is no champion, or `as_of` is not a time.
        RefitError: the champion's files differ from the registered ones, or hold no reference.
    """
    champion = load_champion(context)
    _require_task(champion, context)
    reference = observations.reference(context, champion)
    validated = validated_data_at(context, as_of)
    moment = datetime.fromisoformat(validated["as_of"])
    windows = observations.windows(moment, reference.after, context.params, max(SHOWN, context.params.drift.windows))
    labels = observations.labels(context, champion, validated)
    observed = observations.observe(context, champion, validated, labels, windows, reference) if windows else None
    backtest = performance.backtest(reference.backtest, _policies(context)[1])
    evidence = _gather_evidence(context, champion, reference, backtest, observed, labels, windows, moment)
    report = {
        **_as_json(champion, windows, evidence, decision.decide(evidence, _policies(context)[2])),
        "seen_until": reference.end.isoformat(),
        "policy": _policy(context),
        "backtest": list(_backtest(backtest, _policies(context)[1])),
        "distributions": _distributions(reference, observed, evidence),
        "report": str(drift_report.REPORT),
    }
    _store(context, report, moment)
    drift_report.write(context, report, decisions(context))
    _log(context, champion, report)
    return report


def _require_task(champion: Champion, context: Context) -> None:
    was, now = champion.learner.spec.task, context.params.task
    if was != now:
        raise UserError(
            f"version {champion.version.version} in charge was made for task {was!r}, train.task is {now!r}: its "
            "predictions cannot be held against such labels; `refit run`, then `refit promote VERSION --why ...`"
        )


def _policies(context: Context) -> tuple[inputs.InputPolicy, performance.SkillPolicy, decision.RetrainPolicy]:
    drift, evaluate = context.params.drift, context.params.evaluate
    return (
        drift.policy(inputs.InputPolicy),
        drift.policy(performance.SkillPolicy, metric=evaluate.gate.metric, confidence=evaluate.confidence),
        drift.policy(decision.RetrainPolicy),
    )


def _gather_evidence(
    context: Context,
    champion: Champion,
    reference: Reference,
    backtest: Backtest,
    observed: Observed | None,
    labels: pa.Table,
    windows: Sequence[Window],
    moment: datetime,
) -> Evidence:
    """Judge every window and collect the other evidence that the decision uses."""
    input_policy, performance_policy, _ = _policies(context)
    judged_inputs: list[InputVerdict] = []
    judged_performance: list[PerformanceVerdict] = []
    for index, window in enumerate(windows if observed else ()):
        assert observed is not None
        context.progress("judging windows", index, len(windows))
        judged_inputs.append(
            observations.judged_inputs(reference.learned, reference.predicted, observed.sketch, window, input_policy)
        )
        judged_performance.append(performance.judge_window(backtest, observed.scored, window, performance_policy))
    if observed is None:
        judged_inputs = [inputs.empty_verdict(window) for window in windows]
    trained = _newest_training(context, champion)
    ripe = trained - timedelta(hours=context.params.featurize.label.delay_hours)
    return Evidence(
        as_of=moment,
        trained_as_of=trained,
        new_labelled=int((labels["event_time"].to_numpy() >= np.datetime64(ripe.replace(tzinfo=None))).sum()),
        inputs=tuple(judged_inputs),
        performance=tuple(judged_performance),
        multivariate=_separation(context, reference, observed, windows[-1]) if observed else None,
        retrained=_retrained(context, champion, moment),
    )


def _separation(context: Context, reference: Reference, observed: Observed, window: Window) -> Separation | None:
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
    with run_logging.opened(context) as store:
        registered = versions.tagged_by_client(store, champion.version.model, {})
    return max(datetime.fromisoformat(each.tags["refit.as_of"]) for each in registered if "refit.as_of" in each.tags)


def _retrained(context: Context, champion: Champion, moment: datetime) -> tuple[datetime, ...]:
    """Return when earlier decisions requested a retraining of this model."""
    requested = {
        past["as_of"]
        for past in decisions(context)
        if past["model"] == champion.version.model and past["verdict"] == "retrain" and past["as_of"] != text(moment)
    }
    return tuple(datetime.fromisoformat(each) for each in sorted(requested))


def decisions(context: Context) -> list[dict[str, Any]]:
    """Return every stored decision, oldest first.

    Raises:
        RefitError: a file in the folder is not a decision.
    """
    return [_decision(path) for path in _decision_files(context)]


def _decision_files(context: Context, stem: str = "") -> list[Path]:
    """Return the files of decisions, ordered by `as_of`, then by the order in which they were made."""
    named = [(*path.stem.partition(".")[::2], path) for path in context.path(DECISIONS).glob(f"{stem}*.json")]
    return [path for _, _, path in sorted(named, key=lambda each: (each[0], len(each[1]), each[1]))]


def _decision(path: Path) -> dict[str, Any]:
    stored = artifacts.read_json(path)
    if not isinstance(stored, dict) or not {"model", "version", "as_of", "verdict"} <= stored.keys():
        raise RefitError(f"{path} is no decision of `refit drift`; move it away and run again")
    return stored


def _store(context: Context, report: dict[str, Any], moment: datetime) -> None:
    """Store a decision next to the others of its `as_of`, because a request for retraining stays valid.

    A decision equal to the last one is not stored twice.
    """
    stem = f"{moment:%Y%m%dT%H%M%SZ}"
    paths = _decision_files(context, stem)
    if not paths or _decision(paths[-1]) != report:
        artifacts.write_json(context.path(DECISIONS / f"{stem}{f'.{len(paths) + 1}' if paths else ''}.json"), report)


def text(moment: datetime) -> str:
    """Format a moment as decisions store it."""
    return str(utc_text(moment.replace(microsecond=0)))


def _as_json(champion: Champion, windows: Sequence[Window], evidence: Evidence, outcome: Decision) -> dict[str, Any]:
    """Convert a decision and its evidence to JSON; `columns` are those that drifted in the newest window."""
    judged = list(zip(windows, evidence.inputs, evidence.performance, strict=False))
    return {
        "model": champion.version.model,
        "version": champion.version.version,
        "as_of": text(evidence.as_of),
        "verdict": outcome.verdict,
        "reasons": list(outcome.reasons),
        "causes": list(outcome.causes),
        "blocked": list(outcome.blocked),
        "window": _span(windows[-1]) if judged else None,
        "columns": [each.column for each in evidence.inputs[-1].columns if each.breached] if judged else [],
        "multivariate": _plain(evidence.multivariate) if evidence.multivariate else None,
        "trained_as_of": text(evidence.trained_as_of),
        "new_labelled": evidence.new_labelled,
        "windows": [
            {**_span(window), "inputs": _plain(drifted), "performance": _plain(measured)}
            for window, drifted, measured in judged
        ],
    }


def _policy(context: Context) -> dict[str, Any]:
    """Return the params of the decision, with the gate's metric and confidence."""
    evaluate = context.params.evaluate
    return {
        **context.params.drift.model_dump(mode="json"),
        "metric": evaluate.gate.metric,
        "confidence": evaluate.confidence,
    }


def _backtest(backtest: Backtest, policy: performance.SkillPolicy) -> Iterator[dict[str, Any]]:
    """Yield the usual skill: that of each backtest window."""
    for window, skill, estimated in zip(backtest.windows, backtest.skills, backtest.estimated, strict=True):
        lower, upper = skill.interval(policy.confidence)
        measured = {"skill": skill.value, "lower": lower, "upper": upper, "estimated_skill": estimated}
        yield {**_span(window), **{name: value if np.isfinite(value) else None for name, value in measured.items()}}


def _distributions(reference: Reference, observed: Observed | None, evidence: Evidence) -> list[dict[str, Any]]:
    """Return the reference and current distributions of the columns of the newest window that drifted most."""
    if observed is None:
        return []
    newest = evidence.inputs[-1]
    current = observed.sketch.between(newest.window.first, newest.window.end)
    worst = [each.column for each in newest.columns[:WORST]]
    counted = [PREDICTION if name == observations.SHOWN_PREDICTION else name for name in worst]
    summaries = distributions(reference.learned.join(reference.predicted), current, counted)
    return [{**each, "column": name} for each, name in zip(summaries, worst, strict=True)]


def _span(window: Window) -> dict[str, str]:
    return {"first": window.first.isoformat(), "end": window.end.isoformat()}


def _plain(verdict: InputVerdict | PerformanceVerdict | Separation) -> dict[str, Any]:
    """Convert a verdict to JSON: without its window, and with null for values that are not finite."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(verdict), default=str), parse_constant=lambda _: None)
    values.pop("window", None)
    return values


def _log(context: Context, champion: Champion, report: dict[str, Any]) -> None:
    """Log the windows as metrics of one MLflow run per version, with the day of a window's end as step."""
    model, version = champion.version.model, champion.version.version
    metrics = [metric for window in report["windows"] for metric in _metrics(window)]
    tags = {"refit.drift_verdict": report["verdict"], "mlflow.note.content": "\n\n".join(report["reasons"])}
    files = {context.path(report["report"]): "drift"}
    with run_logging.opened(context) as store:
        experiment = mlflow_runs.ensure_experiment(store, model)
        identity = {"refit.drift": version, "refit.role": "drift"}
        run = mlflow_runs.ensure_run(store, experiment, f"drift of version {version}", identity)
        mlflow_runs.log(store, run, f"drift {report['as_of']}", Content(metrics=metrics, tags=tags, files=files))


def _metrics(window: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    step = date.fromisoformat(window["end"]).toordinal() - date(1970, 1, 1).toordinal()
    drifted, measured = window["inputs"], window["performance"]
    yield "drifted_columns", float(sum(each["breached"] for each in drifted["columns"])), step
    yield "scored_rows", float(measured["rows"]), step
    for name in ("skill", "value", "threshold", "estimated", "labelled"):
        if measured[name] is not None:
            yield f"{measured['metric'] if name == 'value' else name}", float(measured[name]), step
    for column in drifted["columns"]:
        for effect, size in column["effects"].items():
            if size is not None:
                yield f"{effect}/{column['column']}", float(size), step
