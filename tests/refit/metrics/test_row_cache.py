"""What is computed once for the same rows keeps no rows."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from refit.metrics.consensus import agreed
from refit.metrics.mass_volume import ReferencePoints
from refit.metrics.row_cache import LAST, cached_by_rows


def matrix(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def test_equal_rows_are_computed_once_and_the_oldest_are_forgotten() -> None:
    calls: list[float] = []

    def compute(rows: np.ndarray, seed: int) -> float:
        calls.append(rows[0, 0])
        return float(rows.mean())

    cached = cached_by_rows(compute)
    assert cached(matrix(3, 2, 0), 0) == cached(matrix(3, 2, 0), 0)
    assert len(calls) == 1
    cached(matrix(3, 2, 0), 1)
    assert len(calls) == 2, "another seed"
    for seed in range(1, LAST + 1):
        cached(matrix(3, 2, seed), 0)
    cached(matrix(3, 2, 0), 0)
    assert len(calls) == LAST + 3


def held() -> int:
    """Bytes that are traced, without garbage."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.slow
def test_the_measures_of_detectors_keep_no_rows() -> None:
    agreed(matrix(30, 40, 0))  # imports what it needs
    tracemalloc.start()
    before = held()
    for seed in range(1, 4):
        assert agreed(matrix(400, 40, seed)) is agreed(matrix(400, 40, seed))
    agreement = held()
    points = ReferencePoints.of(matrix(20_000, 2, 0))
    assert points is ReferencePoints.of(matrix(20_000, 2, 0))
    with_points = held()
    tracemalloc.stop()
    assert points is not None
    assert agreement - before < 3 * 400 * 40 * 8 / 2, "half of the rows"
    assert with_points - agreement < points.points.nbytes + points.log_weights.nbytes + 20_000 * 2 * 8 / 2
