"""How the rows of a table become tensors: what does not vary is not scaled, and images need little more memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import torch

from refit.config.column_types import ArrayColumn
from refit.learners import Spec
from refit.learners.networks.inputs import Inputs, Preparation, mean_and_deviation
from refit.learners.networks.params import ArchitectureParams

ONE_TENTH = [0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (ONE_TENTH, np.float64, 1.0),
        ([0.1, 0.3 - 0.2, 0.1], np.float64, 1.0),
        ([0.1, np.nextafter(np.float32(0.1), np.float32(1.0)), 0.1], np.float32, 1.0),
        ([np.nan, np.nan, np.nan], np.float64, 1.0),
        ([1e9, 1e9 + 3, 1e9 + 6], np.float64, 6**0.5),
        ([0.1, 0.1 + 1e-12, 0.1 + 2e-12], np.float64, (2 / 3) ** 0.5 * 1e-12),
    ],
    ids=["equal", "equal but for rounding", "equal but for rounding in single precision", "missing", "far", "close"],
)
def test_the_deviation_is_1_where_values_vary_by_no_more_than_their_rounding(
    values: list[float], kind: type, expected: float
) -> None:
    _, deviation = mean_and_deviation(np.array(values, kind)[:, None])
    assert float(deviation[0]) == pytest.approx(expected, rel=1e-3)


def test_a_million_equal_values_do_not_vary_whatever_their_sum_is_rounded_to() -> None:
    mean, deviation = mean_and_deviation(np.full((1_000_000, 2), 0.1))
    assert deviation.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(mean, 0.1)


@pytest.mark.parametrize("column", ["number", "vector"])
def test_another_value_than_the_only_one_of_the_training_rows_is_as_far_from_it_as_it_is(column: str) -> None:
    arrays = {"vector": ArrayColumn(kind="vector", shape=(2,))} if column == "vector" else {}
    cells = [[value, value] for value in ONE_TENTH] if arrays else ONE_TENTH
    spec = Spec("it", "mlp", (column,), arrays=arrays)
    prepared = Preparation.learn(spec, pa.table({column: pa.array(cells)}), ArchitectureParams())
    read = prepared.inputs(pa.table({column: pa.array([[0.2, 0.2]] if arrays else [0.2])}))
    numbers = read.vectors["vector"] if arrays else read.numbers
    assert float(numbers[0, 0]) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.slow
def test_the_means_of_large_images_need_no_more_memory_than_those_of_small_ones() -> None:
    rows, size = 60, 256 * 256 * 3
    pixels = np.random.default_rng(0).integers(0, 256, (rows, size), np.uint8)
    table = pa.table(
        {"picture": pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), rows, [None, pa.py_buffer(pixels)])}
    )
    table = table.cast(pa.schema({"picture": pa.binary()}))
    spec = Spec("it", "cnn", ("picture",), arrays={"picture": ArrayColumn(kind="image", shape=(256, 256, 3))})
    Preparation.learn(spec, table.slice(0, 1), ArchitectureParams())  # so that what it imports is not counted
    tracemalloc.start()
    prepared = Preparation.learn(spec, table, ArchitectureParams())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * pixels.nbytes
    channels = pixels.reshape(-1, 3) / 255
    mean, deviation = prepared.moments["picture"]
    np.testing.assert_allclose(mean, channels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, channels.std(axis=0), rtol=1e-9)


def test_tensors_are_given_as_they_lie_in_memory_so_that_hashing_them_copies_no_image() -> None:
    pixels = torch.zeros(5, 4, 6, 3, dtype=torch.uint8)
    rows = Inputs(torch.zeros(5, 1).long(), torch.zeros(5, 2), images={"picture": pixels.permute(0, 3, 1, 2)})
    given = rows.tensors()
    assert len(given) == 3
    assert all(each.is_contiguous() for each in given)
    assert pixels.data_ptr() in {each.data_ptr() for each in given}
