"""Studies a clustering on its training rows: how many segments there are, how stable they are, what sets each apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.learners import make
from refit.learners.clusterer import Clusterer
from refit.problems.clustering import NOISE, segment_name
from refit.runtime.context import Progress, silent
from refit.schemas.segment_study import Division, MapPoint, Segment, SegmentStudy, Trait

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Changes = Mapping[str, int | None]  # of the argument that sets the number of segments, if there is one

COUNTS = ("n_clusters", "n_components")  # the arguments that set a number of segments
MOST_ROWS = 2_000  # on which divisions are compared
BOOTSTRAPS, REFERENCES = 20, 10
TRAITS, POINTS = 4, 600
CLEAR = 0.3  # strength from which a trait is part of the description


def study(
    learner: Clusterer, rows: pa.Table, features: Sequence[str], counts: Sequence[int], *, progress: Progress = silent
) -> SegmentStudy:
    """Describe the segments of a fitted learner, and compare numbers of segments.

    Args:
        rows: training rows, with further columns to describe segments by.
        counts: numbers of segments to compare; none for a learner that finds the number itself.
    """
    import pyarrow as pa

    random = np.random.default_rng(learner.spec.seed)
    table = rows.select(list(features))
    sample = np.arange(len(rows))
    if len(rows) > MOST_ROWS:
        sample = np.sort(random.choice(len(rows), MOST_ROWS, replace=False))
    few = table.take(pa.array(sample))
    argument, chosen = _number(learner)
    requested: Sequence[int | None] = (
        [None] if argument is None else sorted({*counts, *([] if chosen is None else [chosen])})
    )
    divisions = []
    for number, count in enumerate(requested):
        progress(f"comparing numbers of segments, {count or 'as found'}", number, len(requested))
        changes = {} if argument is None else {argument: count}
        divisions += list(_division(learner, few, changes, count, random))
    predicted = learner.predict(table)
    explained, points = _map(learner, table, predicted, random)
    return SegmentStudy(
        rows=len(few),
        divisions=tuple(divisions),
        chosen=chosen,
        segments=tuple(described(rows, predicted)),
        explained=explained,
        points=points,
    )


def _number(learner: Clusterer) -> tuple[str | None, int | None]:
    """The argument that sets the number of segments, with its value; None and None if the learner uses none."""
    from refit.learners.imports import build_object

    spec = learner.spec
    arguments = {name: value for name, value in spec.params.items() if name != "log"}
    values = build_object(spec.kind, arguments, seed=spec.seed, where=spec.name, sort="cluster", source=spec.source)
    in_use: Mapping[str, object] = values.get_params() if hasattr(values, "get_params") else {}
    return next(((name, value) for name in COUNTS if isinstance(value := in_use.get(name), int)), (None, None))


def _fitted(learner: Clusterer, rows: pa.Table, changes: Changes) -> Clusterer | None:
    """The same kind of learner with other arguments, fitted to other rows; None if it cannot be."""
    other = make(replace(learner.spec, params={**learner.spec.params, **changes}))
    assert isinstance(other, Clusterer)
    try:
        other.fit(rows, np.zeros(len(rows), dtype=np.int64))
    except UserError:
        return None
    return other


def _division(
    learner: Clusterer,
    rows: pa.Table,
    changes: Changes,
    count: int | None,
    random: np.random.Generator,
) -> Iterator[Division]:
    """Measure one number of segments; nothing if the learner cannot find so many."""
    whole = _fitted(learner, rows, changes)
    if whole is None:
        return
    predicted = whole.predict(rows)
    stability = list(_agreements(whole, rows, predicted[:, 0], random)) if len(whole.segments) > 1 else []
    gap, error = _gap(whole, rows, random) if count is not None else (None, None)
    yield Division(
        requested=count,
        segments=int((whole.segments != NOISE).sum()),
        silhouette=round(float(predicted[:, 2].mean()), 6),
        bic=round(float(2 * predicted[:, 1].sum() + whole.parameters * np.log(len(rows))), 3),
        gap=gap,
        gap_error=error,
        stability=round(float(np.mean(stability)), 6) if stability else None,
        stability_error=round(float(np.std(stability) / np.sqrt(len(stability))), 6) if stability else None,
    )


def _agreements(whole: Clusterer, rows: pa.Table, segments: Floats, random: np.random.Generator) -> Iterator[float]:
    """Adjusted Rand indices of the segments of all rows by fits to bootstrap samples with those by the fit to all.

    A fit that finds no segments agrees by 0, as one that puts all rows into one does.
    Source: Hennig (2007), "Cluster-wise assessment of cluster stability"; Hubert and Arabie (1985) for the index.
    """
    import pyarrow as pa
    from sklearn.metrics import adjusted_rand_score

    for _ in range(BOOTSTRAPS):
        drawn = np.sort(random.integers(0, len(rows), len(rows)))
        again = _fitted(whole, rows.take(pa.array(drawn)), {})
        yield 0.0 if again is None else float(adjusted_rand_score(segments, again.predict(rows)[:, 0]))


def _gap(whole: Clusterer, rows: pa.Table, random: np.random.Generator) -> tuple[float, float]:
    """The gap statistic and its error: how much less rows scatter within segments than rows spread evenly would.

    Both are divided by the estimator itself: the nearest centres, which stand for its segments, divide less well.
    Source: Tibshirani, Walther and Hastie (2001), "Estimating the number of clusters in a data set via the gap
    statistic", with the reference along the columns (a).
    """
    points = whole.points(rows)
    low, high = points.min(axis=0), points.max(axis=0)
    ours, references = _log_scatter(points, whole.divided(points)), []
    for _ in range(REFERENCES):
        even = random.uniform(low, high, points.shape)
        references.append(_log_scatter(even, whole.divided(even)))
    return (
        round(float(np.mean(references) - ours), 6),
        round(float(np.std(references) * np.sqrt(1 + 1 / REFERENCES)), 6),
    )


def _log_scatter(points: Floats, groups: NDArray[Any]) -> float:
    within = sum(((points[groups == group] - points[groups == group].mean(axis=0)) ** 2).sum() for group in set(groups))
    return float(np.log(max(within, 1e-300)))


def described(rows: pa.Table, predicted: Floats) -> Iterator[Segment]:
    """Each segment in words and numbers, the largest first."""
    numbers, counts = np.unique(predicted[:, 0], return_counts=True)
    for number in numbers[np.lexsort((numbers, -counts))]:
        inside = predicted[:, 0] == number
        traits = sorted(_traits(rows, inside), key=lambda trait: -trait.strength)[:TRAITS]
        clear = [trait.words for trait in traits if trait.strength >= CLEAR]
        yield Segment(
            name=segment_name(number),
            rows=int(inside.sum()),
            share=round(float(inside.mean()), 6),
            silhouette=round(float(predicted[inside, 2].mean()), 6),
            words="; ".join(clear) if clear else "like the other rows in each single column",
            traits=tuple(traits),
        )


def _traits(rows: pa.Table, inside: NDArray[np.bool_]) -> Iterator[Trait]:
    """How each column of numbers or categories differs between a segment and the other rows."""
    import pyarrow as pa

    if inside.all():
        return
    for name in rows.column_names:
        kind = rows[name].type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            values = np.asarray(rows[name].cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
            yield from _of_numbers(name, values, inside)
        elif pa.types.is_string(kind):
            yield from _of_categories(name, np.array(rows[name].to_pylist(), dtype=object), inside)


def _of_numbers(name: str, values: Floats, inside: NDArray[np.bool_]) -> Iterator[Trait]:
    """The chance that a row of the segment has more than another row, less the chance that it has less (Cliff 1993)."""
    from scipy.stats import rankdata

    known = np.isfinite(values)
    ours, others = values[inside & known], values[~inside & known]
    if not len(ours) or not len(others):
        return
    ranks = rankdata(np.concatenate([ours, others]))[: len(ours)]
    above = (ranks.sum() - len(ours) * (len(ours) + 1) / 2) / (len(ours) * len(others))
    strength, mine, theirs = 2 * above - 1, float(np.median(ours)), float(np.median(others))
    level = "high" if strength > 0 else "low"
    words = f"{level} {name} (median {_shown(mine)}, elsewhere {_shown(theirs)})"
    yield Trait(name=name, words=words, strength=round(abs(float(strength)), 6), inside=mine, outside=theirs)


def _shown(number: float) -> str:
    """A number as people write it.

    >>> _shown(11917.5), _shown(0.123456)
    ('11,918', '0.1235')
    """
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _of_categories(name: str, values: NDArray[Any], inside: NDArray[np.bool_]) -> Iterator[Trait]:
    """The category whose share differs most."""
    shares = {
        str(value): (float((values[inside] == value).mean()), float((values[~inside] == value).mean()))
        for value in sorted({*values.tolist()} - {None})
    }
    if not shares:
        return
    value, (ours, others) = max(shares.items(), key=lambda pair: (round(abs(pair[1][0] - pair[1][1]), 9), pair[1]))
    level = "mostly" if ours > others else "seldom"
    words = f"{level} {name} {value!r} ({ours:.0%}, elsewhere {others:.0%})"
    yield Trait(name=name, words=words, strength=round(abs(ours - others), 6), inside=ours, outside=others)


def _map(
    learner: Clusterer, table: pa.Table, predicted: Floats, random: np.random.Generator
) -> tuple[tuple[float, float], tuple[MapPoint, ...]]:
    """Rows on the first two principal components of what is clustered."""
    points = learner.points(table)
    chosen = np.arange(len(points))
    if len(points) > POINTS:
        chosen = np.sort(random.choice(len(points), POINTS, replace=False))
    centred = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred[chosen] if centred.shape[1] > 200 else centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(axis=1)].diagonal())[:, None]  # the largest is positive
    placed = centred[chosen] @ axes.T
    placed = np.hstack([placed, np.zeros((len(placed), 2 - placed.shape[1]))])
    shares = [*(sizes**2 / max((sizes**2).sum(), 1e-300)).tolist(), 0.0][:2]
    names = [segment_name(number) for number in predicted[chosen, 0]]
    return (round(shares[0], 6), round(shares[1], 6)), tuple(
        MapPoint(x=round(float(x), 3), y=round(float(y), 3), segment=name)
        for (x, y), name in zip(placed, names, strict=True)
    )
