"""What each feature looked like in the training window, small enough to keep with the model, to tell drift by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = 101
BINS = 20
CATEGORIES = 100


def profile(table: pa.Table, features: Sequence[str]) -> dict[str, Any]:
    """For each feature over the rows whose `window` is `train`: share missing, and the shape of the rest.

    Numbers: mean, std (of a sample), min, max, 101 quantiles, a histogram of 20 equal bins with its 21 edges.
    Categories: counts of the 100 most frequent (ties by name) and the number of rows in others. All missing: the shape
    is null.
    """
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["window"], "train"))
    return {
        "rows": rows.num_rows,
        "features": {
            name: _categories(rows[name]) if str(rows[name].type) == "string" else _numbers(rows[name])
            for name in features
        },
    }


def _numbers(column: pa.ChunkedArray) -> dict[str, Any]:
    import numpy as np

    values = np.sort(column.drop_null().to_numpy().astype("float64"))
    described: dict[str, Any] = {"kind": "number", "missing": _missing(column)}
    if not len(values):
        return described | dict.fromkeys(("mean", "std", "min", "max", "quantiles", "histogram"))
    low, high = float(values[0]), float(values[-1])
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low, high])
    counts = np.diff(np.concatenate([[0], np.searchsorted(values, edges[1:-1], side="left"), [len(values)]]))
    places = np.linspace(0, len(values) - 1, QUANTILES)
    return described | {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "min": low,
        "max": high,
        "quantiles": [float(value) for value in np.interp(places, np.arange(len(values)), values)],
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
    }


def _categories(column: pa.ChunkedArray) -> dict[str, Any]:
    counted = column.drop_null().value_counts().to_pylist()
    ordered = sorted(((item["counts"], item["values"]) for item in counted), key=lambda pair: (-pair[0], pair[1]))
    return {
        "kind": "category",
        "missing": _missing(column),
        "distinct": len(ordered),
        "counts": {name: count for count, name in ordered[:CATEGORIES]},
        "others": sum(count for count, _ in ordered[CATEGORIES:]),
    }


def _missing(column: pa.ChunkedArray) -> float:
    return float(column.null_count / len(column)) if len(column) else 0.0
