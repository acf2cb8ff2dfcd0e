"""The params section `project`: the name and the time zone."""

from __future__ import annotations

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator

from refit.config.section import Name, Section, nearest

time_zones = cache(available_timezones)  # it reads a folder of 600 files each time


class ProjectParams(Section):
    name: Name = Field(description="the registered model's name")
    timezone: str = Field("UTC", description="IANA time zone of periods and dates")

    @field_validator("timezone")
    @classmethod
    def _is_time_zone(cls, value: str) -> str:
        if value not in time_zones():
            raise ValueError(f"time zone {value!r} is unknown{nearest(value, time_zones())}")
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)
