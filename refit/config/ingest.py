"""The params section `ingest`: sources, their columns and events."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator

from feature_store import clocks
from feature_store.sql_text import literal, quote
from refit.config.changes import Changes, ChangesParams
from refit.config.column_types import ArrayColumn, ColumnType, array_column
from refit.config.forecasting import MADE, ForecastParams
from refit.config.section import Hours, Name, Section, Unit, free, nearest, shaped
from refit.config.watermark import WatermarkParams
from refit.problems.project_module import file_of

_OF_FILES = ("file_column", "folder_column", "line_column", "hive_columns")


_KINDS = ("files", "package", "database", "delta", "iceberg", "query", "forecasts")


def _kind(value: str) -> str:
    if value not in _KINDS and file_of(value) is None:
        hint = nearest(value, _KINDS)
        raise ValueError(f"{value!r} is none of {', '.join(_KINDS)}, nor a class of the project, file.py:Class{hint}")
    return value


SourceKind = Annotated[
    str,
    AfterValidator(_kind),
    WithJsonSchema({"anyOf": [{"enum": list(_KINDS)}, {"type": "string", "pattern": r"^.+\.py:\w+$"}]}),
]


class EventParams(Section):
    """An event source computed from the rows of a raw source by SQL expressions."""

    available_at: str = Field(description="SQL over the raw columns and event_time: when it could first be known")
    where: str | None = Field(None, description="SQL condition on the raw row")
    columns: dict[Name, str] = Field(min_length=1, description="column name -> SQL expression over the raw columns")


class LayoutParams(Section):
    """How the columns of some files differ from the declared ones."""

    files: str = Field(min_length=1, description="shell pattern of the names of the files, without their folder")
    renamed: dict[str, str] = Field({}, description="declared column: its name in these files")
    missing: tuple[str, ...] = Field((), description="declared columns that these files have not: without a value")
    ignored: tuple[str, ...] = Field((), description="columns of these files that are left out")

    def fault(self, columns: Collection[str]) -> str | None:
        """Why it does not fit the declared columns; None if it does."""
        for name in (*self.renamed, *self.missing):
            if name not in columns:
                return f"{name!r} is not declared{nearest(name, columns)}"
        if both := sorted({*self.renamed} & {*self.missing}):
            return f"{both[0]!r} is both renamed and missing: drop one"
        there = [*(self.renamed.get(name, name) for name in columns if name not in self.missing), *self.ignored]
        if twice := sorted(name for name in there if there.count(name) > 1):
            return f"column {twice[0]!r} of these files would be read twice: rename, or list as missing, the other one"
        return None


class SourceParams(Section):
    """A table of rows: how it is read, what its columns are, and when a row happened."""

    kind: SourceKind = Field(description="what rows are read from; file.py:Class is a class of the project")
    forecast: ForecastParams | None = Field(None, description="kind forecasts: which to make; it becomes a query")
    path: str = Field(
        "",
        description="file or glob, of s3:// and gs:// too, ${NAME:-default} from the environment; or a package's file",
    )
    catalog: str | None = Field(None, description="kind iceberg: the catalog, as PyIceberg's settings name it")
    package: str | None = Field(None, description="kind package: the installed distribution's module name")
    url: str | None = Field(
        None,
        pattern=shaped(r"^\$\{\w+\}$", "${NAME}, the environment variable that has the URL"),
        description="kind database: ${NAME} of the environment variable with its URL",
    )
    query: str | None = Field(None, description="kind database: the SELECT to read; kind query: one over other sources")
    watermark: WatermarkParams | None = Field(
        None, description="url: the column by which only new rows are read; without it, every change reads all rows"
    )
    published: str | None = Field(None, description="where the file is published, and under which licence")
    stand_in: str | None = Field(
        None,
        pattern=shaped(r"\.py$", "a file such as make_rows.py"),
        description="a file of the project whose write(folder) generates it",
    )
    sha256: str | None = Field(
        None,
        pattern=shaped(r"^[0-9a-f]{64}$", "64 digits of 0-9 and a-f, as sha256sum prints them"),
        description="digest that the one file must have",
    )
    format: Literal["csv", "parquet", "numpy", "idx", "images", "auto"] = Field(
        "auto", description="of the files; auto: by the ending of their names"
    )
    delimiter: str = Field(
        ",",
        pattern=shaped(r"^(.|whitespace)$", "one character, or whitespace"),
        description="one character, or `whitespace`: runs of it",
    )
    header: bool = Field(True, description="false: the file has none; its columns are the declared ones, in order")
    skip_lines: Annotated[int, Unit("lines")] = Field(
        0, ge=0, description="lines above the header, or above the first row without one"
    )
    quoting: bool = Field(True, description='false: a " is an ordinary character')
    encoding: str = Field("utf-8", description="of the text, by Python's name for it")
    member: str | None = Field(None, description="the file to read in a zip of several")
    max_line_mb: Annotated[float, Unit("MB")] = Field(
        16, ge=1, le=1024, description="longest line, quoted value, or footer of Parquet"
    )
    max_unpacked_gb: Annotated[float, Unit("GB")] = Field(64, gt=0, description="maximum unpacked size of one file")
    max_unpacked_ratio: Annotated[float, Unit("multiple")] = Field(
        200, ge=1, description="maximum unpacked size as a multiple of the size, beyond 256 MB"
    )
    nulls: tuple[str, ...] = Field(("", "NA"), description="texts that denote a missing value")
    columns: dict[str, ColumnType] = Field(min_length=1, description="the columns to read, and the type of each")
    layouts: tuple[LayoutParams, ...] = Field(
        (), description="files whose columns differ from the declared ones, and how; the first that fits counts"
    )
    required: tuple[str, ...] = Field((), description="columns that may not be missing")
    file_column: str | None = Field(None, description="a declared column that takes the name of the row's file")
    folder_column: str | None = Field(None, description="a declared column that takes the name of that file's folder")
    hive_columns: tuple[str, ...] = Field(
        (), description="declared columns that folders name, as in `year=2024/month=05/part-0.parquet`"
    )
    line_column: str | None = Field(None, description="a declared column that takes the row's line, or number")
    resize: bool = Field(False, description="pictures: true scales those of another size; else they are faults")
    key: tuple[str, ...] = Field(min_length=1, description="columns that identify a row")
    event_time: str | None = Field(None, description="SQL over the raw columns, in UTC; null for a static table")
    available_at: str | None = Field(None, description="SQL; default: event_time")
    changes: Changes = Field(
        ChangesParams(), description="how rows change after they were read; default: they never do"
    )
    events: dict[Name, EventParams] = Field({}, description="event sources made from it; default: the source itself")

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, value: str) -> str:
        try:
            "a".encode(value, "replace")  # `hex` and `idna` are codecs, but not of the text of a file
        except (LookupError, UnicodeError):
            hint = nearest(value.lower(), ("utf-8", "utf-16", "latin-1", "cp1252", "ascii", "shift_jis"))
            raise ValueError(f"encoding {value!r} is unknown{hint or '; utf-16, latin-1 or cp1252 are some'}") from None
        return value

    @property
    def filled_columns(self) -> tuple[str, ...]:
        """The columns that are filled by reading and not by the content of the file."""
        own = (self.file_column, self.folder_column, self.line_column)
        return (*(column for column in own if column), *self.hive_columns)

    def layout_of(self, name: str) -> LayoutParams | None:
        """How the columns of a file differ from the declared ones; None if they do not."""
        return next((each for each in self.layouts if fnmatchcase(name, each.files)), None)

    @property
    def row_key(self) -> tuple[str, ...]:
        """The columns that identify a row among all that were ever read: the key, and the version if there is one."""
        version = self.changes.version
        return (*self.key, version) if version in self.columns and version is not None else self.key

    def arrival(self, zone: str) -> str | None:
        """SQL of when a row arrived, in UTC, as its columns tell; None if that is when an ingest first read it.

        A date says that it was some time on that day, so it is known at the day's end.

        Args:
            zone: the time zone of days.
        """
        changes = self.changes
        told = None if changes.arrived_at is None else f"({changes.arrived_at})"
        if told is None and changes.version and self.columns[changes.version] in ("timestamp", "date"):
            told = quote(self.inside(changes.version) or "event_time")
        if told is None:
            return None
        end = clocks.utc(f"({told}::date + interval 1 day)", literal(zone))
        return f"case when typeof({told}) = 'DATE' then {end} else {told}::timestamp end"

    @property
    def arrays(self) -> dict[str, ArrayColumn]:
        """The columns whose cells are images or vectors."""
        kinds = {name: array_column(declared) for name, declared in self.columns.items()}
        return {name: array for name, array in kinds.items() if array is not None}

    def inside(self, column: str) -> str | None:
        """The name of a column in SQL over the source.

        It changes only if it is `event_time`, which is the name of a row's time: to None if that time is computed from
        the column and replaces it, else by an underscore.
        """
        if column.lower() != "event_time" or self.event_time is None:
            return column
        if self.event_time == column if self.event_time in self.columns else mentions(self.event_time, column):
            return None
        return free(f"{column}_", self.columns)

    @model_validator(mode="after")
    def _consistent(self) -> SourceParams:
        if self.kind == "forecasts":
            raise ValueError(f"kind 'forecasts' needs `forecast`, and makes {', '.join(MADE)} itself: leave them out")
        if self.forecast and self.kind != "query":
            raise ValueError("`forecast` is for kind 'forecasts'")
        filled = {name: (getattr(self, name),) for name in _OF_FILES[:3]} | {"hive_columns": self.hive_columns}
        for role, names in {"key": self.key, "required": self.required, **filled}.items():
            for column in filter(None, names):
                if column not in self.columns:
                    raise ValueError(f"{role} column {column!r} is not declared{nearest(column, self.columns)}")
                if role != "required" and column in self.arrays:
                    raise ValueError(
                        f"{role} column {column!r} is {self.columns[column]}; name a column of single values"
                    )
        if self.kind == "package" and not self.package:
            raise ValueError("kind 'package' needs `package`")
        if self.kind in ("database", "query") and not self.query:
            raise ValueError(f"kind {self.kind!r} needs `query`")
        self._check_place()
        if self.stand_in and (self.kind != "files" or not self.published):
            raise ValueError("`stand_in` is for kind 'files', and needs `published`: where to get the real one")
        if self.event_time is None and (self.events or self.available_at):
            raise ValueError("a static source (no event_time) has neither events nor available_at")
        if fault := self.changes.fault(self.columns, self.key, self.event_time, self.kind):
            raise ValueError(fault)
        if self.changes.is_snapshot and (fault := self._snapshot_fault()):
            raise ValueError(fault)
        self._check_layouts()
        self._check_format()
        return self

    @property
    def is_table(self) -> bool:
        """Whether it is read from a table elsewhere that says itself what has changed, and not from files."""
        return self.url is not None or self.kind in ("delta", "iceberg") or self.is_own

    @property
    def is_own(self) -> bool:
        """Whether a class of the project reads it."""
        return file_of(self.kind) is not None

    def _check_place(self) -> None:
        """Check that it says where rows are, in the one way that its kind has."""
        if self.url and self.kind != "database":
            raise ValueError("`url` is for kind 'database'")
        if self.kind == "database" and bool(self.url) == bool(self.path):
            both = "has both: drop one" if self.path else "has neither"
            raise ValueError(f"kind 'database' needs `path`, a SQLite or DuckDB file, or `url`, and {both}")
        if not self.is_own and self.kind != "database" and (self.kind == "query") == bool(self.path):
            raise ValueError(f"kind {self.kind!r} {'has no' if self.path else 'needs'} `path`")
        if self.watermark and not self.url:
            raise ValueError("`watermark` is for a database with `url`: files are read again only if they changed")
        if self.watermark and self.event_time is None:
            raise ValueError("`watermark` needs event_time: a static table is always read whole")
        if self.watermark and (fault := self.watermark.fault(self.columns)):
            raise ValueError(fault)
        if (self.kind == "iceberg") != bool(self.catalog):
            raise ValueError("kind 'iceberg' and `catalog` belong together")
        if self.is_table and (self.sha256 or self.filled_columns):
            key = "sha256" if self.sha256 else next(name for name in _OF_FILES if getattr(self, name))
            raise ValueError(f"`{key}` is for files: leave it out")

    def _snapshot_fault(self) -> str | None:
        """Why its deliveries cannot be compared with one another; None if they can."""
        if missing := [column for column in self.key if column not in self.required]:
            needed = ", ".join(dict.fromkeys([*self.required, *missing]))
            return f"the rows of a snapshot are compared by `key`, which no row may lack: write required: [{needed}]"
        if self.watermark:
            return "a snapshot is read whole, and its missing rows are deletions: leave out `watermark`"
        if self.line_column:
            return f"line_column {self.line_column!r} differs in each delivery of a snapshot: leave it out"
        if self.changes.delivered and self.kind != "files":
            return f"changes.delivered is for the names of files: leave it out, kind {self.kind!r} has none"
        if self.changes.delivered and self.file_column:
            return f"file_column {self.file_column!r} differs in each delivery of a snapshot: leave it out"
        return None

    def _check_layouts(self) -> None:
        """Check that files with other columns are of a format that names them, and that the names fit."""
        named = self.kind in ("files", "package") and self.header and self.format in ("csv", "parquet", "auto")
        if self.layouts and not named:
            raise ValueError("`layouts` is for files that name their columns: CSV with a header, and Parquet")
        for number, layout in enumerate(self.layouts):
            if fault := layout.fault([name for name in self.columns if name not in self.filled_columns]):
                raise ValueError(f"layouts[{number}]: {fault}")

    def _check_format(self) -> None:
        """Check that the columns are those that a format without names of columns can have."""
        images = [name for name, array in self.arrays.items() if array.kind == "image"]
        others = [name for name in self.columns if name not in self.arrays and name not in self.filled_columns]
        if self.format == "idx" and (len(self.arrays) != 1 or len(others) > 1):
            raise ValueError(
                "format idx gives one column image(...) or vector(...) and at most one other, the label; "
                f"columns has {len(self.arrays)} and {len(others)} of them"
            )
        if self.format == "images" and (len(self.arrays) != 1 or not images or others):
            others_there = f"{', '.join(others)} too" if others else f"{len(images)} of them"
            raise ValueError(
                "format images gives one column image(...), with file_column and folder_column for the names; "
                f"columns has {others_there}"
            )
        if self.format == "images" and self.line_column:
            raise ValueError("format images has no lines for `line_column`; a picture is known by its file_column")
        if self.resize and (not images or self.format in ("idx", "numpy")):
            raise ValueError("`resize` is for PNG and JPEG in a column image(...)")


def mentions(sql: str, column: str) -> bool:
    """Whether an expression mentions a column.

    >>> mentions('"Event_Time" - interval 1 hour', "event_time"), mentions('"my event_time" || t', "event_time")
    (True, False)
    """
    names = re.findall(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|(\w+)""", sql)
    return column.lower() in {(quoted or bare).replace('""', '"').lower() for quoted, bare in names}


class IngestParams(Section):
    period: Literal["day", "week", "month"] = Field("month", description="the length of a batch, in local time")
    complete_within_hours: Hours = Field(24, ge=0, description="a period is complete when rows reach this near its end")
    sources: dict[Name, SourceParams] = Field(min_length=1, description="the tables of rows, by name")

    def read_by(self, name: str) -> list[str]:
        """The sources that a source of kind query reads."""
        words = {*re.findall(r"\w+", self.sources[name].query or "")}
        return [other for other, source in self.sources.items() if source.kind != "query" and other in words]

    def may_be_late(self, name: str) -> bool:
        """Whether rows of a source may join old periods: those of a query do so where a source that it reads may."""
        read = self.read_by(name) if self.sources[name].kind == "query" else [name]
        return any(not self.sources[each].changes.is_append for each in read)
