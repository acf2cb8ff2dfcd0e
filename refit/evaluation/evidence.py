"""Collects the gate's evidence about a candidate from predictions, for runs and for replays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.config import GateParams, nearest
from refit.evaluation.holdout import Holdout, parts, too_small
from refit.evaluation.scored import Scored
from refit.gate.comparison import error_reduction, gain
from refit.gate.promotion import Check, Evidence, Opponent, Slice
from refit.metrics.clusters import Estimate

Floats = NDArray[np.float64]

UNKNOWN = Estimate(math.nan, math.nan, 0.0)
SHOWN_VALUES = 12  # of a column, if a slice names none of its values


def opponents(comparand: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Role and version of the registered models to score; the anchor only if it is not the champion itself."""
    champion, anchor = comparand["version"], comparand.get("anchor")
    if comparand.get("stand_in") == "champion":
        return []  # the champion was made from generated rows, so the candidate cannot lose against it
    roles = [("champion", str(champion))] if champion is not None else []
    if roles and anchor and anchor["version"] != champion:
        roles.append(("anchor", str(anchor["version"])))
    return roles


def evidence(
    test: Holdout,
    scored: Scored,
    values: Mapping[str, float | None],
    *,
    training: Mapping[str, Any],
    test_start: datetime,
    comparand: Mapping[str, Any],
    gate: GateParams,
    remarks: Sequence[str] = (),
) -> Evidence:
    """Collect everything that the gate decides by.

    Args:
        values: the candidate's own metrics; None if one could not be measured.
        training: `model_digest`, `seen_until` and `split` of the candidate.
        comparand: the content of `comparand.json`.
        remarks: notes about these rows for readers of the decision.

    Raises:
        UserError: a slice names no column.
    """
    roles = dict(opponents(comparand))
    slices = tuple(slice_ for key in gate.slices for slice_ in _slices(key, test, scored, gate))
    candidate, champion = scored.p["candidate"], scored.p.get("champion")

    def opponent(role: str, version: Mapping[str, Any]) -> Opponent:
        return Opponent(
            version=str(version["version"]),
            digest=str(version["model_digest"]),
            seen_until=_moment(version.get("seen_until")),
            split=version.get("split"),
            gain=gain(gate.metric, test.sample, candidate, scored.p[role]) if role in scored.p else UNKNOWN,
            problem=scored.problems.get(role, ""),
        )

    return Evidence(
        candidate=training["model_digest"],
        seen_until=_moment(training.get("seen_until")),
        split=training.get("split"),
        test_start=test_start,
        rows=test.rows,
        labels=Check("labels", *test.target.has_variation(test.labels)),
        clusters=test.sample.clusters.effective,
        metrics={name: math.nan if value is None else value for name, value in values.items()},
        over_baseline=gain(gate.metric, test.sample, candidate, scored.p["baseline"]),
        champion=opponent("champion", comparand) if "champion" in roles else None,
        anchor=opponent("anchor", comparand["anchor"]) if "anchor" in roles else None,
        remarks=tuple(remarks),
        looks=int(comparand.get("looks") or 0),
        stand_in=comparand.get("stand_in"),
        slices=slices,
        error_reduction=None if champion is None else error_reduction(gate.metric, test.sample, candidate, champion),
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
    problem, clusters = too_small(part, test.target), part.clusters.effective
    if not problem and clusters < gate.min_clusters:
        problem = f"it has {clusters:,.1f} clusters, {gate.min_clusters} are needed"
    if problem:
        return Slice(key, name, UNKNOWN, problem)
    return Slice(key, name, gain(gate.metric, part, scored.p["candidate"][rows], scored.p["champion"][rows]))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
