"""SQL for days, weeks, months and years of a time zone's calendar, over times stored in UTC.

Clock changes make days of 23, 24 or 25 hours: a week before local midnight is local midnight. A skipped local time
means the time that the clocks were set to; of a local time that occurs twice, the second is meant, as DuckDB does when
it converts a date to a moment. A day that a zone skipped completely has no moment.
"""

from __future__ import annotations


def local(time: str, zone: str) -> str:
    """SQL of the local time in a zone; both arguments are SQL.

    >>> local("event_time", "'Europe/Berlin'")
    "timezone('Europe/Berlin', timezone('UTC', event_time))"
    """
    return f"timezone({zone}, timezone('UTC', {time}))"


def utc(time: str, zone: str) -> str:
    """SQL of the moment of a local time in a zone; both arguments are SQL.

    >>> utc("shown", "'Europe/Berlin'")
    "timezone('UTC', timezone('Europe/Berlin', shown))"
    """
    return f"timezone('UTC', timezone({zone}, {time}))"


def moved(time: str, by: str, zone: str) -> str:
    """SQL of a moment moved by days, weeks, months or years of a zone's calendar, at the same time of day.

    The first moment of a day counts as its midnight, even if a clock change skipped midnight.

    Args:
        by: SQL that is appended to a local time, such as `- interval '7 day'`.
    """
    return utc(_shown(time, by, zone), zone)


def met(time: str, by: str, zone: str) -> str:
    """Like `moved`, but missing if that day does not exist (Samoa had no 30 December 2011)."""
    there = moved(time, by, zone)
    return f"case when {local(there, zone)}::date = ({_shown(time, by, zone)})::date then {there} end"


def _shown(time: str, by: str, zone: str) -> str:
    """SQL of the local time moved by `by`, before any adjustment for clock changes."""
    now, just_before = local(time, zone), local(f"({time} - interval 1 microsecond)", zone)
    midnight = f"case when {now}::date > {just_before}::date then date_trunc('day', {now})::timestamp else {now} end"
    return f"({midnight}) {by}"
