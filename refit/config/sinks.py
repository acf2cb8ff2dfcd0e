"""The params section `sinks`: where predictions go, in addition to the files of this project."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from refit.config.section import Section, shaped


class SinkParams(Section):
    """One place that gets the predictions of each `refit score`; scoring the same rows again replaces them there."""

    kind: Literal["database", "files", "delta"] = Field(
        description="a table of a database, Parquet files, or a Delta table"
    )
    url: str | None = Field(
        None,
        pattern=shaped(r"^\$\{\w+\}$", "${NAME}, the environment variable that has the URL"),
        description="kind database: ${NAME} of the environment variable with its URL",
    )
    table: str | None = Field(
        None,
        pattern=shaped(r"^\w+(\.\w+)?$", "TABLE or SCHEMA.TABLE"),
        description="kind database: the table, with its schema if that is not the default",
    )
    path: str | None = Field(None, description="kinds files and delta: a folder, of s3:// and gs:// too")

    @model_validator(mode="after")
    def _consistent(self) -> SinkParams:
        needed = ("url", "table") if self.kind == "database" else ("path",)
        for name in ("url", "table", "path"):
            if (getattr(self, name) is not None) != (name in needed):
                raise ValueError(f"kind {self.kind!r} {'needs' if name in needed else 'has no'} `{name}`")
        return self
