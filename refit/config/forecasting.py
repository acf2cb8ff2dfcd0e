"""Params of forecasts: the series, the steps ahead, and the query that generates the rows to predict."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from feature_store import clocks
from feature_store.definition import interval
from feature_store.sql_text import quote
from refit.config.column_types import ScalarType
from refit.config.section import Name, Section, Unit, shaped
from refit.files.yaml_files import YamlTree

if TYPE_CHECKING:
    import pyarrow as pa

HORIZON = "horizon"  # the feature, and the column of the rows to predict
KNOWN_AT = "label_known_at"  # the column of the feature table by which folds in time are cut
ZONE = "step_zone"  # the column of the rows to predict that names the time zone of their calendar, if not UTC
MADE = ("query", "columns", "key", "event_time")  # keys that Refit sets itself
_OURS = ("forecast_time", "horizon", "target_time", "season_time", "event_time", "available_at", "prediction_time")
_STEP = re.compile(r"([1-9][0-9]{0,3})(mo|[mhdwy])")
_SEASONS = {  # name -> its length in the units of a step
    "same_time_yesterday": {"m": 1440},
    "same_time_last_week": {"m": 10080, "d": 7},
    "same_time_last_year": {"w": 52, "mo": 12},
}
HOURS = {"m": 1 / 60, "h": 1, "d": 24, "w": 7 * 24, "mo": 31 * 24, "y": 366 * 24}


class ForecastParams(Section):
    """Forecasts for the given steps ahead, made at the end of each step of each series."""

    of: Name = Field(description="source with a row for each step of each series; its event_time is the step's start")
    series: dict[Name, ScalarType] = Field({}, description="columns that identify a series; empty for a single series")
    step: str = Field(
        pattern=shaped(f"^{_STEP.pattern}$", "a step such as 15m, 1h, 1d, 1w, 1mo or 1y"),
        description="time from row to row: 15m, 1h, 1d, 1w, 1mo, 1y",
    )
    horizons: tuple[Annotated[int, Unit("steps"), Field(ge=1, le=10_000)], ...] = Field(
        min_length=1, description="steps ahead"
    )
    every: Annotated[int, Unit("steps")] = Field(
        1,
        ge=1,
        le=100_000,
        description="forecasts are at the end of each n-th step; `refit score newest` makes those of the newest one",
    )
    learn: Annotated[int, Unit("horizons")] | None = Field(
        None, ge=1, description="horizons of each forecast to learn from, of all in turn; all are judged; default: all"
    )
    season: Annotated[int, Unit("steps")] = Field(
        1, ge=1, le=100_000, description="steps after which it tends to repeat itself; 1: no season"
    )
    lags: tuple[Annotated[int, Unit("steps"), Field(ge=2, le=100_000)], ...] | None = Field(
        None,
        description="shorter or longer cycles than the season: without featurize.definitions, the newest value whole "
        "cycles before the target and the mean of a cycle are features; default: a day or a week within the season",
    )

    @field_validator("series")
    @classmethod
    def _unlike_ours(cls, value: dict[str, ScalarType]) -> dict[str, ScalarType]:
        if taken := sorted(set(value) & set(_OURS)):
            raise ValueError(f"forecasts have a column {taken[0]!r} themselves; cut the series' column by another name")
        return value

    @field_validator("horizons")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"horizons must ascend; write {sorted(set(value))}")
        return value

    @field_validator("learn")
    @classmethod
    def _some(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value > len(horizons := info.data.get("horizons", ())) > 0:
            raise ValueError(f"there are {len(horizons)} horizons; leave it out to learn from all")
        return value

    def is_learned(self, key: str) -> str:
        """SQL of whether a row of the training window is learned from: of each forecast `learn` horizons, far apart.

        Which ones, a hash of the forecast decides, so that all horizons are learned from equally often.

        Args:
            key: SQL that is equal for all rows of a forecast.
        """
        if self.learn is None:
            return "true"
        n, among = len(self.horizons), ", ".join(map(str, self.horizons))
        position = f"(list_position([{among}], horizon) - 1) * {self.learn} + md5_number_lower({key}) % {n}"
        return f"({position}) % {n} < {self.learn}"

    def steps(self, count: int) -> str:
        """A number of steps in the notation of features: 24 of `15m` are `360m`."""
        number, unit = _parts(self.step)
        return f"{count * number}{unit}"

    @property
    def by_calendar(self) -> bool:
        """Whether a step is a day or longer, so that its length depends on the calendar."""
        return _parts(self.step)[1] not in ("m", "h")

    def seasons(self, count: int) -> str:
        """A number of seasons in the notation of features; in days if the season is a whole number of days."""
        number, unit = _parts(self.step)
        minutes = count * self.season * number * {"m": 1, "h": 60}.get(unit, 0)
        return f"{minutes // 1440}d" if minutes and minutes % 1440 == 0 else self.steps(count * self.season)

    @property
    def calendar_seasons(self) -> dict[str, int]:
        """The seasons of the calendar that are not its own, by name: how many steps each has.

        >>> ForecastParams(of="hours", step="1h", horizons=(1,), season=168).calendar_seasons
        {'same_time_yesterday': 24}
        >>> ForecastParams(of="months", step="1mo", horizons=(1,)).calendar_seasons
        {'same_time_last_year': 12}
        """
        number, unit = _parts(self.step)
        number, unit = (60 * number, "m") if unit == "h" else (number, unit)
        lengths = {name: units[unit] / number for name, units in _SEASONS.items() if unit in units}
        return {name: int(steps) for name, steps in lengths.items() if steps % 1 == 0 and steps not in (1, self.season)}

    @property
    def cycles(self) -> tuple[int, ...]:
        """The cycles that default features follow in addition to the season, in steps.

        >>> ForecastParams(of="hours", step="1h", horizons=(1,), season=168).cycles
        (24,)
        >>> ForecastParams(of="hours", step="1h", horizons=(1,), season=24, lags=(24, 168)).cycles
        (168,)
        """
        by_calendar = (steps for steps in self.calendar_seasons.values() if steps < self.season)
        return tuple(sorted(set(by_calendar if self.lags is None else self.lags) - {self.season}))

    def cycle_times(self, *, local: bool = False) -> dict[str, str]:
        """SQL of the newest start that lies whole cycles before the target and has passed, by its column's name."""
        return {
            cycle_time(steps): self.model_copy(update={"season": steps}).season_time(local=local)
            for steps in self.cycles
        }

    def season_time(self, *, local: bool = False) -> str:
        """SQL of the newest start that lies whole seasons before the target and has passed; stored with each model.

        Args:
            local: seasons of a day or longer follow the time zone named in the row.

        >>> ForecastParams(of="days", step="1d", horizons=(1, 9), season=7).season_time()
        "target_time - (horizon + 6) // 7 * 7 * interval '1 day'"
        """
        seasons = f"(horizon + {self.season - 1}) // {self.season}"
        if not local or (one := self.seasons(1)).endswith(("m", "h")):
            return f"target_time - {seasons} * {self.season} * {interval(self.step)}"
        newest, before = (
            clocks.met("target_time", f"- ({seasons} + {more}) * {interval(one)}", ZONE) for more in (0, 1)
        )
        if self.by_calendar:
            return newest
        # If clocks are set back in between, the step one season ago may not be over yet.
        return f"case when {newest} > forecast_time - {interval(self.step)} then {before} else {newest} end"

    @property
    def lead_hours(self) -> float:
        """Hours from a forecast until its last outcome, with the longest possible months and years."""
        number, unit = _parts(self.step)
        return number * HOURS[unit] * self.horizons[-1]


