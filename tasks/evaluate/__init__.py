"""The stage `evaluate`: scores candidate, champion and baseline on the same unseen rows, asks the gate, and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from registry.promotion import Decision, Evidence, Policy, decide
from tasks import artifacts, comparand, featurize, learners, runfile, tracking
from tasks.artifacts import digest, read_json, write_json
from tasks.context import Context
from tasks.errors import RefitError, UserError
from tasks.evaluate import budgets, curves, judging, model_card, plots
from tasks.evaluate.evidence import Scored, evidence, opponents
from tasks.evaluate.importance import groups_of, permutation_importance
from tasks.evaluate.judging import Holdout, tidy, with_interval
from tasks.featurize.definitions import Definitions
from tasks.learners import Learner
from tasks.params import GateParams

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Report = dict[str, Any]

BASELINE_THRESHOLD = 0.5  # the naive baseline calls every row the majority's


@dataclass(frozen=True)
class Given:
    """What the earlier stages and the registry said, and the candidate itself."""

    features: Mapping[str, Any]
    training: Mapping[str, Any]
    comparand: Mapping[str, Any]
    learner: Learner


def run(context: Context) -> None:
    """Judge `models/candidate` on the test window, decide, and write `reports/` (less the validation stage's part).

    Raises:
        RefitError: the candidate's files differ from their manifest, `comparand.json` from the registry, or a model
            predicts what is no probability.
        UserError: a slice of the report or of the gate, or the cluster, names no column.
    """
    started = time.perf_counter()
    params = context.params.evaluate
    comparand.check(context)
    given = _read(context)
    test = judging.holdout(_test_rows(context, given), context.params.project.zone, params.gate.cluster)
    context.progress("scoring candidate, champion and baseline")
    scored = _score(context, given, test)
    timings = budgets.latency(given.learner, test.table)
    timings["cost"] = budgets.cost(given.learner, test.table, context.params.cost, given.training["seconds"])
    evaluation = _evaluate(context, given, test, scored)
    known = evidence(
        test,
        scored,
        _values(evaluation, timings, params.gate),
        training=given.training,
        test_start=datetime.fromisoformat(given.features["windows"]["test"]["start"]),
        comparand=given.comparand,
        gate=params.gate,
    )
    decision = decide(known, Policy(**params.gate.model_dump()))
    if reduction := known.error_reduction:
        evaluation["error_reduction"] = with_interval(reduction, params.confidence, lowest=-math.inf, highest=1.0)
    evaluation["decision"] = {
        **_as_json(decision, known, given, params.gate.model_dump(mode="json")),
        "error_reduction": evaluation["error_reduction"],
    }
    evaluation["timings"] = {**timings, "evaluate_seconds": round(time.perf_counter() - started, 2)}
    _write(context, given, test, scored, evaluation)
    tracking.log_evaluation(context)


def _read(context: Context) -> Given:
    candidate = context.path(artifacts.CANDIDATE)
    learner = learners.load(candidate, trusted_types=context.params.registry.trusted_types)
    training = read_json(context.path(artifacts.TRAINING))
    if training["model_digest"] != (found := learner.digest()):
        raise RefitError(
            f"{artifacts.TRAINING} tells of model {training['model_digest'][:12]}, {artifacts.CANDIDATE} holds "
            f"{found[:12]}; run `refit stage train` again"
        )
    return Given(
        features=read_json(context.path(artifacts.FEATURE_SET)),
        training=training,
        comparand=read_json(context.path(artifacts.COMPARAND)),
        learner=learner,
    )


def _test_rows(context: Context, given: Given) -> pa.Table:
    """The test window of the feature table, in canonical order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = context.path(artifacts.TABLE)
    try:
        table = pq.read_table(path, filters=[("window", "=", "test")])
    except FileNotFoundError:
        raise RefitError(f"{path} does not exist yet; `refit stage featurize` makes it") from None
    except (OSError, pa.ArrowException) as error:
        raise RefitError(f"{path} cannot be read ({error}); delete it and run `refit stage featurize` again") from None
    return table.sort_by([("event_time", "ascending"), (given.features["key"], "ascending")])


def _score(context: Context, given: Given, test: Holdout) -> Scored:
    """The candidate, the constant baseline, and champion and anchor by their own features, on the same rows.

    A registered model whose features can no longer be computed is a reason to refuse, not a fault: its successor could
    otherwise never be registered.
    """
    p = {
        "candidate": _probabilities("the candidate", given.learner, test.table),
        "baseline": np.full(test.rows, float(given.training["baseline"]["rate"])),
    }
    thresholds, problems = {"candidate": given.learner.threshold, "baseline": BASELINE_THRESHOLD}, {}
    for role, version in opponents(given.comparand):
        folder = comparand.fetch_model(context, version)
        learner = learners.load(folder, trusted_types=context.params.registry.trusted_types)
        try:
            table = _own_rows(context, given, test, read_json(folder / artifacts.FEATURE_SET.name))
        except UserError as error:
            problems[role] = f"its features cannot be computed for these rows ({error})"
            continue
        p[role] = _probabilities(f"the {role} (version {version})", learner, table)
        thresholds[role] = learner.threshold
    return Scored(p, thresholds, problems)


def _own_rows(context: Context, given: Given, test: Holdout, features: Mapping[str, Any]) -> pa.Table:
    """The test rows with the features that a registered model was made with, in the order of the test table.

    Raises:
        UserError: the stored definitions do not fit today's sources.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if features["definitions_digest"] == given.features["definitions_digest"]:
        return test.table
    table = featurize.rows_for(context, features["definitions"], "test")
    key = given.features["key"]
    places = pc.index_in(test.table.column(key), value_set=pa.array(table.column(features["key"]).combine_chunks()))
    if places.null_count:
        raise UserError(f"{places.null_count:,} of {test.rows:,} test rows are not among them")
    return table.take(places)


def _probabilities(who: str, learner: Learner, table: pa.Table) -> Floats:
    p = learner.predict(table)
    wrong = int((~((p >= 0) & (p <= 1))).sum())
    if wrong:
        raise RefitError(
            f"{who} predicts no probability for {wrong:,} of {len(p):,} test rows (NaN or outside 0 to 1); "
            "it cannot be judged: train again"
        )
    return np.asarray(p, dtype=np.float64)


def _evaluate(context: Context, given: Given, test: Holdout, scored: Scored) -> Report:
    """Everything that is measured on the test rows, but for the clock's part: the same each time."""
    params, training, windows = context.params.evaluate, given.training, given.features["windows"]
    metric, confidence, candidate = params.gate.metric, params.confidence, scored.p["candidate"]
    context.progress("metrics, intervals and slices")
    others = [name for name in scored.p if name != "candidate"]
    measured = {n: judging.measure(test, p, scored.thresholds[n], confidence) for n, p in scored.p.items()}
    evaluation: Report = {
        "as_of": given.features["as_of"],
        "overrides": dict(runfile.read(context.project).overrides),
        "snapshot": given.features["snapshot"],
        "stand_in": given.features.get("stand_in", []),
        "candidate": {
            "learner": training["learner"],
            "kind": given.learner.spec.kind,
            "inputs": training["inputs"],
            "model_digest": training["model_digest"],
            "seen_until": training["seen_until"],
            "split": training["split"],
            "threshold": scored.thresholds["candidate"],
            "features": len(given.learner.spec.features),
            "model_mb": budgets.megabytes(context.path(artifacts.CANDIDATE)),
        },
        "comparand": dict(given.comparand),
        "test": {
            "start": windows["test"]["start"],
            "end": windows["test"]["end"],
            "rows": test.rows,
            "positive": test.positive,
            "days": len(np.unique(test.days)),
            "cluster": params.gate.cluster,
            "clusters": test.sample.clusters.count,
            "effective_clusters": tidy(test.sample.clusters.effective),
        },
        "metric": metric,
        "confidence": confidence,
        "metrics": measured,
        "error_reduction": None,  # there is one where there is a champion
        "gains": {n: judging.gains(test, candidate, scored.p[n], confidence) for n in others},
        "slices": judging.slices(test, params.slices, scored.p, metric, confidence),
        "calibration": judging.calibration(test, candidate, confidence),
        "confusion": judging.confusion(test, candidate, scored.thresholds["candidate"]),
        "daily": curves.daily(test, scored.p, metric),
        "curves": _curves(test, scored),
        "learning_metric": training["metric"],
        "learners": training["learners"],
    }
    evaluation["importance"] = permutation_importance(
        given.learner,
        test,
        groups_of(Definitions.load(given.features["definitions"]).feature_set, given.learner.spec.features),
        metric=metric,
        rows=params.permutation_rows,
        seed=context.params.train.seed,
        confidence=confidence,
        progress=context.progress,
    )
    return evaluation


def _curves(test: Holdout, scored: Scored) -> Report:
    shown = {name: p for name, p in scored.p.items() if name in ("candidate", "champion")}
    return {
        "roc": {name: curves.roc(test.labels, p) for name, p in shown.items()},
        "precision_recall": {name: curves.precision_recall(test.labels, p) for name, p in shown.items()},
        "scores": curves.histogram(test.labels, scored.p["candidate"]),
    }


def _values(evaluation: Report, timings: Report, gate: GateParams) -> dict[str, float | None]:
    """The candidate's own metrics. The clock enters only where a ceiling asks for it."""
    values = {name: found["value"] for name, found in evaluation["metrics"]["candidate"].items()}
    values["model_mb"] = evaluation["candidate"]["model_mb"]
    clocked = {"latency_ms": timings["latency_ms"]["p50"], "cost_per_1000": timings["cost"]["per_1000"]}
    return values | {name: value for name, value in clocked.items() if name in gate.ceilings}


def _as_json(decision: Decision, evidence: Evidence, given: Given, policy: Mapping[str, Any]) -> Report:
    """`decision.json`: the verdict, and all that is needed to draw and to explain it."""
    window = {key: given.features["windows"]["test"][key] for key in ("start", "end")}
    difference = decision.difference
    return {
        "promote": decision.promote,
        "mode": decision.mode,
        "metric": decision.metric,
        "confidence": decision.confidence,
        "reasons": list(decision.reasons),
        "notes": list(decision.notes),
        "checks": [asdict(check) for check in decision.checks],
        "compared": [asdict(each) for each in decision.compared],
        "slices": [asdict(each) for each in decision.slices],
        "difference": asdict(difference) if difference else None,
        "candidate": evidence.candidate,
        "inputs": given.training["inputs"],
        "comparand": dict(given.comparand),
        "test": {**window, "rows": evidence.rows, "positive": evidence.positive, "digest": digest(window)},
        "looks": evidence.looks,
        "policy": dict(policy),
    }


def _write(context: Context, given: Given, test: Holdout, scored: Scored, evaluation: Report) -> None:
    """Everything under `reports/`; the decision last, so that it never stands beside another run's numbers."""
    context.progress("plots and report")
    context.path(artifacts.DECISION).unlink(missing_ok=True)
    _write_predictions(context.path(artifacts.REPORTS / "predictions.parquet"), given, test, scored)
    plots.draw(context.path(artifacts.REPORTS), evaluation)
    write_json(context.path(artifacts.METRICS), flat_metrics(evaluation))
    write_json(context.path(artifacts.EVALUATION), evaluation)
    model_card.write(context, evaluation, given.features, given.training)
    write_json(context.path(artifacts.DECISION), evaluation["decision"])


def flat_metrics(evaluation: Report) -> dict[str, float | int | bool | None]:
    """What `dvc metrics show` and `dvc metrics diff` line up; nothing of the clock: equal models show no difference."""
    flat: dict[str, Any] = {}
    for name, found in evaluation["metrics"]["candidate"].items():
        flat[name] = found["value"]
    metric = evaluation["metric"]
    flat[f"{metric}_lower"] = evaluation["metrics"]["candidate"][metric]["lower"]
    flat[f"{metric}_upper"] = evaluation["metrics"]["candidate"][metric]["upper"]
    for other, found in evaluation["gains"].items():
        flat[f"gain_over_{other}"] = found[metric]["value"]
    if reduction := evaluation["error_reduction"]:
        flat["error_reduction"] = reduction["value"]
    flat["test_rows"] = evaluation["test"]["rows"]
    flat["promote"] = evaluation["decision"]["promote"]
    return flat


def _write_predictions(path: Path, given: Given, test: Holdout, scored: Scored) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    champion = scored.p.get("champion")
    columns = {
        given.features["key"]: test.table.column(given.features["key"]),
        "event_time": test.table.column("event_time"),
        "label": pa.array(test.labels),
        "candidate": pa.array(scored.p["candidate"]),
        "baseline": pa.array(scored.p["baseline"]),
        "champion": pa.nulls(test.rows, pa.float64()) if champion is None else pa.array(champion),
    }
    with artifacts.atomic(path) as scratch:
        pq.write_table(pa.table(columns), scratch, compression="zstd")
