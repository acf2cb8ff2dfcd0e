"""What MLflow shows of a candidate, its learners and their trials: built from the files that the stages wrote."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

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
from refit.runtime.context import Context
from refit.runtime.registry_store import store_of
from refit.schemas.artifact import Part, omitted
from refit.schemas.cross_validation import CrossValidation
from refit.schemas.evaluation import Evaluation
from refit.schemas.gate_decision import Decision
from refit.schemas.serving_cost import FitCost, Latency
from refit.schemas.snapshot import Snapshot
from refit.schemas.training import IterationScores, LearnerReport, SizeScores, Training, TuningReport
from registry.tracking import Content, origin_tags
from registry.urls import folder_url

if TYPE_CHECKING:
    from refit.config import CostParams, Params

REDUCTION = "validation/error_reduction_percent"
# MLflow groups metrics by what stands before the slash. Refit 0.2 logged these by the names on the left.
_KPIS = {
    "rows_per_second": "fit/rows_per_second",
    **{
        f"{name}_{part}": f"serving/{name}_{part}"
        for name in ("latency_ms", "latency_1000_ms")
        for part in ("p50", "p95")
    },
    "cost_training": "cost/training",
    "cost_per_1000": "cost/per_1000",
}


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

    @classmethod
    def of(cls, metrics: Mapping[str, float], params: Mapping[str, str]) -> Kpis:
        """Those of a run with these metrics and params."""
        values = {name: metrics.get(key, metrics.get(name)) for name, key in _KPIS.items()}
        return cls() if None in values.values() else cls(**values, currency=params["cost.currency"])


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


def validation_score(metrics: Mapping[str, float], metric: str) -> float | None:
    """The validation score among the metrics of a run, also of one that Refit 0.2 logged."""
    return metrics.get(f"validation/{metric}", metrics.get(f"validation_{metric}"))


def origin_of(context: Context, commit: str | None) -> dict[str, str]:
    """From where a run comes, for MLflow's columns User, Source and Version; `commit` is that of the project."""
    return origin_tags("refit run", job=context.trigger != "manual", commit=commit)


def of_training(context: Context, training: Training, commit: str | None) -> Content:
    """The content of the candidate's run that is known after its training."""
    snapshot = Snapshot.read(context.path(SNAPSHOT)) if context.path(SNAPSHOT).is_file() else None
    tags = {
        "learner": training.learner,
        "trigger": context.trigger,
        "as_of": shown_moment(snapshot.as_of, context.params.project.zone) if snapshot else None,
        "stand_in": ", ".join(snapshot.stand_in or ()) if snapshot else None,
        "refit.snapshot": snapshot.digest if snapshot else None,
        "refit.git_commit": commit,
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
        model={
            "learner": training.learner,
            **{key: str(value) for key, value in _flat(training.chosen.params).items()},
        },
    )


def shown_moment(time: datetime, zone: tzinfo) -> str:
    """A time as a tag that people read.

    >>> from zoneinfo import ZoneInfo
    >>> shown_moment(datetime.fromisoformat("2013-11-01T04:00:00Z"), ZoneInfo("America/New_York"))
    '2013-11-01 00:00 America/New_York'
    """
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M} {zone}"


def of_learner(learner: LearnerReport, price: CostParams) -> Content:
    """The content of the run of one learner: its scores, cost and curves."""
    points: list[tuple[str, int, IterationScores | SizeScores]] = [
        *(("curve", point.iteration, point) for point in learner.curve),
        *(("by_rows", size.rows, size) for size in learner.size_curve),
    ]
    tags = {"verdict": learner.verdict, "kind": learner.kind}
    return Content(
        params={"kind": learner.kind, **_flat(learner.params)},
        metrics=[
            *_scores(learner),
            *_cost_metrics(learner, learner.work_seconds, price),
            *((f"{curve}/training", point.training, step) for curve, step, point in points),
            *((f"{curve}/validation", point.validation, step) for curve, step, point in points),
        ],
        tags={key: value for key, value in tags.items() if value},
    )