def cycle_time(steps: int) -> str:
    """The column with the start that lies whole cycles of some steps before the target."""
    return f"cycle_{steps}_time"


def _parts(step: str) -> tuple[int, str]:
    match = _STEP.fullmatch(step)
    if match is None:
        raise ValueError(f"step {step!r}")
    return int(match[1]), match[2]


def with_queries(raw: YamlTree) -> YamlTree:
    """Replace each source of kind `forecasts` in raw params by its query."""
    ingest, project = raw.get("ingest"), raw.get("project")
    sources = ingest.get("sources") if isinstance(ingest, Mapping) else None
    if not isinstance(ingest, Mapping) or not isinstance(sources, Mapping):
        return raw  # invalid, which the sections report
    zone = str(project.get("timezone", "UTC")) if isinstance(project, Mapping) else "UTC"
    return {**raw, "ingest": {**ingest, "sources": {name: _expanded(each, zone) for name, each in sources.items()}}}


def _expanded(raw: Any, zone: str) -> Any:
    if not isinstance(raw, Mapping) or raw.get("kind") != "forecasts":
        return raw
    forecast = raw.get("forecast")
    if not isinstance(forecast, Mapping) or set(MADE) & set(raw):  # kind `forecasts` stays, and is reported
        return {**raw, "columns": {"forecast_time": "timestamp"}, "key": ["forecast_time"]}
    series = forecast["series"] if isinstance(forecast.get("series"), Mapping) else {}
    columns = {**series, "forecast_time": "timestamp", "horizon": "integer", "target_time": "timestamp"}
    columns |= {} if zone == "UTC" else {ZONE: "text"}
    made = {"columns": columns, "key": [*series, "forecast_time", "horizon"], "event_time": "forecast_time"}
    return {**raw, **made, "kind": "query", "query": _query(forecast, list(series), zone)}


def newest_query(forecast: ForecastParams, zone: str, until: str, calendar: str | None) -> str:
    """The query of the newest forecast of each series, made by a moment (SQL): of any step, whatever `every` is.

    Args:
        calendar: the zone by which days begin; None if there is no choice.
    """
    return _query(forecast.model_dump(mode="json"), list(forecast.series), zone, until, calendar)


