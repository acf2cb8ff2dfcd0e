"""`comparand.json`: the champion that a candidate is compared with, written before `evaluate` runs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import JsonValue, SerializerFunctionWrapHandler, model_serializer

from refit.schemas.artifact import Artifact, Part, UtcTime, omitted

__all__ = ["CANDIDATE", "CHAMPION", "Incumbent", "RegisteredModel", "TrainedModel"]

CHAMPION: Literal["champion"] = "champion"
CANDIDATE: Literal["candidate"] = "candidate"


class TrainedModel(Part):
    """A model, with what decides whether it may be compared on a test window."""

    model_digest: str
    seen_until: UtcTime | None  # no row at or after this time was used to make it
    split: str | None = None  # the rule that separated its test rows; None if they are separated by time


class RegisteredModel(TrainedModel):
    """A version of the registry."""

    version: str


class Incumbent(Artifact):
    """The champion and the anchor of a model; a model without a champion has no version.

    >>> Incumbent(model="churn").champion is None
    True
    """

    REMEDY: ClassVar[str] = "`refit run` writes it again"

    model: str
    version: str | None = None
    model_digest: str | None = None
    seen_until: UtcTime | None = None
    split: str | None = None
    anchor: RegisteredModel | None = None
    looks: int = 0  # other candidates that were evaluated on the same test window
    stand_in: Literal["champion", "candidate"] | None = omitted(None)  # which of the two learned from generated rows

    @model_serializer(mode="wrap")
    def _without_split(self, serialize: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """Leave out the split where there is no champion, as files always did."""
        content: dict[str, JsonValue] = serialize(self)
        if self.version is None:
            content.pop("split", None)
        return content

    def __str__(self) -> str:
        return f"version {self.version}" if self.version else "no champion"

    @property
    def champion(self) -> RegisteredModel | None:
        """The champion; None if there is none yet."""
        if self.version is None or self.model_digest is None:
            return None
        return RegisteredModel(
            version=self.version, model_digest=self.model_digest, seen_until=self.seen_until, split=self.split
        )

    @property
    def opponents(self) -> dict[str, RegisteredModel]:
        """The registered models to compare the candidate with, by role; the anchor only if it is not the champion.

        A champion that learned from generated rows is none: no candidate can lose against it.
        """
        champion = self.champion
        if champion is None or self.stand_in == CHAMPION:
            return {}
        if self.anchor is None or self.anchor.version == champion.version:
            return {"champion": champion}
        return {"champion": champion, "anchor": self.anchor}
