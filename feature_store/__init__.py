"""Point-in-time features: definitions as data, and the engine that computes them from events."""

from feature_store.definition import (
    Age,
    Aggregate,
    Expression,
    FeatureSet,
    FeatureView,
    Lag,
    Latest,
    Lookup,
    Sequence,
    Spine,
)
from feature_store.errors import DefinitionError

__all__ = [
    "Age",
    "Aggregate",
    "DefinitionError",
    "Expression",
    "FeatureSet",
    "FeatureView",
    "Lag",
    "Latest",
    "Lookup",
    "Sequence",
    "Spine",
]
