"""Shapley values of any learner, by sampling: features become known one by one, in random orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refit.explanations.shapley import Contributions, Floats
from refit.learners import Learner

if TYPE_CHECKING:
    import pyarrow as pa

PREDICTIONS_PER_SECOND = 10_000  # by a slow learner
PAIRS, MOST_PAIRS = 2, 25  # a pair is an order and its reverse, against two rows of the background


def explain(learner: Learner, rows: pa.Table, background: pa.Table, *, seed: int, seconds: float) -> Contributions:
    """Estimates that add up exactly (Castro et al. 2009; the reversed orders: Mitchell et al. 2022, section 4.2).

    From a row of the background to the explained row, each feature contributes the change of the prediction at the
    moment it becomes known. Few rows leave time for more orders.
    """
    features = learner.spec.features
    affordable = max(int(seconds * PREDICTIONS_PER_SECOND) // (len(features) + 1), 2 * PAIRS)
    count = min(rows.num_rows, affordable // (2 * PAIRS))
    indices = np.unique(np.linspace(0, rows.num_rows - 1, count).astype(np.int64)) if count else np.arange(0)
    pairs = min(MOST_PAIRS, affordable // (2 * max(len(indices), 1)))
    random = np.random.default_rng(seed)
    against = random.choice(background.num_rows, 2 * pairs, replace=background.num_rows < 2 * pairs)
    orders = random.permuted(np.tile(np.arange(len(features)), (len(indices), pairs, 1)), axis=2)
    orders = np.stack([orders, orders[:, :, ::-1]], axis=2).reshape(len(indices), 2 * pairs, len(features))
    predicted = _predicted(
        learner, rows.select(features).take(indices), background.select(features).take(against), orders
    )
    steps = np.diff(predicted, axis=2)  # (rows, orders, features in order, outputs)
    values = np.zeros_like(steps)
    np.put_along_axis(values, orders[..., None], steps, axis=2)
    base = predicted[:, :, 0].mean(axis=1)[0] if len(indices) else np.zeros(max(len(learner.spec.classes), 1))
    problem = learner.spec.problem
    unit = "probability" if problem.probabilities else "loss" if problem.parts else "number"
    return Contributions(features, values.mean(axis=1), base, unit, "sampling", indices)  # type: ignore[arg-type]


def _predicted(learner: Learner, rows: pa.Table, against: pa.Table, orders: np.ndarray) -> Floats:
    """(rows, orders, features + 1, outputs) predictions after so many features of each order are known, in one call."""
    import pyarrow as pa

    count, drawn, features = orders.shape
    is_known = np.argsort(orders, axis=2)[:, :, None, :] < np.arange(features + 1)[:, None]
    ours = np.arange(count)[:, None, None]
    theirs = count + np.arange(drawn)[None, :, None]
    both = pa.concat_tables([rows, against], promote_options="permissive")
    columns = {
        name: both.column(name).take(pa.array(np.where(is_known[..., index], ours, theirs).ravel()))
        for index, name in enumerate(learner.spec.features)
    }
    predicted = learner.spec.problem.output(np.asarray(learner.predict(pa.table(columns)), dtype=np.float64))
    return predicted.reshape(count, drawn, features + 1, -1)
