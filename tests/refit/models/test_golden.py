"""Golden predictions: numbers above 1 may differ by a share of themselves, as single precision does, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit import learners
from refit.errors import RefitError
from refit.learners import Spec
from refit.models.verification import GOLDEN, MODEL, PREDICTION, check_golden


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table, np.ndarray]:
    """A stored model of numbers around 50,000, with the rows and predictions to record."""
    folder = tmp_path_factory.mktemp("stored")
    x = np.linspace(-1, 1, 40)
    rows, label = pa.table({"x": x}), 50_000 + 1000 * x
    learner = learners.make(Spec("line", "sklearn.linear_model.Ridge", ("x",), task="regression", metric="rmse"))
    learner.fit(rows, label)
    (folder / MODEL).mkdir(parents=True)
    learner.save(folder / MODEL)
    return folder, rows, learner.predict(rows)


def recorded(stored: tuple[Path, pa.Table, np.ndarray], factor: float, row: int = 3) -> Path:
    folder, rows, predicted = stored
    values = predicted.copy()
    values[row] *= factor
    pq.write_table(rows.append_column(PREDICTION, pa.array(values)), folder / GOLDEN)
    return folder


def test_a_difference_in_the_last_digits_of_single_precision_passes(stored: tuple[Path, pa.Table, np.ndarray]) -> None:
    assert 0.01 < check_golden(recorded(stored, 1 + 5e-7), 1e-6, ()) < 0.05


@pytest.mark.parametrize("factor", [1 + 2e-6, 1 - 2e-6, float("nan")])
def test_a_larger_one_does_not(factor: float, stored: tuple[Path, pa.Table, np.ndarray]) -> None:
    with pytest.raises(RefitError, match=r"golden row 3: .* they may differ by (0\.049|nan)"):
        check_golden(recorded(stored, factor), 1e-6, ())
