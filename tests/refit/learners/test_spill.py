"""Large arrays in files and sparse matrices: what is learned from them, and that they need no memory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit.learners import Learner, Spec, make, sparse_rows, spill
from refit.learners.conformance.sample import Rows

BOOSTING, LOGISTIC = "sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"


@contextmanager
def everything_in_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch, spill.large_arrays_in(folder, above=0):
        patch.setattr(spill, "PART", 13)
        yield


def fitted(spec: Spec, train: Rows, seen: Rows) -> Learner:
    learner = make(spec)
    learner.fit(train.table, train.label, validation=(seen.table, seen.label))
    return learner


@pytest.mark.parametrize(("kind", "params"), [(BOOSTING, {"max_iter": 30}), (LOGISTIC, {})])
def test_a_model_is_the_same_whether_large_arrays_lie_in_files_or_in_memory(
    spec_of: Callable[..., Spec],
    train_rows: Rows,
    seen_rows: Rows,
    kind: str,
    params: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_memory = fitted(spec_of(kind, **params), train_rows, seen_rows)
    with everything_in_files(tmp_path, monkeypatch):
        in_files = fitted(spec_of(kind, **params), train_rows, seen_rows)
        predicted = in_files.predict(seen_rows.table)
    assert in_files.digest() == in_memory.digest()
    assert predicted.tolist() == in_memory.predict(seen_rows.table).tolist()
    assert list(tmp_path.iterdir()) == [], "files without a name vanish with their arrays"
    in_files.save(tmp_path)  # nothing of the preparation stays in the model


def test_bins_of_many_rows_are_made_from_the_same_rows(tmp_path: Path) -> None:
    rows, chance = 230_000, np.random.default_rng(0)  # scikit-learn draws 200,000
    numbers = chance.normal(size=rows)
    table = pa.table({"x": numbers, "name": pa.array(["a", "b", "c"]).take(pa.array(np.arange(rows) % 3))})
    spec = Spec("it", BOOSTING, ("x", "name"), frozenset({"name"}), {"max_iter": 2})
    label = (numbers + chance.normal(size=rows) > 0).astype(np.int64)
    in_memory, in_files = make(spec), make(spec)
    in_memory.fit(table, label)
    with spill.large_arrays_in(tmp_path, above=0):
        in_files.fit(table, label)
    assert in_files.digest() == in_memory.digest()


def test_a_linear_model_of_many_rows_is_fitted_to_a_sparse_matrix_and_hardly_differs(
    spec_of: Callable[..., Spec], train_rows: Rows, seen_rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = fitted(spec_of(LOGISTIC, tol=1e-8), train_rows, seen_rows)
    monkeypatch.setattr(sparse_rows, "DENSE_BYTES", 0)
    sparse = make(spec_of(LOGISTIC, tol=1e-8))
    report = sparse.fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
    np.testing.assert_allclose(sparse.predict(seen_rows.table), dense.predict(seen_rows.table), atol=1e-5)
    assert report.warnings[0] == sparse_rows.NOTE.format(len(train_rows))
    with everything_in_files(tmp_path, monkeypatch):
        assert fitted(spec_of(LOGISTIC, tol=1e-8), train_rows, seen_rows).digest() == sparse.digest()


def test_a_dense_model_has_no_such_warning(spec_of: Callable[..., Spec], train_rows: Rows, seen_rows: Rows) -> None:
    report = make(spec_of(LOGISTIC)).fit(
        train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label)
    )
    assert not any("dense" in warning for warning in report.warnings)


def test_a_table_in_a_file_holds_the_same_values(tmp_path: Path) -> None:
    table = pa.table({"n": range(100), "x": [None if n % 3 else n / 7 for n in range(100)], "name": ["a", "b"] * 50})
    with spill.large_arrays_in(tmp_path, above=0):
        before = pa.total_allocated_bytes()
        stored = spill.table_in_file(iter(table.to_batches(max_chunksize=30)), table.schema)
        assert pa.total_allocated_bytes() == before
    assert stored.equals(table)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with spill.large_arrays_in(tmp_path, above=100), pytest.raises(OSError, match="No space left"):
        spill.empty((1000, 2))


def test_arrays_stay_in_memory_outside_and_below_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", None)  # what a file would need
    with spill.large_arrays_in(tmp_path, above=800):
        assert spill.empty((100, 1)).flags.f_contiguous
    assert spill.empty((1000, 1)).shape == (1000, 1)
    assert not spill.is_large(10**12)


MEASURED = """
import sys, threading, time
from pathlib import Path
import numpy as np, pyarrow as pa
from refit.learners import Spec, make, sparse_rows, spill

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon:")).split()[1]) / 1024

ROWS, WIDTH = 400_000, 60
kind, params = sys.argv[2], {"max_iter": 3}
chance = np.random.default_rng(0)
names = tuple(f"x{n}" for n in range(WIDTH))
spec = Spec("it", kind, (*names, "name"), frozenset({"name"}), params)

def fit(rows):
    def batches():
        for first in range(0, rows, 50_000):
            size = min(50_000, rows - first)
            columns = {name: chance.normal(size=size) for name in names}
            yield pa.RecordBatch.from_pydict({**columns, "name": ["a", "b"] * (size // 2)})
    given = batches()
    first = next(given)
    table = spill.table_in_file((b for group in ([first], given) for b in group), first.schema)
    make(spec).fit(table, (np.arange(rows) // 3 % 2).astype(np.int64))

sparse_rows.DENSE_BYTES, sparse_rows.SCALED_BY, spill.PART = 1_000_000, 10_000, 8192
with spill.large_arrays_in(Path(sys.argv[1]), above=1_000_000):
    fit(50_000)  # what is imported counts for nothing
    before, most, done = anonymous(), 0.0, False
    def watch():
        global most
        while not done:
            most = max(most, anonymous())
            time.sleep(0.01)
    watcher = threading.Thread(target=watch)
    watcher.start()
    fit(ROWS)
    done = True
    watcher.join()
print(int(most - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize("kind", [BOOSTING, LOGISTIC])
def test_a_fit_needs_less_memory_than_its_matrix(tmp_path: Path, kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED, tmp_path, kind], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120, f"{done.stdout.strip()} MB for a matrix of 195 MB"
