"""What a start from the digits 0 to 4 is worth for 5 to 9: with few labels, and in a third of the steps.

One base; each seed draws the labels, the head and the order of rows.

python examples/digits_transfer/measure.py [seeds]   # MNIST's four files are in $REFIT_SHARED_DATA/mnist
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pyarrow as pa

from refit.config.column_types import ArrayColumn
from refit.learners import Labels, Learner, Spec, make
from refit.learners.contract import Start

SHARED = Path(os.environ.get("REFIT_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared/data")) / "mnist"
BASE = {"epochs": 4, "schedule": "one_cycle", "learning_rate": 0.004, "augment": {"crop": 2}}
PARAMS = {"schedule": "one_cycle", "learning_rate": 0.003, "augment": {"crop": 2}, "batch_rows": 32}
EPOCHS = {100: 99, 300: 60, 2942: 15}  # by number of labels; the last is a tenth of all


def read(part: str) -> tuple[pa.Table, Labels]:
    """The images and digits of `train` or `t10k`."""
    pixels = gzip.decompress((SHARED / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    digits = np.frombuffer(gzip.decompress((SHARED / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    cells = [pixels[start : start + 784] for start in range(0, len(pixels), 784)]
    return pa.table({"pixels": pa.array(cells, pa.binary())}), digits.astype(np.int64)


def fitted(rows: pa.Table, digits: Labels, seed: int, params: dict[str, object], start: Start | None = None) -> Learner:
    """A `cnn` that tells five digits apart, from random weights or from those of `start`."""
    first = 5 * int(digits.min() >= 5)
    spec = Spec(
        name="cnn",
        kind="cnn",
        features=("pixels",),
        params=params,
        seed=seed,
        metric="accuracy",
        task="multiclass",
        classes=tuple(map(str, range(first, first + 5))),
        arrays={"pixels": ArrayColumn(kind="image", shape=(28, 28, 1))},
        start=start,
    )
    learner = make(spec)
    learner.fit(rows, digits - first)
    return learner


def main(seeds: int) -> None:
    rows, digits = read("train")
    unseen, answers = read("t10k")
    unseen, answers = unseen.filter(pa.array(answers >= 5)), answers[answers >= 5] - 5
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = fitted(rows.filter(pa.array(digits < 5)), digits[digits < 5], 0, BASE)
        base.save(Path(folder))
        start = Start(Path(folder), "digits_base", base.digest())
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(np.flatnonzero(digits >= 5))
            for labels, epochs in EPOCHS.items():
                chosen = np.sort(order[:labels])
                for name, spent, parent in (
                    ("from scratch", epochs, None),
                    ("from the base", epochs, start),
                    ("from the base, a third of the steps", epochs // 3, start),
                ):
                    learner = fitted(rows.take(chosen), digits[chosen], seed, {**PARAMS, "epochs": spent}, parent)
                    accuracy = learner.spec.score(answers, learner.predict(unseen))
                    scores.setdefault(f"{labels:,} | {name} | {spent}", []).append(accuracy)
                    print(f"seed {seed} | {labels:,} | {name} | {spent} | {accuracy:.4f}", flush=True)
    for what, values in scores.items():
        spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
        print(f"| {what} | {100 * mean(values):.2f} %{spread} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
