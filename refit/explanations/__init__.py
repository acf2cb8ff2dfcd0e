"""Explains predictions: how they depend on a feature, and what each feature contributes to one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refit.errors import UserError
from refit.explanations import boosting, linear, sampling, trees
from refit.explanations.shapley import Contributions, Floats, RawContributions
from refit.learners import Learner
from refit.learners.averaged import Averaged
from refit.learners.calibrated import Calibrated
from refit.learners.postprocessed import fitted_within
from refit.schemas.explanations import Unit

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Contributions", "Unit", "contributions", "format_unit"]

UNITS: dict[Unit, str] = {
    "probability": "probability",
    "number": "units of the label",
    "log-odds": "log-odds",
    "log": "log of the prediction",
    "loss": "units of the row's own loss",
}
SECONDS = 1.5  # approximate time budget for explaining many rows


def contributions(
    learner: Learner, rows: pa.Table, background: pa.Table, *, seed: int = 0, seconds: float = SECONDS
) -> Contributions:
    """Explain predictions by their features.

    Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions". Trees are explained exactly, with the
    rows that they were fitted to; linear models exactly, against the background; every other learner by sampling orders
    of its features against rows of the background. The explanation of a model family is used only if it adds up to the
    learner's predictions, so that a misread model is noticed.

    Args:
        background: rows that stand for "the feature is not known".
        seconds: approximate time budget. It limits how many rows are explained. The work is counted, not timed, so the
            same rows are explained each time.
    """
    if why := learner.spec.problem.inexplicable:
        raise UserError(f"predictions of task {learner.spec.task!r} are not explained: {why}")
    if learner.spec.problem.parts:
        return sampling.explain(learner, rows, background, seed=seed, seconds=seconds)
    inner = fitted_within(learner)
    explainers: tuple[Explainer, ...] = (trees.explain, boosting.explain, linear.explain)
    for explain in explainers:
        if (explained := _of_members(explain, inner, rows, background, seconds)) is not None:
            return replace(explained, calibrated=isinstance(learner, Calibrated))
    return sampling.explain(learner, rows, background, seed=seed, seconds=seconds)


def format_unit(unit: Unit, *, calibrated: bool) -> str:
    """Format the unit in which contributions add up.

    >>> format_unit("log-odds", calibrated=True)
    'log-odds before calibration'
    """
    return UNITS[unit] + (" before calibration" if calibrated else "")


Explainer = Callable[["Learner", "pa.Table", "pa.Table", float], RawContributions | None]


def _of_members(
    explain: Explainer, learner: Learner, rows: pa.Table, background: pa.Table, seconds: float
) -> Contributions | None:
    """The contributions from one explainer, averaged over the members of an averaged learner; None if it cannot."""
    members = learner.members if isinstance(learner, Averaged) else [learner]
    explanations = []
    for member in members:
        try:
            raw = explain(member, rows, background, seconds / len(members))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return None  # a third-party estimator that only looks like one that this explainer can read
        if raw is None or (unit := _unit(raw, member, rows)) is None:
            return None
        explanations.append(Contributions(member.spec.features, raw.values, raw.base, unit, raw.method, raw.indices))
    if len(explanations) == 1:
        return explanations[0]
    units, counts = {each.unit for each in explanations}, [len(each.indices) for each in explanations]
    if not units <= {"probability", "number"} or len(set(counts)) > 1:
        return None
    values = np.mean([each.values for each in explanations], axis=0)
    base = np.mean([each.base for each in explanations], axis=0)
    return replace(explanations[0], values=values, base=base)


def _unit(raw: RawContributions, learner: Learner, rows: pa.Table) -> Unit | None:
    """The unit in which the contributions add up to the predictions; None if they do in no known unit."""
    predicted = np.asarray(learner.predict(rows.take(raw.indices)), dtype=np.float64)
    predicted = predicted.reshape(len(raw.indices), -1)
    total = raw.base + raw.values.sum(axis=1)
    if total.shape != predicted.shape or not np.isfinite(total).all():
        return None
    problem = learner.spec.problem
    tolerance = 1e-4 if raw.method == "boosting library" else 1e-6  # boosting libraries use single precision
    if _same(total, predicted, tolerance):
        return "probability" if problem.probabilities else "number"
    with np.errstate(over="ignore"):
        if not problem.probabilities:
            return "log" if _same(np.exp(total), predicted, tolerance) else None
        if not problem.classes:
            return "log-odds" if _same(1 / (1 + np.exp(-total)), predicted, tolerance) else None
        powers = np.exp(total - total.max(axis=1, keepdims=True))
    return "log-odds" if _same(powers / powers.sum(axis=1, keepdims=True), predicted, tolerance) else None


def _same(ours: Floats, theirs: Floats, tolerance: float) -> bool:
    return bool(np.abs(ours - theirs).max(initial=0.0) <= tolerance * max(1.0, float(np.abs(theirs).max(initial=0.0))))
