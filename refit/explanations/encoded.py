"""Rows as the estimator inside a learner takes them, and which feature each of their columns comes from."""

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
    """The estimator, the rows that it is given, and the place of each column's feature among the learner's."""
    given = learner._given(learner._encoding.matrix(rows), rows)
    steps = getattr(learner._model, "named_steps", None)
    if steps is None or "encode" not in steps:
        return learner._model, given, places_of(learner, learner._encoding.features)
    encoder, (_, estimator) = steps["encode"], learner._model.steps[-1]
    return estimator, encoder.transform(given), places_of(learner, _columns(encoder, learner._encoding))


def _columns(encoder: Any, encoding: Encoding) -> list[str]:
    """The feature of each column that the fitted ColumnTransformer makes."""
    found = [""] * max(part.stop for part in encoder.output_indices_.values())
    for name, transformer, columns in encoder.transformers_:
        part = encoder.output_indices_[name]
        if part.start == part.stop:
            continue
        if name.startswith("text "):
            features = [name.removeprefix("text ")] * (part.stop - part.start)
        elif name == "coded":
            features = list(encoding.features)
        else:
            features = [encoding.features[place] for place in columns]
            if name == "numbers":
                gaps = transformer.named_steps["impute"].indicator_.features_
                features += [features[place] for place in gaps]
            else:
                pairs = zip(features, transformer.categories_, strict=True)
                features = [feature for feature, known in pairs for _ in known]
        found[part] = features
    return found


def of_matrix(learner: Learner, encoding: Encoding) -> NDArray[np.int64]:
    """The same for the matrix that an encoding makes: coded features, then the columns of each text."""
    texts = encoding.texts.fitted if encoding.texts else {}
    widths = {name: int(each.transform([""]).shape[1]) for name, each in texts.items()}
    return places_of(learner, [*encoding.features, *(name for name, width in widths.items() for _ in range(width))])


def places_of(learner: Learner, features: Any) -> NDArray[np.int64]:
    """Places of features among the learner's."""
    places = {name: place for place, name in enumerate(learner.spec.features)}
    return np.array([places[name] for name in features], dtype=np.int64)


def folded(values: NDArray[np.float64], places: NDArray[np.int64], features: int) -> NDArray[np.float64]:
    """(rows, columns, outputs) as (rows, features, outputs): the columns of one feature are added."""
    found = np.zeros((values.shape[0], features, values.shape[2]))
    for column, place in enumerate(places):
        found[:, place] += values[:, column]
    return found
