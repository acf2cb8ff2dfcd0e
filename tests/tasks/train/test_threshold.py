"""The threshold by a share calls as many rows as the share is of them, however doubles round their product."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from refit.config.train import ThresholdParams
from tasks.train.calibration_and_threshold import threshold


@pytest.mark.parametrize("rows", [7, 100, 1000, 1234])
def test_a_share_of_rows_is_called_to_the_last_one(rows: int) -> None:
    p = np.linspace(0.001, 0.999, rows)
    label = np.zeros(rows, dtype=np.int64)
    for percent in range(1, 100):
        level = threshold(label, p, ThresholdParams(by="share", share=percent / 100))
        assert (p >= level).sum() == int(Fraction(percent, 100) * rows), percent
