"""Where in an image a prediction comes from: what it loses if a patch is covered.

Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2. It needs nothing of a model
but its predictions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.config.column_types import ArrayColumn
from refit.learners import Floats, Learner
from refit.storage.arrays import images

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["edges", "losses_by_patch"]

PATCHES = 8  # along each side


def edges(pixels: int) -> NDArray[np.int64]:
    """The bounds of the patches along a side of an image.

    >>> edges(28).tolist()
    [0, 4, 7, 10, 14, 18, 21, 24, 28]
    """
    return np.linspace(0, pixels, min(PATCHES, pixels) + 1).round().astype(np.int64)


def losses_by_patch(learner: Learner, row: pa.Table, name: str, array: ArrayColumn) -> Floats:
    """(patches down, patches across, outputs): the prediction less that with a patch in the image's mean colour."""
    import pyarrow as pa

    picture = images(row, name, array)[0]
    mean, covered = picture.mean(axis=(0, 1)).round().astype(np.uint8), []
    down, across = edges(array.shape[0]), edges(array.shape[1])
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            copy = picture.copy()
            copy[top:bottom, left:right] = mean
            covered.append(copy.tobytes())
    table = row.take(np.zeros(len(covered), np.int64))
    table = table.set_column(table.column_names.index(name), name, pa.array(covered, pa.binary()))
    whole, parts = (np.asarray(learner.predict(each)).reshape(len(each), -1) for each in (row, table))
    return (whole - parts).reshape(len(down) - 1, len(across) - 1, -1)
