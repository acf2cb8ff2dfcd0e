"""`features.json`: the training table that `featurize` wrote: its columns, windows, labels and definitions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from feature_store.sql_text import quote
from refit.config.column_types import ArrayColumn
from refit.config.featurize import SplitParams
from refit.config.ingest import mentions
from refit.files.artifacts import TABLE, FileRef
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted, utc_text
from refit.schemas.feature_definitions import Definitions

__all__ = [
    "FeatureColumns",
    "FeatureTable",
    "ForecastRows",
    "Giveaway",
    "LabelCounts",
    "TableFile",
    "WindowSummary",
    "Windows",
]


class TableFile(Part):
    """The digest and the number of rows of the training table."""

    sha256: str
    rows: int

    def path(self, project: Path) -> Path:
        """The table's path.

        Raises:
            RefitError: the table is missing, or not the described one.
        """
        return FileRef(TABLE.as_posix(), self.sha256, self.rows).resolve(project)


class WindowSummary(Part):
    """The bounds and rows of a window, and what its problem says of its labels (`Problem.describe_labels`)."""

    model_config = ConfigDict(extra="allow")

    start: UtcTime
    end: UtcTime
    until: UtcTime | None = omitted(None)  # the end of the rows whose labels come in time for the next window
    rows: int
    late: int = omitted(0)  # rows within the bounds that are left out, as their labels came too late

    @property
    def seen_until(self) -> datetime:
        """The end of the rows that are learned from; the newest rows have no final labels yet."""
        return self.until or self.end

    @property
    def bounds(self) -> dict[str, str]:
        """Its start and end, as stored: their digest identifies the window."""
        return {"start": utc_text(self.start), "end": utc_text(self.end)}


class Windows(Part):
    """The three windows of the table."""

    train: WindowSummary
    validation: WindowSummary
    test: WindowSummary


class LabelCounts(Part):
    """How many rows in the windows have a label."""

    known: int
    pending: int  # without an outcome so far
    no_label: int = Field(alias="none")  # with an outcome that is no label, such as a cancelled flight
    pending_test: int = omitted(0)  # those of `pending` that are of the test window
    unlabelled: int = omitted(0)  # rows of the table without a label that was known in time; learners may use them
    contradicting: int = omitted(0)  # rows whose label was another one in another version, known by as_of


class ForecastRows(Part):
    """The series, steps and horizons of forecasts, and the mean seasonal naive error of each series."""

    of: str
    series: tuple[str, ...]
    step: str
    horizons: tuple[int, ...]
    season: int
    scales: Mapping[str, float | None]


class Giveaway(Part):
    """Features that leak the label, and how."""

    features: tuple[str, ...]
    reason: str
    is_label: bool = Field(False, exclude=True)  # one feature that tells (nearly) every label right; not stored

    def __str__(self) -> str:
        return f"{', '.join(self.features)} {self.reason}"


class FeatureColumns(Part):
    """The columns of a training table by role, and the classes of its label."""

    key: str  # identifies rows
    features: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    text: tuple[str, ...] = ()
    arrays: Mapping[str, ArrayColumn] = omitted({})  # images, vectors and sequences
    classes: tuple[str, ...] = ()


class FeatureTable(FeatureColumns, Artifact):
    """The training table, described: it is stored with every model, so that its features can be computed again."""

    REMEDY: ClassVar[str] = "`refit stage featurize` writes that of the project again"

    definitions: Definitions
    definitions_digest: str
    extra_columns: tuple[str, ...] = Field((), alias="kept")  # `featurize.keep`
    windows: Windows
    task: str
    split: str | None = None  # the rule that separated test rows; None if they are separated by time
    forecast: ForecastRows | None = omitted(None)
    labels: LabelCounts
    table: TableFile
    snapshot: str
    as_of: UtcTime
    stand_in: tuple[str, ...] = omitted(())  # sources whose rows were generated
    giveaways: tuple[Giveaway, ...] = omitted(())

    @property
    def split_rule(self) -> str | None:
        """What decides which rows are test rows, with the SQL of the columns that it reads; None if time does.

        Two models of one rule have not seen each other's test rows. A column of the same name may be computed
        otherwise, and then says other rows; the definitions of every stored table have its SQL.
        """
        if self.split is None:
            return None
        spine = self.definitions.feature_set.spine
        source = self.definitions.sources[spine.source]
        hashed = f", key {self.key!r}" if "of the rows" in self.split else ""
        computed = {name: source.columns.get(name, name) for name in SplitParams.columns_in(self.split, self.key)}
        if source.event_time and any(mentions(sql, "event_time") for sql in computed.values()):
            computed["event_time"] = source.event_time
        sql = "; ".join(f"{name}: {sql}" for name, sql in computed.items() if sql not in (name, quote(name)))
        table = f" in {source.table}" if source.table != spine.source else ""
        return f"{self.split}{hashed} of {spine.source}{table}" + (f" ({sql})" if sql else "")

    def makes_the_same(self, other: FeatureTable) -> bool:
        """Whether both tables have the same features, made in the same way."""
        return self.definitions_digest == other.definitions_digest and self.features == other.features
