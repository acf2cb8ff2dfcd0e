"""A classifier tells apart what no column shows by itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

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


def embeddings(count: int, shift: float, seed: int) -> pa.Table:
    """A column and an embedding of it, of which one number is shifted."""
    random = np.random.default_rng(seed)
    x, first, second = random.normal(size=(3, count))
    return pa.table({"x": x, "image.embedding.0": first, "image.embedding.1": second + shift})


@pytest.mark.slow
def test_without_windows_embeddings_are_judged_as_if_rows_were_independent() -> None:
    days = np.repeat(np.datetime64("2020-01-01"), 400)
    p = []
    for seed in range(60):
        same = separate(embeddings(400, 0, 2 * seed), embeddings(400, 0, 2 * seed + 1), days, 7)
        assert same is not None
        assert (same.p, same.usual) == (None, ())
        p.append(same.p_exchangeable)
    assert sum(each < 0.05 for each in p if each is not None) <= 6  # of 60: by a chance of 5 % more in 3 of 100 runs
    assert 0.3 < np.mean([each for each in p if each is not None]) < 0.7
    moved = separate(embeddings(400, 0.8, 0), embeddings(400, 0, 1), days, 7)
    assert moved is not None
    assert moved.auc > 0.6
    assert moved.p_exchangeable is not None
    assert moved.p_exchangeable < 1e-6


def test_with_windows_or_without_embeddings_rows_are_not_taken_as_independent() -> None:
    plain = separate(rows(3000, 0.8, 0), rows(350, 0.5, 1), DAYS, 14, rows=300)
    windows = separate(embeddings(3000, 0, 0), embeddings(350, 0, 1), DAYS, 7, rows=300)
    assert plain is not None
    assert windows is not None
    assert plain.p_exchangeable is None
    assert windows.p_exchangeable is None
    assert windows.p is not None
    assert "p_exchangeable" not in plain.to_json()


def test_a_classifier_that_tells_every_window_of_the_reference_apart_cannot_be_judged() -> None:
    counting = np.arange(3350, dtype=np.float64)  # a column that is never the same again
    before, now = (
        rows(3350, 0.8, 0).append_column("count", pa.array(counting)).slice(*part) for part in ((0, 3000), (3000,))
    )
    found = separate(before, now, DAYS, 7, rows=500)
    assert found is not None
    assert found.auc > 0.95
    assert found.p is None
    assert "a counter or a date" in found.unjudged
