"""Simulates a policy: each step monitors, decides, trains and evaluates with what was known at that time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import numpy as np

from refit import learners
from refit.errors import RefitError, UserError
from refit.evaluation import opponents
from refit.evaluation.evidence import evidence
from refit.evaluation.holdout import Holdout, holdout
from refit.evaluation.opponents import Opponents
from refit.evaluation.prediction_cost import in_money
from refit.evaluation.scored import Scored
from refit.gate.promotion import decide
from refit.learners import Learner
from refit.operations.replay import policies
from refit.operations.replay.drift_checks import Watch
from refit.operations.replay.fits import MODEL, Fit, Fits
from refit.operations.replay.history import Floats, History
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.behaviour import BehaviourResult
from refit.schemas.gate_decision import GateVerdict
from refit.schemas.incumbent import Incumbent, RegisteredModel, TrainedModel
from tasks.evaluate import behavioural_tests


@dataclass(frozen=True)
class Step:
    """The result of one step."""

    as_of: datetime
    retrain: bool
    reasons: tuple[str, ...]
    fit: Fit | None = None  # the candidate; None if nothing was trained
    promoted: bool = False
    gate: tuple[str, ...] = ()
    in_charge: Fit | None = None  # the champion after this step


@dataclass
class Simulation:
    """The state of a policy so far."""

    policy: policies.RetrainingPolicy
    steps: list[Step] = field(default_factory=list)
    champion: Fit | None = None
    anchor: Fit | None = None
    newest: Fit | None = None  # the newest training, promoted or not
    requested: list[datetime] = field(default_factory=list)
    changed: date | None = None  # when the newest loss that a training answered began
    judged: list[str] = field(default_factory=list)  # the test windows of all candidates so far

    @property
    def trained(self) -> list[Step]:
        return [step for step in self.steps if step.fit]


@dataclass
class Parts:
    """Measures the seconds of each part of the replay."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)


