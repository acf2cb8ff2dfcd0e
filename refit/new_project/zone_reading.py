"""Infers the time zone of a series' steps: UTC, or a zone with daylight saving time."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from feature_store import clocks
from feature_store.sql_text import literal
from refit.config import nearest
from refit.errors import UserError

_LIKELY = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Chicago", "America/Los_Angeles")
_NEARLY_ALL = 0.99  # of the steps, as a few may miss a clock change or be wrong
_MOST_TRIED, _MOST_NAMED = 60, 3


def require_zone(zone: str) -> None:
    """Check that a time zone exists.

    Raises:
        UserError: it does not; the message names the nearest one.
    """
    if zone not in (zones := available_timezones()):
        raise UserError(f"--timezone {zone}: unknown{nearest(zone, zones)}; Europe/Berlin and UTC are some")


def read_zone(connection: Any, name: str, step: str, given: str) -> str:
    """Return the zone by whose calendar days and longer steps of table `s` begin: UTC, or the given one.

    Args:
        name: of the file, in messages.
        step: in the notation of params, such as `1d` or `3mo`.
        given: the zone that the user named; UTC by default.

    Raises:
        UserError: they begin by the calendar of a zone that the user did not name. Read as days of UTC, they would
            match no step of UTC, or one of another month, between two clock changes.
    """
    unit = step.lstrip("0123456789")
    if unit in ("m", "h"):
        return "UTC"
    starts = [moment for (moment,) in connection.execute("select distinct began from s order by began").fetchall()]
    if _fits("UTC", starts, unit):
        return "UTC"
    if _fits(given, starts, unit):
        return given
    sample = starts[:: -(-len(starts) // _MOST_TRIED)]
    ordered = sorted((zone for zone in available_timezones() if "/" in zone), key=lambda z: (z not in _LIKELY, z))
    fitting = (zone for zone in ordered if _are_midnights(zone, sample) and _fits(zone, starts, unit))
    zones = list(islice(fitting, _MOST_NAMED))
    if not zones:
        return "UTC"
    raise UserError(
        f"{name}: its steps of {step} begin by the clocks of a zone, not by UTC: at {_format_times(starts)} UTC, as in "
        f"{', '.join(zones)}; name the zone, such as --timezone {zones[0]}"
    )


def local(moment: str, zone: str) -> str:
    """Return SQL that converts a time in UTC to local time in a zone.

    >>> local("event_time", "Europe/Berlin"), local("event_time", "UTC")
    ("timezone('Europe/Berlin', timezone('UTC', event_time))", 'event_time')
    """
    return moment if zone == "UTC" else clocks.local(moment, literal(zone))


def utc(shown: str, zone: str) -> str:
    """Return SQL that converts local time in a zone to UTC."""
    return shown if zone == "UTC" else clocks.utc(shown, literal(zone))


def _fits(zone: str, starts: list[datetime], unit: str) -> bool:
    """Return whether nearly all starts have the same local time; months and years must start on a first at midnight."""
    local_starts = starts if zone == "UTC" else [_local(moment, ZoneInfo(zone)) for moment in starts]
    if unit in ("mo", "y"):
        first = sum(moment.day == 1 and moment.time() == datetime.min.time() for moment in local_starts)
        return first >= _NEARLY_ALL * len(local_starts)
    times = [moment.time() for moment in local_starts]
    return max(map(times.count, set(times))) >= _NEARLY_ALL * len(times)


def _are_midnights(zone: str, moments: list[datetime]) -> bool:
    times = [_local(moment, ZoneInfo(zone)).time() for moment in moments]
    return times.count(datetime.min.time()) >= _NEARLY_ALL * len(times)


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)


def _format_times(starts: list[datetime]) -> str:
    """Format the times of day, the most frequent first."""
    times = [f"{moment:%H:%M}" for moment in starts]
    return " and ".join(sorted(set(times), key=lambda time: (-times.count(time), time))[:_MOST_NAMED])
