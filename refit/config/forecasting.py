"""Forecasts as rows to predict: of which series, how many steps ahead, and the query that makes the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from feature_store import clocks
from feature_store.compile import quote
from feature_store.definition import interval
from refit.config.section import ColumnType, Name, Section

if TYPE_CHECKING:
    import pyarrow as pa

HORIZON = "horizon"  # the feature, and the column of the rows to predict
KNOWN_AT = "label_known_at"  # the column of the feature table that folds in time are cut by
SEASONAL_NAIVE = "seasonal_naive"  # the feature: what the series was a season before the target
ZONE = "step_zone"  # the column of the rows to predict that names the time zone of their calendar, if not UTC
MADE = ("query", "columns", "key", "event_time")  # what is not written by hand
_OURS = ("forecast_time", "horizon", "target_time", "season_time", "event_time", "available_at", "prediction_time")
_STEP = re.compile(r"([1-9][0-9]{0,3})(mo|[mhdwy])")
HOURS = {"m": 1 / 60, "h": 1, "d": 24, "w": 7 * 24, "mo": 31 * 24, "y": 366 * 24}


class ForecastParams(Section):
    """At the end of each step of each series, forecasts of the steps so many ahead."""

    of: Name = Field(description="source with a row for each step of each series; its event_time is the step's start")
    series: dict[Name, ColumnType] = Field({}, description="columns that tell series apart; none: there is one")
    step: str = Field(pattern=f"^{_STEP.pattern}$", description="15m, 1h, 1d, 1w, 1mo, 1y")
    horizons: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(min_length=1, description="steps ahead")
    season: int = Field(1, ge=1, le=100_000, description="steps after which it tends to repeat itself; 1: it does not")

    @field_validator("series")
    @classmethod
    def _unlike_ours(cls, value: dict[str, ColumnType]) -> dict[str, ColumnType]:
        if taken := sorted(set(value) & set(_OURS)):
            raise ValueError(f"forecasts have a column {taken[0]!r} themselves; cut the series' column by another name")
        return value

    @field_validator("horizons")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"horizons must ascend; write {sorted(set(value))}")
        return value

    def steps(self, count: int) -> str:
        """So many steps, as features write a time: 24 of `15m` are `360m`."""
        number, unit = _parts(self.step)
        return f"{count * number}{unit}"

    @property
    def by_calendar(self) -> bool:
        """Whether a step is a day or longer, and so as long as the calendar makes it."""
        return _parts(self.step)[1] not in ("m", "h")

    def seasons(self, count: int) -> str:
        """So many seasons, as features write a time: in days, where each has a whole number of them."""
        number, unit = _parts(self.step)
        minutes = count * self.season * number * {"m": 1, "h": 60}.get(unit, 0)
        return f"{minutes // 1440}d" if minutes and minutes % 1440 == 0 else self.steps(count * self.season)

    def season_time(self, *, local: bool = False) -> str:
        """SQL of the newest start that lies whole seasons before the target and has passed; each model keeps its own.

        Args:
            local: seasons of days and longer are those of the zone that the row names.

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
        # Where clocks are set back between them, what was a season ago may not be over yet.
        return f"case when {newest} > forecast_time - {interval(self.step)} then {before} else {newest} end"

    @property
    def lead_hours(self) -> float:
        """Hours from a forecast until the last of its outcomes; months and years count as long ones."""
        number, unit = _parts(self.step)
        return number * HOURS[unit] * self.horizons[-1]


def _parts(step: str) -> tuple[int, str]:
    found = _STEP.fullmatch(step)
    if found is None:
        raise ValueError(f"step {step!r}")
    return int(found[1]), found[2]


def with_queries(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raw params with each source of kind `forecasts` as the query that it stands for."""
    ingest, project = raw.get("ingest"), raw.get("project")
    sources = ingest.get("sources") if isinstance(ingest, Mapping) else None
    if not isinstance(ingest, Mapping) or not isinstance(sources, Mapping):
        return raw  # an error, which the sections themselves tell
    zone = str(project.get("timezone", "UTC")) if isinstance(project, Mapping) else "UTC"
    return {**raw, "ingest": {**ingest, "sources": {name: _expanded(each, zone) for name, each in sources.items()}}}


def _expanded(raw: Any, zone: str) -> Any:
    if not isinstance(raw, Mapping) or raw.get("kind") != "forecasts":
        return raw
    asked = raw.get("forecast")
    if not isinstance(asked, Mapping) or set(MADE) & set(raw):  # of kind `forecasts` still, which is told as an error
        return {**raw, "columns": {"forecast_time": "timestamp"}, "key": ["forecast_time"]}
    series = asked["series"] if isinstance(asked.get("series"), Mapping) else {}
    columns = {**series, "forecast_time": "timestamp", "horizon": "integer", "target_time": "timestamp"}
    columns |= {} if zone == "UTC" else {ZONE: "text"}
    made = {"columns": columns, "key": [*series, "forecast_time", "horizon"], "event_time": "forecast_time"}
    return {**raw, **made, "kind": "query", "query": _query(asked, list(series), zone)}


def _query(asked: Mapping[str, Any], series: list[str], zone: str) -> str:
    """A row for each end of a step and horizon."""
    parts = _STEP.fullmatch(str(asked.get("step")))
    step = interval(parts[0]) if parts else "null"
    horizons, of = asked.get("horizons"), quote(str(asked.get("of")))
    ahead = ", ".join(map(str, horizons if isinstance(horizons, list) else ()))
    names = "".join(f"{quote(name)} as {quote(name)}, " for name in series)  # the file may write them in capitals
    if zone == "UTC" or parts is None:
        return f"""
select *, forecast_time + (horizon - 1) * {step} as target_time
from (select distinct {names}event_time + {step} as forecast_time from {of}),
  (select unnest([{ahead}]) as horizon)"""
    here, end, target = f"'{zone}'", f"event_time + {step}", f"forecast_time + (horizon - 1) * {step}"
    if parts[2] not in ("m", "h"):
        here, end = _calendar(of, parts[2], zone), clocks.moved("event_time", f"+ {step}", ZONE)
        target = clocks.met("forecast_time", f"+ (horizon - 1) * {step}", ZONE)
    return f"""
select * from (select *, {target} as target_time
from (select distinct {names}{end} as forecast_time, {ZONE} from (select *, {here} as {ZONE} from {of})),
  (select unnest([{ahead}]) as horizon)) where target_time is not null"""


def _calendar(of: str, unit: str, zone: str) -> str:
    """SQL of the zone whose clocks the steps keep to: the project's, unless more of them begin at one time of UTC."""
    shown = {"mo": "%d %H:%M:%S", "y": "%m-%d %H:%M:%S"}.get(unit, "%H:%M:%S")
    alike = (
        f"(select max(n) from (select count(*) as n from {of} group by strftime({time}, '{shown}')))"
        for time in ("event_time", clocks.local("event_time", f"'{zone}'"))
    )
    return f"case when {' > '.join(alike)} then 'UTC' else '{zone}' end"


def series_of(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """The name of each row's series; nothing where there is one alone."""
    values = [table.column(name).to_pylist() for name in columns]
    return [json.dumps(row, default=str) for row in zip(*values, strict=True)] if values else [""] * table.num_rows
