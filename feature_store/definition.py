"""What a feature is, as data: frozen, serialisable, and so computable again after the code that wrote it has changed.

A `FeatureSet` says which rows are predicted and when (`Spine`), what is known of each row itself (`Expression`), what
other events told by then (`FeatureView`) and what static tables add (`Lookup`). `feature_store.offline.compute` turns
it into columns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

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
    """A part of a feature set: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Described(Definition):
    """What a reader, a report and a reviewer need to know of a feature besides how it is computed."""

    description: str = ""
    unit: str = ""
    missing: str = Field("", description="what a missing value means")


class Expression(Described):
    """One number or category computed from the row itself by SQL over the spine's columns and its two times."""

    name: Name
    sql: str = Field(min_length=1)


class Latest(Described):
    """The value of the row that became known last.

    Missing where there is no such row, or its value is missing, or it became known `max_age` ago or longer. Of rows
    that became known at one instant, the one whose event is newest counts; of those, the one with the largest values.
    """

    kind: Literal["latest"] = "latest"
    name: Name
    column: str = Field(min_length=1, description="SQL over the source's columns")
    max_age: Duration | None = None


class Age(Described):
    """Hours from the time at which the view's newest row became known to the prediction."""

    kind: Literal["age"] = "age"
    name: Name
    max_age: Duration | None = None


