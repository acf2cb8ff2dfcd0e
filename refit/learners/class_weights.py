"""Weights of rows by their class, so that validation rows count as much as the rows of the fit do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from refit.problems.contract import Floats, Labels

__all__ = ["class_weights", "row_weights"]


def class_weights(wanted: Mapping[Any, float] | str | None, label: Labels) -> Floats | None:
    """(classes,) the weights that scikit-learn's argument `class_weight` means for some labels; None without any.

    Raises:
        ValueError: a class has no weight, or `wanted` is another text than `balanced`.

    >>> class_weights("balanced", np.array([0, 0, 0, 1])).round(2).tolist()
    [0.67, 2.0]
    """
    if wanted is None:
        return None
    from sklearn.utils.class_weight import compute_class_weight

    classes = np.unique(np.asarray(label, dtype=np.int64))
    weights = np.ones(int(classes[-1]) + 1)
    weights[classes] = compute_class_weight(wanted, classes=classes, y=label)
    return weights


def row_weights(of_classes: Floats, label: Labels) -> Floats:
    """(rows,) the weight of each row's class; 1 for a class that the fit did not see.

    >>> row_weights(np.array([0.5, 2.0]), np.array([1, 0, -1])).tolist()
    [2.0, 0.5, 1.0]
    """
    codes = np.asarray(label, dtype=np.int64)
    return np.append(of_classes, 1.0)[np.where(codes < len(of_classes), codes, -1)]
