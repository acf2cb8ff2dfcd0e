"""What forecasts of many series cost, from a table to a judged model: `refit init` and the six stages.

    python benchmarks/many_series.py [--series 414] [--hours 850] [--horizons 1-48]

The generated table has the size of M4 Hourly (414 series, 48 hours ahead): daily and weekly cycles of each series'
own shape, a slow trend and noise that lasts. Each command runs in a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv
from scale import STAGES, Cost, measured
from wide_tables import measured as command

from refit.files.artifacts import DECISION
from refit.schemas.gate_decision import Decision


def write_table(path: Path, series: int, hours: int) -> None:
    """Write `series * hours` rows (series, time, value)."""
    random = np.random.default_rng(0)
    hour = np.arange(hours)
    start = np.datetime64("2024-01-01T00", "s")
    names, times, values = [], [], []
    for n in range(series):
        day = sum(random.normal() / k * np.sin(2 * np.pi * (k * hour / 24 + random.random())) for k in (1, 2, 3))
        week = 0.4 * random.normal() * np.sin(2 * np.pi * (hour / 168 + random.random()))
        lasting = np.zeros(hours)
        shocks = random.normal(0, 0.15, hours)
        for t in range(1, hours):
            lasting[t] = 0.8 * lasting[t - 1] + shocks[t]
        level = 10 ** random.uniform(1, 4)
        names += [f"H{n + 1}"] * hours
        times.append(start + hour * np.timedelta64(3600, "s"))
        values.append(np.round(level * (4 + day + week + lasting + 0.0005 * hour), 2))
    columns = {"series": names, "time": np.concatenate(times), "value": np.concatenate(values)}
    csv.write_csv(pa.table(columns), path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=414)
    parser.add_argument("--hours", type=int, default=850)
    parser.add_argument("--horizons", default="1-48")
    parser.add_argument("--stop-above-gb", type=float, default=12, help="stop a stage that needs more memory")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        table, project = Path(folder) / "series.csv", Path(folder) / "project"
        write_table(table, given.series, given.hours)
        roles = ("--time", "time", "--label", "value", "--key", "series", "--horizons", given.horizons)
        seconds, memory = command("init", str(project), "--csv", str(table), *roles)
        print(f"{'command':<10} {'CPU s':>7} {'wall s':>7} {'MB':>6}")
        print(f"{'init':<10} {seconds:>7.1f} {'':>7} {memory:>6.0f}", flush=True)
        costs: list[Cost] = []
        for stage in STAGES:
            cost = measured(stage, project, stop_above_gb=given.stop_above_gb)
            costs.append(cost)
            print(f"{stage:<10} {cost.cpu_seconds:>7.1f} {cost.seconds:>7.1f} {cost.anonymous_mb:>6.0f}", flush=True)
        total = seconds + sum(cost.cpu_seconds for cost in costs)
        print(f"{'all':<10} {total:>7.1f} {sum(cost.seconds for cost in costs):>7.1f}")
        decision = Decision.read(project / DECISION)
        print("promoted" if decision.promote else f"refused: {decision.reasons}")


if __name__ == "__main__":
    main()
