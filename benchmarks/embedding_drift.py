"""Measures how often the classifier check of drift errs on images, and what it notices; docs/drift.md has the table.

    python benchmarks/embedding_drift.py [--rows 500] [--repeats 200] [--powers 20]

Images are MNIST's training images where REFIT_SHARED_DATA is, else the 1,797 digits of 8 x 8 pixels that come with
scikit-learn. In each repeat, `rows` images are drawn for the reference and as many others for the current window, which
are then changed in one way. The check is the one of `refit drift` for a reference without windows, with a warning as
there: p below .01 and an AUC of at least .6.
"""

from __future__ import annotations

import argparse
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from refit.config.column_types import ArrayColumn
from refit.drift.multivariate import LEAST_AUC, WARNING_P, separate
from refit.learners.embeddings import EMBEDDING, embedded
from refit.storage.arrays import summarised

Images = NDArray[np.uint8]
CONSTANT = f"constant{EMBEDDING}0"  # an embedding that says nothing
RANDOM = np.random.default_rng(1)
CHANGES: dict[str, Callable[[Images], Images]] = {
    "nothing": lambda images: images,
    "inverted": lambda images: 255 - images,
    "rotated by 15 degrees": lambda images: ndimage.rotate(images, 15, axes=(1, 2), reshape=False, order=1),
    "noise of 10 of 255": lambda images: np.clip(images + RANDOM.normal(0, 10, images.shape), 0, 255).astype(np.uint8),
    "moved by a pixel": lambda images: np.roll(images, 1, axis=2),
    "mirrored": lambda images: images[:, :, ::-1],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=200, help="without a change")
    parser.add_argument("--powers", type=int, default=20, help="with each change")
    options = parser.parse_args()
    name, images = read_images()
    print(f"{name}, {options.rows} rows a side\n")
    print("| change | repeats | mean AUC | warned | p below .05 | by mean and contrast alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    for change, function in CHANGES.items():
        repeats = options.repeats if change == "nothing" else options.powers
        measured = [tried(images, function, options.rows, seed) for seed in range(repeats)]
        auc, p = (np.array(each) for each in zip(*(with_embeddings for with_embeddings, _ in measured), strict=True))
        warned = np.mean((p < WARNING_P) & (auc >= LEAST_AUC))
        alone = np.mean([p < WARNING_P and auc >= LEAST_AUC for _, (auc, p) in measured])
        share = f"{np.mean(p < 0.05):.1%}" if change == "nothing" else ""
        print(f"| {change} | {repeats} | {auc.mean():.3f} | {warned:.1%} | {share} | {alone:.1%} |")


def tried(images: Images, change: Callable[[Images], Images], rows: int, seed: int) -> tuple[tuple[float, float], ...]:
    """AUC and p of one comparison: with embeddings, and without."""
    drawn = np.random.default_rng(seed).permutation(len(images))[: 2 * rows]
    before, now = table(images[drawn[:rows]]), table(np.ascontiguousarray(change(images[drawn[rows:]])))
    days = np.repeat(np.datetime64("2024-01-01"), rows)
    results = []
    alone = [name for name in before.column_names if EMBEDDING not in name]
    for columns in (before.column_names, [*alone, CONSTANT]):
        found = separate(before.select(columns), now.select(columns), days, 7, rows=rows)
        assert found is not None
        assert found.p_exchangeable is not None
        results.append((found.auc, found.p_exchangeable))
    return tuple(results)


def table(images: Images) -> pa.Table:
    """What is stored of images: their summaries and their embeddings."""
    arrays = {"image": ArrayColumn(kind="image", shape=(*images.shape[1:3], 1))}
    cells = pa.table({"image": [image.tobytes() for image in images]})
    columns = {name: pa.array(numbers) for name, numbers in embedded(cells, arrays).items()}
    summaries = summarised(cells, arrays)
    columns |= {name: summaries[name] for name in summaries.column_names}
    return pa.table(columns | {CONSTANT: np.zeros(len(images))})


def read_images() -> tuple[str, Images]:
    folder = Path(os.environ.get("REFIT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
    path = folder / "mnist/train-images-idx3-ubyte.gz"
    if path.is_file():
        return "MNIST", np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    from sklearn.datasets import load_digits

    return "digits of 8 x 8 pixels", (load_digits().images * 15).astype(np.uint8)


if __name__ == "__main__":
    main()
