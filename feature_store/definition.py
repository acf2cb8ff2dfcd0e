"""Feature definitions as data: frozen and serialisable, so that they can be computed again after the code has changed.

A `FeatureSet` defines which rows are predicted and when (`Spine`), features of the row itself (`Expression`), features
from events known by then (`FeatureView`) and features from static tables (`Lookup`). `feature_store.offline.compute`
turns it into columns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from feature_store.errors import DefinitionError

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\"]+$")]
Duration = Annotated[
    str, Field(pattern=r"^[1-9][0-9]{0,5}[mhdw]$", description="a number of minutes, hours, days or weeks")
]
Span = Annotated[
    str,
    Field(
        pattern=r"^[1-9][0-9]{0,5}(m|h|d|w|mo|y)$", description="minutes, hours, days, weeks, calendar months or years"
    ),
]
Function = Literal["count", "sum", "mean", "std", "rate"]

_UNITS = {"m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
RESERVED = ("event_time", "prediction_time", "window", "label", "label_known_at")


class Definition(BaseModel):
    """A part of a feature set: frozen, and without unknown keys."""

    newer: ClassVar[tuple[str, ...]] = ()  # fields that stored models were made without

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _as_before(self, written: Callable[[Definition], dict[str, object]]) -> dict[str, object]:
        """Omit newer fields with their default, as before they existed, so that stored models keep their digest."""
        default = {name for name in self.newer if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in written(self).items() if name not in default}


class Described(Definition):
    """The documentation of a feature: its description, its unit, and the meaning of a missing value."""

    description: str = ""
    unit: str = ""
    missing: str = Field("", description="what a missing value means")


class Expression(Described):
    """One number or category computed by SQL over the spine's columns and its two times."""

    name: Name
    sql: str = Field(min_length=1)


class Latest(Described):
    """The value of the row that became known last.

    Missing if there is no such row, if its value is missing, or if it became known `max_age` ago or longer. Of several
    rows that became known at the same instant, the one with the newest event counts; of those, the one with the largest
    values.
    """

    kind: Literal["latest"] = "latest"
    name: Name
    column: str = Field(min_length=1, description="SQL over the source's columns")
    max_age: Duration | None = None


class Age(Described):
    """Hours between the time when the view's newest row became known and the prediction."""

    kind: Literal["age"] = "age"
    name: Name
    max_age: Duration | None = None


class Aggregate(Described):
    """A summary of the rows that became known in each of several windows before the prediction.

    A row counts in window w if prediction_time - w < available_at <= prediction_time; where the view's `windows_by` is
    event_time, if it is known and prediction_time - w < event_time <= prediction_time. `count` counts the rows where
    `column` is not missing (all rows if there is no `column`); `sum`, `mean` and `std` (of a sample) are computed over
    its values; `rate` is the share of true values. Sums use values rounded to `decimals` digits, as integers: they are
    exact and independent of the order of rows. Without rows in the window, count and sum are 0 and the others missing.
    If the entity is missing, all are missing.
    """

    kind: Literal["aggregate"] = "aggregate"
    name: Name = Field(description="the columns are called <name>_<window>")
    function: Function
    column: str | None = Field(None, description="SQL over the source's columns")
    windows: tuple[Duration, ...] = Field(min_length=1)
    decimals: int = Field(6, ge=0, le=12)

    @model_validator(mode="after")
    def _consistent(self) -> Aggregate:
        if self.function != "count" and self.column is None:
            raise ValueError(f"{self.name}: {self.function} needs a column")
        return self

    def columns(self) -> dict[str, str]:
        """Feature name -> window."""
        return {f"{self.name}_{window}": window for window in self.windows}


class Lag(Described):
    """The value of the row whose event is at a time of the predicted row, or exactly a given span before it.

    Missing if there is no such row, or if it became known only after the prediction: future values are never used,
    unless they are known in advance, such as a holiday. Of several rows at that moment, the one that became known last
    counts; of those known at the same instant, the one with the largest values.
    """

    kind: Literal["lag"] = "lag"
    name: Name = Field(description="the columns are called <name>_<before>; <name> where nothing is before")
    column: str = Field(min_length=1, description="SQL over the source's columns")
    before: tuple[Span, ...] = Field((), description="how long before that time; if empty, at that time")
    of: Name = Field(
        "prediction_time", description="a time among the spine's columns, such as the one that is forecast"
    )

    def columns(self) -> dict[str, str | None]:
        """Feature name -> how long before."""
        return {f"{self.name}_{before}": before for before in self.before} or {self.name: None}


