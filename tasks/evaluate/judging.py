"""Judges predictions on rows that no model has seen; every number has its interval, as one month is one sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from registry.comparison import (
    Clusters,
    Estimate,
    LeftOut,
    Metric,
    Sample,
    gain,
    jackknife,
    leave_out,
    leave_out_mean,
    single,
)
from tasks import metrics
from tasks.errors import RefitError, UserError
from tasks.featurize.windows import local_days
from tasks.params import nearest

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

COMPARABLE: tuple[Metric, ...] = ("roc_auc", "average_precision", "log_loss", "brier")
MEASURED = (*COMPARABLE, "accuracy", "f1", "calibration_error")
FEWEST_ROWS, FEWEST_OF_A_CLASS, MOST_VALUES, BANDS = 200, 20, 12, 4
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Holdout:
    """The rows of the test window: what is predicted from, what came true, and which rows belong together."""

    table: pa.Table
    labels: Labels
    days: NDArray[np.datetime64]  # the local day of each row
    sample: Sample

    @property
    def rows(self) -> int:
        return len(self.labels)

    @property
    def positive(self) -> int:
        return int(self.labels.sum())


def holdout(table: pa.Table, zone: ZoneInfo, cluster: str) -> Holdout:
    """The test rows of a feature table.

    Args:
        cluster: `day` (in `zone`), `row`, or a column of the table whose equal values belong together.

    Raises:
        RefitError: there is no row, or a label is missing or neither 0 nor 1.
        UserError: the cluster column does not exist.
    """
    if not table.num_rows:
        raise RefitError("the test window holds no labelled row; move --as-of, or check featurize.label")
    labels = table.column("label").to_numpy()
    if not np.isin(labels, (0, 1)).all():
        raise RefitError(f"labels of the test window must be 0 or 1; found {np.unique(labels)[:5].tolist()}")
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
    labels = labels.astype(np.int64)
    return Holdout(table, labels, days, Sample(labels, clusters))


def measure(test: Holdout, p: Floats, threshold: float, confidence: float) -> dict[str, dict[str, float | None]]:
    """Each metric's value with the two-sided interval that its clusters give; None where it is undefined."""
    measured = {}
    for name in MEASURED:
        left = leave_out(name, test.sample, p) if name in COMPARABLE else _left_out(name, test.sample, p, threshold)
        measured[name] = with_interval(jackknife(left), confidence, highest=math.inf if name == "log_loss" else 1.0)
    return measured


def _left_out(metric: str, sample: Sample, p: Floats, threshold: float) -> LeftOut:
    """Metrics of sums: the sums of all clusters less those of each."""
    value = metrics.scores("binary", sample.labels, p, threshold)[metric]
    clusters, positive, called = sample.clusters, sample.labels == 1, p >= threshold

    def left(values: NDArray[Any]) -> Floats:
        sums = np.bincount(clusters.codes, values.astype(np.float64), clusters.count)
        return np.asarray(sums.sum() - sums, dtype=np.float64)

    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "accuracy":
            without = left(positive == called) / left(np.ones(len(p)))
        elif metric == "f1":
            total = left(positive) + left(called)
            without = np.where(total > 0, 2 * left(positive & called) / total, 0.0)
        else:
            bins = calibration_bins(p)
            gaps = [np.abs(left(np.where(bins == each, p - positive, 0.0))) for each in np.unique(bins)]
            without = np.sum(gaps, axis=0) / left(np.ones(len(p)))
    return LeftOut(value, without, clusters.effective)


def gains(test: Holdout, ours: Floats, theirs: Floats, confidence: float) -> dict[str, dict[str, float | None]]:
    """How much better ours are in each comparable metric (positive is better), with two-sided intervals."""
    return {
        name: with_interval(gain(name, test.sample, ours, theirs), confidence, lowest=-math.inf) for name in COMPARABLE
    }


def with_interval(
    estimate: Estimate, confidence: float, *, lowest: float = 0.0, highest: float = math.inf
) -> dict[str, float | None]:
    """`value`, `lower`, `upper` as a report writes them: within the metric's range, None for what is not known."""
    low, high = estimate.interval(confidence)
    lower, upper = (max(low, lowest), min(high, highest)) if estimate.finite else (low, high)
    return {"value": tidy(estimate.value), "lower": tidy(lower), "upper": tidy(upper)}


def tidy(value: float) -> float | None:
    """A float for JSON: None if it is not finite, and without the last bits, which differ between machines."""
    return round(float(value), 10) if math.isfinite(value) else None


