"""Prints prequential accuracies on ELEC2: river's adaptive random forest and its Hoeffding tree, next to no change.

Each half hour is predicted from the benchmark's own columns before it is learned. Takes minutes.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

from river import forest, tree

FOLDER = Path(os.environ.get("REFIT_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
COLUMNS = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")


def main(most: int | None) -> None:
    with (FOLDER / "elec2/elec.csv").open() as file:
        rows = list(csv.DictReader(file))[:most]
    labels = [int(row["class"]) for row in rows]
    print(f"no change: {sum(a == b for a, b in zip(labels, [0, *labels], strict=False)) / len(labels):.4f}")
    models = {"Hoeffding tree": tree.HoeffdingTreeClassifier(), "ARF": forest.ARFClassifier(seed=42)}
    for name, model in models.items():
        right = 0
        for row, label in zip(rows, labels, strict=True):
            cells = {column: float(row[column]) for column in COLUMNS}
            right += model.predict_one(cells) == label
            model.learn_one(cells, label)
        print(f"{name}: {right / len(labels):.4f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
