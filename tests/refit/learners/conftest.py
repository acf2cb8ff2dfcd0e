"""The contract's small tables, for tests of what no rule says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from refit.learners import Spec
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, SEEN_ROWS, TRAIN_ROWS, Rows, sample


@pytest.fixture(scope="session")
def train_rows() -> Rows:
    return sample("binary", TRAIN_ROWS, seed=1)


@pytest.fixture(scope="session")
def seen_rows() -> Rows:
    """What follows the training rows: the validation window."""
    return sample("binary", SEEN_ROWS, seed=2)


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., Spec]:
    """A spec of a kind for the features of these tables."""

    def make_spec(kind: str, **params: Any) -> Spec:
        return Spec("it", kind, FEATURES, CATEGORICAL, params)

    return make_spec
