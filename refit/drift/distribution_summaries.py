"""Summarises the reference and current distribution of a column in the few numbers that a chart needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from feature_store.sketches import Categories, Numbers, Sketch
from refit.schemas.drift_decision import CategoryDistribution, Distribution, NumberDistribution, Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["distributions"]

BARS = 40  # for a number
NAMES = 8  # for a category
_TAIL = 0.005  # share of the rows at either end that the axis omits


def distributions(reference: Sketch, current: Sketch, columns: Iterable[str]) -> list[Distribution]:
    """Shares of rows per bar of a number and per frequent name of a category, then and now.

    Args:
        reference, current: counts under one layout.
        columns: the columns to summarise, in this order.
    """
    before, now = reference.totals(), current.totals()
    summaries: list[Distribution] = []
    for name in columns:
        column, counts = reference.layout.columns[name], np.array([before[name], now[name]], float)
        values, rows = counts[:, :-1], counts.sum(1)
        shares = values / np.maximum(values.sum(1), 1)[:, None]
        both = (int(rows[0]), int(rows[1]))
        missing = _pair(counts[:, -1] / np.maximum(rows, 1))
        if isinstance(column, Numbers):
            summaries.append(_bars(name, column, shares, both, missing))
        else:
            summaries.append(_names(name, column, shares, both, missing))
    return summaries


def _bars(name: str, column: Numbers, shares: Floats, rows: tuple[int, int], missing: Pair) -> NumberDistribution:
    """A number's values in bars of equal width, or in its own bins if these have about equal widths."""
    summary = NumberDistribution(
        column=name, kind=column.kind, rows=rows, missing=missing, edges=(), then=(), now=(), beyond=(0.0, 0.0)
    )
    if not column.lows:
        return summary
    tiles = _tiles(column)
    inner = np.cumsum(shares[:, :-1], axis=1)  # share up to each tile's edge, including values below the first one
    middle = inner.mean(0)
    low = max(0, int(np.searchsorted(middle, _TAIL, side="right")) - 1)
    high = min(len(tiles) - 1, int(np.searchsorted(middle, 1 - _TAIL)))
    own = tiles[low : max(high, low + 1) + 1]
    widths = np.diff(own)
    edges = own if widths.max() < 2 * widths.min() else np.linspace(own[0], own[-1], BARS + 1)
    then, now = (np.diff(np.interp(edges, tiles, side)) for side in inner)
    beyond = np.maximum(shares.sum(1) - [then.sum(), now.sum()], 0.0)
    rounded = tuple(float(f"{edge:.6g}") for edge in edges)
    shape = {"edges": rounded, "then": _rounded(then), "now": _rounded(now), "beyond": _pair(beyond)}
    return summary.model_copy(update=shape)


def _tiles(column: Numbers) -> Floats:
    """Edges midway between neighbouring bins; the outer bins are as wide as the distance to their neighbour.

    >>> _tiles(Numbers((0.0, 1.0, 2.0), (0.0, 1.0, 2.0), 1.0, 1.0)).tolist()
    [-0.5, 0.5, 1.5, 2.5]
    """
    lows, highs = np.array(column.lows), np.array(column.highs)
    between = (highs[:-1] + lows[1:]) / 2
    first, last = (lows[1] - highs[0], lows[-1] - highs[-2]) if len(lows) > 1 else (1.0, 1.0)
    return np.concatenate([[lows[0] - first / 2], between, [highs[-1] + last / 2]])


def _names(name: str, column: Categories, shares: Floats, rows: tuple[int, int], missing: Pair) -> CategoryDistribution:
    """Shares of the names that are frequent then or now, in the reference's order, and of all others."""
    named = shares[:, : len(column.names)]
    most = np.sort(np.argsort(-named.max(0), kind="stable")[:NAMES])
    chosen = named[:, most]
    other = shares[:, :-1].sum(1) - chosen.sum(1)
    return CategoryDistribution(
        column=name,
        kind=column.kind,
        rows=rows,
        names=tuple(column.names[index] for index in most),
        then=_rounded(chosen[0]),
        now=_rounded(chosen[1]),
        other=_pair(np.maximum(other, 0.0)),
        unseen=_pair(shares[:, -1]),
        missing=missing,
    )


def _pair(shares: Floats) -> Pair:
    then, now = _rounded(shares)
    return then, now


def _rounded(shares: Floats) -> tuple[float, ...]:
    """Round shares to a millionth, which is finer than a chart shows and short in JSON."""
    return tuple(round(float(share), 6) for share in shares)
