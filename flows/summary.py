"""What a run says at its end, built from the files that it left, so that an unchanged run says the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.progress_display import STATE_STYLE
from flows.session import Session
from refit.config import STAGES
from refit.files.artifacts import (
    DECISION,
    EVALUATION,
    FEATURE_SET,
    MODEL_CARD,
    RECEIPT,
    TRAINING,
    VALIDATED,
    read_json,
    read_snapshot,
)
from refit.learners.prediction_cost import in_money
from refit.models.run_logging import work_seconds
from refit.plain_text import as_markdown, one_line
from refit.reports.drift.report_words import verdict_word
from refit.reports.html_theme import money
from refit.runtime.terminal import Terminal, line
from registry.urls import folder_url

STAND_IN = "a stand-in, no figure made from it means anything; the real file is published at {where}"
SHOWN_CLASSES = 5
TOOK = ("seconds", "rows_per_second", "peak_memory_mb", "latency_ms", "latency_1000_ms")


def summarise(run: Session) -> dict[str, Any]:
    """The run in one JSON-like mapping: what `refit run --json` prints."""
    project = run.project
    validated, training = read_json(project / VALIDATED), read_json(project / TRAINING)
    evaluation, receipt = read_json(project / EVALUATION), read_json(project / RECEIPT)
    features, price = read_json(project / FEATURE_SET), run.context().params.cost
    return {
        "flow_run_id": run.owner.flow_run,
        "mlflow_run_id": receipt["run_id"],
        "as_of": validated["as_of"],
        "snapshot": validated["snapshot"],
        "batches": len(validated["batches"]),
        "stand_in": read_snapshot(project).get("stand_in", {}),
        "rows": validated["rows"],
        "features": len(features["features"]),
        "windows": features["windows"],
        "labels": features["labels"],
        "stages": {stage: run.stages[stage] for stage in STAGES if stage in run.stages},
        "learners": [
            {
                "name": tried["name"],
                "validation": (tried["validation"] or {}).get(training["metric"]),
                **{name: tried.get(name) for name in TOOK},
                "cost_training": in_money(work_seconds(tried), price),
                "cost_per_1000": in_money(tried["cpu_seconds_per_1000"], price),
            }
            for tried in training["learners"]
        ],
        "chosen": training["learner"],
        "metric": training["metric"],
        "metrics": {name: found["value"] for name, found in evaluation["metrics"]["candidate"].items()},
        "evaluation": evaluation["metrics"],
        "cost": evaluation["timings"]["cost"],
        "timings": {name: evaluation["timings"][name] for name in ("latency_ms", "latency_1000_ms", "rows_per_second")},
        "error_reduction": evaluation["error_reduction"],
        "intervals": _intervals(evaluation),
        "decision": read_json(project / DECISION),
        "model": {"name": receipt["model"], "version": receipt["version"], "alias": receipt["alias"]},
        "report": str(MODEL_CARD),
        "seconds": round(time.monotonic() - run.started, 3),
    }


def _intervals(evaluation: dict[str, Any]) -> dict[str, Any] | None:
    """What the test rows say of the prediction intervals; none: the model gives none."""
    if not (found := evaluation.get("intervals")):
        return None
    return {"level": found["level"], **{name: found[name] for name in ("coverage", "width", "winkler")}}


def publish(run: Session) -> dict[str, Any]:
    """The summary, also shown in Prefect's UI as a table with a link to the MLflow run."""
    from prefect.artifacts import create_markdown_artifact

    told = summarise(run)
    _publish_table("refit-summary", as_rows(told), f"{told['model']['name']}: what this run did")
    create_markdown_artifact(
        key="refit-mlflow",
        markdown=f"MLflow run `{told['mlflow_run_id']}` · model `{told['model']['name']}` version "
        f"{told['model']['version']} ({told['model']['alias']}) · report {as_markdown(run.project / MODEL_CARD)}",
    )
    return told


def _publish_table(key: str, lines: list[tuple[str, str]], description: str) -> None:
    from prefect.artifacts import create_table_artifact

    table = [{"what": one_line(what), "value": one_line(value)} for what, value in lines]
    create_table_artifact(key=key, table=table, description=as_markdown(description))


def publish_scores(told: dict[str, Any]) -> dict[str, Any]:
    """What a scoring run did, also shown in Prefect's UI as a table."""
    _publish_table("refit-scores", score_rows(told), f"{told['model']}: rows scored")
    return told


