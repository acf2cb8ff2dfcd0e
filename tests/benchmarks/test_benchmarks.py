"""Every benchmark starts and prints its table, small: a script that nothing runs breaks when a name moves."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = {  # the arguments, and what the table then shows
    "detector_choice": ("--sets 2 --rows 200", "| `agreement` | "),
    "concept_changes": ("--streams 1 --quiet 1", "| SEA | `performance` |"),
    "drift": ("--rows 20000 --rounds 1", "20,000 against 20,000 rows"),
    "drift_error_rates": ("--streams 1", "| sign of a coefficient, inputs unchanged |"),
    "embedding_drift": ("--rows 60 --repeats 2 --powers 2", "| inverted | 2 | "),
    "figures": ("--dates 2013-08-03", "| 2013-08-03 | 2013-07 | boosting |"),
    "gate_error_rates": ("--runs 2", "| 10 days (20 are needed) | 0 of 1"),
    "many_series": ("--series 4 --hours 1500 --horizons 1-3", "evaluate "),
    "network_loop": ("--rows 200 --rounds 1 --models mlp gru", "| mlp | "),
    "one_correction": ("--rows 1000", "1,000 rows in the table; the same bits: True"),
    "orchestration": ("--rounds 1", "| unchanged, embedded; six empty tasks |"),
    "point_in_time_join": ("--labels 1000 --events 5000 --rounds 1", "1,000 labels x 5,000 events"),
    "reference_features": ("--days 8 --rounds 1", "features of the year's flights"),
    "replay_elec2": ("--data {prices} --until 1996-12-02 --random 1", "| always |"),
    "scale": ("--copies 1 --months 4 --stages featurize", " featurize "),
    "wide_tables": ("--stages --columns 10 --rows 300", " evaluate "),
}
LONG = (
    "detector_choice",
    "concept_changes",
    "drift_error_rates",
    "figures",
    "gate_error_rates",
    "many_series",
    "network_loop",
    "one_correction",
    "orchestration",
    "replay_elec2",
    "scale",
    "wide_tables",
)
SLOW = ("concept_changes", "gate_error_rates", "network_loop", "replay_elec2")


def prints(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *arguments],
        cwd=BENCHMARKS.parent,
        env={key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"},  # set by refit in tests
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_prices(path: Path) -> None:
    """Half-hours from May to early December, in the layout of the public file."""
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "class"])
        for place in range(10_100):
            price = round(chance.random(), 6)
            writer.writerow([place % 48, price, *(0.5 for _ in range(4)), "UP" if price > chance.random() else "DOWN"])


def test_every_benchmark_runs_in_the_tests() -> None:
    assert set(SMALL) == {path.stem for path in BENCHMARKS.glob("[a-z]*.py")}, "name a small run of each in SMALL"


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in SMALL])
def test_a_benchmark_prints_its_table(name: str, tmp_path: Path) -> None:
    arguments, line = SMALL[name]
    if "{prices}" in arguments:
        write_prices(tmp_path / "prices.csv")
    assert line in prints(name, *arguments.format(prices=tmp_path / "prices.csv").split())


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in LONG])
def test_a_long_benchmark_starts(name: str) -> None:
    assert "usage:" in prints(name, "--help")
