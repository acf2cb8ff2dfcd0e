"""Gathers what the home page says of a project: champion, last decision, drift, reports, data, servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from flows.services.service_state import PREFECT, PREFECT_PAGES, address, running_services
from flows.session import context_of
from refit.errors import RefitError, UserError, counted
from refit.files.artifacts import DATA_DOCS, MODEL_CARD, RECEIPT, VALIDATED
from refit.operations.replay.history import FOLDER as REPLAY
from refit.plain_text import one_line
from refit.reports import replay_report, replay_words, templates
from refit.reports.drift import report_words
from refit.reports.home_page import Card, Kind, Link, Overview, Tile, score
from refit.runtime import environments, registry_store
from refit.runtime.context import Context
from refit.schemas.drift_decision import DriftDecision
from refit.schemas.receipt import Receipt
from refit.schemas.replay_result import ReplayResult
from refit.schemas.validated import Validated
from refit.storage import drift_decisions
from registry import tracking
from registry.approval import AWAIT
from registry.ledger import MOVES, Entry
from tasks import register
from tasks.register import ChampionSummary

__all__ = ["last_run", "mlflow_page", "overview"]

T = TypeVar("T")

_JUDGEMENTS = (*MOVES, "refuse", AWAIT)
TRAININGS = "tags.`refit.role` = 'candidate'"  # of MLflow's runs
_DRIFT: dict[str, Kind] = {"ok": "good", "warn": "warn", "retrain": "bad"}


def overview(project: Path) -> Overview:
    """Return what the home page shows of a project; what cannot be read becomes a warning on it."""
    context = context_of(project)
    gatherer = _Gatherer(context)
    entries, champion = gatherer.entries(), gatherer.champion()
    headline, kind, sentences = _headline(champion, gatherer.problem, context.params.project.zone)
    return Overview(
        model=context.params.project.name,
        environment=environments.current(),
        headline=headline,
        kind=kind,
        sentences=sentences,
        tiles=tuple(gatherer.tiles(champion, entries)),
        cards=tuple(gatherer.cards(champion, entries)),
        entries=tuple(entries),
        warnings=tuple(gatherer.warnings),
    )


def mlflow_page(path: str, *, runs: str | None = None) -> str:
    """Return the address of a page of MLflow on this server, in its menus for model training instead of GenAI.

    Args:
        runs: the filter of a list of runs: an empty one shows all, None leaves the one that this browser used last.

    >>> mlflow_page("experiments/1/runs", runs="metrics.a > 1")
    '/#/experiments/1/runs?workflowType=machine_learning&searchFilter=metrics.a%20%3E%201'
    """
    return f"/#/{path}?workflowType=machine_learning" + (
        "" if runs is None else f"&searchFilter={quote(runs, safe='')}"
    )


def _headline(champion: ChampionSummary | None, problem: str, zone: tzinfo) -> tuple[str, Kind, tuple[str, ...]]:
    if champion is None:
        return "There is no champion", "plain", (problem,)
    learner = f" ({champion.learner})" if champion.learner else ""
    since = f" since {templates.moment(champion.since, zone)}" if champion.since else ""
    why = "; ".join(champion.why)
    waits = [each.sentence for each in champion.waiting]
    return f"Version {champion.version}{learner} is champion{since}", "warn" if waits else "good", (why, *waits)


def last_run(receipt: Receipt, entries: list[Entry], *, is_champion: bool) -> str:
    """Say which version the last run in a folder made, and what became of it by the ledger."""
    it = f"The last run here made version {receipt.version}, which"
    if is_champion:
        return f"{it} is champion."
    if not receipt.decision.promote:
        return f"{it} the gate refused: {one_line('; '.join(receipt.decision.reasons))}"
    judged = [each for each in entries if each.to_version == receipt.version and each.action in _JUDGEMENTS]
    if receipt.outcome.action is None or not judged:
        return f"{it} the gate would promote; it was not promoted: {one_line('; '.join(receipt.outcome.reasons))}"
    if judged[-1].action == AWAIT:
        return f"{it} waits for a person's approval."
    if judged[-1].action in MOVES:
        return f"{it} was champion and was replaced since."
    return f"{it} the gate would promote; it was refused: {one_line('; '.join(judged[-1].reasons))}"


def _judged_version(made: DriftDecision, champion: ChampionSummary | None) -> str:
    """Name the version that a decision on drift is about, and the champion if that is another one by now."""
    of = f"version {made.version}"
    return (
        of
        if champion is None or champion.version == made.version
        else f"{of}, which version {champion.version} has followed"
    )


def _drift_kind(made: DriftDecision, champion: ChampionSummary | None) -> Kind:
    """How a decision is marked: plain if it judged nothing, or if its version was replaced."""
    if report_words.verdict_word(made) != made.verdict:
        return "plain"
    return _DRIFT[made.verdict] if champion is None or champion.version == made.version else "plain"


@dataclass
class _Gatherer:
    """Reads each part by itself: one that cannot be read does not hide the others."""

    context: Context
    problem: str = ""  # why there is no champion

    def __post_init__(self) -> None:
        self.warnings = list[str]()
        self._drift = self._newest_drift()

    def entries(self) -> list[Entry]:
        try:
            _, chain = register.ledger_state(self.context)
            self.warnings += [f"The ledger is broken: {chain.problem}"] if chain.problem else []
            return register.history(self.context)
        except RefitError as error:
            self.warnings.append(error.sentence)
            return []

    def champion(self) -> ChampionSummary | None:
        try:
            return register.champion_summary(self.context)
        except RefitError as error:
            if not isinstance(error, UserError):
                self.warnings.append(error.sentence)
            self.problem = error.sentence
            return None

    def tiles(self, champion: ChampionSummary | None, entries: list[Entry]) -> Iterator[Tile]:
        """Yield the facts of the headline."""
        metric, zone = self.context.params.evaluate.gate.metric, self.context.params.project.zone
        if champion is not None:
            numbers = {name: value for name, value in (champion.metrics or {}).items() if isinstance(value, float)}
            yield score(numbers, metric)
        judged = next((each for each in reversed(entries) if each.action in _JUDGEMENTS), None)
        if judged is None:
            yield Tile("last decision", "none yet", environments.addressed("`refit run` trains and judges a model"))
        else:
            kinds: dict[str, Kind] = {"refuse": "bad", "await": "warn"}
            word = {"refuse": "refused", "await": "waits", "rollback": "rolled back"}.get(judged.action, "promoted")
            note = f"version {judged.to_version}, {templates.moment(judged.at, zone)}"
            yield Tile("last decision", word, note, kinds.get(judged.action, "good"))
        if self._drift is None:
            yield Tile(
                "drift",
                "not checked",
                environments.addressed("`refit drift` compares the newest rows with the reference"),
            )
        else:
            note = f"of {_judged_version(self._drift, champion)}, as of {templates.moment(self._drift.as_of, zone)}"
            yield Tile("drift", report_words.verdict_word(self._drift), note, _drift_kind(self._drift, champion))
        if champion is not None and champion.seen_until:
            yield Tile("learned from data before", templates.moment(champion.seen_until, zone), str(zone))

    def cards(self, champion: ChampionSummary | None, entries: list[Entry]) -> Iterator[Card]:
        """Yield a card for each page that there is, or that a command would write."""
        yield self._model_card(champion, entries)
        yield self._drift_report(champion)
        yield self._replay()
        yield self._data_docs()
        yield self._mlflow(champion)
        yield self._prefect()

    def _model_card(self, champion: ChampionSummary | None, entries: list[Entry]) -> Card:
        links = [Link("champion", f"versions/{quote(champion.version)}/card")] if champion else []
        if not self.context.path(MODEL_CARD).is_file():
            return Card("Model card", "What the champion can do, and how the gate judged it.", tuple(links))
        receipt = self._read(lambda: Receipt.read(self.context.path(RECEIPT)))
        sentence = "Of the last evaluation in this folder."
        if receipt is not None:
            is_champion = champion is not None and champion.version == receipt.version
            sentence = last_run(receipt, entries, is_champion=is_champion)
        return Card("Model card", sentence, (Link("last run", "card"), *links))

    def _drift_report(self, champion: ChampionSummary | None) -> Card:
        if (made := self._drift) is None:
            return Card("Drift", environments.addressed("Not checked yet: `refit drift` writes the report."))
        as_of = templates.moment(made.as_of, self.context.params.project.zone)
        reasons, said = "; ".join(made.reasons[:2]), report_words.verdict(made)
        said = "" if reasons.lower().startswith(said.lower().rstrip(".")) else f"{said} "
        sentence = f"Decided last, as of {as_of}, of {_judged_version(made, champion)}. {said}"
        sentence += one_line(f"{reasons[:1].upper()}{reasons[1:]}.")
        return Card("Drift", sentence, (Link("report", "drift"),), _drift_kind(made, champion))

    def _replay(self) -> Card:
        if not self.context.path(REPLAY / replay_report.REPORT).is_file():
            return Card(
                "Replay", "Which policy of retraining suits this problem? `refit replay` tries them on the past."
            )
        result = self._read(lambda: ReplayResult.read(self.context.path(REPLAY / replay_report.RESULT)))
        sentence = "" if result is None else f"{result.start} to {result.end}: {replay_words.verdict(result)}"
        return Card("Replay", sentence, (Link("report", "replay"),))

    def _data_docs(self) -> Card:
        if not self.context.path(DATA_DOCS / "index.html").is_file():
            return Card("Data Docs", environments.addressed("What was checked of each batch. `refit run` writes them."))
        validated = self._read(lambda: Validated.read(self.context.path(VALIDATED)))
        kind: Kind = "plain"
        sentence = "What was checked of each batch."
        if validated is not None:
            rows = validated.rows
            kind = "warn" if rows.quarantined else "good"
            sentence = (
                f"{counted(len(validated.batches), 'batch', 'batches')}: {counted(rows.accepted, 'row')} accepted, "
            )
            sentence += f"{rows.quarantined:,} quarantined, {rows.pending:,} pending."
        return Card("Data Docs", sentence, (Link("pages", "data-docs/index.html"),), kind)

    def _mlflow(self, champion: ChampionSummary | None) -> Card:
        model, experiment = self.context.params.project.name, self._experiment()
        if experiment:  # its list has learners, trials, drift and the prediction log too
            runs = f"experiments/{quote(experiment)}/runs"
            links = [Link("trainings", mlflow_page(runs, runs=TRAININGS)), Link("all runs", mlflow_page(runs, runs=""))]
        else:
            links = [Link("all runs", mlflow_page("experiments"))]
        links.append(Link("versions", mlflow_page(f"models/{quote(model)}")))
        if experiment and champion and champion.run_id:
            run = mlflow_page(f"experiments/{quote(experiment)}/runs/{quote(champion.run_id)}")
            links.append(Link("champion's run", run))
        return Card("MLflow", "Each training with its learners, trials, curves and metrics; versions.", tuple(links))

    def _prefect(self) -> Card:
        server = running_services(self.context.project).get(PREFECT)
        pages = address(server) if server else os.environ.get(PREFECT_PAGES, "").rstrip("/")
        if not pages:
            return Card("Prefect", "Flow runs, deployments and events: no server of this project is up (`refit up`).")
        links = [Link(words, f"{pages}/{path}") for words, path in (("runs", "runs"), ("deployments", "deployments"))]
        return Card("Prefect", "What ran when, why, and how it ended; schedules and events.", tuple(links))

    def _experiment(self) -> str | None:
        try:
            with registry_store.opened(self.context) as store:
                return tracking.find_experiment(store, self.context.params.project.name)
        except RefitError as error:
            self.warnings.append(error.sentence)
            return None

    def _newest_drift(self) -> DriftDecision | None:
        return drift_decisions.newest_made(self._read(lambda: drift_decisions.read_all(self.context)) or [])

    def _read(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except RefitError as error:
            self.warnings.append(error.sentence)
            return None
