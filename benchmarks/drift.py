"""A million rows held against a million, 16 numbers and 4 categories: sketches and effects, and scipy's exact distance.

    python benchmarks/drift.py [--rows N] [--rounds N] [--growth]

Measured are the layout, the counts of both sides by day and every effect, from Parquet files and from tables in memory,
after imports, on 2 threads. With `--growth` a process of its own for each number of rows shows how time and memory
grow: the exponent of time, and peak memory next to that of a process that has only imported what is needed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute  # imported here, not while the clock runs
import pyarrow.parquet as pq
from scipy.stats import wasserstein_distance

from feature_store.offline import configure
from feature_store.sketches import count, make_layout
from refit.drift.effect_sizes import measure

NUMBERS = [f"x{number}" for number in range(16)]
CATEGORIES = [f"c{number}" for number in range(4)]
BUDGET = 1.7  # seconds


def connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 2})
    configure(connection)
    return connection


def write(path: Path, rows: int, first_day: str, shift: float, seed: int) -> None:
    """90 days of 12 normal and 4 skewed numbers and of 5, 50, 500 and 5,000 names; a million rows at a time."""
    random = np.random.default_rng(seed)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, 1_000_000):
        place = np.arange(start, min(start + 1_000_000, rows))
        columns: dict[str, Any] = {"day": np.datetime64(first_day) + place * 90 // rows}
        for number, name in enumerate(NUMBERS):
            normal = random.normal(shift, 1, len(place))
            columns[name] = np.exp(normal) if number >= 12 else normal
        for number, name in enumerate(CATEGORIES):
            names = pa.array([f"name {each}" for each in range(5 * 10**number)])
            columns[name] = names.take(pa.array(random.integers(0, len(names), len(place))))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=1 << 17)
    if writer:
        writer.close()


def compare(connection: duckdb.DuckDBPyConnection, reference: str, current: str) -> dict[str, Any]:
    """Everything that drift of inputs needs of two relations, but for the calibration."""
    layout = make_layout(connection, reference, NUMBERS, CATEGORIES)
    before, now = (count(connection, relation, layout, "day").totals() for relation in (reference, current))
    return {name: measure(column, before[name], now[name]) for name, column in layout.columns.items()}


def exact(connection: duckdb.DuckDBPyConnection, reference: str, current: str) -> list[float]:
    """scipy's Wasserstein distance of the numbers."""
    before, now = (
        connection.sql(f"select {', '.join(NUMBERS)} from {relation}").fetchnumpy() for relation in (reference, current)
    )
    return [wasserstein_distance(before[name], now[name]) / before[name].std() for name in NUMBERS]


def timed(function: Callable[..., Any], *given: Any) -> tuple[tuple[float, float], Any]:
    """Wall-clock and processor seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*given)
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def peak_mb() -> float:
    """This process's own peak memory: `ru_maxrss` would start with that of the process that made it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def side_by_side(folder: Path, rows: int, rounds: int) -> None:
    files = [f"'{folder / name}.parquet'" for name in ("reference", "current")]
    connection = connect()
    for name, file in zip(("reference", "current"), files, strict=True):
        connection.execute(f"create table {name} as select * from {file}")
    ways: dict[str, Callable[[], Any]] = {
        "sketches, Parquet": lambda: compare(connection, *files),
        "sketches, in memory": lambda: compare(connection, "reference", "current"),
        "scipy's Wasserstein alone": lambda: exact(connection, "reference", "current"),
    }
    print(f"{rows:,} against {rows:,} rows, 20 columns, median of {rounds} (scipy: one); budget {BUDGET} s")
    found = {}
    for name, way in ways.items():
        spent = []
        for _ in range(1 if "scipy" in name else rounds):
            seconds, found[name] = timed(way)
            spent.append(seconds)
        wall, cpu = (statistics.median(each) for each in zip(*spent, strict=True))
        print(f"{name:26} {wall:6.2f} s   {cpu:6.2f} s of processor")
    binned = [float(found["sketches, in memory"][name]["wasserstein"].size) for name in NUMBERS]
    apart = max(abs(np.array(binned) / np.array(found["scipy's Wasserstein alone"]) - 1))
    print(f"Wasserstein distance from bins is within {apart:.1%} of scipy's")


def growth(folder: Path, sizes: list[int]) -> None:
    """Time and peak memory from Parquet, each size in a cold process of its own."""
    idle = subprocess.run([sys.executable, __file__, "--only", "-"], capture_output=True, text=True, check=True)
    print(f"peak memory after imports {float(idle.stdout.split()[1]):.0f} MB")
    times = []
    for rows in sizes:
        place = folder / str(rows)
        place.mkdir()
        fill(place, rows)
        done = subprocess.run([sys.executable, __file__, "--only", place], capture_output=True, text=True, check=True)
        cpu, peak = map(float, done.stdout.split())
        times.append(cpu)
        print(f"{rows:>12,} rows a side: {cpu:7.2f} s of processor, peak memory {peak:5.0f} MB")
    exponent = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
    print(f"time grows with rows to the power of {exponent:.2f} (budget 1.05)")


def fill(folder: Path, rows: int) -> None:
    write(folder / "reference.parquet", rows, "2020-01-01", 0.0, seed=0)
    write(folder / "current.parquet", rows, "2020-03-31", 0.1, seed=1)


def only(place: str) -> None:
    """One comparison and nothing else: prints seconds of processor, and peak memory."""
    spent = (0.0, 0.0)
    if place != "-":
        files = [f"'{Path(place) / name}.parquet'" for name in ("reference", "current")]
        with connect() as connection:
            spent, _ = timed(compare, connection, *files)
    print(spent[1], peak_mb())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        only(asked.only)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, asked.rows)
        side_by_side(folder, asked.rows, asked.rounds)
        if asked.growth:
            growth(folder, [asked.rows, 10 * asked.rows])


if __name__ == "__main__":
    main()
