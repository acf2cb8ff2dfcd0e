"""The naive opponents of a candidate: fitted on its training rows, and the best of them chosen on validation rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.config.baselines import BEST_FEATURE
from refit.config.forecasting import HORIZON
from refit.files.artifacts import NAIVE_COLUMN
from refit.plain_text import named_number
from refit.problems import metric_named
from refit.problems.regression import SEASONAL_NAIVE

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.problems.contract import Floats, Labels, Naive, Problem

MOST_ROWS = 50_000  # that opponents are fitted to, and as many that they are chosen on
HELD_BACK = 5  # every fifth row, or the newest fifth, where no rows are set apart for validation
_WORDS = {
    "base_rate": "base rate",
    "season_before": "season before",
    "last_value": "last value",
    "same_time_yesterday": "value at the same time yesterday",
    "same_time_last_week": "value at the same time last week",
    "same_time_last_year": "value at the same time last year",
    "moving_average": "moving average",
    "drift": "drift of the last four seasons",
    "mean": "mean",
    "median": "median",
}


@dataclass(frozen=True)
class NaiveOpponent:
    """A naive guess by name, fitted to all rows that the candidate has learned from."""

    name: str  # as `evaluate.baselines` names it
    feature: str | None  # that it guesses by
    naive: Naive
    score: float  # by the gate's metric, on rows that it was not fitted to; nan if it is undefined

    @property
    def words(self) -> str:
        """What a sentence calls it, after "the"."""
        if self.name == BEST_FEATURE:
            return f"best single feature ({self.feature})"
        return _WORDS.get(self.name, f"feature {self.name}")


@dataclass(frozen=True)
class Opponents:
    """All naive opponents, the usual one first, and the one that the gate compares with."""

    every: tuple[NaiveOpponent, ...] = ()
    best: NaiveOpponent | None = None
    baseline: str = ""  # the name of the one that the baseline predicts
    on_horizons: Mapping[str, NaiveOpponent] = field(default_factory=dict)  # the best one on each horizon of forecasts
    read: tuple[int, int] = (0, 0)  # rows that they were fitted to and chosen on, and all rows of these windows

    @property
    def further(self) -> NaiveOpponent | None:
        """The best one, if it is another than the baseline, which the gate compares with in any case."""
        return None if self.best is None or self.best.name == self.baseline else self.best


def opponents(
    problem: Problem,
    rows: pa.Table,
    labels: Labels,
    held_out: NDArray[np.bool_],
    *,
    features: Sequence[str],
    metric: str,
    baseline_metric: str,
    named: Sequence[str] | None,
) -> Opponents:
    """Fit the naive opponents of a problem, and choose the best.

    Args:
        rows: the training and validation rows, with the columns of naive forecasts where there are some.
        held_out: (rows,) mask of the rows that they are chosen on.
        features: those of the candidate.
        metric: the gate's.
        baseline_metric: training's, which decides what the baseline predicts: the mean, or the median.
        named: names of opponents and features (`evaluate.baselines`); None: all that the problem offers.
    """
    constants = problem.constants(labels, metric)
    if not constants:
        return Opponents()
    fitted, compared = sample(~held_out), sample(held_out)
    given, truth = (rows.take(part) for part in (fitted, compared)), (labels[fitted], labels[compared])
    inner, outer = given
    usual = next(iter(constants))

    def score(naive: Naive) -> float:
        if not len(truth[1]):
            return math.nan
        value = problem.score(metric, truth[1], problem.guess_for(outer, naive))
        return value if math.isfinite(value) else math.nan

    every = []
    for name, feature in _offered(problem, rows, features, list(constants), named):
        if feature is None:
            first = problem.constants(truth[0], metric) if len(truth[0]) else {}
            guess = score(first[name]) if name in first else math.nan
            every.append(NaiveOpponent(_readable_name(name, usual, rows), None, constants[name], guess))
        elif (inside := problem.by_feature(inner, feature, truth[0], metric)) is not None:
            every.append(NaiveOpponent(name, feature, inside, score(inside)))
    sign = metric_named(metric).sign
    every = list(_with_one_best_feature(every, sign))
    for index, each in enumerate(every):
        if each.feature is not None and (whole := problem.by_feature(rows, each.feature, labels, metric)) is not None:
            every[index] = NaiveOpponent(each.name, each.feature, whole, each.score)
    measured = [each for each in every if math.isfinite(each.score)]
    best = max(measured, key=lambda each: sign * each.score, default=every[0])
    usual_of_training = next(iter(problem.constants(labels, baseline_metric)))
    return Opponents(
        tuple(every),
        best,
        _readable_name(usual_of_training, usual_of_training, rows),
        dict(_on_horizons(problem, outer, truth[1], every, metric)),
    )


def _on_horizons(
    problem: Problem, rows: pa.Table, labels: Labels, every: Sequence[NaiveOpponent], metric: str
) -> Iterator[tuple[str, NaiveOpponent]]:
    """The best opponent on each horizon of some rows; nothing if they are no forecasts."""
    if SEASONAL_NAIVE not in rows.column_names or HORIZON not in rows.column_names:
        return
    horizons, sign = rows.column(HORIZON).to_numpy(), metric_named(metric).sign
    guesses = [problem.guess_for(rows, each.naive) for each in every]
    for horizon in np.unique(horizons):
        part = horizons == horizon
        scores = [sign * problem.score(metric, labels[part], guess[part]) for guess in guesses]
        yield named_number(horizon), every[int(np.argmax(np.nan_to_num(scores, nan=-math.inf, neginf=-math.inf)))]


def held_back(rows: int, *, in_time: bool) -> NDArray[np.bool_]:
    """(rows,) mask of the rows to choose on where none are set apart: the newest fifth, or every fifth one."""
    indices = np.arange(rows)
    return indices >= rows - rows // HELD_BACK if in_time else indices % HELD_BACK == HELD_BACK - 1


def naive_columns(names: Sequence[str]) -> list[str]:
    """Those of a table's columns that hold naive forecasts."""
    return [name for name in names if name.startswith(NAIVE_COLUMN)]


