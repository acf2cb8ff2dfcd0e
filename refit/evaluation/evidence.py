"""Collects the gate's evidence about a candidate from predictions, for runs and for replays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from refit.config import GateParams
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.evaluation.slices import gate_slices, naive_slices
from refit.gate.comparison import error_reduction, gain
from refit.gate.evidence import Evidence, GateOpponent, NaiveGain
from refit.metrics.clusters import Estimate
from refit.schemas.behaviour import BehaviourResult
from refit.schemas.gate_decision import GateCheck
from refit.schemas.incumbent import Incumbent, TrainedModel

Floats = NDArray[np.float64]

UNKNOWN = Estimate(math.nan, math.nan, 0.0)


def evidence(
    test: Holdout,
    scored: Scored,
    values: Mapping[str, float | None],
    *,
    candidate: TrainedModel,
    test_start: datetime,
    incumbent: Incumbent,
    gate: GateParams,
    splits: Mapping[str, str | None] | None = None,
    remarks: Sequence[str] = (),
    pending: int = 0,
    behaviour: Sequence[BehaviourResult] = (),
) -> Evidence:
    """Collect everything that the gate decides by.

    Args:
        values: the candidate's own metrics; None if one could not be measured.
        splits: by role, what separated a model's test rows (`FeatureTable.split_rule`); default: time.
        remarks: notes about these rows for readers of the decision.
        pending: further rows of the test window, whose labels are not known yet.
        behaviour: results of the candidate's behavioural tests.

    Raises:
        UserError: a slice names no column.
    """
    splits = splits or {}
    slices = tuple(slice_ for key in gate.slices for slice_ in gate_slices(key, test, scored, gate))
    ours, champions = scored.p["candidate"], scored.p.get("champion")

    def opponent(role: str) -> GateOpponent | None:
        if (model := incumbent.opponents.get(role)) is None:
            return None
        return GateOpponent(
            version=model.version,
            digest=model.model_digest,
            seen_until=model.seen_until,
            split=splits.get(role),
            gain=gain(gate.metric, test.sample, ours, scored.p[role]) if role in scored.p else UNKNOWN,
            problem=scored.problems.get(role, ""),
        )

    judged, _ = test.sample.judged(gate.metric)
    varied, sentence = test.problem.judging(gate.metric).has_variation(judged.labels)
    by_labels = not test.problem.optional_label or test.problem.metric(gate.metric).by_label
    return Evidence(
        candidate=candidate.model_digest,
        seen_until=candidate.seen_until,
        split=splits.get("candidate"),
        test_start=test_start,
        rows=len(judged.labels),
        unlabelled=test.rows - len(judged.labels),
        labels=GateCheck(name="labels", passed=varied, sentence=sentence),
        clusters=judged.clusters.effective,
        metrics={name: math.nan if value is None else value for name, value in values.items()},
        over_baseline=gain(gate.metric, test.sample, ours, scored.p["baseline"]),
        naive=_naive(test, scored, gate.metric),
        naive_slices=tuple(naive_slices(test, scored, gate)),
        behaviour=tuple(
            GateCheck(name=f"behaviour: {each.name}", passed=each.passed, sentence=f"{each.name}: {each.sentence}")
            for each in behaviour
        ),
        champion=opponent("champion"),
        anchor=opponent("anchor"),
        remarks=tuple(remarks),
        unchanged=_unchanged(scored),
        pending=pending if by_labels else 0,  # else all rows are judged already
        looks=incumbent.looks,
        stand_in=incumbent.stand_in,
        slices=slices,
        error_reduction=None if champions is None else error_reduction(gate.metric, test.sample, ours, champions),
    )


def _unchanged(scored: Scored) -> bool:
    """Whether the candidate predicts and decides the same as the champion, of every row."""
    ours, champions = scored.p["candidate"], scored.p.get("champion")
    if champions is None or not np.array_equal(ours, champions, equal_nan=True):
        return False
    least, champions_least = scored.thresholds.get("candidate", 0.5), scored.thresholds.get("champion", 0.5)
    return np.array_equal(ours >= least, champions >= champions_least)


def _naive(test: Holdout, scored: Scored, metric: str) -> NaiveGain | None:
    """The gain over the best naive opponent; None if that is the baseline itself."""
    if (best := scored.opponents.further) is None:
        return None
    guess = test.problem.guess_for(test.table, best.naive)
    return NaiveGain(best.words, gain(metric, test.sample, scored.p["candidate"], guess))