def calibration_bins(p: Floats) -> NDArray[np.int64]:
    """Bins of about equal count, equal predictions together: those of `metrics.calibration_error`."""
    inner = np.quantile(p, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
    bins: NDArray[np.int64] = np.searchsorted(inner, p, side="left")
    return bins


def calibration(test: Holdout, p: Floats, confidence: float) -> dict[str, Any]:
    """Predicted beside observed rate, overall and in bins of about equal count, with clustered intervals."""
    bins = []
    codes = calibration_bins(p)
    for each in np.unique(codes):
        rows = codes == each
        part = test.sample.only(rows)
        observed = jackknife(leave_out_mean(part.labels.astype(np.float64), part.clusters))
        interval = with_interval(observed, confidence, highest=1.0)
        bins.append({"predicted": tidy(p[rows].mean()), "observed": interval, "rows": int(rows.sum())})
    return {"bins": bins, "predicted": tidy(p.mean()), "observed": tidy(test.labels.mean())}


def confusion(test: Holdout, p: Floats, threshold: float) -> dict[str, float]:
    """Counts of right and wrong calls, a row being called 1 from the threshold on."""
    called, positive = p >= threshold, test.labels == 1
    return {
        "threshold": threshold,
        "true_positive": int((called & positive).sum()),
        "false_positive": int((called & ~positive).sum()),
        "false_negative": int((~called & positive).sum()),
        "true_negative": int((~called & ~positive).sum()),
    }


def slices(
    test: Holdout, by: Sequence[str], scored: Mapping[str, Floats], metric: Metric, confidence: float
) -> list[dict[str, Any]]:
    """The candidate, and its gain over the champion where there is one, on parts of the test rows.

    Args:
        by: columns of the table; a number with many values is cut into bands of about equal count, a category with
            many is shown by its largest.
        scored: predictions by model; `candidate` must be there.

    Raises:
        UserError: a column does not exist.
    """
    result = []
    for column in by:
        for value, rows in parts(test.table, column, asked_by="evaluate.slices", most=MOST_VALUES):
            part = test.sample.only(rows)
            enough = not too_small(part)
            ours = scored["candidate"][rows]
            entry: dict[str, Any] = {
                "by": column,
                "value": value,
                "rows": len(part.labels),
                "positive": int(part.labels.sum()),
                "rate": tidy(part.labels.mean()),
                "predicted": tidy(ours.mean()),
                "enough": enough,
                metric: None,
                "gain": None,
            }
            if enough:
                highest = math.inf if metric == "log_loss" else 1.0
                entry[metric] = with_interval(single(metric, part, ours), confidence, highest=highest)
                if "champion" in scored:
                    against = gain(metric, part, ours, scored["champion"][rows])
                    entry["gain"] = with_interval(against, confidence, lowest=-math.inf)
            result.append(entry)
    return result


def too_small(part: Sample) -> str:
    """Why a part of the rows is too small to be judged; nothing where it is not."""
    rows, positive = len(part.labels), int(part.labels.sum())
    if rows < FEWEST_ROWS:
        return f"it has {rows:,} test rows, {FEWEST_ROWS} are needed"
    if min(positive, rows - positive) < FEWEST_OF_A_CLASS:
        return f"{positive:,} of its {rows:,} test rows are positive, {FEWEST_OF_A_CLASS} of each class are needed"
    return ""


def parts(
    table: pa.Table, column: str, *, asked_by: str, most: int | None = None
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """The named parts that a column cuts the rows into, none of them empty, together all rows.

    Args:
        asked_by: the params key that names the column, for the error.
        most: categories beyond this many, the smallest, make one part together.

    Raises:
        UserError: the column does not exist.
    """
    import pyarrow as pa

    if column not in table.column_names:
        hint = nearest(column, table.column_names)
        raise UserError(f"params.yaml: {asked_by}: the features have no column {column!r}{hint}")
    kind = table.schema.field(column).type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        yield from _bands(np.asarray(table.column(column).cast(pa.float64()).to_numpy()))
        return
    values = np.array(["missing" if value is None else str(value) for value in table.column(column).to_pylist()])
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")]
    shown = largest if most is None or len(largest) <= most + 1 else largest[:most]
    rows_of = dict(zip(names, np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1]), strict=True))
    for name in sorted(shown, key=_as_number) if all(map(_is_number, shown)) else shown:
        yield str(name), rows_of[name]
    if len(shown) < len(largest):
        yield f"{len(largest) - len(shown)} others", np.flatnonzero(~np.isin(values, shown))


def _bands(values: Floats) -> Iterator[tuple[str, NDArray[np.int64]]]:
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    if len(distinct) <= MOST_VALUES:
        for value in distinct:
            yield f"{value:g}", np.flatnonzero(values == value)
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BANDS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
        for band in range(len(edges) + 1):
            rows = np.flatnonzero((codes == band) & np.isfinite(values))
            if len(rows):
                yield _band(edges[max(band - 1, 0) : band], edges[band : band + 1]), rows
    if len(known) < len(values):
        yield "missing", np.flatnonzero(~np.isfinite(values))


def _band(low: Floats, high: Floats) -> str:
    """The name of the numbers from `low` up to, not including, `high`; an empty end is open."""
    if not len(low):
        return f"below {high[0]:.4g}"
    return f"{low[0]:.4g} to {high[0]:.4g}" if len(high) else f"from {low[0]:.4g}"


def _is_number(text: str) -> bool:
    return text == "missing" or text.replace(".", "", 1).isdecimal()


def _as_number(text: str) -> float:
    return math.inf if text == "missing" else float(text)
