"""The parts of the test rows by a column: their figures for the report, and their gains for the gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.exact import WHOLE
from refit.config import GateParams, nearest
from refit.config.evaluate import no_column
from refit.config.forecasting import HORIZON
from refit.evaluation.holdout import Holdout, with_interval
from refit.evaluation.scored import Scored
from refit.gate.comparison import Sample, gain, single
from refit.gate.evidence import Slice
from refit.metrics.clusters import Estimate
from refit.plain_text import MISSING, named_number
from refit.problems.regression import SEASONAL_NAIVE
from refit.schemas.evaluation import EvaluatedSlice, Facts

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Labels = NDArray[Any]

FEWEST_ROWS, MOST_VALUES, BANDS = 200, 12, 4
UNKNOWN = Estimate(math.nan, math.nan, 0.0)
SHOWN_VALUES = 12  # of a column, if a slice names none of its values


def evaluated_slices(
    test: Holdout,
    by: Sequence[str],
    scored: Mapping[str, Floats],
    metric: str,
    confidence: float,
    facts: Callable[[Labels, Floats], Facts],
) -> tuple[EvaluatedSlice, ...]:
    """The candidate's metric, and its gain over the champion if there is one, on parts of the test rows.

    Args:
        by: columns of the table; a number with many values is cut into bands of about equal count, a category with
            many values shows its largest.
        scored: predictions by model; `candidate` is required.
        facts: describes the labels and predictions of a part.

    Raises:
        UserError: a column does not exist.
    """
    result = []
    for column in by:
        for value, rows in parts(test.table, column, params_key="evaluate.slices", most=MOST_VALUES):
            part, ours = test.sample.only(rows), scored["candidate"][rows]
            problem, score, over_champion = too_small(part, metric), None, None
            if not problem:
                score = with_interval(single(metric, part, ours), confidence, *test.problem.metric(metric).span)
                if "champion" in scored:
                    against = gain(metric, part, ours, scored["champion"][rows])
                    over_champion = with_interval(against, confidence, -math.inf)
            result.append(
                EvaluatedSlice(
                    by=column,
                    value=value,
                    rows=len(part.labels),
                    facts=facts(part.labels, ours),
                    enough=not problem,
                    problem=problem,
                    score=score,
                    gain=over_champion,
                )
            )
    return tuple(result)


def gate_slices(key: str, test: Holdout, scored: Scored, gate: GateParams) -> Iterator[Slice]:
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
            yield _judged(key, name, rows_by_value[value], test, scored, gate, scored.p["champion"])


def naive_slices(test: Holdout, scored: Scored, gate: GateParams) -> Iterator[Slice]:
    """Each horizon of forecasts that `gate.slices` names, against the naive opponent that was best on it before."""
    if not (opponents := scored.opponents.on_horizons):
        return
    for horizon, rows in parts(test.table, HORIZON, params_key="evaluate.gate.slices"):
        name = f"{HORIZON}={horizon}"
        key = next((key for key in (name, HORIZON) if key in gate.slices), None)
        if key is not None and (best := opponents.get(horizon, scored.opponents.best)) is not None:
            part = _judged(key, name, rows, test, scored, gate, test.problem.guess_for(test.table, best.naive))
            yield replace(part, name=f"{best.words} where {name}")


def _judged(
    key: str,
    name: str,
    rows: NDArray[np.int64],
    test: Holdout,
    scored: Scored,
    gate: GateParams,
    opponent: Floats,
) -> Slice:
    part = test.sample.only(rows)
    problem = too_small(part, gate.metric)
    clusters = part.judged(gate.metric)[0].clusters.effective
    if not problem and clusters < gate.min_clusters:
        problem = f"it has {clusters:,.1f} clusters, {gate.min_clusters} are needed"
    if problem:
        return Slice(key, name, UNKNOWN, problem)
    return Slice(key, name, gain(gate.metric, part, scored.p["candidate"][rows], opponent[rows]))


def too_small(part: Sample, metric: str) -> str:
    """The reason why a part of the rows is too small to be judged by a metric; empty if it is not."""
    labels = part.judged(metric)[0].labels
    if len(labels) < FEWEST_ROWS:
        kind = "test rows" if len(labels) == len(part.labels) else "test rows with a label"
        return f"it has {len(labels):,} {kind}, {FEWEST_ROWS} are needed"
    return part.problem.judging(metric).too_few(labels)


def parts(
    table: pa.Table, column: str, *, params_key: str, most: int | None = None
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Partition the rows by a column into non-empty parts, each with a name of its own.

    A number with more than `MOST_VALUES` values is cut into bands, except the horizon of forecasts.

    Args:
        params_key: the params key that names the column, for the error.
        most: categories beyond this number, the smallest ones, form one part.

    Raises:
        UserError: the column does not exist.
    """
    import pyarrow as pa

    if column not in table.column_names:
        raise no_column(params_key, column, table.column_names)
    kind = table.schema.field(column).type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and _are_doubles(table.column(column))):
        cells = table.column(column)
        values = (cells if pa.types.is_floating(kind) else cells.cast(pa.float64())).to_numpy()
        whole = column == HORIZON and SEASONAL_NAIVE in table.column_names
        yield from _of_numbers(values, math.inf if whole else MOST_VALUES)
        return
    texts = [None if value is None else str(value) for value in table.column(column).to_pylist()]
    missing = "no value" if MISSING in texts else MISSING  # a text may say `missing` itself
    values = np.array([missing if text is None else text for text in texts])
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")]
    shown = largest if most is None or len(largest) <= most + 1 else largest[:most]
    rows_of = dict(zip(names, np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1]), strict=True))
    for name in sorted(shown, key=_as_number) if all(map(_is_number, shown)) else shown:
        yield str(name), rows_of[name]
    if len(shown) < len(largest):
        yield f"{len(largest) - len(shown)} others", np.flatnonzero(~np.isin(values, shown))


