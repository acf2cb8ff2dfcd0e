"""The summary of a run, built from the files that it wrote, so that an unchanged run gives the same summary."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from flows.evaluation_lines import (
    findings,
    format_behaviour,
    format_coverage,
    format_interval,
    format_opponents,
    format_reduction,
    format_searches,
    format_test,
    metric_label,
    next_steps,
)
from flows.notifications import publish_wait
from flows.progress_display import STATE_STYLE
from flows.run_artifact import publish_decision
from flows.run_summary import IntervalSummary, LearnerSummary, RegisteredAs, RunSummary, ServingTimes
from flows.services.service_state import home_page
from flows.session import Session
from refit.config import STAGES
from refit.errors import counted
from refit.evaluation.prediction_cost import in_money
from refit.files.artifacts import (
    DECISION,
    EVALUATION,
    FEATURE_SET,
    MODEL_CARD,
    RECEIPT,
    SNAPSHOT,
    TRAINING,
    VALIDATED,
)
from refit.plain_text import as_markdown, number, one_line
from refit.problems import metric_named
from refit.reports.drift.report_words import next_step, verdict_word
from refit.reports.templates import money
from refit.runtime.terminal import Terminal, line
from refit.schemas.artifact import utc_text
from refit.schemas.drift_decision import DriftDecision
from refit.schemas.evaluation import Evaluation
from refit.schemas.feature_table import FeatureTable, LabelCounts
from refit.schemas.gate_decision import Decision
from refit.schemas.interval_report import IntervalReport
from refit.schemas.measured import Measured
from refit.schemas.receipt import Receipt
from refit.schemas.score_report import ScoreReport
from refit.schemas.snapshot import Snapshot, stand_in_notice
from refit.schemas.training import Training
from refit.schemas.validated import Validated
from registry.approval import AWAIT
from registry.urls import folder_url

SHOWN_CLASSES = 5


def summarise(run: Session) -> RunSummary:
    """Return what the files of a run say."""
    project = run.project
    validated, training = Validated.read(project / VALIDATED), Training.read(project / TRAINING)
    evaluation, receipt = Evaluation.read(project / EVALUATION), Receipt.read(project / RECEIPT)
    features, timings = FeatureTable.read(project / FEATURE_SET), evaluation.timings
    params = run.context().params
    price = params.cost
    return RunSummary(
        flow_run_id=run.owner.flow_run,
        mlflow_run_id=receipt.run_id,
        as_of=validated.as_of,
        snapshot=validated.snapshot,
        batches=len(validated.batches),
        stand_in=Snapshot.read(project / SNAPSHOT).stand_in or {},
        rows=validated.rows,
        features=len(features.features),
        windows=features.windows,
        split=training.split,
        labels=features.labels if params.featurize.label.column else None,
        stages={stage: run.stages[stage] for stage in STAGES if stage in run.stages},
        learners=tuple(
            LearnerSummary(
                name=learner.name,
                validation=learner.validation.get(training.metric),
                seconds=learner.seconds,
                rows_per_second=learner.rows_per_second,
                peak_memory_mb=learner.peak_memory_mb,
                latency_ms=learner.latency_ms,
                latency_1000_ms=learner.latency_1000_ms,
                cost_training=in_money(learner.work_seconds, price),
                cost_per_1000=in_money(learner.cpu_seconds_per_1000, price),
                trials=len(trials := learner.tuning.trials if learner.tuning else ()),
                pruned=sum(trial.state == "pruned" for trial in trials),
                search_seconds=round(sum(trial.seconds for trial in trials), 3),
                not_chosen=learner.not_chosen,
            )
            for learner in training.learners
        ),
        chosen=training.learner,
        metric=training.metric,
        metrics={name: measured.value for name, measured in evaluation.metrics["candidate"].items()},
        evaluation=evaluation.metrics,
        confidence=evaluation.confidence,
        cost=timings.cost,
        timings=ServingTimes(
            latency_ms=timings.latency_ms,
            latency_1000_ms=timings.latency_1000_ms,
            rows_per_second=timings.rows_per_second,
        ),
        error_reduction=evaluation.error_reduction,
        intervals=_interval_summary(evaluation),
        opponents=evaluation.opponents,
        behaviour=evaluation.behaviour,
        findings=findings(evaluation),
        leaks=tuple(map(str, features.giveaways)),
        decision=Decision.read(project / DECISION),
        model=RegisteredAs(
            name=receipt.model,
            version=receipt.version,
            alias=receipt.alias,
            awaits_approval=receipt.outcome.action == AWAIT and receipt.alias != "champion",
            why_not=receipt.outcome.reasons if receipt.decision.promote and receipt.alias != "champion" else (),
        ),
        report=str(MODEL_CARD),
        seconds=round(time.monotonic() - run.started, 3),
    )


def _interval_summary(evaluation: Evaluation) -> IntervalSummary | None:
    """Return coverage, width and Winkler score of the prediction intervals on the test rows; None if there are none."""
    if (report := evaluation.detail("intervals", IntervalReport)) is None:
        return None
    return IntervalSummary(level=report.level, coverage=report.coverage, width=report.width, winkler=report.winkler)


def publish(run: Session) -> RunSummary:
    """Return the summary, and show it in Prefect's UI: as a table, and its decision with links."""
    summary = summarise(run)
    model = summary.model
    _publish_table("refit-summary", summary_rows(summary), f"{model.name}: what this run did")
    if model.awaits_approval:
        publish_wait(summary, run.project)
    publish_decision(summary, run.project)
    return summary


