"""Small images, vectors and sequences, and learners that are trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config.column_types import ArrayColumn
from refit.learners import Labels, Spec

IMAGE = ArrayColumn(kind="image", shape=(10, 10, 1))
TINY: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [16], "epochs": 6, "batch_rows": 32, "learning_rate": 0.01, "dropout": 0.0},
    "cnn": {"channels": [4, 4], "dense": 8, "epochs": 6, "batch_rows": 32, "learning_rate": 0.01, "dropout": 0.0},
}
Rows = tuple[pa.Table, Labels]


def image_rows(count: int, seed: int) -> Rows:
    """Images with a bright stripe: across (class 0), upright (1) or none (2)."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, count)
    pixels = random.integers(0, 60, (count, 10, 10, 1))
    for image, kind, place in zip(pixels, label, random.integers(1, 9, count), strict=True):
        if kind == 0:
            image[place] += 150
        elif kind == 1:
            image[:, place] += 150
    return pa.table({"picture": [image.astype(np.uint8).tobytes() for image in pixels]}), label


def spec_of(kind: str, **params: Any) -> Spec:
    """A classifier of those images."""
    return Spec(
        "it",
        kind,
        ("picture",),
        params={**TINY[kind], **params},
        metric="accuracy",
        task="multiclass",
        classes=("across", "upright", "none"),
        arrays={"picture": IMAGE},
    )


@pytest.fixture(scope="session")
def images() -> Rows:
    return image_rows(240, 1)


@pytest.fixture(scope="session")
def unseen_images() -> Rows:
    return image_rows(90, 2)
