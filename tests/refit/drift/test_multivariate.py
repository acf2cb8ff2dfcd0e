"""A classifier tells apart what no column shows by itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from refit.drift.multivariate import separate


def rows(count: int, together: float, seed: int) -> pa.Table:
    """Two normal columns, correlated as said, and a text; a tenth of one is missing."""
    random = np.random.default_rng(seed)
    x, noise = random.normal(size=(2, count))
    y = together * x + (1 - together**2) ** 0.5 * noise
    return pa.table(
        {"x": x, "y": pa.array(y, mask=random.random(count) < 0.1), "name": random.choice(["a", "b"], count)}
    )


DAYS = np.datetime64("2020-01-01") + np.arange(3000) // 50  # 60 days of 50 rows


def test_rows_like_the_reference_are_told_from_it_by_chance_as_its_own_windows_are() -> None:
    found = separate(rows(3000, 0.8, 0), rows(350, 0.8, 1), DAYS, 7, rows=500)
    assert found is not None
    assert abs(found.auc - 0.5) < 0.1
    assert found.p is not None
    assert found.p > 0.05
    assert len(found.usual) == 9


def test_columns_that_no_longer_go_together_are_told_though_each_is_as_ever() -> None:
    found = separate(rows(3000, 0.8, 0), rows(350, -0.8, 1), DAYS, 7, rows=500)
    assert found is not None
    assert found.auc > 0.8
    assert found.p is not None
    assert found.p < 1e-4


def test_the_same_seed_gives_the_same_answer() -> None:
    one, again = (separate(rows(3000, 0.8, 0), rows(350, 0.5, 1), DAYS, 14, rows=300, seed=3) for _ in range(2))
    assert one == again
    assert one is not None
    assert one.p is None  # 60 days are four windows of 14


def test_a_few_rows_are_not_told_apart() -> None:
    assert separate(rows(3000, 0.8, 0), rows(29, 0.8, 1), DAYS, 7) is None
