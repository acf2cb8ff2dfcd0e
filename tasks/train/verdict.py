"""Describes how a learner fits: underfit, overfit or balanced, with advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from refit.plain_text import number
from refit.problems import metric_named
from refit.schemas.training import SizeScores

NO_BETTER = 0.02  # share of the perfect gain over the baseline, below which nothing was learned
OVERFIT_LOSS = 0.35  # share of the training gain lost on validation, above which the learner has overfitted
GROWING = 0.03  # share of the validation gain due to the last rows, above which more rows would help


def verdict(
    metric: str,
    *,
    training: float,
    validation: float,
    baseline: float | None,
    last_iteration_best: bool = False,
    size_curve: Sequence[SizeScores] = (),
    regularisers: Mapping[str, float] | None = None,
    played: bool = False,
) -> str:
    """Return `underfit`, `overfit` or `balanced`, with numbers and advice.

    Args:
        baseline: the baseline's score on validation, or None if there is no baseline.
        played: the rows are episodes that a policy has played: there is no perfect score, and no curve of rows.
        regularisers: the learner's arguments that regularise, with their values.

    >>> size = SizeScores(rows=1000, training=0.95, validation=0.65)
    >>> verdict("roc_auc", training=0.95, validation=0.65, baseline=0.5, size_curve=[size]).split("; ")[0]
    'overfit: roc_auc .950 on training rows and .650 on validation rows'
    """
    numbers = f"{metric} {_short(training)} on training rows and {_short(validation)} on validation rows"
    if played:
        return _of_policy(metric, numbers, validation, baseline, last_iteration_best)
    if not size_curve:
        return f"baseline: {numbers}"
    if baseline is None:
        return f"unknown: {numbers}; add a baseline to train.learners to compare with"
    gain = metric_named(metric).gain
    perfect = gain(metric_named(metric).perfect, baseline)
    train_gain, val_gain = gain(training, baseline), gain(validation, baseline)
    least = NO_BETTER * perfect if math.isfinite(perfect) else 0.0  # where nothing is perfect, any gain is one
    if val_gain < least:
        no_better = f"{numbers}, no better than the baseline's {_short(baseline)}"
        if train_gain > 2 * least:
            return f"overfit: {no_better}; regularise strongly, or use fewer features"
        return f"underfit: {no_better}; it needs other features or a stronger learner"
    if train_gain - val_gain > OVERFIT_LOSS * train_gain:
        advice = f"{_regularise(regularisers or {})}, or make it smaller"
        return f"overfit: {numbers}; {advice}{_more_rows(metric, val_gain, size_curve)}"
    if last_iteration_best:
        pass_ = "epoch" if regularisers else "iteration"  # networks alone have them
        return f"underfit: {numbers}, and the last {pass_} was the best; allow more {pass_}s"
    return f"balanced: {numbers}{_more_rows(metric, val_gain, size_curve)}"


def _of_policy(metric: str, numbers: str, validation: float, baseline: float | None, last_was_best: bool) -> str:
    if baseline is None:
        return f"unknown: {numbers}; add a baseline to train.learners to compare with"
    more = ", and the last check was the best; allow more steps" if last_was_best else ""
    if metric_named(metric).gain(validation, baseline) <= 0:
        return f"underfit: {numbers}, no better than the opponent's {_short(baseline)}{more}"
    return f"balanced: {numbers}, the opponent's is {_short(baseline)}{more}"


def _regularise(regularisers: Mapping[str, float]) -> str:
    """Return advice to regularise, by the arguments that a learner has for it.

    >>> _regularise({"dropout": 0.1, "weight_decay": 0.0})
    'raise dropout (now 0.1) or weight_decay (now 0)'
    """
    if not regularisers:
        return "regularise more"
    return "raise " + " or ".join(f"{name} (now {value:g})" for name, value in regularisers.items())


def _more_rows(metric: str, validation_gain: float, size_curve: Sequence[SizeScores]) -> str:
    """Return advice on a longer training window, from the size curve."""
    if len(size_curve) < 2:
        return ""
    before, whole = size_curve[-2], size_curve[-1]
    brought = metric_named(metric).gain(whole.validation, before.validation)
    if brought > GROWING * validation_gain:
        return f"; more rows would help, with the last {whole.rows - before.rows:,} it is {number(brought, 3)} better"
    if brought < -GROWING * validation_gain:
        return f"; older rows hurt, without them it is {number(-brought, 3)} better: shorten featurize.windows.training"
    return "; more rows would bring little"


def _short(value: float) -> str:
    return number(value, 3).removeprefix("0") if 0 <= value < 1 else number(value, 3)