def _publish_table(key: str, lines: list[tuple[str, str]], description: str) -> None:
    from prefect.artifacts import create_table_artifact

    table = [{"what": one_line(what), "value": one_line(value)} for what, value in lines]
    create_table_artifact(key=key, table=table, description=as_markdown(description))


def publish_scores(report: ScoreReport) -> ScoreReport:
    """Show the report of a scoring run in Prefect's UI as a table; return it."""
    _publish_table("refit-scores", score_rows(report), f"{report.model}: rows scored")
    return report


def score_rows(report: ScoreReport) -> list[tuple[str, str]]:
    """Return the report of a scoring run as rows of a table: names and values."""
    lines = [
        ("model", f"{report.model} version {report.version}"),
        ("as of", utc_text(report.as_of)),
        ("rows", " · ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report.rows)),
        ("logged", f"{report.logged.new:,} new · {report.logged.known:,} already in the prediction log"),
        *_prediction_rows(report),
    ]
    if (intervals := report.intervals) and intervals.mean_width is not None:
        lines.append(("intervals", f"{100 * intervals.level:.4g} %, mean width {intervals.mean_width:.4g}"))
    if report.threshold is not None:
        lines.append(("threshold", f"{report.threshold:.4f}: from there on `predicted_label` is 1"))
    lines.append(("predictions", report.out))
    if report.out.endswith(".parquet"):
        lines.append(("as CSV", "`--out predictions.csv` writes them so that a spreadsheet opens them"))
    lines += [*(("delivered to", place) for place in report.sinks)]
    lines += [("quarantine", report.quarantine)] if report.quarantine else []
    return [*lines, *(("note", note) for note in report.notes), ("seconds", f"{report.seconds:.1f}")]


def _prediction_rows(report: ScoreReport) -> list[tuple[str, str]]:
    """Return the mean prediction, or the classes that were predicted most often; none if predictions are texts."""
    if report.called:
        largest = sorted(report.called.items(), key=lambda each: -each[1])
        return [("called", " · ".join(f"{name} {rows:,}" for name, rows in largest[:SHOWN_CLASSES]))]
    return [] if report.mean_prediction is None else [("mean prediction", number(report.mean_prediction))]


def publish_drift(decision: DriftDecision, project: Path) -> DriftDecision:
    """Show a drift decision in Prefect's UI as a table with a link to its report; return it."""
    from prefect.artifacts import create_link_artifact

    title = f"{decision.model}: {verdict_word(decision)}"
    _publish_table("refit-drift", drift_rows(decision), title)
    home = home_page(project)  # a browser follows no link from a server's page to a file
    link = f"{home}drift" if home else folder_url((project / decision.report).resolve())
    create_link_artifact(key="refit-drift-report", link=link, link_text="drift report", description=as_markdown(title))
    return decision


def drift_rows(decision: DriftDecision) -> list[tuple[str, str]]:
    """Return a drift decision as rows of a table: names and values."""
    window, trained = decision.window, utc_text(decision.trained_as_of)
    lines = [
        ("model", f"{decision.model} version {decision.version}"),
        ("training", f"the newest, promoted or not, is as of {trained}"),
        ("as of", utc_text(decision.as_of)),
        ("window", f"{window.first} up to {window.end}" if window else "none is over yet"),
        ("verdict", verdict_word(decision)),
        *(("", reason) for reason in decision.reasons),
    ]
    if decision.columns:
        lines.append(("drifted", ", ".join(decision.columns)))
    return [*lines, ("report", decision.report), ("next", " ".join(next_step(decision)))]


def print_lines(lines: list[tuple[str, str]], console: Terminal) -> None:
    """Print names and values, one below another."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for what, value in lines:
        table.add_row(what, value)
    console.print(table)


def summary_rows(summary: RunSummary) -> list[tuple[str, str]]:
    """Return the summary as rows of a table: names and values."""
    rows, decision, model = summary.rows, summary.decision, summary.model
    counts = " · ".join(f"{number:,} {name}" for name, number in rows.to_json().items())
    counts += " (their period begins at or after as_of)" if rows.pending else ""
    counts += "; why: refit quarantine list" if rows.quarantined else ""
    windows = " · ".join(f"{name} {window.rows:,}" for name, window in summary.windows)
    until = "" if summary.split else f"; of rows before {summary.windows.test.end:%Y-%m-%d}"
    return [
        *(
            ("data", f"{stand_in_notice(name)}; the real file is published at {where}")
            for name, where in summary.stand_in.items()
        ),
        ("as of", utc_text(summary.as_of)),
        ("snapshot", f"{summary.snapshot[:12]}, {counted(summary.batches, 'batch', 'batches')}"),
        ("rows", counts),
        *([("labels", _format_labels(summary.labels) + until)] if summary.labels else []),
        ("features", f"{summary.features} · {'labelled ' if summary.labels else ''}rows: {windows}"),
        ("learners", " · ".join(_format_learner(learner, summary) for learner in summary.learners)),
        *([("search", searches)] if (searches := format_searches(summary)) else []),
        *(("not chosen", f"{each.name}: {each.not_chosen}") for each in summary.learners if each.not_chosen),
        ("cost", format_cost(summary.cost.training, summary.cost.per_1000, summary.cost.currency)),
        ("predictions", _format_times(summary.timings)),
        *([("intervals", format_coverage(summary.intervals))] if summary.intervals else []),
        *([("error reduction", reduced)] if (reduced := format_reduction(summary)) else []),
        *([("naive opponents", format_opponents(summary))] if summary.opponents else []),
        *([("behaviour", format_behaviour(summary))] if summary.behaviour else []),
        *(("found", sentence) for sentence in summary.findings),
        *(("leak?", sentence) for sentence in summary.leaks),
        ("decision", ("promote: " if decision.promote else "keep: ") + "; ".join(decision.reasons)),
        *(("note", note) for note in decision.notes),
        ("model", f"{model.name} version {model.version}, alias {model.alias}"),
        *(("approval" if model.awaits_approval else "not champion", reason) for reason in model.why_not),
        ("stages", " · ".join(f"{name} {end.state} {end.seconds:.1f} s" for name, end in summary.stages.items())),
        ("report", summary.report),
    ]


def _format_labels(labels: LabelCounts) -> str:
    counted = labels.to_json()
    text = " · ".join(f"{counted[name]:,} {name}" for name in ("known", "pending", "none"))
    if labels.unlabelled:
        text += f" · {labels.unlabelled:,} rows without a label kept"
    if labels.contradicting:
        text += f" · {labels.contradicting:,} corrected (what was known when the next window opened counts)"
    return text


def _format_learner(learner: LearnerSummary, summary: RunSummary) -> str:
    score = "failed" if learner.validation is None else number(learner.validation)
    return f"{learner.name} {score}" + (" (chosen)" if learner.name == summary.chosen else "")


def format_cost(training: float, per_1000: float, currency: str) -> str:
    """Format the cost of a training and of 1,000 predictions."""
    return f"training {money(training)} {currency} · 1,000 predictions {money(per_1000)}"


def format_latency(one: tuple[float, float], many: tuple[float, float]) -> str:
    """Format the median and the 95th percentile of the latency, for one row and for 1,000 rows."""
    return (
        f"one row {one[0]:.1f} ms (95 % within {one[1]:.1f}) · 1,000 rows {many[0]:.1f} ms (95 % within {many[1]:.1f})"
    )


def _format_times(times: ServingTimes) -> str:
    one, many = times.latency_ms, times.latency_1000_ms
    return format_latency((one.p50, one.p95), (many.p50, many.p95))


def print_summary(summary: RunSummary, console: Terminal) -> None:
    """Print the summary: rows read, learners, the champion, and the next commands."""
    rows = summary_rows(summary)
    console.print()
    if {end.state for end in summary.stages.values()} == {"unchanged"}:
        console.print("Nothing has changed since the run that made this model: data, code and params are the same.")
        console.print()
    head = Table(show_header=False, box=None, pad_edge=False)
    head.add_column(style="bold")
    head.add_column(overflow="fold")
    for what, value in rows[: 5 + len(summary.stand_in)]:
        head.add_row(what, value)
    console.print(head)
    console.print()
    console.print(_learners(summary))
    for title, text in (row for row in rows if row[0] in ("search", "not chosen")):
        console.print(line((title.capitalize(), "bold"), f" {text}"))
    console.print()
    console.print(f"{format_test(summary)}; ± is the {100 * summary.confidence:g} % interval", style="italic")
    console.print(_scores(summary.evaluation))
    for sentence in summary.findings:
        console.print(sentence)
    if summary.intervals:
        console.print(format_coverage(summary.intervals))
    for title, text in (row for row in rows if row[0] in ("naive opponents", "behaviour")):
        console.print(line((title.capitalize(), "bold"), f" {text}"))
    console.print()
    for sentence in summary.leaks:
        console.print(line(("Leak?", "yellow"), f" {sentence}"))
    if summary.leaks:
        console.print(
            "      If it is known only with the label, or after it, no figure here will come true: exclude it"
        )
        console.print("      by featurize.exclude in params.yaml.")
    decision, model = summary.decision, summary.model
    verdict = (f"{model.name} version {model.version} is champion", "green")
    if not model.is_champion:
        why = f": {'; '.join(model.why_not)}" if model.why_not else ""
        said = f"{model.name} version {model.version} is registered as {model.alias}, not as champion{why}"
        verdict = (said, "yellow")
    decided = "promote" if decision.promote else "do not promote"
    console.print(line(("Gate", "bold"), f" ({decision.mode}): {decided}"))
    reasons = Table.grid(padding=(0, 1))
    for text, style in (*((each, "") for each in decision.reasons), *((each, "dim") for each in decision.notes)):
        reasons.add_row(" •", text, style=style)
    console.print(reasons)
    console.print(line(("Model", "bold"), " ", verdict))
    cost = summary.cost
    console.print(line(("Cost", "bold"), f"  {format_cost(cost.training, cost.per_1000, cost.currency)}"))
    console.print(line(("Latency", "bold"), f" {_format_times(summary.timings)}"))
    if reduced := format_reduction(summary):
        console.print(line(("Error reduction", "bold"), f" {reduced}"))
    console.print()
    console.print(_stages(summary))
    console.print()
    console.print(line(("Report", "bold"), f" {summary.report}"))
    console.print(line(("Next", "bold"), f" {next_steps(summary)}    ({summary.seconds:.1f} s in all)"))


def _learners(summary: RunSummary) -> Table:
    """Return a table of each learner's score, time and cost; `ms a row` is the 95th percentile for one row."""
    heads = ("seconds", "rows/s", "MB", "ms a row", summary.cost.currency)
    table = Table("learner", f"validation {summary.metric}", box=None, pad_edge=False, title_justify="left")
    for head in heads:
        table.add_column(head, justify="right")
    for learner in summary.learners:
        name, _, rest = _format_learner(learner, summary).partition(" ")
        table.add_row(
            name,
            rest,
            f"{learner.seconds:.1f}",
            f"{learner.rows_per_second:,}",
            "–" if learner.peak_memory_mb is None else f"{learner.peak_memory_mb:.0f}",
            f"{learner.latency_ms.p95:.1f}",
            money(learner.cost_training),
        )
    return table


def _scores(compared: Mapping[str, Mapping[str, Measured]]) -> Table:
    columns = [model for model in ("candidate", "champion", "baseline") if compared.get(model)]
    table = Table("test metric", *columns, box=None, pad_edge=False)
    for name in (name for name, measured in compared["candidate"].items() if measured.value is not None):
        scale, digits = (100, 2) if metric_named(name).percent else (1, 4)
        values = (format_interval(compared[model].get(name), scale, digits) for model in columns)
        table.add_row(metric_label(name, compared["candidate"]), *values)
    return table


def _stages(summary: RunSummary) -> Table:
    """Return a table with a column for each stage; one line of text would not fit a narrow screen."""
    ended = summary.stages.values()
    table = Table("stage", *summary.stages, box=None, pad_edge=False)
    table.add_row("ended", *(line((end.state, STATE_STYLE.get(end.state, ""))) for end in ended))
    table.add_row("seconds", *(f"{end.seconds:.1f}" for end in ended))
    return table
