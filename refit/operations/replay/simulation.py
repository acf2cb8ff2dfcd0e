"""One policy's months: at each step it is watched, decided, trained and judged on what was known then."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from refit.errors import RefitError, UserError
from refit.evaluation.evidence import evidence, opponents
from refit.evaluation.holdout import Holdout, holdout
from refit.evaluation.prediction_cost import in_money
from refit.evaluation.scored import Scored
from refit.gate.promotion import Decision, Policy, decide
from refit.metrics import scores
from refit.operations.replay import policies
from refit.operations.replay.drift_checks import Watch
from refit.operations.replay.fits import Fit, Fits
from refit.operations.replay.history import Floats, History
from refit.problems.target import guess
from refit.runtime.context import Context
from refit.storage.batches import utc_text


@dataclass(frozen=True)
class Step:
    """What one step led to."""

    as_of: datetime
    asked: bool  # for a training
    reasons: tuple[str, ...]
    fit: Fit | None = None  # the candidate; none: nothing was trained
    promoted: bool = False
    gate: tuple[str, ...] = ()
    in_charge: Fit | None = None  # from now on


@dataclass
class Life:
    """What a policy has come to so far."""

    policy: policies.Policy
    steps: list[Step] = field(default_factory=list)
    champion: Fit | None = None
    anchor: Fit | None = None
    newest: Fit | None = None  # the newest training, in charge or not
    asked: list[datetime] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)  # the test windows of all candidates so far

    @property
    def trained(self) -> list[Step]:
        return [step for step in self.steps if step.fit]


@dataclass
class Parts:
    """How long each part of the replay took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)


class World:
    """What all policies share: the past, its models, and every judgement that two of them ask for alike."""

    def __init__(self, context: Context, history: History, moments: Sequence[datetime], parts: Parts) -> None:
        self.context, self.history, self.moments, self.parts = context, history, tuple(moments), parts
        self.fits = Fits(context, history)
        self._watch = Watch(context, history)
        self._gate: dict[tuple[Any, ...], Decision] = {}
        self._tests: dict[tuple[str, datetime], Holdout] = {}

    def live(self, policy: policies.Policy, *, shown: bool = True) -> Life:
        """Live through all moments under a policy.

        Args:
            shown: tell of each moment.

        Raises:
            RefitError: something failed; the message names the moment.
        """
        life = Life(policy)
        for place, as_of in enumerate(self.moments):
            moment = f"{policy.name}: {as_of.astimezone(self.context.params.project.zone):%Y-%m-%d}"
            if shown:
                self.context.progress(moment, place, len(self.moments))
            try:
                life.steps.append(self._step(life, place, as_of))
            except RefitError as error:
                raise type(error)(f"{moment}: {error}") from error
        return life

    def _step(self, life: Life, place: int, as_of: datetime) -> Step:
        with self.parts("drift decisions"):
            asked, reasons = self._asked(life, place, as_of)
        step = Step(as_of, asked, reasons, in_charge=life.champion)
        if not asked:
            return step
        if life.champion is not None:
            life.asked.append(as_of)
        try:
            with self.parts("training"):
                fit = self.fits.at(as_of, life.champion)
        except UserError as error:
            return replace(step, reasons=(*reasons, f"nothing was trained: {error}"))
        if life.newest and fit.name == life.newest.name:
            return replace(step, reasons=(*reasons, "nothing was trained: all is as it was for the newest model"))
        if not len(fit.tested):
            return replace(step, fit=fit, gate=("not judged: its test window holds no labelled row",))
        with self.parts("gate"):
            decision = self._judge(fit, life)
        life.newest = fit
        if decision.promote:
            life.anchor = fit if life.champion is None or decision.mode == "superiority" else life.anchor
            life.champion = fit
        return replace(step, fit=fit, promoted=decision.promote, gate=decision.reasons, in_charge=life.champion)

    def _asked(self, life: Life, place: int, as_of: datetime) -> tuple[bool, tuple[str, ...]]:
        """Whether a training is asked for, and why."""
        policy = life.policy
        if life.champion is None or life.newest is None:
            return True, ("nobody is in charge",)
        if policy.kind == "decided":
            found = self._watch.decide(life.champion, as_of, life.newest.as_of, life.asked, policy.drift)
            return found.verdict == "retrain", found.reasons
        asked = policy.kind == "always" or (policy.kind == "given" and place in policy.steps)
        return asked, (policies.NAMES.get(policy.name, policy.name),)

    def _judge(self, fit: Fit, life: Life) -> Decision:
        """The gate's decision on a candidate, with its look at the test window counted."""
        window = f"{fit.test.start} {fit.test.end}"
        looks = life.judged.count(window)
        life.judged.append(window)
        names = tuple(each and each.name for each in (life.champion, life.anchor))
        key = (fit.name, fit.as_of, *names, looks)
        if key not in self._gate:
            self._gate[key] = self._decision(fit, life.champion, life.anchor, looks)
        return self._gate[key]

    def _decision(self, fit: Fit, champion: Fit | None, anchor: Fit | None, looks: int) -> Decision:
        params = self.context.params
        gate, test = params.evaluate.gate, self._test(fit)
        comparand = {**_entry(champion), "anchor": _entry(anchor) if anchor else None, "looks": looks}
        others = {"champion": champion, "anchor": anchor}
        p = {"candidate": fit.p(fit.tested), "baseline": guess(test.table, test.target, fit.naive)}
        p |= {role: _predicted(others[role], fit) for role, _ in opponents(comparand)}
        values = scores.scores(params.task, test.labels, p["candidate"], fit.threshold)
        found = evidence(
            test,
            Scored(p, {}, {}),
            {**values, **self._budgets(fit)},
            training={"model_digest": fit.model_digest, "seen_until": fit.seen_until.isoformat()},
            test_start=fit.test.start or fit.seen_until,
            comparand=comparand,
            gate=gate,
        )
        return decide(found, Policy(**gate.model_dump()))

    def _budgets(self, fit: Fit) -> dict[str, float]:
        """What the gate's ceilings may ask of a candidate besides its errors."""
        return {
            "latency_ms": fit.latency_ms,
            "model_mb": fit.model_mb,
            "cost_per_1000": in_money(fit.cpu_seconds_per_1000, self.context.params.cost),
        }

    def _test(self, fit: Fit) -> Holdout:
        key = (fit.name, fit.as_of)
        if key not in self._tests:
            table = self.history.table.take(fit.tested)
            table = table.append_column("label", self.history.target.to_column(self.history.label[fit.tested]))
            self._tests[key] = holdout(
                table, self.context.params.project.zone, self.context.params.evaluate.gate.cluster, self.history.target
            )
        return self._tests[key]


def _entry(fit: Fit | None) -> dict[str, Any]:
    """A model as `comparand.json` tells of it; it is called by the moment of its training."""
    if fit is None:
        return {"version": None, "model_digest": None, "seen_until": None}
    return {
        "version": utc_text(fit.as_of),
        "model_digest": fit.model_digest,
        "seen_until": fit.seen_until.isoformat(),
    }


def _predicted(opponent: Fit | None, fit: Fit) -> Floats:
    assert opponent is not None
    return opponent.p(fit.tested)