class Sequence(Described):
    """The newest rows that were known at the prediction, in the order of their events, the oldest first.

    A list of steps, each with one float32 a column: `FLOAT[columns][]`. Of the rows known at the prediction, those with
    the newest events count, at most `last`; with a `window`, of the rows that became known in it, as for an aggregate.
    Rows with the same event time are in the order in which they became known; those known at the same instant in the
    order of their values, column by column, missing ones first. A missing or non-finite value is null within its step.
    Missing if there is no such row, or no entity.
    """

    kind: Literal["sequence"] = "sequence"
    name: Name
    columns: tuple[str, ...] = Field(
        min_length=1, max_length=1000, description="SQL over the source's columns: the numbers of each step"
    )
    last: int = Field(50, ge=1, le=10_000, description="the most steps")
    window: Duration | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Most steps, and values of a step."""
        return self.last, len(self.columns)


Feature = Annotated[Latest | Age | Aggregate | Lag | Sequence, Field(discriminator="kind")]


class FeatureView(Definition):
    """Features of an entity from the rows of one event source, as known at the prediction."""

    newer = ("windows_by",)

    name: Name
    source: Name
    entity: tuple[Name, ...] = Field((), description="columns that join spine and source; if empty, every row counts")
    where: str | None = Field(None, description="SQL condition on the source's rows")
    ttl: Duration | None = Field(None, description="`max_age` of the features that state none")
    windows_by: Literal["available_at", "event_time"] = Field(
        "available_at", description="the time that puts a known row into a window: when it became known, or happened"
    )
    features: tuple[Feature, ...] = Field(min_length=1)
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> FeatureView:
        others = [feature.name for feature in self.features if not isinstance(feature, Aggregate)]
        if self.windows_by == "event_time" and others:
            raise ValueError(
                f"{self.name}: with windows_by event_time a view has aggregates alone; put {others[0]} into a view of "
                "its own"
            )
        return self


class Lookup(Definition):
    """Features from a static table. If the spine has a column of the same name, expressions use `name.column`."""

    name: Name
    source: Name
    key: tuple[Name, ...] = Field(min_length=1, description="columns that join spine and table; unique in the table")
    features: tuple[Expression, ...] = Field(min_length=1)
    description: str = ""


class ModelVersion(Definition):
    """A registered version of another model, which computes features of the rows predicted from `since` on."""

    since: datetime  # with its zone: the version was champion then, and saw nothing later
    version: str
    model_digest: str
    manifest: str  # sha256 of the manifest of its stored folder


class ModelFeature(Described):
    """One column of another model's predictions."""

    kind: Literal["model"] = "model"
    name: Name
    column: Name = Field(description="`prediction`, a part of it such as `distance`, or `probability_<class>`")


class ModelView(Definition):
    """What another registered model predicts of a row, by the version that was its champion at the prediction.

    Missing where no version was. The model's features are columns of this set that come before: of the row, of views,
    of lookups, and of the models above.
    """

    name: Name = Field(description="of the model in its registry")
    features: tuple[ModelFeature, ...] = Field(min_length=1)
    inputs: dict[Name, Name] = Field(
        {}, description="the model's feature -> column of this set; default: the same name"
    )
    versions: tuple[ModelVersion, ...] = Field(min_length=1, description="in the order of `since`")


class Spine(Definition):
    """The rows that are predicted: those of one event source, each with the time at which the prediction is made."""

    newer = ("calendar",)

    source: Name
    key: str = Field(description="the column that names a row")
    prediction_time: str = Field("event_time", description="SQL over event_time")
    entities: dict[Name, str] = Field({}, description="further columns for views to join by: name -> SQL")
    features: tuple[Expression, ...] = ()
    calendar: str | None = Field(
        None, description="SQL of the time zone whose calendar windows and lags of days and longer follow; default UTC"
    )


class Source(Definition):
    """An event source (or, without an `event_time`, a static table) defined by SQL over a raw table's columns."""

    table: str
    event_time: str | None = None
    available_at: str | None = Field(None, description="SQL over the raw columns and event_time; default event_time")
    where: str | None = None
    columns: dict[str, str] = Field(min_length=1, description="column -> SQL over the raw columns")