def _are_doubles(column: pa.ChunkedArray) -> bool:
    """Whether integers are small enough to stay distinct as doubles; larger ones are treated as names."""
    import pyarrow.compute as pc

    bounds = pc.min_max(column).as_py().values()
    return all(bound is None or abs(bound) <= WHOLE for bound in bounds)


def _of_numbers(values: NDArray[np.floating[Any]], most: float) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each value, or bands if there are more than `most`; then the rows without a value."""
    finite = values[np.isfinite(values)]
    distinct = np.unique(finite)
    if len(distinct) <= most:
        for value in distinct:
            yield named_number(value), np.flatnonzero(values == value)
    else:
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, BANDS + 1)[1:-1]))
        names = _names_apart(edges)
        codes = np.searchsorted(edges, values, side="right")
        for band in range(len(edges) + 1):
            rows = np.flatnonzero((codes == band) & np.isfinite(values))
            if len(rows):
                yield _band(names[max(band - 1, 0) : band], names[band : band + 1]), rows
    if len(finite) < len(values):
        yield MISSING, np.flatnonzero(~np.isfinite(values))


def _names_apart(edges: Floats) -> list[str]:
    """The edges of bands with four digits, or as many more as tell them apart."""
    rounded = ([f"{edge:.{digits}g}" for edge in edges] for digits in range(4, 18))
    return next(names for names in rounded if len(set(names)) == len(edges))


def _band(low: Sequence[str], high: Sequence[str]) -> str:
    """The name of the band from `low` up to, not including, `high`; an empty end is open."""
    if not low:
        return f"below {high[0]}"
    return f"{low[0]} to {high[0]}" if high else f"from {low[0]}"


def _is_number(text: str) -> bool:
    return text == MISSING or text.replace(".", "", 1).isdecimal()


def _as_number(text: str) -> float:
    return math.inf if text == MISSING else float(text)