class Simulator:
    """Simulates policies on shared data: the history, its models, and all decisions that policies have in common."""

    def __init__(self, context: Context, history: History, moments: Sequence[datetime], parts: Parts) -> None:
        self.context, self.history, self.moments, self.parts = context, history, tuple(moments), parts
        self.fits = Fits(context, history)
        self._watch = Watch(context, history)
        self._gate: dict[tuple[Any, ...], GateVerdict] = {}
        self._tests: dict[tuple[str, datetime], Holdout] = {}
        self._naive: dict[str, Opponents] = {}

    def run(self, policy: policies.RetrainingPolicy, *, shown: bool = True) -> Simulation:
        """Simulate all moments under a policy.

        Args:
            shown: report progress at each moment.

        Raises:
            RefitError: something failed; the message names the moment.
        """
        simulation = Simulation(policy)
        for index, as_of in enumerate(self.moments):
            moment = f"{policy.name}: {as_of.astimezone(self.context.params.project.zone):%Y-%m-%d}"
            if shown:
                self.context.progress(moment, index, len(self.moments))
            try:
                simulation.steps.append(self._step(simulation, index, as_of))
            except RefitError as error:
                raise type(error)(f"{moment}: {error}") from error
        return simulation

    def _step(self, simulation: Simulation, index: int, as_of: datetime) -> Step:
        with self.parts("drift decisions"):
            retrain, reasons = self._wants_training(simulation, index, as_of)
        step = Step(as_of, retrain, reasons, in_charge=simulation.champion)
        if not retrain:
            return step
        if simulation.champion is not None:
            simulation.requested.append(as_of)
        try:
            with self.parts("training"):
                fit = self.fits.at(as_of, simulation.champion)
        except UserError as error:
            return replace(step, reasons=(*reasons, f"nothing was trained: {error}"))
        if simulation.newest and fit.name == simulation.newest.name:
            return replace(step, reasons=(*reasons, "nothing was trained: all is as it was for the newest model"))
        if not len(fit.tested):
            return replace(step, fit=fit, gate=("not judged: its test window holds no labelled row",))
        with self.parts("gate"):
            decision = self._judge(fit, simulation)
        simulation.newest = fit
        if decision.promote:
            simulation.anchor = (
                fit if simulation.champion is None or decision.mode == "superiority" else simulation.anchor
            )
            simulation.champion = fit
        return replace(step, fit=fit, promoted=decision.promote, gate=decision.reasons, in_charge=simulation.champion)

    def _wants_training(self, simulation: Simulation, index: int, as_of: datetime) -> tuple[bool, tuple[str, ...]]:
        """Whether the policy asks for a training, and why."""
        policy = simulation.policy
        if simulation.champion is None or simulation.newest is None:
            return True, ("there is no champion",)
        if policy.kind == "decided":
            decision = self._watch.decide(
                simulation.champion,
                as_of,
                simulation.newest.as_of,
                simulation.requested,
                policy.drift,
                simulation.changed,
            )
            if decision.since:
                simulation.changed = max(decision.since, simulation.changed or decision.since)
            return decision.verdict == "retrain", decision.reasons
        retrain = policy.kind == "always" or (policy.kind == "given" and index in policy.steps)
        return retrain, (policies.NAMES.get(policy.name, policy.name),)

    def _judge(self, fit: Fit, simulation: Simulation) -> GateVerdict:
        """The gate's decision on a candidate; counts the look at its test window."""
        window = f"{fit.test.start} {fit.test.end}"
        looks = simulation.judged.count(window)
        simulation.judged.append(window)
        names = tuple(each and each.name for each in (simulation.champion, simulation.anchor))
        key = (fit.name, fit.as_of, *names, looks)
        if key not in self._gate:
            self._gate[key] = self._decision(fit, simulation.champion, simulation.anchor, looks)
        return self._gate[key]

    def _decision(self, fit: Fit, champion: Fit | None, anchor: Fit | None, looks: int) -> GateVerdict:
        params = self.context.params
        gate, test = params.evaluate.gate, self._test(fit)
        entry = dict(_entry(champion)) if champion else {}
        incumbent = Incumbent(
            model=params.project.name, **entry, anchor=_entry(anchor) if anchor else None, looks=looks
        )
        models = {"candidate": fit, "champion": champion, "anchor": anchor}
        p = {"candidate": self._predicted(fit, fit, test)}
        p["baseline"] = test.problem.judged(
            lambda rows: test.problem.guess_for(rows, fit.record.naive), test.table, self._reference(test)
        )
        p |= {role: self._predicted(models[role], fit, test) for role in incumbent.opponents}
        values = test.problem.scores(test.labels, p["candidate"], fit.record.threshold)
        thresholds = {role: each.record.threshold for role, each in models.items() if each}
        scored = Scored(p, thresholds, {}, opponents=self._opponents(fit))
        collected = evidence(
            test,
            scored,
            {**values, **self._budgets(fit)},
            candidate=TrainedModel(model_digest=fit.record.model_digest, seen_until=fit.seen_until),
            test_start=fit.test.start or fit.seen_until,
            incumbent=incumbent,
            gate=gate,
            behaviour=self._behaviour(fit, test, scored),
        )
        return decide(collected, gate)

    def _behaviour(self, fit: Fit, test: Holdout, scored: Scored) -> tuple[BehaviourResult, ...]:
        """The results of the candidate's behavioural tests, as the stage `evaluate` would have had them."""
        if not self.context.params.evaluate.behaviour:
            return ()
        return behavioural_tests.judged(self.context, self._learner(fit), self.history.features, test, scored)

    def _opponents(self, fit: Fit) -> Opponents:
        """The naive opponents as the stage `evaluate` would have fitted them."""
        if fit.name not in self._naive:
            history, params = self.history, self.context.params.evaluate
            validation = np.isin(fit.learned, fit.validation)
            drawn = opponents.sample(~validation, validation)
            learned, held_out = fit.learned[drawn], validation[drawn]
            self._naive[fit.name] = opponents.opponents(
                history.problem,
                history.table.take(learned),
                history.labels_at(learned, fit.as_of),
                held_out if held_out.any() else opponents.held_back(len(learned), in_time=True),
                features=[*history.features.numeric, *history.features.categorical],
                metric=params.gate.metric,
                baseline_metric=self.context.params.train.metric,
                named=params.baselines,
            )
        return self._naive[fit.name]

    def _reference(self, test: Holdout) -> Any:
        return test.problem.reference(test.table.select(list(self.history.features.features)))

    def _predicted(self, model: Fit | None, fit: Fit, test: Holdout) -> Floats:
        """A model's predictions of the rows that a fit is tested on, as the metrics take them."""
        assert model is not None
        if (reference := self._reference(test)) is None:
            return model.p(fit.tested)
        return test.problem.judged(self._learner(model).predict, test.table, reference)

    def _learner(self, model: Fit) -> Learner:
        return learners.load(model.folder / MODEL, trusted_types=self.context.params.registry.trusted_types)

    def _budgets(self, fit: Fit) -> dict[str, float]:
        """Values for the gate's ceilings other than errors."""
        return {
            "latency_ms": fit.record.latency_ms,
            "model_mb": fit.record.model_mb,
            "cost_per_1000": in_money(fit.record.cpu_seconds_per_1000, self.context.params.cost),
        }

    def _test(self, fit: Fit) -> Holdout:
        key = (fit.name, fit.as_of)
        if key not in self._tests:
            table, labels = self.history.table.take(fit.tested), self.history.labels_at(fit.tested, fit.as_of)
            table = table.append_column("label", self.history.problem.to_column(labels))
            self._tests[key] = holdout(
                table, self.context.params.project.zone, self.context.params.evaluate.gate.cluster, self.history.problem
            )
        return self._tests[key]


def _entry(fit: Fit) -> RegisteredModel:
    """A model as an opponent; its version is the time of its training."""
    return RegisteredModel(version=utc_text(fit.as_of), model_digest=fit.record.model_digest, seen_until=fit.seen_until)