def of_trials(
    tuning: TuningReport, named: Mapping[str, str], price: CostParams, champion: ChampionScore | None
) -> Iterator[tuple[str, float, Content]]:
    """Name, duration in seconds and content of a run for each trial of a search."""
    for number, trial in enumerate(tuning.trials):
        steps = [("score", value, fold) for fold, value in enumerate(trial.steps)]
        steps += [("score_by_epoch", value, step) for step, value in trial.epochs]
        value = [("value", trial.value, 0)] if trial.value is not None else []
        costs = _cost_metrics(trial.cost, trial.seconds, price)
        reduction = None if champion is None else champion.reduction(trial.value)
        if reduction is not None:
            costs.append((REDUCTION, reduction, 0))
        trial_tags = {"state": trial.state, "problem": trial.problem}
        yield (
            f"trial {number}" + (" (best)" if number == tuning.best else ""),
            trial.seconds,
            Content(
                params=dict(trial.params),
                metrics=[*steps, *value, ("seconds", trial.seconds, 0), *costs],
                tags={**named, **{key: text for key, text in trial_tags.items() if text}},
            ),
        )


def of_evaluation(context: Context, training: Training) -> Content:
    """What the candidate's run shows after its evaluation: metrics, plots, model card, and a description."""
    metrics = read_json(context.path(METRICS))
    decision = Decision.read(context.path(DECISION))
    reports = context.path(REPORTS)
    plots = [*sorted((reports / "figures").glob("*")), *sorted((reports / "plots").glob("*"))]
    files: dict[Path, str | None] = dict.fromkeys(plots, "plots")
    files |= {context.path(path): "evaluation" for path in (EVALUATION, DECISION) if context.path(path).is_file()}
    if (card := context.path(MODEL_CARD)).is_file():
        files[card] = None
    shown = [
        (f"test/{name.removeprefix('test_')}", float(value), 0)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if (share := metrics.get("error_reduction")) is not None:
        shown.append(("test/error_reduction_percent", 100 * share, 0))
    if context.path(EVALUATION).is_file():
        # In place of what the training measured of its learners in fewer calls: one model has one latency.
        timings = Evaluation.read(context.path(EVALUATION)).timings
        shown += [(name, value, 0) for name, value in _latencies(timings.latency_ms, timings.latency_1000_ms).items()]
        shown.append(("cost/per_1000", timings.cost.per_1000, 0))
    links = {"Prefect": _flow_run(context.flow_run).get("prefect")}
    if (docs := context.path(DATA_DOCS) / "index.html").is_file():
        links["Data Docs"] = _data_docs(context) or folder_url(docs)
    tags = {
        "decision": decision.verdict,
        "data_docs": folder_url(docs) if docs.is_file() else None,
        "mlflow.note.content": _description(training, decision, links, card=card.is_file()),
    }
    return Content(
        metrics=shown,
        tags={key: value for key, value in tags.items() if value},
        files=files,
        dataset={
            "name": f"{context.params.project.name} test rows",
            "digest": decision.test.digest,
            "source": str(context.path(EVALUATION)),
            "context": "test",
        },
        model={},
    )


def _description(training: Training, decision: Decision, links: Mapping[str, str | None], *, card: bool) -> str:
    """A run in some lines of Markdown, for MLflow's page."""
    learner, score = as_markdown(training.learner), training.chosen.validation.get(training.metric)
    rule, start = training.split, decision.test.start
    lines = [
        f"**{decision.verdict}** ({decision.mode}): {as_markdown('; '.join(decision.reasons))}",
        f"{learner}, the best of {len(training.learners)} learners by {training.metric} on validation rows"
        + ("" if score is None else f" ({score:.4g})")
        + f"; fitted on {training.refit_rows:,} rows, judged on {decision.test.rows:,} rows"
        + (f" kept apart by a rule: {as_markdown(rule)}." if rule else f" from {start:%Y-%m-%d} on."),
        *([" · ".join(shown)] if (shown := [_link(name, link) for name, link in links.items() if link]) else []),
        *(["Model card: `model_card.html` among the artifacts"] if card else []),
    ]
    return "\n\n".join(lines)


def _data_docs(context: Context) -> str | None:
    """The address of the Data Docs for a reader of MLflow's page of the run; None if no server is known to have them.

    A project's own registry is read on the server of `refit ui` or `refit up`, whatever its port, and so are they.
    """
    own = store_of(context.project, context.params).database is not None
    home = "/refit/" if own else context.home_page
    return f"{home}data-docs/index.html" if home else None


def _link(name: str, address: str) -> str:
    """A link in Markdown; a file's address as it is, as no browser follows a link from a server's page to a file."""
    return f"[{name}]({address})" if address.startswith(("http", "/")) else f"{name}: `{address}`"


def cross_validation_identity(report: CrossValidation) -> dict[str, str]:
    """The tags that identify the run of a cross-validation."""
    content = report.to_json()
    return {
        "refit.role": "cross_validation",
        "refit.cross_validation": digest([content["asked"], content["folds"]])[:20],
    }


def of_cross_validation(params: Params, report: CrossValidation) -> Content:
    """The content of the run of a cross-validation: means and deviations, and each fold as a step."""
    metrics = [(f"cv/{name}", value, 0) for name, value in report.mean.items()]
    metrics += [(f"cv/{name}_deviation", value, 0) for name, value in report.deviation.items()]
    metrics += [
        (f"fold/{name}", value, index) for index, fold in enumerate(report.folds) for name, value in fold.scores.items()
    ]
    tags = {"refit.snapshot": report.snapshot, "stand_in": ", ".join(report.stand_in)}
    return Content(
        params=_flat(shown_params(params)),
        metrics=[(name, value, step) for name, value, step in metrics if value is not None],
        tags={key: value for key, value in tags.items() if value},
        texts={"cross_validation.json": json.dumps(report.to_json(), indent=1)},
    )


def _cost_metrics(cost: FitCost | None, work_seconds: float, price: CostParams) -> list[tuple[str, float, int]]:
    """Time, memory and cost of a training and of its predictions, as metrics.

    Args:
        work_seconds: duration of the whole training, including every trial of its search.
    """
    values: dict[str, float | None] = {}
    if cost is not None:
        values = {"fit/rows_per_second": cost.rows_per_second, "fit/peak_memory_mb": cost.peak_memory_mb}
        values |= _latencies(cost.latency_ms, cost.latency_1000_ms)
        values["cost/per_1000"] = in_money(cost.cpu_seconds_per_1000, price)
    values["cost/training"] = in_money(work_seconds, price)
    return [(name, float(value), 0) for name, value in values.items() if value is not None]


def _latencies(one: Latency, many: Latency) -> dict[str, float]:
    """The time of a prediction alone, and of 1,000 rows in one call, as metrics."""
    named = (("latency_ms", one), ("latency_1000_ms", many))
    return {f"serving/{name}_{part}": getattr(each, part) for name, each in named for part in ("p50", "p95")}


def _scores(learner: LearnerReport) -> list[tuple[str, float, int]]:
    scores: dict[str, float | None] = {
        **{f"validation/{name}": value for name, value in learner.validation.items()},
        **{f"training/{name}": value for name, value in learner.training.items()},
        "fit/seconds": learner.seconds,
        "fit/iterations": learner.iterations,
    }
    if seeds := learner.seeds:
        scores |= {"seeds/mean": seeds.mean, "seeds/deviation": seeds.deviation}
    return [(name, float(value), 0) for name, value in scores.items() if value is not None]


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
    return {"refit.prefect_flow_run": flow_run} | ({"prefect": f"{ui}/runs/flow-run/{flow_run}"} if ui else {})
