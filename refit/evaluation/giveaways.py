"""Detects label leakage: features that predict the label nearly perfectly, alone or as a sum of two or three.

Such a feature was usually recorded together with the label, or after it, and is not available at prediction time; or it
numbers rows that are sorted by the label. Each column is examined once, on a sample of rows: the cost is linear in
cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.plain_text import MISSING
from refit.problems.by_feature import bin_edges
from refit.schemas.feature_table import Giveaway

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ROWS, SUM_ROWS = 20_000, 2_000  # sampled for single features; for sums
BINS = 64  # of a number
SKILL, CERTAIN = 0.95, 0.99  # share of a constant guess's errors that one feature alone avoids: suspicious; the label
EXPLAINED, EXACT = 0.99, 0.9999  # share of the label's variance explained: by one feature; by a sum
PURE, COVERED, FEW = 0.98, 0.1, 20  # for a value that implies a class: its purity, share of the class, number of rows
MOST_VALUES = 50  # of a feature whose values are examined one by one
RARE = 4  # rows: texts with fewer are examined as one


COUNTS = "counts the rows: its order may be that of the labels"


def giveaways(table: pa.Table, numeric: Sequence[str], categorical: Sequence[str]) -> list[Giveaway]:
    """Find the features that leak the column `label` of a training table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = table.filter(pc.is_valid(table["label"]))
    result = [Giveaway(features=(name,), reason=COUNTS) for name in numeric if _counts_rows(table[name])]
    counted = {name for each in result for name in each.features}
    every = max(1, -(-len(table) // ROWS))
    some = table.take(pa.array(np.arange(0, len(table), every)))
    if len(some) < 2 * FEW:
        return result
    label = some["label"]
    if pa.types.is_floating(label.type):
        numbers = [name for name in numeric if name not in counted]
        return [*result, *_of_numbers(some, label.to_numpy(), numbers, categorical)]
    encoded = label.combine_chunks().dictionary_encode()
    classes, labels = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    for name in (*numeric, *categorical):
        if name not in counted and (found := _of_classes(some[name], labels, classes)):
            reason, is_label = found
            result.append(Giveaway(features=(name,), reason=reason, is_label=is_label))
    return result


def _counts_rows(values: pa.ChunkedArray) -> bool:
    """Whether numbers are distinct integers with almost no gaps."""
    if values.null_count or len(values) < FEW:
        return False
    numbers = values.to_numpy()
    if not 0.98 * len(numbers) <= numbers.max() - numbers.min() + 1 <= 1.05 * len(numbers):
        return False
    return bool((numbers == np.floor(numbers)).all()) and len(np.unique(numbers)) == len(numbers)


def _codes(values: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """Code each value, rare texts together, many numbers in bins; return the codes and, of few values, the values."""
    import pyarrow as pa

    if pa.types.is_string(values.type):
        encoded = values.combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        codes = encoded.indices.fill_null(len(names)).to_numpy().astype(np.int64)
        if len(names) <= MOST_VALUES:
            return codes, [*names, None]
        is_rare = np.bincount(codes, minlength=len(names) + 1) < RARE
        is_rare[-1] = False  # a missing one is no rare text, as where a reason is given for each label of 1
        return np.where(is_rare[codes], len(names) + 1, codes), []
    numbers = values.to_numpy().astype(float)
    there = np.isfinite(numbers)
    distinct = np.unique(numbers[there])
    if len(distinct) <= MOST_VALUES:
        codes = np.searchsorted(distinct, numbers)
        return np.where(there, codes, len(distinct)), [*distinct.tolist(), None]
    edges = bin_edges(numbers[there], BINS)
    return np.where(there, np.searchsorted(edges, numbers, side="right"), len(edges) + 1), []


def _of_classes(values: pa.ChunkedArray, labels: NDArray[np.int64], classes: Sequence[Any]) -> tuple[str, bool] | None:
    """The reason why a feature leaks the classes, and whether it tells nearly all of them; None if it does not."""
    codes, names = _codes(values)
    size, learned = int(codes.max()) + 1, np.arange(len(codes)) % 2 == 0
    counts = np.bincount(codes * len(classes) + labels, minlength=size * len(classes)).reshape(size, len(classes))
    some = codes[learned] * len(classes) + labels[learned]
    seen = np.bincount(some, minlength=size * len(classes)).reshape(size, len(classes))
    usual = seen.sum(axis=0).argmax()
    guess = np.where(seen.sum(axis=1) > 0, seen.argmax(axis=1), usual)
    missed = int((labels[~learned] != usual).sum())
    errors = int((labels[~learned] != guess[codes[~learned]]).sum())
    if missed >= FEW // 2 and errors <= (1 - SKILL) * missed:
        reason = f"alone tells {1 - errors / (~learned).sum():.1%} of the labels right"
        return reason, errors <= (1 - CERTAIN) * missed
    if not 1 < len(names) <= MOST_VALUES + 1:
        return None
    total = counts.sum(axis=0)
    for code in range(size):
        rows, most = counts[code].sum(), int(counts[code].argmax())
        if rows < FEW or total[most] > len(labels) / 2 or counts[code, most] < COVERED * total[most]:
            continue
        if counts[code, most] >= PURE * rows:
            shown = MISSING if names[code] is None else _shown(names[code])
            reason = f"where it is {shown}, the label is {classes[most]} in {counts[code, most]:,} of {rows:,} rows"
            return reason, False
    return None


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _of_numbers(
    table: pa.Table, label: NDArray[np.float64], numbers: Sequence[str], texts: Sequence[str]
) -> Iterator[Giveaway]:
    learned = np.arange(len(label)) % 2 == 0
    spread = float(((label[~learned] - label[learned].mean()) ** 2).sum())
    if not spread:
        return
    alone = set()
    for name in (*numbers, *texts):
        codes, _ = _codes(table[name])
        seen, total = (np.bincount(codes[learned], weights, int(codes.max()) + 1) for weights in (None, label[learned]))
        mean = np.where(seen > 0, total / np.maximum(seen, 1), label[learned].mean())
        explained = 1 - float(((label[~learned] - mean[codes[~learned]]) ** 2).sum()) / spread
        if name in numbers:
            explained = max(explained, _straight(table[name].to_numpy(), label))
        if explained >= EXPLAINED:
            alone.add(name)
            reason = f"alone explains {min(explained, 0.9999):.2%} of the label's variance"
            yield Giveaway(features=(name,), reason=reason, is_label=explained >= EXACT)
    rest = [name for name in numbers if name not in alone and not table[name].null_count]
    some = np.arange(0, len(label), max(1, -(-len(label) // SUM_ROWS)))
    columns = np.array([table[name].to_numpy()[some] for name in rest], float)
    if len(rest) > 1 and (sum_of := _parts(columns, label[some])):
        yield Giveaway(features=tuple(rest[index] for index in sum_of), reason="together add up to the label")
        return
    positive = [index for index in range(len(rest)) if (columns[index] > 0).all()]
    if len(positive) > 1 and (label[some] > 0).all():
        product = _parts(np.log(columns[positive]), np.log(label[some]))
        if product:
            features = tuple(rest[positive[index]] for index in product)
            yield Giveaway(features=features, reason="multiply or divide to the label")


def _straight(values: NDArray[np.float64], label: NDArray[np.float64]) -> float:
    """Share of the label's variance that a linear fit explains."""
    there = np.isfinite(values)
    if there.sum() < 0.9 * len(values) or not values[there].std() or not label[there].std():
        return 0.0
    return float(np.corrcoef(values[there], label[there])[0, 1] ** 2)


def _parts(columns: NDArray[np.float64], label: NDArray[np.float64], most: int = 3) -> list[int]:
    """Two or three columns whose weighted sum is the label, by matching pursuit; empty if there are none."""
    moved = columns - columns.mean(axis=1, keepdims=True)
    length = np.linalg.norm(moved, axis=1)
    usable = length > 0
    left = label - label.mean()
    whole = float(left @ left)
    chosen: list[int] = []
    while whole and len(chosen) < most:
        fits = np.where(usable, np.abs(moved @ left) / np.where(usable, length, 1), -1)
        fits[chosen] = -1
        chosen.append(int(fits.argmax()))
        base = moved[chosen].T
        weights, *_ = np.linalg.lstsq(base, label - label.mean(), rcond=None)
        left = label - label.mean() - base @ weights
        if float(left @ left) <= (1 - EXACT) * whole:
            return sorted(chosen) if len(chosen) > 1 else []
    return []