def query_by(forecast: ForecastParams, zone: str, calendar: str) -> str:
    """The query of all forecasts, with steps by the calendar of a zone: the project's, or UTC."""
    return _query(forecast.model_dump(mode="json"), list(forecast.series), zone, calendar=calendar)


def calendar_query(forecast: ForecastParams, zone: str) -> str:
    """The query of two rows, for UTC and for a zone: how many steps begin at one time of day, and how many at midnight.

    The larger row is the calendar of the steps: a history without a clock change has as many at one time in both.
    """
    shown, midnight = _shown(_parts(forecast.step)[1])
    times = [f"strftime({time}, '{shown}')" for time in ("event_time", clocks.local("event_time", f"'{zone}'"))]
    of = quote(forecast.of)
    rows = (
        f"select (select max(n) from (select count(*) as n from {of} group by {time})), "
        f"(select count(*) from {of} where {time} = '{midnight}')"
        for time in times
    )
    return " union all ".join(rows)


def _query(
    forecast: Mapping[str, object], series: list[str], zone: str, newest_until: str = "", calendar: str | None = None
) -> str:
    """The query with one row for each end of a step and each horizon; or only of the newest by a moment (SQL)."""
    parts = _STEP.fullmatch(str(forecast.get("step")))
    step = interval(parts[0]) if parts else "null"
    horizons, of = forecast.get("horizons"), quote(str(forecast.get("of")))
    ahead = ", ".join(map(str, horizons if isinstance(horizons, list) else ()))
    names = "".join(f"{quote(name)} as {quote(name)}, " for name in series)  # the file may have them in capitals
    local = zone != "UTC" and parts is not None and parts[2] not in ("m", "h")
    end = clocks.moved("event_time", f"+ {step}", ZONE) if local else f"event_time + {step}"
    every = forecast.get("every", 1)
    filter_clause = _every(every, parts, zone) if parts and isinstance(every, int) and every > 1 else ""
    if newest_until:
        of_each = f"partition by {', '.join(map(quote, series))}" if series else ""
        filter_clause = f" where {end} <= {newest_until} qualify event_time = max(event_time) over ({of_each})"
    if zone == "UTC" or parts is None:
        return f"""
select *, forecast_time + (horizon - 1) * {step} as target_time
from (select distinct {names}{end} as forecast_time from {of}{filter_clause}),
  (select unnest([{ahead}]) as horizon)"""
    here, target = f"'{zone}'", f"forecast_time + (horizon - 1) * {step}"
    if local:
        here = f"'{calendar}'" if calendar else _calendar(of, parts[2], zone)
        target = clocks.met("forecast_time", f"+ (horizon - 1) * {step}", ZONE)
    return f"""
select * from (select *, {target} as target_time
from (select distinct {names}{end} as forecast_time, {ZONE} from (select *, {here} as {ZONE} from {of}){filter_clause}),
  (select unnest([{ahead}]) as horizon)) where target_time is not null"""


def _every(every: int, step: re.Match[str], zone: str) -> str:
    """SQL that keeps each n-th step, counted from 1970 by the clocks of the zone.

    Stored batches never change, so that a step is kept must not depend on the steps that come later.
    """
    number, unit = int(step[1]), step[2]
    time = "event_time" if unit in ("m", "h") else clocks.local("event_time", f"'{zone}'")
    if unit in ("mo", "y"):
        count = f"datediff('month', timestamp '1970-01-01', {time}) // {number * (12 if unit == 'y' else 1)}"
    else:
        count = f"floor(epoch({time}) / {round(number * HOURS[unit] * 3600)})::bigint"
    return f" where {count} % {every} = 0"


def _calendar(of: str, unit: str, zone: str) -> str:
    """SQL of the zone that the steps follow: the project's, unless more steps start at the same time in UTC.

    It stays as it is, because a declaration's digest has the query: ingest chooses by `calendar_query`, once.
    """
    shown, _ = _shown(unit)
    most_at_once = (
        f"(select max(n) from (select count(*) as n from {of} group by strftime({time}, '{shown}')))"
        for time in ("event_time", clocks.local("event_time", f"'{zone}'"))
    )
    return f"case when {' > '.join(most_at_once)} then 'UTC' else '{zone}' end"


def _shown(unit: str) -> tuple[str, str]:
    """The format of the part of a time that is the same for all steps, and how it shows midnight."""
    date, first = {"mo": ("%d ", "01 "), "y": ("%m-%d ", "01-01 ")}.get(unit, ("", ""))
    return f"{date}%H:%M:%S", f"{first}00:00:00"


def series_of(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """The name of each row's series; empty if there is only one series."""
    values = [table[name].to_pylist() for name in columns]
    return [json.dumps(row, default=str) for row in zip(*values, strict=True)] if values else [""] * table.num_rows