class FeatureSet(Definition):
    """All features of one learning problem.

    Raises:
        ValueError: two features, or two views, share a name; or a feature has a reserved name.
    """

    newer = ("models",)

    spine: Spine
    views: tuple[FeatureView, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    models: tuple[ModelView, ...] = ()
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSet:
        parts = [part.name for part in self._parts()]
        for what, names in (("feature", self.names()), ("view, lookup or model", parts)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} names must differ; twice: {', '.join(twice)}")
        if taken := sorted(set(self.names()) & {*RESERVED, self.spine.key}):
            raise ValueError(f"no feature may be called {', '.join(taken)}: the table has such a column")
        if not self.names():
            raise ValueError("a feature set needs at least one feature")
        return self

    def _parts(self) -> Iterator[FeatureView | Lookup | ModelView]:
        yield from self.views
        yield from self.lookups
        yield from self.models

    def _columns(self) -> Iterator[tuple[str, Described, str | None]]:
        """The name of each column, its definition, and the name of its view or lookup."""
        yield from ((feature.name, feature, None) for feature in self.spine.features)
        for part in self._parts():
            for feature in part.features:
                names = feature.columns() if isinstance(feature, Aggregate | Lag) else [feature.name]
                yield from ((name, feature, part.name) for name in names)

    def names(self) -> list[str]:
        """The names of all features in column order: of the row itself, of views, of lookups, of other models."""
        return [name for name, _, _ in self._columns()]

    def origins(self) -> dict[str, str]:
        """Feature name -> name of its view, lookup or model; features of the row itself are left out."""
        return {name: origin for name, _, origin in self._columns() if origin}

    def described(self) -> dict[str, Described]:
        """Feature name -> its definition, in column order."""
        return {name: feature for name, feature, _ in self._columns()}

    def sequences(self) -> dict[str, tuple[int, int]]:
        """Name of each sequence -> its most steps, and the values of a step."""
        return {name: feature.shape for name, feature in self.described().items() if isinstance(feature, Sequence)}

    def sources(self) -> list[str]:
        """The names of its sources, each once, the spine's first."""
        of_parts = [*(view.source for view in self.views), *(lookup.source for lookup in self.lookups)]
        return list(dict.fromkeys([self.spine.source, *of_parts]))

    def without(self, patterns: Iterable[str]) -> FeatureSet:
        """The set without the features whose names match one of the shell patterns.

        Raises:
            DefinitionError: a pattern matches nothing, or no feature would be left.
        """
        names = self.names()
        for pattern in (patterns := tuple(patterns)):
            if not any(fnmatchcase(name, pattern) for name in names):
                close = difflib.get_close_matches(pattern, names, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; features are {', '.join(names[:5])}, ..."
                raise DefinitionError(f"pattern {pattern!r} matches no feature{hint}")

        def keep(name: str) -> bool:
            return not any(fnmatchcase(name, pattern) for pattern in patterns)

        if not any(map(keep, names)):
            raise DefinitionError(f"the patterns {', '.join(patterns)} match every feature; leave at least one")
        return _rebuild(self, keep)


def _rebuild(whole: FeatureSet, keep: Callable[[str], bool]) -> FeatureSet:
    """The feature set with only the columns to keep; views and lookups without features are removed."""

    def expressions(features: tuple[Expression, ...]) -> tuple[Expression, ...]:
        return tuple(feature for feature in features if keep(feature.name))

    def trimmed(feature: Any) -> Any:
        if not isinstance(feature, Aggregate | Lag) or (isinstance(feature, Lag) and not feature.before):
            return feature if keep(feature.name) else None
        part = "before" if isinstance(feature, Lag) else "windows"
        spans = tuple(span for name, span in feature.columns().items() if keep(name))
        return feature.model_copy(update={part: spans}) if spans else None

    views = []
    for view in whole.views:
        if features := tuple(feature for feature in map(trimmed, view.features) if feature is not None):
            views.append(view.model_copy(update={"features": features}))
    lookups = []
    for lookup in whole.lookups:
        if trimmed_features := expressions(lookup.features):
            lookups.append(lookup.model_copy(update={"features": trimmed_features}))
    models = []
    for model in whole.models:
        if of_model := tuple(feature for feature in model.features if keep(feature.name)):
            models.append(model.model_copy(update={"features": of_model}))
    spine = whole.spine.model_copy(update={"features": expressions(whole.spine.features)})
    parts = {"views": tuple(views), "lookups": tuple(lookups), "models": tuple(models)}
    return whole.model_copy(update={"spine": spine, **parts})


def interval(duration: str) -> str:
    """Format a duration as DuckDB SQL.

    >>> interval("7d")
    "interval '7 day'"
    """
    match = re.fullmatch(r"([0-9]+)(mo|[mhdwy])", duration)
    if match is None:
        raise DefinitionError(f"{duration!r} is no duration; write 30m, 12h, 7d or 4w")
    return f"interval '{match[1]} {_UNITS[match[2]]}'"
