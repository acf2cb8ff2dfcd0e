"""Forecasts as rows to predict: of which series, how many steps ahead, and the query that makes the rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from feature_store.compile import quote
from feature_store.definition import interval
from tasks.params.section import ColumnType, Name, Section

HORIZON = "horizon"  # the feature, and the column of the rows to predict
KNOWN_AT = "label_known_at"  # the column of the feature table that folds in time are cut by
SEASONAL_NAIVE = "seasonal_naive"  # the feature: what the series was a season before the target
MADE = ("query", "columns", "key", "event_time")  # what is not written by hand
_STEP = re.compile(r"([1-9][0-9]{0,3})(mo|[mhdwy])")
HOURS = {"m": 1 / 60, "h": 1, "d": 24, "w": 7 * 24, "mo": 31 * 24, "y": 366 * 24}


class ForecastParams(Section):
    """At the end of each step of each series, forecasts of the steps so many ahead."""

    of: Name = Field(description="source with a row for each step of each series; its event_time is the step's start")
    series: dict[Name, ColumnType] = Field({}, description="columns that tell series apart; none: there is one")
    step: str = Field(pattern=f"^{_STEP.pattern}$", description="15m, 1h, 1d, 1w, 1mo, 1y")
    horizons: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(min_length=1, description="steps ahead")
    season: int = Field(1, ge=1, le=100_000, description="steps after which it tends to repeat itself; 1: it does not")

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
    def season_time(self) -> str:
        """SQL of the newest start that lies whole seasons before the target and has passed; each model keeps its own.

        >>> ForecastParams(of="days", step="1d", horizons=(1, 9), season=7).season_time
        "target_time - (horizon + 6) // 7 * 7 * interval '1 day'"
        """
        return f"target_time - (horizon + {self.season - 1}) // {self.season} * {self.season} * {interval(self.step)}"

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
    ingest = raw.get("ingest")
    sources = ingest.get("sources") if isinstance(ingest, Mapping) else None
    if not isinstance(ingest, Mapping) or not isinstance(sources, Mapping):
        return raw  # an error, which the sections themselves tell
    return {**raw, "ingest": {**ingest, "sources": {name: _expanded(source) for name, source in sources.items()}}}


def _expanded(raw: Any) -> Any:
    if not isinstance(raw, Mapping) or raw.get("kind") != "forecasts":
        return raw
    asked = raw.get("forecast")
    if not isinstance(asked, Mapping) or set(MADE) & set(raw):  # of kind `forecasts` still, which is told as an error
        return {**raw, "columns": {"forecast_time": "timestamp"}, "key": ["forecast_time"]}
    series = asked["series"] if isinstance(asked.get("series"), Mapping) else {}
    times = {"forecast_time": "timestamp", "horizon": "integer", "target_time": "timestamp"}
    made = {"columns": {**series, **times}, "key": [*series, "forecast_time", "horizon"], "event_time": "forecast_time"}
    return {**raw, **made, "kind": "query", "query": _query(asked, list(series))}


def _query(asked: Mapping[str, Any], series: list[str]) -> str:
    """A row for each end of a step and horizon."""
    step = interval(str(asked["step"])) if _STEP.fullmatch(str(asked.get("step"))) else "null"
    horizons = asked.get("horizons")
    ahead = ", ".join(map(str, horizons if isinstance(horizons, list) else ()))
    names = "".join(f"{quote(name)} as {quote(name)}, " for name in series)  # the file may write them in capitals
    return f"""
select *, forecast_time + (horizon - 1) * {step} as target_time
from (select distinct {names}event_time + {step} as forecast_time from {quote(str(asked.get("of")))}),
  (select unnest([{ahead}]) as horizon)"""
