"""Multivariate drift: compares how well a classifier separates current rows from the reference with its usual skill.

The joint distribution can change while each column looks the same. Images, vectors and sequences are compared by their
embeddings (`refit.learners.embeddings`), which are columns too. This only informs: a classifier finds any difference
between two periods, the day of the month included, so its skill alone says little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refit.config import DriftParams
from refit.learners.embeddings import EMBEDDING
from refit.schemas.drift_decision import Separation

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["LEAST_AUC", "WARNING_P", "separate"]

WARNING_P = 0.01  # p-value below which a warning is given; the classifier sees only the newest window
LEAST_AUC = 0.6  # from which on a warning is given without windows to compare with
WINDOWS = 12  # of the reference, spread over it, on which the usual skill is measured
FEWEST = 8  # windows that a p-value needs
FEWEST_ROWS = 30
MOST_USUAL = 0.95  # ROC AUC from which on windows of the reference are told apart almost without error
FOLDS = 2


def separate(
    reference: pa.Table,
    current: pa.Table,
    days: NDArray[np.datetime64],
    window_days: int,
    *,
    rows: int = DriftParams().multivariate_rows,
    seed: int = 0,
) -> Separation | None:
    """Measure how well a small boosted-tree classifier separates the current rows from the reference.

    Both tables have the same columns of numbers and texts; leave out keys and times. At most `rows` rows are drawn from
    each side, seeded (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests", ICLR).

    Args:
        days: of each row of the reference. Shape (reference.num_rows,).
        window_days: length of the current window; the reference is cut into windows of it from its end.

    Where the reference has too few windows and there are embeddings, the two folds also give a p-value for rows that
    are exchangeable: each fold's AUC on rows that its classifier has not seen is a Mann-Whitney statistic, and the mean
    of two standard normal values varies at most as one does, however dependent they are.

    Returns:
        None if a side has fewer than 30 rows.
    """
    if min(len(days), current.num_rows) < FEWEST_ROWS:
        return None
    random = np.random.default_rng(seed)

    def drawn(indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return indices if len(indices) <= rows else np.sort(random.choice(indices, rows, replace=False))

    everything, now = drawn(np.arange(len(days))), drawn(np.arange(current.num_rows))
    ages = (days.max() - days).astype("timedelta64[D]").astype(int) // window_days
    pairs = [(drawn(np.flatnonzero(ages != age)), drawn(np.flatnonzero(ages == age))) for age in _windows(ages)]
    needed = np.unique(np.concatenate([everything, *(indices for pair in pairs for indices in pair)]))
    before, recent = _features(reference.take(needed), current.take(now))

    def out_of_fold_auc(rest: NDArray[np.int64], window: NDArray[np.int64]) -> float:
        return _auc(before[np.searchsorted(needed, rest)], before[np.searchsorted(needed, window)], seed)[0]

    auc, p_exchangeable = _auc(before[np.searchsorted(needed, everything)], recent, seed)
    usual = tuple(out_of_fold_auc(*pair) for pair in pairs)
    if len(usual) >= FEWEST:
        p, unjudged = _chance(auc, np.array(usual)), _not_judged(auc, np.array(usual))
        return Separation(auc=auc, usual=usual, p=None if unjudged else p, unjudged=unjudged)
    has_embeddings = any(EMBEDDING in name for name in reference.column_names)
    return Separation(auc=auc, usual=usual, p=None, p_exchangeable=p_exchangeable if has_embeddings else None)


def _windows(ages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose windows spread over the reference that have enough rows inside and outside."""
    counts = np.bincount(ages)
    enough = np.flatnonzero((counts >= FEWEST_ROWS) & (len(ages) - counts >= FEWEST_ROWS))
    chosen: NDArray[np.int64] = enough[np.linspace(0, len(enough) - 1, min(WINDOWS, len(enough))).astype(int)]
    return chosen


def _not_judged(auc: float, usual: NDArray[np.float64]) -> str:
    """The reason why the classifier's skill cannot be judged; empty if it can.

    A window half of whose rows are unmistakable, and the rest as usual, has an AUC half way from what is usual to 1.
    """
    from scipy.special import stdtrit

    mean = float(usual.mean())
    if mean >= MOST_USUAL:
        return (
            f"it also tells windows of the reference from the rest of it with {mean:.3f} on average; a column that is "
            "never the same again, such as a counter or a date, makes it so"
        )
    bar = mean + float(stdtrit(len(usual) - 1, 1 - WARNING_P)) * _spread(usual)
    if auc < bar and bar >= (1 + mean) / 2:
        return "windows of the reference differ so much that half of all rows being unmistakable would be usual"
    return ""


def _spread(usual: NDArray[np.float64]) -> float:
    """The standard deviation of one further window from the mean of these."""
    return float(usual.std(ddof=1) * np.sqrt(1 + 1 / len(usual)))


def _chance(auc: float, usual: NDArray[np.float64]) -> float:
    from scipy.special import stdtr

    return float(stdtr(len(usual) - 1, (usual.mean() - auc) / max(_spread(usual), 1e-12)))


def _features(*tables: pa.Table) -> list[NDArray[np.float64]]:
    """The tables as numbers, shape (rows, columns): texts as indices among the column's texts; missing is nan."""
    import pyarrow as pa

    combined = pa.concat_tables([table.select(tables[0].column_names) for table in tables]).combine_chunks()
    columns = [
        (column.dictionary_encode().indices if pa.types.is_string(column.type) else column).cast("float64")
        for column in (chunked.combine_chunks() for chunked in combined.columns)
    ]
    matrix = np.column_stack([column.to_numpy(zero_copy_only=False) for column in columns])
    return np.split(matrix, np.cumsum([table.num_rows for table in tables])[:-1])


def _auc(before: NDArray[np.float64], now: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """ROC AUC of out-of-fold probabilities, and its p-value if the rows of both sides are exchangeable."""
    from scipy.special import ndtr
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows, side = np.concatenate([before, now]), np.repeat([0, 1], [len(before), len(now)])
    model = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=8, early_stopping=False, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # so few rows are fitted faster by one thread than by several that wait for each other
        probabilities = cross_val_predict(model, rows, side, cv=folds, method="predict_proba")[:, 1]
    z = []
    for _, scored in folds.split(rows, side):
        count, later = len(scored), int(side[scored].sum())
        deviation = np.sqrt((count + 1) / (12 * later * (count - later)))
        z.append((roc_auc_score(side[scored], probabilities[scored]) - 0.5) / deviation)
    return float(roc_auc_score(side, probabilities)), float(ndtr(-np.mean(z)))
