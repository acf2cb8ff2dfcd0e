"""The figures that README and docs quote of the reference project, made again by its own command.

Runs the project as it is written at its three dates, in a copy of its own, some minutes on 2 cores. With `--write` they
go into docs/figures.json, and a test holds what README and docs quote against that file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs/figures.json"
DATES = ("2013-08-03", "2013-11-03", "2014-01-03")
CODE = (
    "flows",
    "refit",
    "tasks",
    "feature_store",
    "registry",
    "params.yaml",
    "dvc.yaml",
    "released.json",
    "constraints.txt",
)
OWN = (".dvc/config", ".dvc/.gitignore", ".dvcignore")


def copied(folder: Path) -> Path:
    """The reference project without what runs left in it."""
    project = folder / "flights"
    project.mkdir()
    (project / ".dvc").mkdir()
    for name in (*CODE, *OWN):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, project / name)
    return project


def reached(project: Path, as_of: str) -> dict[str, Any]:
    """What the candidate of a run reaches on the test window that a date leaves it."""
    subprocess.run(
        [sys.executable, "-m", "refit", "run", "--as-of", as_of],
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    evaluation = json.loads((project / "reports/evaluation.json").read_text())
    windows = json.loads((project / "data/features/features.json").read_text())["windows"]
    return {
        "test": windows["test"]["start"][:7],
        "learner": json.loads((project / "models/training.json").read_text())["learner"],
        "rows": {name: window["rows"] for name, window in windows.items()},
        "late": {name: window["late"] for name, window in windows.items() if "late" in window},
        "roc_auc": round(evaluation["metrics"]["candidate"]["roc_auc"]["value"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dates", nargs="+", default=DATES, help="each as `refit run --as-of` takes it")
    parser.add_argument("--write", action="store_true", help="write docs/figures.json: with every date")
    asked = parser.parse_args()
    if asked.write and tuple(asked.dates) != DATES:
        parser.error("--write needs every date")
    with tempfile.TemporaryDirectory() as folder:
        project = copied(Path(folder))
        found = {as_of: reached(project, as_of) for as_of in asked.dates}
    written = json.loads(FIGURES.read_text(encoding="utf-8"))["flights"] if FIGURES.is_file() else {}
    print("| --as-of | test month | learner | rows learned from | ROC AUC | as written |")
    print("| --- | --- | --- | --- | --- | --- |")
    for as_of, each in found.items():
        rows = each["rows"]["train"] + each["rows"]["validation"]
        before = f"{written[as_of]['roc_auc']:.4f}" if as_of in written else "none"
        print(f"| {as_of} | {each['test']} | {each['learner']} | {rows:,} | {each['roc_auc']:.4f} | {before} |")
    if asked.write:
        FIGURES.write_text(json.dumps({"flights": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
