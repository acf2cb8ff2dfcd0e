"""Why a model predicts what it does: how predictions follow a feature, and what each feature adds to one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refit.explanations import boosting, linear, sampling, trees
from refit.explanations.shapley import Contributions, Floats, Found, Unit
from refit.learners import Learner
from refit.learners.averaged import Averaged
from refit.learners.calibrated import Calibrated
from refit.learners.postprocessed import fitted_within

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Contributions", "Unit", "contributions", "in_words"]

UNITS: dict[Unit, str] = {
    "probability": "probability",
    "number": "units of the label",
    "log-odds": "log-odds",
    "log": "log of the prediction",
}
SECONDS = 1.5  # about what an explanation of many rows may take


def contributions(
    learner: Learner, rows: pa.Table, background: pa.Table, *, seed: int = 0, seconds: float = SECONDS
) -> Contributions:
    """Explain predictions by their features.

    Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions". Trees are explained exactly, by the
    rows that they were fitted to; linear models exactly, against the background; anything else by sampled orders of its
    features against rows of the background. A family's explanation is taken only where it adds up to what the learner
    predicts, so none is misread unnoticed.

    Args:
        background: rows that stand for "the feature is not known".
        seconds: about what it may take. It limits how many of the rows are explained, by counting the work and not by
            the clock: the same rows are explained each time.
    """
    inner = fitted_within(learner)
    explainers: tuple[Explainer, ...] = (trees.explain, boosting.explain, linear.explain)
    for explain in explainers:
        if (found := _of_members(explain, inner, rows, background, seconds)) is not None:
            return replace(found, calibrated=isinstance(learner, Calibrated))
    return sampling.explain(learner, rows, background, seed=seed, seconds=seconds)


def in_words(unit: Unit, *, calibrated: bool) -> str:
    """In which unit contributions add up.

    >>> in_words("log-odds", calibrated=True)
    'log-odds before calibration'
    """
    return UNITS[unit] + (" before calibration" if calibrated else "")


Explainer = Callable[["Learner", "pa.Table", "pa.Table", float], Found | None]


def _of_members(
    explain: Explainer, learner: Learner, rows: pa.Table, background: pa.Table, seconds: float
) -> Contributions | None:
    """What one way says of a learner, or the mean over an average's members where that is what is averaged."""
    members = learner.members if isinstance(learner, Averaged) else [learner]
    told = []
    for member in members:
        try:
            found = explain(member, rows, background, seconds / len(members))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return None  # an estimator of somebody else that only looks like one that this way can read
        if found is None or (unit := _unit(found, member, rows)) is None:
            return None
        told.append(Contributions(member.spec.features, found.values, found.base, unit, found.method, found.places))
    if len(told) == 1:
        return told[0]
    units, counts = {each.unit for each in told}, [len(each.places) for each in told]
    if not units <= {"probability", "number"} or len(set(counts)) > 1:
        return None
    mean = np.mean([each.values for each in told], axis=0), np.mean([each.base for each in told], axis=0)
    return replace(told[0], values=mean[0], base=mean[1])


def _unit(found: Found, learner: Learner, rows: pa.Table) -> Unit | None:
    """In which unit the contributions add up to the predictions; none: in no known one."""
    predicted = np.asarray(learner.predict(rows.take(found.places)), dtype=np.float64)
    predicted = predicted.reshape(len(found.places), -1)
    total = found.base + found.values.sum(axis=1)
    if total.shape != predicted.shape or not np.isfinite(total).all():
        return None
    task, within = (
        learner.spec.task,
        1e-4 if found.method == "boosting library" else 1e-6,
    )  # some are of single precision
    if _same(total, predicted, within):
        return "number" if task == "regression" else "probability"
    with np.errstate(over="ignore"):
        if task == "regression":
            return "log" if _same(np.exp(total), predicted, within) else None
        if task == "binary":
            return "log-odds" if _same(1 / (1 + np.exp(-total)), predicted, within) else None
        powers = np.exp(total - total.max(axis=1, keepdims=True))
    return "log-odds" if _same(powers / powers.sum(axis=1, keepdims=True), predicted, within) else None


def _same(ours: Floats, theirs: Floats, within: float) -> bool:
    return bool(np.abs(ours - theirs).max(initial=0.0) <= within * max(1.0, float(np.abs(theirs).max(initial=0.0))))
