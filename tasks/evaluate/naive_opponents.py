"""The candidate's naive opponents in the stage `evaluate`: fitted on its own rows, scored on the test rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refit.config.baselines import check_baselines
from refit.config.forecasting import HORIZON
from refit.evaluation import opponents
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.opponents import Opponents
from refit.evaluation.scored import Scored
from refit.evaluation.slices import MOST_VALUES, parts, too_small
from refit.gate.comparison import gain, single
from refit.problems import metric_named
from refit.problems.contract import Problem
from refit.runtime.context import Context
from refit.schemas.evaluation import EvaluatedOpponent, OpponentsOnPart
from refit.schemas.feature_table import FeatureTable
from refit.storage.columns import rows_at, stored_table

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Floats

MOST_PARTS = 3  # on which a naive opponent is better, that a sentence names


def fitted(context: Context, features: FeatureTable, problem: Problem) -> Opponents:
    """Fit the naive opponents of a problem to the training and validation rows, and choose the best of them."""
    metric = context.params.evaluate.gate.metric
    check_baselines(context.params, features.features)
    if not problem.constants(np.zeros(1, dtype=problem.dtype), metric):
        return Opponents()
    names = [*features.numeric, *features.categorical]
    table, there = _learned(context, features, names)
    windows = table["window"].to_numpy()
    held_out = windows == "validation"
    if not held_out.any() or held_out.all():
        held_out = opponents.held_back(table.num_rows, in_time=features.split is None)
    every = opponents.opponents(
        problem,
        table,
        problem.labels(table["label"]),
        held_out,
        features=names,
        metric=metric,
        baseline_metric=context.params.train.metric,
        named=context.params.evaluate.baselines,
    )
    return replace(every, read=(table.num_rows, there))


def _learned(context: Context, features: FeatureTable, names: list[str]) -> tuple[pa.Table, int]:
    """Labelled rows of the training and the validation window, in canonical order, and how many there are.

    Of each window there are at most `MOST_ROWS`.
    """
    import pyarrow.compute as pc

    path = features.table.path(context.project)
    with stored_table(path) as file:
        there, windows = file.schema_arrow.names, file.read(columns=["window"])["window"]
    masks = [pc.equal(windows, name).to_numpy() for name in ("train", "validation")]  # no text object for each row
    columns = ["event_time", features.key, "window", "label", *names, *opponents.naive_columns(there)]
    table = rows_at(path, opponents.sample(*masks), list(dict.fromkeys(columns)))
    return table.sort_by([("event_time", "ascending"), (features.key, "ascending")]), int(sum(map(np.sum, masks)))


def evaluated(
    test: Holdout, scored: Scored, guesses: Mapping[str, Floats], metric: str, confidence: float
) -> tuple[EvaluatedOpponent, ...]:
    """How each opponent does on the test rows by its guesses, and the candidate's gain over it."""
    candidate, span = scored.p["candidate"], test.problem.metric(metric).span
    return tuple(
        EvaluatedOpponent(
            name=each.name,
            words=each.words,
            validation=each.score if math.isfinite(each.score) else None,
            score=with_interval(single(metric, test.sample, predicted), confidence, *span),
            gain=with_interval(gain(metric, test.sample, candidate, predicted), confidence, -math.inf),
            best=each is scored.opponents.best,
        )
        for each in scored.opponents.every
        for predicted in [guesses[each.name]]
    )


def by_part(
    test: Holdout, scored: Scored, guesses: Mapping[str, Floats], columns: Sequence[str], metric: str
) -> tuple[OpponentsOnPart, ...]:
    """The metric of candidate and opponents on parts of the test rows: on each horizon of forecasts, and by columns."""
    if not scored.opponents.every:
        return ()
    result = []
    horizon = [HORIZON] if test.forecast else []
    for column in dict.fromkeys([*horizon, *columns]):
        for value, rows in parts(test.table, column, params_key="evaluate.slices", most=MOST_VALUES):
            part = test.sample.only(rows)
            if column not in horizon and too_small(part, metric):
                continue
            scores = {
                name: tidy(test.problem.score(metric, part.labels, predicted[rows]))
                for name, predicted in {"candidate": scored.p["candidate"], **guesses}.items()
            }
            result.append(OpponentsOnPart(by=column, value=value, rows=len(rows), scores=scores))
    return tuple(result)


def remarks(found: tuple[OpponentsOnPart, ...], every: Opponents, metric: str) -> Iterator[str]:
    """Yield how many rows the opponents saw, if not all, and the parts of the test rows where one of them is better."""
    rows, there = every.read
    if rows < there:
        yield (
            f"naive opponents were fitted to and chosen on {rows:,} of {there:,} rows, evenly spread over training "
            "and validation window; each guesses all test rows"
        )
    words, named = {each.name: each.words for each in every.every}, metric_named(metric)
    lost = []
    for part in found:
        ours = part.scores["candidate"]
        theirs = {name: value for name, value in part.scores.items() if name in words and value is not None}
        if ours is None or not theirs:
            continue
        best = max(theirs, key=lambda name: named.sign * theirs[name])
        if named.gain(ours, theirs[best]) < 0:
            lost.append((f"{part.by} {part.value}", f"the {words[best]} {theirs[best]:.4g}, the candidate {ours:.4g}"))
    if lost:
        shown = "; ".join(f"at {where}: {scores}" for where, scores in lost[:MOST_PARTS])
        more = f"; and on {len(lost) - MOST_PARTS} more parts" if len(lost) > MOST_PARTS else ""
        yield f"a naive opponent does better on a part of the test rows, by {named.words}: {shown}{more}"
