"""Whose days the steps of a series are: those of UTC, or of a zone whose clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from feature_store.compile import literal
from refit.config import nearest
from refit.errors import UserError

_LIKELY = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Chicago", "America/Los_Angeles")
_NEARLY_ALL = 0.99  # of the steps, as few may be missing a clock change or be written wrongly
_MOST_TRIED, _MOST_NAMED = 60, 3


def require_zone(zone: str) -> None:
    """See that there is such a time zone.

    Raises:
        UserError: there is none, with the nearest one.
    """
    if zone not in (known := available_timezones()):
        raise UserError(f"--timezone {zone}: unknown{nearest(zone, known)}; Europe/Berlin and UTC are some")


def read_zone(connection: Any, name: str, step: str, given: str) -> str:
    """The zone by whose calendar the steps of table `s` begin, of days and longer ones: UTC, or the one that was given.

    Args:
        name: of the file, in messages.
        step: as params write it, such as `1d` or `3mo`.
        given: the zone that the user named; UTC unless one was.

    Raises:
        UserError: they begin by the calendar of a zone that nobody named. Taken for days of UTC, they would meet no
            step of UTC's, or that of another month, from one clock change to the next.
    """
    unit = step.lstrip("0123456789")
    if unit in ("m", "h"):
        return "UTC"
    began = [moment for (moment,) in connection.execute("select distinct began from s order by began").fetchall()]
    if _fits("UTC", began, unit):
        return "UTC"
    if _fits(given, began, unit):
        return given
    some = began[:: -(-len(began) // _MOST_TRIED)]
    ordered = sorted((zone for zone in available_timezones() if "/" in zone), key=lambda z: (z not in _LIKELY, z))
    zones: list[str] = []
    for zone in ordered:
        if len(zones) < _MOST_NAMED and _are_midnights(zone, some) and _fits(zone, began, unit):
            zones.append(zone)
    if not zones:
        return "UTC"
    raise UserError(
        f"{name}: its steps of {step} begin by the clocks of a zone, not by UTC: at {_shown(began)} UTC, as in "
        f"{', '.join(zones)}; name the zone, such as --timezone {zones[0]}"
    )


def local(moment: str, zone: str) -> str:
    """SQL of what clocks of a zone show at a moment of UTC.

    >>> local("event_time", "Europe/Berlin"), local("event_time", "UTC")
    ("timezone('Europe/Berlin', timezone('UTC', event_time))", 'event_time')
    """
    return moment if zone == "UTC" else f"timezone({literal(zone)}, timezone('UTC', {moment}))"


def utc(shown: str, zone: str) -> str:
    """SQL of the moment of UTC at which clocks of a zone show a time."""
    return shown if zone == "UTC" else f"timezone('UTC', timezone({literal(zone)}, {shown}))"


def _fits(zone: str, began: list[datetime], unit: str) -> bool:
    """Whether nearly all moments are one time of the zone's day; of months and years, the first moment of one."""
    local = began if zone == "UTC" else [_local(moment, ZoneInfo(zone)) for moment in began]
    if unit in ("mo", "y"):
        first = sum(moment.day == 1 and moment.time() == datetime.min.time() for moment in local)
        return first >= _NEARLY_ALL * len(local)
    times = [moment.time() for moment in local]
    return max(map(times.count, set(times))) >= _NEARLY_ALL * len(times)


def _are_midnights(zone: str, moments: list[datetime]) -> bool:
    times = [_local(moment, ZoneInfo(zone)).time() for moment in moments]
    return times.count(datetime.min.time()) >= _NEARLY_ALL * len(times)


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)


def _shown(began: list[datetime]) -> str:
    """The times of day, the most frequent first."""
    times = [f"{moment:%H:%M}" for moment in began]
    return " and ".join(sorted(set(times), key=lambda time: (-times.count(time), time))[:_MOST_NAMED])
