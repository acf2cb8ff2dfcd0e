"""Collects the gate's evidence about a candidate from predictions, for runs and for replays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from refit.config import GateParams, nearest
from refit.evaluation.holdout import Holdout, parts, too_small
from refit.evaluation.scored import Scored
from refit.gate.comparison import error_reduction, gain
from refit.gate.promotion import Evidence, GateOpponent, Slice
from refit.metrics.clusters import Estimate
from refit.schemas.gate_decision import GateCheck
from refit.schemas.incumbent import Incumbent, TrainedModel

Floats = NDArray[np.float64]

UNKNOWN = Estimate(math.nan, math.nan, 0.0)
SHOWN_VALUES = 12  # of a column, if a slice names none of its values


def evidence(
    test: Holdout,
    scored: Scored,
    values: Mapping[str, float | None],
    *,
    candidate: TrainedModel,
    test_start: datetime,
    incumbent: Incumbent,
    gate: GateParams,
    remarks: Sequence[str] = (),
) -> Evidence:
    """Collect everything that the gate decides by.

    Args:
        values: the candidate's own metrics; None if one could not be measured.
        remarks: notes about these rows for readers of the decision.

    Raises:
        UserError: a slice names no column.
    """
    slices = tuple(slice_ for key in gate.slices for slice_ in _slices(key, test, scored, gate))
    ours, champions = scored.p["candidate"], scored.p.get("champion")

    def opponent(role: str) -> GateOpponent | None:
        if (model := incumbent.opponents.get(role)) is None:
            return None
        return GateOpponent(
            version=model.version,
            digest=model.model_digest,
            seen_until=model.seen_until,
            split=model.split,
            gain=gain(gate.metric, test.sample, ours, scored.p[role]) if role in scored.p else UNKNOWN,
            problem=scored.problems.get(role, ""),
        )

    varied, sentence = test.problem.has_variation(test.labels)
    return Evidence(
        candidate=candidate.model_digest,
        seen_until=candidate.seen_until,
        split=candidate.split,
        test_start=test_start,
        rows=test.rows,
        labels=GateCheck(name="labels", passed=varied, sentence=sentence),
        clusters=test.sample.clusters.effective,
        metrics={name: math.nan if value is None else value for name, value in values.items()},
        over_baseline=gain(gate.metric, test.sample, ours, scored.p["baseline"]),
        champion=opponent("champion"),
        anchor=opponent("anchor"),
        remarks=tuple(remarks),
        looks=incumbent.looks,
        stand_in=incumbent.stand_in,
        slices=slices,
        error_reduction=None if champions is None else error_reduction(gate.metric, test.sample, ours, champions),
    )


def _slices(key: str, test: Holdout, scored: Scored, gate: GateParams) -> Iterator[Slice]:
    """The slices of a key of `gate.slices`: one value of a column, or all values that have no key of their own.

    Raises:
        UserError: there is no such column.
    """
    whole = key in test.table.column_names
    column, _, wanted = (key, "", "") if whole else key.partition("=")
    rows_by_value = dict(parts(test.table, column, params_key="evaluate.gate.slices"))
    if "champion" not in scored.p:
        return
    if wanted and wanted not in rows_by_value:
        hint = nearest(wanted, rows_by_value) or f"; there are {', '.join(list(rows_by_value)[:SHOWN_VALUES])}"
        yield Slice(key, key, UNKNOWN, f"no test row has {column} {wanted!r}{hint}")
        return
    for value in [wanted] if wanted else rows_by_value:
        name = f"{column}={value}"
        if wanted or name not in gate.slices:
            yield _judged(key, name, rows_by_value[value], test, scored, gate)


def _judged(key: str, name: str, rows: NDArray[np.int64], test: Holdout, scored: Scored, gate: GateParams) -> Slice:
    part = test.sample.only(rows)
    problem, clusters = too_small(part, test.problem), part.clusters.effective
    if not problem and clusters < gate.min_clusters:
        problem = f"it has {clusters:,.1f} clusters, {gate.min_clusters} are needed"
    if problem:
        return Slice(key, name, UNKNOWN, problem)
    return Slice(key, name, gain(gate.metric, part, scored.p["candidate"][rows], scored.p["champion"][rows]))
