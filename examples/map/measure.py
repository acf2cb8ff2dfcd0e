"""Prints the trustworthiness of the map for images on which nothing was chosen: 4,000 of MNIST's other file.

python examples/map/measure.py [seeds]   # both files of images are in $REFIT_SHARED_DATA/mnist; minutes
"""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from refit.config.column_types import ArrayColumn
from refit.learners import Spec, make

SHARED = Path(os.environ.get("REFIT_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared/data")) / "mnist"
LEARNED, JUDGED = 8072, 4000  # images; the first is as many as `refit run` fits


def read(part: str, count: int, seed: int) -> pa.Table:
    """Images of `train` or `t10k`, drawn by chance."""
    pixels = gzip.decompress((SHARED / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    drawn = np.random.default_rng(seed).permutation(len(pixels) // 784)[:count]
    return pa.table({"pixels": pa.array([pixels[784 * place : 784 * (place + 1)] for place in drawn], pa.binary())})


def main(seeds: int) -> None:
    params = yaml.safe_load((Path(__file__).parent / "params.yaml").read_text())
    [umap] = [each for each in params["train"]["learners"] if each["name"] == "umap"]
    arrays = {"pixels": ArrayColumn(kind="image", shape=(28, 28, 1))}
    for seed in range(seeds):
        spec = Spec(
            "umap", umap["kind"], ("pixels",), params=umap["params"], seed=seed, task="reduction", arrays=arrays
        )
        learner = make(spec)
        learner.fit(read("t10k", LEARNED, seed), np.zeros(LEARNED, np.int64))
        trust = learner.predict(read("train", JUDGED, seed))[:, 1]
        error = 1.96 * trust.std() / np.sqrt(JUDGED)
        print(f"seed {seed}: trustworthiness {trust.mean():.4f} ± {error:.4f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