def score_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """A scoring run as lines of a table."""
    rows, logged = told["rows"], told["logged"]
    lines = [
        ("model", f"{told['model']} version {told['version']}"),
        ("as of", told["as_of"]),
        ("rows", " · ".join(f"{rows[name]:,} {name.replace('_', ' ')}" for name in rows)),
        ("logged", f"{logged['new']:,} new · {logged['known']:,} already in the prediction log"),
        _predicted(told),
        ("predictions", told["out"]),
    ]
    if (found := told["intervals"]) and found["mean_width"] is not None:
        lines.insert(-1, ("intervals", f"{100 * found['level']:.4g} %, mean width {found['mean_width']:.4g}"))
    if told["threshold"] is not None:
        lines.insert(-1, ("threshold", f"{told['threshold']:.4f}: from there on `predicted_label` is 1"))
    lines += [("quarantine", told["quarantine"])] if told["quarantine"] else []
    return [*lines, *(("note", note) for note in told["notes"]), ("seconds", f"{told['seconds']:.1f}")]


def _predicted(told: dict[str, Any]) -> tuple[str, str]:
    """The mean prediction, or the classes that rows were called most."""
    if called := told["called"]:
        most = sorted(called.items(), key=lambda each: -each[1])
        return "called", " · ".join(f"{name} {rows:,}" for name, rows in most[:SHOWN_CLASSES])
    mean = told["mean_prediction"]
    return "mean prediction", "–" if mean is None else f"{mean:.4f}"


def publish_drift(told: dict[str, Any], project: Path) -> dict[str, Any]:
    """A drift decision, also shown in Prefect's UI as a table with a link to its report."""
    from prefect.artifacts import create_link_artifact

    _publish_table("refit-drift", drift_rows(told), f"{told['model']}: {verdict_word(told)}")
    link = folder_url((project / told["report"]).resolve())
    words = as_markdown(f"{told['model']}: {verdict_word(told)}")
    create_link_artifact(key="refit-drift-report", link=link, description=words)
    return told


def drift_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """A drift decision as lines of a table."""
    window = told["window"]
    lines = [
        ("model", f"{told['model']} version {told['version']}, trained as of {told['trained_as_of']}"),
        ("as of", told["as_of"]),
        ("window", f"{window['first']} up to {window['end']}" if window else "none is over yet"),
        ("verdict", verdict_word(told)),
        *(("", reason) for reason in told["reasons"]),
    ]
    if told["columns"]:
        lines.append(("drifted", ", ".join(told["columns"])))
    return [*lines, ("report", told["report"])]


def print_lines(lines: list[tuple[str, str]], console: Terminal) -> None:
    """Names and values, one below another."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for what, value in lines:
        table.add_row(what, value)
    console.print(table)


def as_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary as lines of a table."""
    rows, decision, model = told["rows"], told["decision"], told["model"]
    counts = " · ".join(f"{rows[name]:,} {name}" for name in ("read", "accepted", "quarantined", "pending"))
    counts += " (their period begins at or after as_of)" if rows["pending"] else ""
    windows = " · ".join(f"{name} {told['windows'][name]['rows']:,}" for name in ("train", "validation", "test"))
    labels = " · ".join(f"{told['labels'][name]:,} {name}" for name in ("known", "pending", "none"))
    return [
        *((f"GENERATED: {name}", STAND_IN.format(where=where)) for name, where in told["stand_in"].items()),
        ("as of", told["as_of"]),
        ("snapshot", f"{told['snapshot'][:12]}, {told['batches']} batches"),
        ("rows", counts),
        ("labels", labels),
        ("features", f"{told['features']} · labelled rows: {windows}"),
        ("learners", " · ".join(_learner(tried, told) for tried in told["learners"])),
        ("cost", cost_in_words(told["cost"])),
        ("predictions", calls_in_words(told["timings"])),
        *([("intervals", _held(told["intervals"]))] if told["intervals"] else []),
        *([("against the champion", _reduced(told))] if told["error_reduction"] else []),
        ("decision", ("promote: " if decision["promote"] else "keep: ") + "; ".join(decision["reasons"])),
        *(("note", note) for note in decision["notes"]),
        ("model", f"{model['name']} version {model['version']}, alias {model['alias']}"),
        ("stages", " · ".join(f"{name} {s['state']} {s['seconds']:.1f} s" for name, s in told["stages"].items())),
        ("report", told["report"]),
    ]


def _learner(tried: dict[str, Any], told: dict[str, Any]) -> str:
    score = "failed" if tried["validation"] is None else f"{tried['validation']:.4f}"
    return f"{tried['name']} {score}" + (" (chosen)" if tried["name"] == told["chosen"] else "")


def cost_in_words(cost: dict[str, Any]) -> str:
    """What a training and 1,000 predictions cost."""
    return f"training {money(cost['training'])} {cost['currency']} · 1,000 predictions {money(cost['per_1000'])}"


def calls_in_words(timings: dict[str, Any]) -> str:
    """What calls with one row and with a thousand take."""
    one, many = timings["latency_ms"], timings["latency_1000_ms"]
    return (
        f"one row {one['p50']:.1f} ms (95 % within {one['p95']:.1f}) · 1,000 rows {many['p50']:.1f} ms "
        f"(95 % within {many['p95']:.1f})"
    )


