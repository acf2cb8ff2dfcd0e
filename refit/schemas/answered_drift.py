"""The newest drift of a model that a retraining has answered; an older Refit has it in `.refit/answered.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, TypeAdapter, ValidationError

from refit.config.section import first_complaint
from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json
from refit.plain_text import shortened
from refit.schemas.artifact import Part

__all__ = ["Answer", "DataWindow", "read_answers", "write_answers"]


class DataWindow(Part):
    """The window of data that drifted, as an event names it: days or times, in UTC unless they name a zone."""

    RIGHT: ClassVar[str] = "expected `first` and `end`, ISO 8601"

    first: str = Field(max_length=100)
    end: str = Field(max_length=100)

    @classmethod
    def of(cls, value: Any) -> Self:
        """The window that an event or a request names.

        >>> DataWindow.of({"first": "2013-10-01", "end": "2013-10-08T02:00:00+02:00"}).ends.isoformat()
        '2013-10-08T00:00:00+00:00'
        >>> DataWindow.of({"first": "2013-10-01", "end": "last week"})
        Traceback (most recent call last):
        ...
        refit.errors.UserError: window end "last week" is no time; expected `first` and `end`, ISO 8601

        Raises:
            UserError: it has other keys, or one of them is no time.
        """
        try:
            window = cls.model_validate(value)
        except ValidationError as error:
            complaint = shortened(first_complaint(error))
            raise UserError(f"window {shortened(value)} is refused: {complaint}; {cls.RIGHT}") from None
        for edge in ("first", "end"):
            window._moment(edge)
        return window

    def __str__(self) -> str:
        return f"{self.first} to {self.end}"

    @property
    def begins(self) -> datetime:
        """When it begins, in UTC.

        Raises:
            UserError: that is no time.
        """
        return self._moment("first")

    @property
    def ends(self) -> datetime:
        """When it ends, in UTC.

        Raises:
            UserError: that is no time.
        """
        return self._moment("end")

    def _moment(self, edge: str) -> datetime:
        text = getattr(self, edge)
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise UserError(f"window {edge} {shortened(text)} is no time; {self.RIGHT}") from None


class Answer(Part):
    """The retraining that has ended for a window, whatever the gate decided."""

    window: DataWindow
    flow_run: str | None
    at: str


_ANSWERS = TypeAdapter(dict[str, Answer])


def read_answers(path: Path) -> dict[str, Answer]:
    """The newest answer of each model; empty if there is no file.

    Raises:
        RefitError: the file is not what a retraining writes.
    """
    try:
        return _ANSWERS.validate_json(json.dumps(read_json(path))) if path.is_file() else {}
    except (ValidationError, RecursionError):
        raise RefitError(
            f"{path} is not what a retraining writes; delete it: the newest drift may be answered once more"
        ) from None


def write_answers(path: Path, answers: Mapping[str, Answer]) -> None:
    """Write the file atomically."""
    write_json(path, {model: answer.to_json() for model, answer in answers.items()})