def _offered(
    problem: Problem, rows: pa.Table, features: Sequence[str], constants: Sequence[str], named: Sequence[str] | None
) -> Iterator[tuple[str, str | None]]:
    """The opponents to try: name, and the column that they guess by."""
    yield constants[0], None
    forecasts = {name.removeprefix(NAIVE_COLUMN): name for name in naive_columns(rows.column_names)}
    seasonal = SEASONAL_NAIVE in rows.column_names
    others = [] if seasonal else list(constants[1:])
    every = [*forecasts, *others, *([BEST_FEATURE] if problem.probabilities and len(features) > 1 else [])]
    for name in every if named is None else dict.fromkeys(named):
        if name in forecasts:
            yield name, forecasts[name]
        elif name == BEST_FEATURE:
            yield from ((BEST_FEATURE, feature) for feature in features)
        elif name in others:
            yield name, None
        elif name in features:
            yield name, name


def _readable_name(name: str, usual: str, rows: pa.Table) -> str:
    """The name of a constant; of the usual baseline of forecasts, which has the value of the season before.

    Where a season is one step, that is the last value, which then has no column of its own.
    """
    if name != usual or SEASONAL_NAIVE not in rows.column_names:
        return name
    columns = naive_columns(rows.column_names)
    return "last_value" if columns and f"{NAIVE_COLUMN}last_value" not in columns else "season_before"


def _with_one_best_feature(every: Sequence[NaiveOpponent], sign: float) -> Iterator[NaiveOpponent]:
    """All opponents, but of those by any single feature only the best."""
    single = [each for each in every if each.name == BEST_FEATURE and math.isfinite(each.score)]
    best = max(single, key=lambda each: sign * each.score, default=None)
    yield from (each for each in every if each.name != BEST_FEATURE or each is best)


def sample(*masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of the rows of masks, ascending; of a mask with too many, some that are evenly spread over them."""
    return np.sort(np.concatenate([_spread(mask) for mask in masks]))


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    indices = np.flatnonzero(mask)
    if len(indices) <= MOST_ROWS:
        return indices
    return indices[np.unique(np.linspace(0, len(indices) - 1, MOST_ROWS).astype(np.int64))]


def predictions(problem: Problem, table: pa.Table, every: Opponents) -> Mapping[str, Floats]:
    """The predictions of all opponents for some rows, by name."""
    return {each.name: problem.guess_for(table, each.naive) for each in every.every}