def _held(intervals: dict[str, Any]) -> str:
    """What intervals promised, held, and how wide they are for it."""
    return (
        f"{100 * intervals['level']:.4g} % intervals held {_interval(intervals['coverage'], 100, 1)} % of the labels; "
        f"mean width {intervals['width']['value']:.4g}"
    )


def _reduced(told: dict[str, Any]) -> str:
    """What the test rows say of the champion's errors."""
    share = told["error_reduction"]["value"]
    return "–" if share is None else f"{share:+.1%} of the champion's errors in {told['decision']['metric']} taken away"


def print_summary(told: dict[str, Any], console: Terminal) -> None:
    """The summary for people: what was read, what was tried, who is in charge, what to type next."""
    console.print()
    head = Table(show_header=False, box=None, pad_edge=False)
    head.add_column(style="bold")
    head.add_column(overflow="fold")
    for what, value in as_rows(told)[: 5 + len(told["stand_in"])]:
        head.add_row(what, value)
    console.print(head)
    console.print()
    console.print(_learners(told))
    console.print()
    test = told["windows"]["test"]
    console.print(
        f"test window {test['start'][:10]} to {test['end'][:10]}, {test['rows']:,} rows; ± is the 95 % interval",
        style="italic",
    )
    console.print(_scores(told))
    if told["intervals"]:
        console.print(_held(told["intervals"]))
    console.print()
    decision, model = told["decision"], told["model"]
    verdict = (f"{model['name']} version {model['version']} is in charge", "green")
    if model["alias"] != "champion":
        words = f"{model['name']} version {model['version']} is registered as {model['alias']}, not in charge"
        verdict = (words, "yellow")
    decided = "promote" if decision["promote"] else "do not promote"
    console.print(line(("Gate", "bold"), f" ({decision['mode']}): {decided}"))
    reasons = Table.grid(padding=(0, 1))
    for reason in decision["reasons"]:
        reasons.add_row(" •", reason)
    for note in decision["notes"]:
        reasons.add_row(" •", note, style="dim")
    console.print(reasons)
    console.print(line(("Model", "bold"), " ", verdict))
    console.print(line(("Cost", "bold"), f"  {cost_in_words(told['cost'])}"))
    console.print(line(("Asked", "bold"), f" {calls_in_words(told['timings'])}"))
    if told["error_reduction"]:
        console.print(line(("Errors", "bold"), f" {_reduced(told)}"))
    console.print()
    console.print(_stages(told))
    console.print()
    console.print(line(("Report", "bold"), f" {told['report']}"))
    steps = f" refit show · make ui · refit run --set train.seed=1    ({told['seconds']:.1f} s in all)"
    console.print(line(("Next", "bold"), steps))


def _learners(told: dict[str, Any]) -> Table:
    """What each learner scored, took and costs; one row is what 95 % of calls with one row take."""
    heads = ("seconds", "rows/s", "MB", "ms a row", told["cost"]["currency"])
    table = Table("learner", f"validation {told['metric']}", box=None, pad_edge=False, title_justify="left")
    for head in heads:
        table.add_column(head, justify="right")
    for tried in told["learners"]:
        name, _, rest = _learner(tried, told).partition(" ")
        memory = tried["peak_memory_mb"]
        table.add_row(
            name,
            rest,
            f"{tried['seconds']:.1f}",
            f"{tried['rows_per_second']:,}",
            "–" if memory is None else f"{memory:.0f}",
            f"{tried['latency_ms']['p95']:.1f}",
            money(tried["cost_training"]),
        )
    return table


def _scores(told: dict[str, Any]) -> Table:
    compared = told["evaluation"]
    columns = [who for who in ("candidate", "champion", "baseline") if compared.get(who)]
    table = Table("test metric", *columns, box=None, pad_edge=False)
    for name in compared["candidate"]:
        table.add_row(name, *(_interval(compared[who].get(name)) for who in columns))
    return table


def _interval(found: dict[str, float] | None, scale: float = 1, digits: int = 4) -> str:
    """A value with the farther end of its interval: one that the metric's range cuts off is not even.

    >>> _interval({"value": 0.893, "lower": 0.883, "upper": 0.902}, 100, 1)
    '89.3 ± 1.0'
    """
    if not found or found.get("value") is None:
        return "–"
    value = f"{scale * found['value']:.{digits}f}"
    if found.get("lower") is None:
        return value
    reach = max(found["value"] - found["lower"], found["upper"] - found["value"])
    return f"{value} ± {scale * reach:.{digits}f}"


def _stages(told: dict[str, Any]) -> Table:
    """A column for each stage: as a sentence they would fill more than one line of a narrow screen."""
    ended = told["stages"]
    table = Table("stage", *ended, box=None, pad_edge=False)
    table.add_row("ended", *(line((one["state"], STATE_STYLE.get(one["state"], ""))) for one in ended.values()))
    table.add_row("seconds", *(f"{one['seconds']:.1f}" for one in ended.values()))
    return table
