"""Days, weeks, months and years of a time zone's calendar, in SQL over times that are stored in UTC.

Clocks are set forward and back, so that a day has 23, 24 or 25 hours: a week before local midnight is local midnight.
A local time that is skipped is the one that the clocks were set to; of one that comes twice, the second is meant, as
DuckDB takes it where it turns a date into a moment. A day that a zone skipped whole has no moment.
"""

from __future__ import annotations


def local(time: str, zone: str) -> str:
    """SQL of what the clocks of a zone show; both arguments are SQL.

    >>> local("event_time", "'Europe/Berlin'")
    "timezone('Europe/Berlin', timezone('UTC', event_time))"
    """
    return f"timezone({zone}, timezone('UTC', {time}))"


def moved(time: str, by: str, zone: str) -> str:
    """SQL of a moment so many days, weeks, months or years away by a zone's calendar: at the same time of the day.

    The first moment of a day counts as its midnight, though the clocks may have skipped that.

    Args:
        by: SQL of what is added to a local time, such as `- interval '7 day'`.
    """
    return f"timezone('UTC', timezone({zone}, {_shown(time, by, zone)}))"


def met(time: str, by: str, zone: str) -> str:
    """As `moved`; missing where that day does not exist (Samoa had no 30 December 2011)."""
    there = moved(time, by, zone)
    return f"case when {local(there, zone)}::date = ({_shown(time, by, zone)})::date then {there} end"


def _shown(time: str, by: str, zone: str) -> str:
    """What the clocks show then, if they are not set in between."""
    now, just_before = local(time, zone), local(f"({time} - interval 1 microsecond)", zone)
    midnight = f"case when {now}::date > {just_before}::date then date_trunc('day', {now})::timestamp else {now} end"
    return f"({midnight}) {by}"
