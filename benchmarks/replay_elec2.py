"""Replays two and a half years of electricity prices by week: does the drift trigger earn its trainings?

    python benchmarks/replay_elec2.py [--data FILE] [--random 20] [--until DAY] [--folder DIR]

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
from typing import Any

import yaml

COLUMNS = ("nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
FEATURES = '''"""Prices and demand as they are, against the day before, and how it went lately."""

from feature_store import Aggregate, Expression, FeatureSet, FeatureView, Latest, Spine

COLUMNS = ("of_day", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")

FEATURES = FeatureSet(
    spine=Spine(
        source="asked",
        key="half_hour",
        features=tuple(Expression(name=name, sql=name, description=name, missing="never") for name in COLUMNS),
    ),
    views=(
        FeatureView(
            name="lately",
            source="outcomes",
            entity=("market",),
            features=(
                Latest(name="last_up", column="up", description="the last known label", missing="at first"),
                Latest(name="last_price", column="nswprice", description="the price before", missing="at first"),
                Aggregate(name="ups", function="rate", column="up", windows=("6h", "1d", "7d"),
                          description="share of half-hours that went up", missing="at first"),
                Aggregate(name="mean_price", function="mean", column="nswprice", windows=("1d", "7d"), decimals=6,
                          description="mean price", missing="at first"),
            ),
        ),
    ),
    description="Does the price go up against its mean of the last day?",
)
'''
EVENTS = {
    "asked": {
        "available_at": "event_time",
        "columns": {name: name for name in ("half_hour", "market", "of_day", *COLUMNS)},
    },
    "outcomes": {
        "available_at": "event_time + interval 30 minute",
        "columns": {"half_hour": "half_hour", "market": "market", "nswprice": "nswprice", "up": "up"},
    },
}
POLICIES = "never,schedule,drift,performance,performance:breached=1:alpha=0.2,always"
FIRST, STEP = datetime.fromisoformat("1996-05-07T00:00"), timedelta(minutes=30)
SETTINGS: dict[str, dict[str, Any]] = {
    "ingest": {"period": "week"},
    "featurize": {"windows": {"test": 3, "validation": 5, "training": 26}},
    "evaluate": {
        "permutation_rows": 0,
        "gate": {
            "mode": "non_inferiority",
            "metric": "brier",
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
        refit = [sys.executable, "-m", "refit", "replay", "--project", str(project), "--json", "--every", "week"]
        span = ["--from", "1996-11-11", "--to", arguments.until, "--metric", "accuracy"]
        wanted = ["--policies", POLICIES, "--random", str(arguments.random)]
        done = subprocess.run([*refit, *span, *wanted], stdout=subprocess.PIPE, check=True, text=True)
    report(json.loads(done.stdout.splitlines()[-1]))


def _arguments() -> argparse.Namespace:
    shared = Path(os.environ.get("REFIT_SHARED_DATA", "../shared/data"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=shared / "elec2" / "elec.csv")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--until", default="1998-11-30", help="the last Monday")
    parser.add_argument("--folder", help="keep the project there, so that a second replay trains nothing")
    return parser.parse_args()


def make_project(project: Path, data: Path, scratch: Path) -> None:
    """A project of the half-hours, each with the time that its place gives it."""
    table = scratch / "elec.csv"
    with data.open() as source, table.open("w", newline="") as target:
        rows = csv.DictReader(source)
        writer = csv.writer(target)
        writer.writerow(["half_hour", "time", "market", "of_day", *COLUMNS, "up"])
        for place, row in enumerate(rows):
            up = {"0": 0, "1": 1, "DOWN": 0, "UP": 1}[row["class"].strip()]
            time = (FIRST + place * STEP).isoformat(sep=" ")
            writer.writerow([place, time, "nsw", place % 48, *(row[column] for column in COLUMNS), up])
    init = [sys.executable, "-m", "refit", "init", str(project), "--csv", str(table), "--time", "time"]
    subprocess.run([*init, "--label", "up", "--key", "half_hour"], check=True, stdout=subprocess.DEVNULL)
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section, values in SETTINGS.items():
        params[section] = {**params.get(section, {}), **values}
    params["ingest"]["sources"]["table"]["events"] = EVENTS
    params["featurize"] |= {
        "definitions": "features.py",
        "label": {"source": "outcomes", "column": "up", "delay_hours": 1},
    }
    (project / "features.py").write_text(FEATURES)
    params["train"]["learners"] = LEARNERS
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def report(told: dict[str, Any]) -> None:
    policies = told["policies"]
    most = policies["always"]["trainings"]
    print(
        "| policy | accuracy at .5 | at own threshold | trainings | of `always` | promoted | over random ones (95 %) |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, each in policies.items():
        chance = each.get("random")
        gain = chance and chance["gain"]
        shown = f"{gain['value']:+.4f} ({gain['lower']:+.4f} to {gain['upper']:+.4f})" if gain else "–"
        print(
            f"| {name} | {each['score']:.4f} | {each['at_own_threshold']:.4f} | {each['trainings']} "
            f"| {each['trainings'] / most:.0%} "
            f"| {each['promotions']} | {shown} |"
        )
    print(f"| no change | {told['no_change']:.4f} | | 0 | | | |")
    print(f"{told['seconds']:.0f} s: {told['parts']}")


if __name__ == "__main__":
    main()
