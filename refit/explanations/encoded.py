"""Encodes rows as the estimator inside a learner receives them, and maps each column to its feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.learners import Learner
from refit.learners.encoding import Encoding
from refit.learners.sklearn_estimator import SklearnEstimator

if TYPE_CHECKING:
    import pyarrow as pa


def encoded(learner: SklearnEstimator, rows: pa.Table) -> tuple[Any, Any, NDArray[np.int64]]:
    """Return the estimator, its encoded rows, and for each column the index of its feature in the learner's spec."""
    given = learner._given(learner._encoding.matrix(rows), rows)
    steps = getattr(learner._model, "named_steps", None)
    if steps is None or "encode" not in steps:
        return learner._model, given, places_of(learner, learner._encoding.origins)
    encoder, (_, estimator) = steps["encode"], learner._model.steps[-1]
    return estimator, encoder.transform(given), places_of(learner, _columns(encoder, learner._encoding))


def _columns(encoder: Any, encoding: Encoding) -> list[str]:
    """The feature that each output column of the fitted ColumnTransformer comes from."""
    of_columns = [""] * max(part.stop for part in encoder.output_indices_.values())
    for name, transformer, columns in encoder.transformers_:
        part = encoder.output_indices_[name]
        if part.start == part.stop:
            continue
        if name.startswith("text "):
            features = [name.removeprefix("text ")] * (part.stop - part.start)
        elif name == "coded":
            features = encoding.origins
        else:
            features = [encoding.origins[index] for index in columns]
            if name == "numbers":
                gaps = transformer.named_steps["impute"].indicator_.features_
                features += [features[index] for index in gaps]
            else:
                pairs = zip(features, transformer.categories_, strict=True)
                features = [feature for feature, categories in pairs for _ in categories]
        of_columns[part] = features
    return of_columns


def of_matrix(learner: Learner, encoding: Encoding) -> NDArray[np.int64]:
    """Feature indices of the columns of an encoding's matrix: coded features, then the columns of each text."""
    texts = encoding.texts.fitted if encoding.texts else {}
    widths = {name: int(each.transform([""]).shape[1]) for name, each in texts.items()}
    return places_of(learner, [*encoding.origins, *(name for name, width in widths.items() for _ in range(width))])


def places_of(learner: Learner, features: Any) -> NDArray[np.int64]:
    """Indices of features in the learner's spec."""
    indices = {name: index for index, name in enumerate(learner.spec.features)}
    return np.array([indices[name] for name in features], dtype=np.int64)


def folded(values: NDArray[np.float64], indices: NDArray[np.int64], features: int) -> NDArray[np.float64]:
    """Sum the columns of each feature: (rows, columns, outputs) becomes (rows, features, outputs)."""
    folded_values = np.zeros((values.shape[0], features, values.shape[2]))
    for column, index in enumerate(indices):
        folded_values[:, index] += values[:, column]
    return folded_values
