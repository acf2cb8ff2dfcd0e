"""`rules.json`: what a learner of association rules has found in its training baskets."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from refit.schemas.artifact import Artifact

__all__ = ["AssociationRule", "AssociationRules"]


class AssociationRule(NamedTuple):
    """A basket with all of some items has another one too; a list in the file."""

    items: tuple[str, ...]
    adds: str
    support: float  # share of the baskets with all of them
    confidence: float  # share of the baskets with the items that have the other one too
    lift: float


class AssociationRules(Artifact):
    """The items and the rules."""

    REMEDY: ClassVar[str] = "restore the folder, or train again"

    shares: tuple[tuple[str, float], ...]  # of the baskets with each item, the most frequent first
    rules: tuple[AssociationRule, ...]  # the surest first
