"""Rows without a key belong together, and to nothing else: one cluster, one group of folds, one slice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from refit.evaluation.slices import parts
from refit.metrics.clusters import Clusters
from tasks.train.folds import LabelledRows, _groups

NAN, NAT = float("nan"), np.datetime64("NaT")


@pytest.mark.parametrize(
    ("keys", "codes"),
    [
        (["a", None, "b", NAN, NAT, pd.NaT, pd.NA, "a"], [0, 2, 1, 2, 2, 2, 2, 0]),
        (np.array([None, NAN, pd.NaT, "x"], dtype=object), [1, 1, 1, 0]),
        ([None, "None", "nan", "NaT", NAN], [3, 1, 2, 0, 3]),
        (np.array([1.5, NAN, 1.5, NAN]), [0, 1, 0, 1]),
        (np.array(["2024-01-01", "NaT", "2024-01-01"], dtype="datetime64[D]"), [0, 1, 0]),
        ([2**53, 2**53 + 1, None], [0, 1, 2]),
        (np.array([2**63 - 1, 2**63 - 2]), [1, 0]),
        ([None, None], [0, 0]),
        ([], []),
        (["b", "a", "b"], [1, 0, 1]),
    ],
)
def test_missing_keys_make_one_cluster_and_no_text_is_missing(keys: Any, codes: list[int]) -> None:
    found = Clusters.of(keys)
    assert found.codes.tolist() == codes
    assert found.count == len(set(codes))


def test_rows_without_a_group_are_one_group_of_folds_and_not_that_of_the_text_none() -> None:
    table = pa.table({"shop": ["None", None, "a", None]})
    groups = _groups(LabelledRows(table, np.zeros(4)), "shop", "train.cross_validation")
    assert groups[1] == groups[3]
    assert len(set(groups.tolist())) == 3


def test_a_slice_of_rows_without_a_value_is_not_that_of_the_text_missing() -> None:
    found = dict(parts(pa.table({"shop": ["missing", None, "a"]}), "shop", params_key="evaluate.slices"))
    assert {name: rows.tolist() for name, rows in found.items()} == {"missing": [0], "no value": [1], "a": [2]}


def test_slices_by_integers_beyond_doubles_are_one_each() -> None:
    found = dict(parts(pa.table({"shop": [2**53, 2**53 + 1, None]}), "shop", params_key="evaluate.slices"))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        str(2**53): [0], str(2**53 + 1): [1], "missing": [2],
    }  # fmt: skip
