"""Evaluates predictions on held-out rows, with a clustered interval for every number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from feature_store.exact import WHOLE
from refit.config import nearest
from refit.config.evaluate import no_column
from refit.config.windows import local_days
from refit.errors import RefitError, UserError
from refit.gate.comparison import Sample, gain, leave_out, single
from refit.metrics.clusters import Clusters, Estimate, jackknife
from refit.plain_text import MISSING
from refit.problems.binary import Binary
from refit.problems.contract import Problem
from refit.schemas.evaluation import EvaluatedSlice, Facts
from refit.schemas.measured import Measured

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.schemas.feature_table import ForecastRows

Floats = NDArray[np.float64]
Labels = NDArray[Any]

FEWEST_ROWS, MOST_VALUES, BANDS = 200, 12, 4


@dataclass(frozen=True)
class Holdout:
    """The rows of the test window: features, labels and clusters."""

    table: pa.Table
    labels: Labels
    days: NDArray[np.datetime64]  # local day of each row
    sample: Sample
    problem: Problem = field(default_factory=Binary)
    forecast: ForecastRows | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)


def holdout(table: pa.Table, zone: ZoneInfo, cluster: str, target: Problem) -> Holdout:
    """Build the holdout from the test rows of a feature table.

    Args:
        cluster: `day` (in `zone`), `row`, or a column of the table whose equal values form a cluster.

    Raises:
        RefitError: there is no row, or a label is invalid for the task.
        UserError: the cluster column does not exist.
    """
    if not table.num_rows:
        raise RefitError("the test window holds no labelled row; move --as-of, or check featurize.label")
    labels = target.labels(table.column("label"))
    if invalid := target.invalid_labels(labels):
        raise RefitError(f"the test window: {invalid}")
    days = local_days(table.column("event_time"), zone)
    if cluster == "day":
        clusters = Clusters.of(days)
    elif cluster == "row":
        clusters = Clusters.rows(table.num_rows)
    elif cluster in table.column_names:
        clusters = Clusters.of(np.asarray(table.column(cluster).to_pylist(), dtype=object))
    else:
        hint = nearest(cluster, table.column_names)
        raise UserError(f"params.yaml: evaluate.gate.cluster: no column {cluster!r}{hint}; `day` and `row` always work")
    return Holdout(table, labels, days, Sample(labels, clusters, target), target)


def measure(test: Holdout, p: Floats, threshold: float, confidence: float) -> dict[str, Measured]:
    """Each metric's value with a two-sided clustered interval; None if it is undefined."""
    return {
        metric.name: with_interval(
            jackknife(leave_out(metric.name, test.sample, p, threshold)), confidence, *metric.span
        )
        for metric in test.problem.metrics
    }


def gains(test: Holdout, ours: Floats, theirs: Floats, confidence: float) -> dict[str, Measured]:
    """The gain of `ours` over `theirs` in each comparable metric (positive is better), with two-sided intervals."""
    return {
        name: with_interval(gain(name, test.sample, ours, theirs), confidence, -math.inf)
        for name in test.problem.metric_names(comparable=True)
    }


def with_interval(estimate: Estimate, confidence: float, lowest: float = 0.0, highest: float = math.inf) -> Measured:
    """An estimate with its interval for a report: within the metric's range, None if not finite."""
    low, high = estimate.interval(confidence)
    lower, upper = (max(low, lowest), min(high, highest)) if estimate.finite else (low, high)
    return Measured(value=tidy(estimate.value), lower=tidy(lower), upper=tidy(upper))


def tidy(value: float) -> float | None:
    """A float for JSON: None if it is not finite, and rounded, because the last bits differ between machines."""
    return round(float(value), 10) if math.isfinite(value) else None


def slices(
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
            problem, score, over_champion = too_small(part, test.problem), None, None
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


def too_small(part: Sample, target: Problem) -> str:
    """The reason why a part of the rows is too small to be judged; empty if it is not."""
    if len(part.labels) < FEWEST_ROWS:
        return f"it has {len(part.labels):,} test rows, {FEWEST_ROWS} are needed"
    return target.too_few(part.labels)


def parts(
    table: pa.Table, column: str, *, params_key: str, most: int | None = None
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Partition the rows by a column into named, non-empty parts.

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
        yield from _bands(np.asarray(table.column(column).cast(pa.float64()).to_numpy()))
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


def _bands(values: Floats) -> Iterator[tuple[str, NDArray[np.int64]]]:
    finite = values[np.isfinite(values)]
    distinct = np.unique(finite)
    if len(distinct) <= MOST_VALUES:
        for value in distinct:
            yield f"{value:g}", np.flatnonzero(values == value)
    else:
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, BANDS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
        for band in range(len(edges) + 1):
            rows = np.flatnonzero((codes == band) & np.isfinite(values))
            if len(rows):
                yield _band(edges[max(band - 1, 0) : band], edges[band : band + 1]), rows
    if len(finite) < len(values):
        yield MISSING, np.flatnonzero(~np.isfinite(values))


def _band(low: Floats, high: Floats) -> str:
    """The name of the band from `low` up to, not including, `high`; an empty end is open."""
    if not len(low):
        return f"below {high[0]:.4g}"
    return f"{low[0]:.4g} to {high[0]:.4g}" if len(high) else f"from {low[0]:.4g}"


def _is_number(text: str) -> bool:
    return text == MISSING or text.replace(".", "", 1).isdecimal()


def _as_number(text: str) -> float:
    return math.inf if text == MISSING else float(text)
