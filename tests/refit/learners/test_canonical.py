"""The digest of a model tells every difference in its parts, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from refit.errors import RefitError
from refit.learners.canonical import digest


def test_one_bit_of_one_coefficient_changes_the_digest() -> None:
    model = LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    before = digest(model)
    assert digest(model) == before
    model.coef_ = np.nextafter(model.coef_, np.inf)
    assert digest(model) != before


def test_one_value_of_one_tree_changes_the_digest() -> None:
    random = np.random.default_rng(0)
    rows = random.random((200, 3))
    model = HistGradientBoostingClassifier(max_iter=3, early_stopping=False).fit(rows, rows[:, 0] > 0.5)
    before = digest(model)
    nodes = model._predictors[1][0].nodes
    nodes["value"][-1] = np.nextafter(nodes["value"][-1], np.inf)
    assert digest(model) != before


def test_padding_between_the_fields_of_a_record_is_not_looked_at() -> None:
    padded = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8], "itemsize": 16})
    one, other = np.zeros(2, padded), np.frombuffer(bytearray(b"\xff" * 32), padded).copy()
    other["a"], other["b"] = 0, 0.0
    assert one.tobytes() != other.tobytes()
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        ([1, 2], (1, 2)),
        ([[1], 2], [1, [2]]),
        ({"a": None}, {}),
        (0.0, -0.0),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (LogisticRegression(C=1.0), LogisticRegression(C=2.0)),
    ],
)
def test_different_things_have_different_digests(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_order_of_keys_sharing_and_memory_layout_do_not_matter() -> None:
    part = [1.0]
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({3, 1, 2}) == digest({2, 3, 1})
    assert digest([part, part]) == digest([[1.0], [1.0]])
    array = np.arange(6.0).reshape(2, 3)
    assert digest(array) == digest(np.asfortranarray(array))
    sparse = scipy.sparse.csr_matrix(array)
    checked = sparse.copy()
    assert checked.has_canonical_format  # asking leaves a note in the matrix
    assert digest(sparse) == digest(checked)


def test_a_thing_within_itself_has_a_digest() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    assert digest(ring) == digest(ring)
    assert digest(ring) != digest([1])


def test_what_cannot_be_copied_cannot_be_described() -> None:
    with pytest.raises(RefitError, match="a fitted generator cannot be described"):
        digest(n for n in range(3))
