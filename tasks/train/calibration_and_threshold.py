"""Learns calibration and threshold from out-of-fold predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refit.config import Params
from refit.config.shares import share_of
from refit.config.train import ThresholdParams
from refit.learners import Floats, Labels, Learner
from refit.learners.calibrated import Calibrated
from refit.learners.calibration import Calibration, fit_calibration
from refit.metrics.f1_threshold import above_the_next, best_f1_threshold
from refit.metrics.ranks import at_or_above
from refit.problems import kind_of
from refit.problems.contract import HALF
from tasks.train.folds import Development


@dataclass(frozen=True)
class Finish:
    """The post-processing that a fitted learner needs to become a candidate."""

    calibration: Calibration | None
    threshold: float

    def calibrated(self, predictions: Floats) -> Floats:
        """Return (rows,) or (rows, classes) predictions as the candidate outputs them."""
        return predictions if self.calibration is None else self.calibration.probabilities(predictions)

    def on(self, learner: Learner) -> Learner:
        """Return the learner with its threshold, wrapped in its calibration."""
        learner.threshold = self.threshold
        return learner if self.calibration is None else Calibrated(learner, self.calibration)


def finish_from(
    development: Development, predicted: Sequence[Floats], params: Params
) -> tuple[Finish, tuple[Floats, ...]]:
    """Return the finish, and each fold's predictions calibrated without that fold.

    Only probabilities are calibrated, and only binary tasks have a threshold.

    A single fold has no others to learn from: its predictions pass through the calibration fitted on them, which is
    slightly optimistic.

    Args:
        predicted: for each fold, raw predictions for its scored rows.
    """
    whole, kind = development.whole.label, params.train.calibration
    unseen, raw = development.unseen, pooled(development, predicted)
    if kind is None:
        return Finish(None, _cut(whole[unseen], raw, params)), tuple(predicted)
    calibration = fit_calibration(kind, raw, whole[unseen].astype(np.float64))
    each = []
    for fold, p in zip(development.folds, predicted, strict=True):
        others = ~np.isin(unseen, fold.scored)
        labels = whole[unseen[others]]
        has_both_classes = len(np.unique(labels)) > 1
        curve = fit_calibration(kind, raw[others], labels.astype(np.float64)) if has_both_classes else calibration
        each.append(curve.probabilities(p))
    honest = pooled(development, each)
    return Finish(calibration, _cut(whole[unseen], honest, params)), tuple(each)


def _cut(label: Labels, p: Floats, params: Params) -> float:
    return threshold(label, p, params.train.threshold) if kind_of(params.train.task).has_threshold else HALF


def pooled(development: Development, predicted: Sequence[Floats]) -> Floats:
    """Return (rows,) predictions for `development.unseen`; a row of several folds has the first one's prediction."""
    everything = np.concatenate([fold.scored for fold in development.folds])
    _, first = np.unique(everything, return_index=True)
    return np.asarray(np.concatenate(predicted)[first], dtype=np.float64)


def threshold(label: Labels, p: Floats, rule: ThresholdParams) -> float:
    """Return the probability from which a row is predicted as 1; of equally good gaps the highest, in its middle.

    Args:
        label, p: (rows,) of out-of-sample rows.

    >>> label, p = np.array([0, 1, 0, 1]), np.array([0.1, 0.6, 0.7, 0.8])
    >>> threshold(label, p, ThresholdParams(by="cost", false_negative=5)), threshold(label, p, ThresholdParams(by="f1"))
    (0.35, 0.35)
    >>> threshold(label, p, ThresholdParams(by="share", share=0.25))
    0.75
    >>> rows = np.arange(100) / 100
    >>> int((rows >= threshold(rows > 0.5, rows, ThresholdParams(by="share", share=0.29))).sum())
    29
    """
    if rule.by == "fixed":
        return rule.value
    if rule.by == "f1":
        return best_f1_threshold(label, p)
    levels, true_positives, positives = at_or_above(label, p)
    if rule.by == "share":
        within = np.flatnonzero(positives <= math.floor(share_of(rule.share, len(p))))
        return above_the_next(levels, int(within[-1])) if len(within) else _above(levels[0])
    cost = rule.false_positive * (positives - true_positives) + rule.false_negative * (label.sum() - true_positives)
    best = int(np.argmin(cost))
    cost_of_none = rule.false_negative * label.sum()
    return above_the_next(levels, best) if cost[best] < cost_of_none else _above(levels[0])


def _above(highest: float) -> float:
    """Return a threshold that no prediction reaches."""
    return float(np.nextafter(highest, 2.0))