class Aggregate(Described):
    """A summary of the rows that became known in each of some windows before the prediction.

    A row counts in window w if prediction_time - w < available_at <= prediction_time. `count` counts rows where
    `column` is not missing (all rows without one), `sum` adds, `mean` and `std` (of a sample) describe, `rate` is the
    share of true values. Sums are taken of values rounded to `decimals` digits, in integers: exact, and the same in
    whatever order rows come. No rows in the window: count and sum are 0, the others missing. Entity missing: all
    missing.
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
    """The value of the row whose event is exactly so long before a time of the row that is predicted, or just then.

    Missing where there is no such row, or it became known only after the prediction: what a moment ahead of the
    prediction will bring is never seen, unless it is known ahead, such as a holiday. Of several rows of that moment the
    one that became known last counts; of those known at one instant, the one with the largest values.
    """

    kind: Literal["lag"] = "lag"
    name: Name = Field(description="the columns are called <name>_<before>; <name> where nothing is before")
    column: str = Field(min_length=1, description="SQL over the source's columns")
    before: tuple[Span, ...] = Field((), description="how long before that time; none: just then")
    of: Name = Field(
        "prediction_time", description="a time among the spine's columns, such as the one that is forecast"
    )

    def columns(self) -> dict[str, str | None]:
        """Feature name -> how long before."""
        return {f"{self.name}_{before}": before for before in self.before} or {self.name: None}


Feature = Annotated[Latest | Age | Aggregate | Lag, Field(discriminator="kind")]


class FeatureView(Definition):
    """What the rows of one event source tell about an entity, as known at the prediction."""

    name: Name
    source: Name
    entity: tuple[Name, ...] = Field((), description="columns by which spine and source meet; none: every row counts")
    where: str | None = Field(None, description="SQL condition on the source's rows")
    ttl: Duration | None = Field(None, description="`max_age` of the features that state none")
    features: tuple[Feature, ...] = Field(min_length=1)
    description: str = ""


class Lookup(Definition):
    """What a static table adds to a row. Where the spine has a column alike, expressions say `name.column`."""

    name: Name
    source: Name
    key: tuple[Name, ...] = Field(
        min_length=1, description="columns by which spine and table meet; unique in the table"
    )
    features: tuple[Expression, ...] = Field(min_length=1)
    description: str = ""


class Spine(Definition):
    """The rows that are predicted: those of one event source, each with the time at which the prediction is made."""

    source: Name
    key: str = Field(description="the column that names a row")
    prediction_time: str = Field("event_time", description="SQL over event_time")
    entities: dict[Name, str] = Field({}, description="columns for views to meet by, besides the source's: name -> SQL")
    features: tuple[Expression, ...] = ()
    calendar: str | None = Field(
        None, description="SQL of a time zone: windows and lags in days and longer are its calendar's; none: UTC's"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, written: Callable[[Spine], dict[str, Any]]) -> dict[str, Any]:
        """Without a calendar as it was before there was one: models that are stored keep their digest."""
        return {name: value for name, value in written(self).items() if name != "calendar" or value is not None}


class Source(Definition):
    """An event source (or, without an `event_time`, a static table) cut out of a raw table by SQL over its columns."""

    table: str
    event_time: str | None = None
    available_at: str | None = Field(None, description="SQL over the raw columns and event_time; none: event_time")
    where: str | None = None
    columns: dict[str, str] = Field(min_length=1, description="column -> SQL over the raw columns")


class FeatureSet(Definition):
    """All features of one learning problem.

    Raises:
        ValueError: two features, or two views, share a name; or a feature bears a name that the table needs.
    """

    spine: Spine
    views: tuple[FeatureView, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSet:
        for what, names in (("feature", self.names()), ("view or lookup", [part.name for part in self._parts()])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} names must differ; twice: {', '.join(twice)}")
        if taken := sorted(set(self.names()) & {*RESERVED, self.spine.key}):
            raise ValueError(f"no feature may be called {', '.join(taken)}: the table has such a column")
        if not self.names():
            raise ValueError("a feature set needs at least one feature")
        return self

    def _parts(self) -> Iterator[FeatureView | Lookup]:
        yield from self.views
        yield from self.lookups

    def _columns(self) -> Iterator[tuple[str, Described, str | None]]:
        """The name of each column, its definition, and the view or lookup that it comes from."""
        yield from ((feature.name, feature, None) for feature in self.spine.features)
        for part in self._parts():
            for feature in part.features:
                names = feature.columns() if isinstance(feature, Aggregate | Lag) else [feature.name]
                yield from ((name, feature, part.name) for name in names)

    def names(self) -> list[str]:
        """Every feature, in column order: of the row itself, then views, then lookups, as they are listed."""
        return [name for name, _, _ in self._columns()]

    def origins(self) -> dict[str, str]:
        """Feature name -> the view or lookup that it comes from; those of the row itself have none."""
        return {name: origin for name, _, origin in self._columns() if origin}

    def described(self) -> dict[str, Described]:
        """Feature name -> its definition, in column order."""
        return {name: feature for name, feature, _ in self._columns()}

    def sources(self) -> list[str]:
        """The sources it reads, each once, the spine's first."""
        return list(dict.fromkeys([self.spine.source, *(part.source for part in self._parts())]))

    def without(self, patterns: Iterable[str]) -> FeatureSet:
        """The set less the features whose names match one of the shell patterns.

        Raises:
            DefinitionError: a pattern matches nothing, or all features would be gone.
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
    """The feature set with only the columns to keep; views and lookups left empty go too."""

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
        if features := tuple(kept for kept in map(trimmed, view.features) if kept is not None):
            views.append(view.model_copy(update={"features": features}))
    lookups = []
    for lookup in whole.lookups:
        if kept := expressions(lookup.features):
            lookups.append(lookup.model_copy(update={"features": kept}))
    spine = whole.spine.model_copy(update={"features": expressions(whole.spine.features)})
    return whole.model_copy(update={"spine": spine, "views": tuple(views), "lookups": tuple(lookups)})


def interval(duration: str) -> str:
    """A duration as DuckDB SQL.

    >>> interval("7d")
    "interval '7 day'"
    """
    match = re.fullmatch(r"([0-9]+)(mo|[mhdwy])", duration)
    if match is None:
        raise DefinitionError(f"{duration!r} is no duration; write 30m, 12h, 7d or 4w")
    return f"interval '{match[1]} {_UNITS[match[2]]}'"
