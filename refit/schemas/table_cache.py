"""`.refit/featurize/inputs.json`: what a cached training table was computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from refit.files.artifacts import digest
from refit.schemas.artifact import Artifact, UtcTime, utc_text

__all__ = ["TableInputs"]


class TableInputs(Artifact):
    """The inputs of a training table whose features may be used again; the digest shows a change of the file."""

    rules: str  # digest of all that decides how a feature is computed: definitions, params, code, libraries
    as_of: UtcTime
    batches: Mapping[str, str]  # title -> digest of its rows, and of when they arrived
    table: str  # sha256 of the table
    digest: str

    @classmethod
    def of(cls, rules: str, as_of: UtcTime, batches: Mapping[str, str], table: str) -> Self:
        """The inputs, with their digest."""
        content = {"rules": rules, "as_of": utc_text(as_of), "batches": dict(batches), "table": table}
        return cls(rules=rules, as_of=as_of, batches=batches, table=table, digest=digest(content))

    @model_validator(mode="after")
    def _check_digest(self) -> Self:
        content = {"rules": self.rules, "as_of": utc_text(self.as_of), "batches": dict(self.batches)}
        if self.digest != digest(content | {"table": self.table}):
            raise ValueError("its digest is not the one of its content")
        return self
