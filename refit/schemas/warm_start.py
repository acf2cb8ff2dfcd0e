"""`warm_start.json`: what the next training starts from, written before `train` runs."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from refit.schemas.artifact import Artifact, UtcTime, omitted

__all__ = ["WarmStart"]


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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.version is not None and None in (self.model_digest, self.seen_until, self.folder):
            raise ValueError("a version needs model_digest, seen_until and folder")
        return self
