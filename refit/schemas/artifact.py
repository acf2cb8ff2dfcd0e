"""The base of all stored files: a frozen, closed, versioned model, and how it is read from JSON and written to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, ValidationError

from refit.config.section import first_complaint
from refit.errors import RefitError
from refit.files.artifacts import read_json, write_json

__all__ = ["Artifact", "Part", "UtcTime", "omitted", "utc_moment", "utc_text"]

T = TypeVar("T")


def utc_text(moment: datetime, precision: Literal["auto", "seconds"] = "auto") -> str:
    """Format a moment as stored in JSON; a precision of seconds cuts off what is less than one.

    >>> utc_text(datetime(2013, 11, 1, 4, tzinfo=UTC))
    '2013-11-01T04:00:00Z'
    """
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def utc_moment(text: str) -> datetime:
    """Parse a moment written by `utc_text`."""
    return datetime.fromisoformat(text)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_in_utc), PlainSerializer(utc_text, when_used="json")]


def omitted(default: T) -> T:
    """A field that is left out of the file while it has its default, as in files written before it existed.

    >>> class Batch(Part):
    ...     repeats: int = omitted(0)
    >>> Batch().to_json(), Batch(repeats=2).to_json()
    ({}, {'repeats': 2})
    """
    field: T = Field(default, exclude_if=lambda value: value == default)
    return field


class Part(BaseModel):
    """A part of a stored file: frozen, closed to unknown keys, and without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)

    def to_json(self) -> dict[str, JsonValue]:
        """The content as JSON values."""
        content: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        return content


class Artifact(Part):
    """A file that one stage or command writes and another one reads.

    A field that a later Refit adds is declared with `omitted`, so that older files still open and the bytes of a file
    change only with its content. Any other change of the format raises `CURRENT`.
    """

    CURRENT: ClassVar[int] = 1  # the newest version of the format that this Refit reads; it writes no other
    REMEDY: ClassVar[str] = "delete it and run again"

    schema_version: int = Field(1, alias="schema", exclude_if=lambda version: version == 1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The content of a file.

        Raises:
            RefitError: the file is missing, damaged, or of another version; the message says what to do.
        """
        return cls.from_json(read_json(path), str(path))

    @classmethod
    def from_json(cls, content: object, name: str) -> Self:
        """The content as parsed from JSON.

        Args:
            name: of the file, for errors.

        Raises:
            RefitError: it is not the content of such a file, or of another version; the message says what to do.
        """
        try:
            return cls.parse(content, name)
        except ValueError as error:
            raise RefitError(f"{name} is damaged or was changed ({error}); {cls.REMEDY}") from None

    @classmethod
    def parse(cls, content: object, name: str) -> Self:
        """The content as parsed from JSON, for callers that know better than `REMEDY` what to do about damage.

        Raises:
            RefitError: it was written by a newer Refit.
            ValueError: it is not the content of such a file; the message names the first problem, on one line.
        """
        version = content.get("schema", 1) if isinstance(content, Mapping) else 1
        if isinstance(version, int) and version > cls.CURRENT:
            raise RefitError(
                f"{name} was written by a newer Refit (format {version}, this one reads up to {cls.CURRENT}); "
                "upgrade Refit, see CHANGELOG.md"
            )
        try:
            return cls.model_validate_json(json.dumps(content))
        except (ValidationError, RecursionError) as error:
            raise ValueError(first_complaint(error)) from None

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, self.to_json())
