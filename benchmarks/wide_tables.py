"""What a table costs by its number of columns: `refit init` and `refit run`, in CPU seconds and memory of a process.

python benchmarks/wide_tables.py               # 400, 1,000 and 1,500 columns of 1,500 rows
python benchmarks/wide_tables.py --stages --columns 20 40 --rows 300
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = ("ingest", "validate", "featurize", "train", "evaluate", "register")


def write_table(path: Path, rows: int, columns: int) -> None:
    """Ten months of noise, of which two columns decide the label."""
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "day", *(f"x{n}" for n in range(columns)), "y"])
        for n in range(rows):
            values = [round(chance.gauss(0, 1), 4) for _ in range(columns)]
            label = int(values[0] + values[1] + chance.gauss(0, 1) > 0)
            writer.writerow([n, f"2024-{1 + n * 10 // rows:02d}-{1 + n % 28:02d}", *values, label])


def measured(*arguments: str) -> tuple[float, float]:
    """CPU seconds and the most memory in MB of one `refit` command."""
    process = subprocess.Popen([sys.executable, "-m", "refit", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"refit {' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, nargs="+", default=[400, 1000, 1500])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--stages", action="store_true", help="each stage in a process of its own, instead of the run")
    given = parser.parse_args()
    print(f"{'columns':>8} {'command':<10} {'CPU s':>7} {'s per million cells':>20} {'MB':>6}")
    for columns in given.columns:
        with tempfile.TemporaryDirectory() as folder:
            table, project = Path(folder) / "wide.csv", str(Path(folder) / "project")
            write_table(table, given.rows, columns)
            roles = ("--csv", str(table), "--time", "day", "--label", "y", "--key", "id")
            commands: dict[str, tuple[str, ...]] = {"init": ("init", project, *roles)}
            if given.stages:
                commands |= {stage: ("stage", stage, "--project", project) for stage in STAGES}
            else:
                commands["run"] = ("run", "--project", project)
            for name, arguments in commands.items():
                seconds, memory = measured(*arguments)
                rate = seconds * 1e6 / (columns * given.rows)
                print(f"{columns:>8} {name:<10} {seconds:>7.1f} {rate:>20.1f} {memory:>6.0f}", flush=True)


if __name__ == "__main__":
    main()
