"""The params key `changes` of a source: whether rows come late, are corrected, or are all replaced, and since when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from refit.config.section import Section, Share, nearest, shaped, span

Kind = Literal["append", "late", "corrections", "snapshot"]
_USABLE: Mapping[Kind, frozenset[str]] = {
    "append": frozenset(),
    "late": frozenset({"within", "arrived_at"}),
    "corrections": frozenset({"within", "version", "deleted", "arrived_at"}),
    "snapshot": frozenset({"delivered", "max_deleted_share"}),
}
_DATES = ("Ym", "Ymd", "YmdH", "YmdHM", "YmdHMS")  # the parts of a time that the name of a file may have


class ChangesParams(Section):
    """How the rows of a source change after they were first read."""

    kind: Kind = Field(
        "append",
        description="append: never; late: rows join old periods; corrections: new versions too; snapshot: each "
        "delivery replaces all",
    )
    within: str | None = Field(
        None,
        pattern=shaped(r"^[1-9][0-9]{0,5}[mhdw]$", "minutes, hours, days or weeks, such as 36h or 60d"),
        description="how much older than the newest row a late row may be",
    )
    version: str | None = Field(None, description="corrections: the column whose largest value is the newest version")
    deleted: str | None = Field(None, description="corrections: SQL over the columns; true if this version deletes")
    arrived_at: str | None = Field(
        None,
        description="SQL over the columns: when a row arrived (a date: at its end); default: the version if it is a "
        "time or date, else the ingest",
    )
    delivered: str | None = Field(
        None,
        description="snapshot: the date in the name of each delivery's files, such as %Y-%m-%d; default: all files are "
        "one delivery, of the time of the ingest",
    )
    max_deleted_share: Share = Field(
        0.1, ge=0, le=1, description="snapshot: how many of its rows may be missing in the next delivery"
    )

    @model_validator(mode="after")
    def _consistent(self) -> ChangesParams:
        fields = type(self).model_fields
        settings = {name for name in fields if name != "kind" and getattr(self, name) != fields[name].default}
        if extra := sorted(settings - _USABLE[self.kind]):
            others = [kind for kind, usable in _USABLE.items() if extra[0] in usable]
            raise ValueError(f"`{extra[0]}` is for kind {' and '.join(others)}, not {self.kind}: leave it out")
        if self.kind == "late" and self.within is None:
            raise ValueError("kind late needs `within`, how much older than the newest row a row may be, such as 60d")
        if self.kind == "corrections" and self.version is None:
            raise ValueError("kind corrections needs `version`, the column whose largest value is the newest version")
        if self.delivered is not None and self.date_parts not in _DATES:
            raise ValueError(
                f"`delivered` {self.delivered!r} is no date in a name: write it with %Y, %m and %d, and for a time of "
                "day %H, %M and %S, each once, such as %Y-%m-%d"
            )
        return self

    @property
    def date_parts(self) -> str:
        """The parts of a time that the name of a delivery's file has, the longest first, such as `Ymd`."""
        return "".join(sorted(re.findall("%(.?)", self.delivered or ""), key=lambda part: "YmdHMS".find(part)))

    @property
    def is_append(self) -> bool:
        """Whether rows never change, and no row joins a period that a later one follows."""
        return self.kind == "append"

    @property
    def is_snapshot(self) -> bool:
        """Whether each delivery replaces all rows."""
        return self.kind == "snapshot"

    @property
    def has_versions(self) -> bool:
        """Whether a row can have several versions."""
        return self.kind in ("corrections", "snapshot")

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
            more = "; for rows without a time, date the table: event_time: timestamp '2020-01-01'"
            hint = more if self.is_snapshot else ""
            return f"a static source (no event_time) has versions of its own: leave out `changes: {self.kind}`{hint}"
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


def _section(value: object) -> object:
    """A kind that needs no more settings may be written alone."""
    return {"kind": value} if isinstance(value, str) else value


Changes = Annotated[
    ChangesParams, BeforeValidator(_section, json_schema_input_type=Literal["append", "snapshot"] | ChangesParams)
]
