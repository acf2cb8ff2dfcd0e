"""`warm_start.json`: what the next training starts from, written before `train` runs."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Self

from pydantic import JsonValue, model_validator

from refit.schemas.artifact import Artifact, Part, UtcTime, omitted

__all__ = ["Parent", "Seen", "WarmStart"]


class Parent(Part):
    """The model that networks take their weights from (`train.start_from`), of another project or pretrained."""

    source: str  # as the params name it
    model: str
    version: str | None  # None if it is a folder
    model_digest: str
    manifest: str  # sha256 of the manifest of its stored folder
    seen_until: UtcTime | None  # None if what it has learned from is unknown
    folder: str  # the checked copy of its stored folder, within the project
    pretrained: bool = omitted(False)  # it is a Hugging Face folder

    def __str__(self) -> str:
        if self.pretrained:
            return f"pretrained {self.model} in {self.source}"
        return f"version {self.version} of {self.model}" if self.version else f"{self.model} in {self.source}"


class Seen(Part):
    """Rows that models have learned from: those of all batches that one rule does not leave for a test."""

    split: str | None  # `FeatureTable.split_rule`; None if they are separated by time
    until: UtcTime  # no row at or after this time
    batches: tuple[str, ...] | None  # sha256 of each; None if unknown


class WarmStart(Artifact):
    """A registered version to continue from, with its local folder; training from nothing has no version.

    >>> WarmStart().to_json()
    {'version': None}
    """

    REMEDY: ClassVar[str] = "`refit run` writes it again"

    version: str | None = None
    model_digest: str | None = omitted(None)
    seen_until: UtcTime | None = omitted(None)
    folder: str | None = omitted(None)
    parent: Parent | None = omitted(None)
    seen: tuple[Seen, ...] | None = omitted(None)  # by the start and those that it started from; None if unknown

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.version is not None and None in (self.model_digest, self.seen_until, self.folder):
            raise ValueError("a version needs model_digest, seen_until and folder")
        return self

    @property
    def known_until(self) -> datetime | None:
        """The end of the newest data that the start, or one that it started from, has learned from, as far as known."""
        moments = [self.parent.seen_until if self.parent else None, *(each.until for each in self.seen or ())]
        return max((moment for moment in moments if moment is not None), default=None)

    @property
    def identity(self) -> JsonValue:
        """What a candidate's identity says of its start."""
        if self.parent is None:
            return self.model_digest
        return {"model": self.parent.model, "version": self.parent.version, "digest": self.parent.model_digest}
