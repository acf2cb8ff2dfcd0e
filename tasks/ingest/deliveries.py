"""Sorts the files of a snapshot into deliveries, each of which replaces all rows of the source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from refit.config import SourceParams
from refit.errors import UserError
from refit.sources.source_files import SourceFile

_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}


@dataclass(frozen=True)
class Delivery:
    """All rows of a source at a moment."""

    moment: datetime  # since when its rows are known
    files: tuple[SourceFile, ...]
    is_over: bool = False  # whether the time in the names of its files is over: they may not change any more

    @property
    def names(self) -> set[str]:
        """The names of its files."""
        return {file.name for file in self.files}


class _NoSuchTime(Exception):
    """A time of day that clocks skip in spring."""


def deliveries_of(
    files: Sequence[SourceFile], source: SourceParams, zone: ZoneInfo, now: datetime, where: str
) -> list[Delivery]:
    """Return the deliveries of a source in the order of their time.

    All files are one delivery of this moment, unless a pattern (`changes.delivered`) finds dates in their names.

    Raises:
        UserError: the name of a file has no date, several, one that lies in the future, or one that a column has.
    """
    pattern = source.changes.delivered
    if pattern is None:
        return [Delivery(now, tuple(files))]
    found: dict[datetime, list[SourceFile]] = {}
    for file in files:
        start, end = span_of(file.name, pattern, zone, where)
        if start > now:
            raise UserError(
                f"{file.name} is a delivery of {start.astimezone(zone):%Y-%m-%d %H:%M}, which lies in the future: "
                f"correct its name, or {where}.changes.delivered"
            )
        if column := _dated_column(file.name, pattern, source):
            raise UserError(
                f"column {column!r} of {file.name} has the date of the delivery, so that all rows would differ in each "
                f"delivery: leave it out of {where}"
            )
        found.setdefault(min(end, now), []).append(file)
    return [Delivery(moment, tuple(found[moment]), is_over=moment < now) for moment in sorted(found)]


def span_of(name: str, pattern: str, zone: ZoneInfo, where: str) -> tuple[datetime, datetime]:
    """Return the time of a delivery that the name of its file gives: its start, and its end, which is taken for it.

    What was delivered on a day is known at the end of that day at the latest. A time of day is taken as it is.

    >>> [f"{each:%d %H:%M}" for each in span_of("out/sales-2024-05-02.csv", "%Y-%m-%d", ZoneInfo("UTC"), "sales")]
    ['02 00:00', '03 00:00']

    Raises:
        UserError: the name has no such date, or several.
    """
    matches = {tuple(sorted(each.groupdict().items())) for each in re.finditer(_regex(pattern), name)}
    if len(matches) == 1:
        parts = {part: int(value) for part, value in matches.pop()}
        try:
            return _span(parts, zone)
        except _NoSuchTime as skipped:
            raise UserError(
                f"{name} is a delivery of {skipped} (project.timezone), so that its place among the others is unknown: "
                "name deliveries by local time, or set project.timezone to the zone of their names"
            ) from None
        except (ValueError, OverflowError):
            pass
    dates = f"{len(matches)} different dates" if len(matches) > 1 else "no date"
    raise UserError(
        f"{name} has {dates} of the form {pattern}, which says when it was delivered: correct "
        f"{where}.changes.delivered, or {where}.path so that it matches deliveries only"
    )


def _regex(pattern: str) -> str:
    escaped = "%".join(map(re.escape, pattern.split("%")))
    text = re.sub(r"%(.)", lambda part: f"(?P<{part[1]}>[0-9]{{{_DIGITS[part[1]]}}})", escaped)
    before = "(?<![0-9])" if pattern.startswith("%") else ""  # no date is a piece of a longer number
    after = "(?![0-9])" if pattern[-2:-1] == "%" else ""
    return f"{before}{text}{after}"


def _dated_column(name: str, pattern: str, source: SourceParams) -> str | None:
    """The column that takes a folder whose name has a part of the date of a delivery."""
    folders = name.split("/")[:-1]
    matches = re.finditer(_regex(pattern), name)
    levels = {name.count("/", 0, each.start(part)) for each in matches for part in each.groupdict()}
    dated = levels - {len(folders)}
    if source.folder_column and len(folders) - 1 in dated:
        return source.folder_column
    hive = {folders[level].partition("=")[0] for level in dated}
    return next((column for column in source.hive_columns if column in hive), None)


def _span(parts: dict[str, int], zone: ZoneInfo) -> tuple[datetime, datetime]:
    year, month = parts["Y"], parts["m"]
    time = (parts.get("H", 0), parts.get("M", 0), parts.get("S", 0))
    start = datetime(year, month, parts.get("d", 1), *time)  # noqa: DTZ001 - days are counted by the calendar
    end = start
    if "d" not in parts:
        end = datetime(year + month // 12, month % 12 + 1, 1)  # noqa: DTZ001
    elif "H" not in parts:
        end = start + timedelta(days=1)
    moment = start.replace(tzinfo=zone).astimezone(UTC)
    if "H" in parts and moment.astimezone(zone).replace(tzinfo=None) != start:
        raise _NoSuchTime(f"{start:%Y-%m-%d %H:%M}, which clocks skip in {zone.key}")
    return moment, end.replace(tzinfo=zone).astimezone(UTC)
