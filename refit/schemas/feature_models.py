"""`data/feature_models.json`: the champions of other models that compute features, written before `featurize` runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from feature_store.definition import ModelVersion
from refit.schemas.artifact import Artifact, omitted

__all__ = ["FeatureModels"]


class FeatureModels(Artifact):
    """Every champion that each model had, in the order in which they count.

    >>> FeatureModels().to_json()
    {}
    """

    REMEDY: ClassVar[str] = "`refit run` writes it again"

    champions: Mapping[str, tuple[ModelVersion, ...]] = omitted({})
