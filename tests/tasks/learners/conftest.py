"""Small tables with what real ones have: gaps, rare and unseen categories, an empty and a constant column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.learners import Spec

FEATURES = ("strength", "colour", "noise", "constant", "empty", "place")


@dataclass(frozen=True)
class Rows:
    """A table with its label."""

    table: pa.Table
    label: np.ndarray[Any, np.dtype[np.int64]]


def make_rows(count: int, seed: int) -> Rows:
    """Rows whose label depends on `strength` and `colour`."""
    random = np.random.default_rng(seed)
    strength, noise = random.normal(size=count), random.normal(size=count)
    colour = random.integers(0, 4, count)
    label = (strength + 0.8 * (colour == 2) + random.normal(size=count) > 0.4).astype(np.int64)
    gaps = random.random(count) < 0.1
    columns = {
        "id": [f"row {n}" for n in range(count)],
        "strength": pa.array(strength, mask=gaps),
        "colour": pa.array(["red", "green", "blue", "grün"]).take(pa.array(colour)),
        "noise": noise,
        "constant": np.ones(count),
        "empty": pa.nulls(count, pa.float64()),
        "place": pa.array([f"p{n}" for n in random.integers(0, 40, count)], mask=gaps),
    }
    return Rows(pa.table(columns), label)


@pytest.fixture(scope="session")
def train_rows() -> Rows:
    return make_rows(400, seed=1)


@pytest.fixture(scope="session")
def seen_rows() -> Rows:
    """What follows the training rows: the validation window."""
    return make_rows(150, seed=2)


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., Spec]:
    """A spec of a kind for the features of these tables."""

    def make_spec(kind: str, **params: Any) -> Spec:
        return Spec("it", kind, FEATURES, frozenset({"colour", "place"}), params)

    return make_spec
