"""`model.json`: the learner that a folder holds, and how its predictions are post-processed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, TypeVar

from pydantic import ConfigDict, Field

from refit.config.column_types import ArrayColumn
from refit.schemas.artifact import Artifact, Part, omitted
from refit.schemas.postprocessing import StoredCalibration, StoredIntervals

__all__ = ["AnomalyLearner", "ClusteringLearner", "EncodedLearner", "ModelDescription", "ReductionLearner"]
__all__ += ["GroupedLearner", "OwnEstimator", "OwnModel", "TransformedLearner"]

P = TypeVar("P", bound=Part)


class ModelDescription(Artifact):
    """What all learners store; a family adds entries of its own, which it reads with `own`."""

    model_config = ConfigDict(extra="allow")
    REMEDY: ClassVar[str] = "restore the folder, or train again"

    format: int  # incremented when older code could misread it
    name: str
    kind: str
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    params: Mapping[str, object]
    seed: int
    metric: str
    task: str = "binary"  # absent in models stored when binary was the only task, like the next ones
    classes: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    arrays: Mapping[str, ArrayColumn] = omitted({})  # features that are images, vectors or sequences
    vectoriser: Mapping[str, object] = {}
    average: int = 1
    quantile: float | None = None
    options: Mapping[str, object] = omitted({})  # of the kind of problem
    sources: Mapping[str, str] = omitted({})  # texts of the project's files that these options name
    early_stopping_metric: str = omitted("")  # empty: the proper score of `metric`
    threshold: float
    calibration: StoredCalibration | None = omitted(None)
    intervals: StoredIntervals | None = omitted(None)

    def own(self, part: type[P]) -> P:
        """The entries of a family.

        Raises:
            ValidationError: one is missing or has another type.
        """
        return part.model_validate_json(json.dumps(self.model_extra))


class EncodedLearner(Part):
    """Entries of a family that encodes categories as numbers."""

    model_config = ConfigDict(extra="ignore")

    categories: Mapping[str, tuple[str, ...]]  # a category's code is its index
    weights: str  # the file of the fitted weights
    libraries: Mapping[str, str]  # versions of the libraries that wrote it
    arguments: Mapping[str, object] = omitted({})  # all arguments of a network, as defaults may change after it


class OwnEstimator(Part):
    """An estimator of Refit inside a learner; its arrays are in a file of their own."""

    name: str  # see `refit.learners.estimator_files`; no path, so that its module may move
    params: Mapping[str, str | int | float]


class ReductionLearner(Part):
    """Entries of a dimension reduction."""

    model_config = ConfigDict(extra="ignore")

    weights: str | None  # the file of the fitted estimator; None if rows are placed by their neighbours
    alone: bool  # the estimator places one row at a time, as rows would affect each other
    restores: bool  # the estimator gives columns back, else neighbours on the map do
    in_features: bool = omitted(
        False
    )  # neighbours are in the units of the features; of older models in their own scale
    own_estimator: OwnEstimator | None = omitted(None)


class TransformedLearner(Part):
    """Entries of a family that transforms features and label for another learner."""

    model_config = ConfigDict(extra="ignore")

    learned: Mapping[str, float] = Field(alias="own")  # by the transformation itself


class OwnModel(Part):
    """A value of a category that has a model of its own."""

    value: str
    rows: int  # that it was fitted to


class GroupedLearner(Part):
    """Entries of a learner of many models."""

    model_config = ConfigDict(extra="ignore")

    models: tuple[OwnModel, ...] = ()  # in the order of the values, which is that of the folders
    pooled_values: int = 0  # values without a model of their own
    pooled_rows: int = 0  # of these values, and without a value


class AnomalyLearner(Part):
    """Entries of an anomaly detector."""

    model_config = ConfigDict(extra="ignore")

    limit: float  # the score above which a row is called an anomaly
    weights: str  # the file of the fitted detector
    own_estimator: OwnEstimator | None = omitted(None)


class ClusteringLearner(Part):
    """Entries of a clustering."""

    model_config = ConfigDict(extra="ignore")

    likeliest: bool  # a row belongs to its likeliest component, else to the nearest centre
    segments: tuple[int, ...]  # the number of each component of the mixture; 0 is noise
    weights: str  # the file of its arrays
