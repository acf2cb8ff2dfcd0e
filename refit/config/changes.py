"""The params key `changes` of a source: whether its rows come late, or are corrected, and since when that is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from refit.config.section import Section, nearest, span

Kind = Literal["append", "late", "corrections"]


class ChangesParams(Section):
    """How the rows of a source change after they were first read."""

    kind: Kind = Field(
        "append", description="append: never; late: rows join old periods; corrections: new versions too"
    )
    within: str | None = Field(
        None, pattern=r"^[1-9][0-9]{0,5}[mhdw]$", description="how much older than the newest row a late row may be"
    )
    version: str | None = Field(None, description="corrections: the column whose largest value is the newest version")
    deleted: str | None = Field(None, description="corrections: SQL over the columns; true if this version deletes")
    arrived_at: str | None = Field(
        None,
        description="SQL over the columns: when a row arrived; default: the version if it is a time, else the ingest",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ChangesParams:
        settings = {name for name in ("within", "version", "deleted", "arrived_at") if getattr(self, name) is not None}
        usable: Mapping[str, set[str]] = {
            "append": set(),
            "late": {"within", "arrived_at"},
            "corrections": {"within", "version", "deleted", "arrived_at"},
        }
        if extra := sorted(settings - usable[self.kind]):
            others = [kind for kind in usable if extra[0] in usable[kind]]
            raise ValueError(f"`{extra[0]}` is for kind {' and '.join(others)}, not {self.kind}: leave it out")
        if self.kind == "late" and self.within is None:
            raise ValueError("kind late needs `within`, how much older than the newest row a row may be, such as 60d")
        if self.kind == "corrections" and self.version is None:
            raise ValueError("kind corrections needs `version`, the column whose largest value is the newest version")
        return self

    @property
    def is_append(self) -> bool:
        """Whether rows never change, and no row joins a period that a later one follows."""
        return self.kind == "append"

    @property
    def longest(self) -> timedelta | None:
        """How much older than the newest row a late row may be; None for no limit."""
        if self.within is None:
            return None
        return span(self.within)

    def fault(self, columns: Mapping[str, str], key: tuple[str, ...], event_time: str | None, kind: str) -> str | None:
        """Why a source cannot change in this way; None if it can.

        Args:
            columns: the source's columns and their types.
            kind: of the source.
        """
        if self.is_append:
            return None
        if event_time is None:
            return f"a static source (no event_time) has versions of its own: leave out `changes: {self.kind}`"
        if kind == "query":
            return f"the rows of kind 'query' are computed: declare `changes: {self.kind}` at the sources that it reads"
        if self.version is None:
            return None
        if self.version not in columns:
            return f"changes.version {self.version!r} is not declared{nearest(self.version, columns)}"
        if self.version in key:
            return f"changes.version {self.version!r} is in `key`, which names a row in all its versions: take it out"
        if columns[self.version] not in ("integer", "number", "timestamp", "date"):
            return (
                f"changes.version {self.version!r} is {columns[self.version]}, which does not say which is newer; "
                "name an integer, number, timestamp or date"
            )
        return None

    def arrival(self, columns: Mapping[str, str]) -> str | None:
        """SQL of the time when a row arrived; None if it is the time of the ingest that read it first."""
        if self.arrived_at is not None or self.version is None or not re.match("timestamp|date", columns[self.version]):
            return self.arrived_at
        return '"' + self.version.replace('"', '""') + '"'


def _section(value: object) -> object:
    """A kind that needs no more settings may be written alone."""
    return {"kind": value} if isinstance(value, str) else value


Changes = Annotated[ChangesParams, BeforeValidator(_section, json_schema_input_type=Literal["append"] | ChangesParams)]
