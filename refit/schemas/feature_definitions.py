"""Feature definitions as stored with models, so that their features can be computed again."""

from __future__ import annotations

from collections.abc import Mapping

from feature_store.definition import FeatureSet, Source
from refit.schemas.artifact import Part

__all__ = ["Definitions"]


class Definitions(Part):
    """A feature set with the declarations of its sources: everything needed to compute the features again."""

    feature_set: FeatureSet
    sources: Mapping[str, Source]
