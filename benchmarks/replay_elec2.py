"""Replays two and a half years of electricity prices by week: does the drift trigger earn its trainings?

    python benchmarks/replay_elec2.py [--data FILE] [--random 20] [--folder DIR]

ELEC2 (Harries 1999; 45,312 half-hours of the New South Wales market, 1996-05-07 to 1998-12-05) is not part of this
repository: FILE is its CSV with the columns period, nswprice, nswdemand, vicprice, vicdemand, transfer and class, and
defaults to `elec2/elec.csv` under REFIT_SHARED_DATA. The rows become a project by `refit init`, the replay is `refit
replay` itself. It prints accuracy by policy, the share of the trainings of `always`, and random schedules of the same
budget.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import yaml

FIRST, STEP = datetime.fromisoformat("1996-05-07T00:00"), timedelta(minutes=30)
SETTINGS = {
    "ingest": {"period": "week"},
    "featurize": {"windows": {"test": 3, "validation": 5, "training": 26}},
    "evaluate": {
        "permutation_rows": 0,
        "gate": {
            "mode": "non_inferiority",
            "metric": "roc_auc",
            "max_loss": 0.03,
            "min_gain_over_baseline": 0.0,
            "min_rows": 500,
            "min_clusters": 20,
        },
    },
    "drift": {"window": "week", "min_labelled_rows": 200, "min_new_labelled_rows": 200, "monthly_budget": 4},
}
LEARNERS = [
    {"name": "base_rate", "kind": "baseline"},
    {
        "name": "boosting",
        "kind": "sklearn.ensemble.HistGradientBoostingClassifier",
        "params": {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15},
    },
]


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(arguments.folder or Path(scratch) / "elec2")
        if not (project / "params.yaml").is_file():
            make_project(project, Path(arguments.data), Path(scratch))
        refit = [sys.executable, "-m", "flows", "replay", "--project", str(project), "--json", "--every", "week"]
        span = ["--from", "1996-11-11", "--to", "1998-11-30", "--metric", "accuracy"]
        wanted = ["--policies", "never,schedule,performance,always", "--random", str(arguments.random)]
        done = subprocess.run([*refit, *span, *wanted], stdout=subprocess.PIPE, check=True, text=True)
    report(json.loads(done.stdout.splitlines()[-1]))


def _arguments() -> argparse.Namespace:
    shared = Path(os.environ.get("REFIT_SHARED_DATA", "../shared/data"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=shared / "elec2" / "elec.csv")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--folder", help="keep the project there, so that a second replay trains nothing")
    return parser.parse_args()


def make_project(project: Path, data: Path, scratch: Path) -> None:
    """A project of the half-hours, each with the time that its place gives it."""
    table = scratch / "elec.csv"
    with data.open() as source, table.open("w", newline="") as target:
        rows = csv.DictReader(source)
        writer = csv.writer(target)
        columns = ["nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
        writer.writerow(["half_hour", "time", "of_day", *columns, "up"])
        for place, row in enumerate(rows):
            up = {"0": 0, "1": 1, "DOWN": 0, "UP": 1}[row["class"].strip()]
            time = (FIRST + place * STEP).isoformat(sep=" ")
            writer.writerow([place, time, place % 48, *(row[column] for column in columns), up])
    init = [sys.executable, "-m", "flows", "init", str(project), "--csv", str(table), "--time", "time"]
    subprocess.run([*init, "--label", "up", "--key", "half_hour"], check=True, stdout=subprocess.DEVNULL)
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section, values in SETTINGS.items():
        params[section] = {**params.get(section, {}), **values}
    params["featurize"]["label"]["delay_hours"] = 0
    params["train"]["learners"] = LEARNERS
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def report(told: dict) -> None:
    policies = told["policies"]
    most = policies["always"]["trainings"]
    print("| policy | accuracy | trainings | of `always` | promoted | over random schedules of as many (95 %) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, each in policies.items():
        chance = each.get("random")
        gain = chance and chance["gain"]
        shown = f"{gain['value']:+.4f} ({gain['lower']:+.4f} to {gain['upper']:+.4f})" if gain else "–"
        print(
            f"| {name} | {each['score']:.4f} | {each['trainings']} | {each['trainings'] / most:.0%} "
            f"| {each['promotions']} | {shown} |"
        )
    print(f"| no change | {told['no_change']:.4f} | 0 | | | |")
    print(f"{told['seconds']:.0f} s: {told['parts']}")


if __name__ == "__main__":
    main()
