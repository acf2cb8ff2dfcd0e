"""Keeps schedules paused that somebody paused on the server, where deployments are updated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from refit.files.yaml_files import YamlTree

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse


def with_paused(content: YamlTree, deployed: list[DeploymentResponse]) -> tuple[YamlTree, tuple[str, ...]]:
    """Return a deployment file with `active: false` at each schedule that is paused on the server, and whose these are.

    Prefect would resume them. A schedule that says `active` itself decides for itself.

    Args:
        deployed: the server's deployments.
    """
    paused: list[str] = []
    entries = []
    for entry in content.get("deployments") or ():
        there = [each for each in deployed if (each.entrypoint, each.name) == (entry.get("entrypoint"), entry["name"])]
        inactive = [schedule for each in there for schedule in each.schedules if not schedule.active]
        schedules = [
            {**declared, "active": False} if "active" not in declared and _is_among(declared, inactive) else declared
            for declared in entry.get("schedules") or ()
        ]
        if schedules != (entry.get("schedules") or []):
            paused.append(entry["name"])
            entry = {**entry, "schedules": schedules}
        entries.append(entry)
    return {**content, "deployments": entries}, tuple(paused)


def _is_among(declared: Mapping[str, object], schedules: list[DeploymentSchedule]) -> bool:
    """Whether one of the server's schedules is the declared one: the same rhythm, in the same zone."""
    return any(
        all(_rhythm(each.schedule).get(key) == declared.get(key) for key in ("cron", "rrule", "interval"))
        and (getattr(each.schedule, "timezone", None) or "UTC") == (declared.get("timezone") or "UTC")
        for each in schedules
    )


def _rhythm(schedule: object) -> dict[str, object]:
    """What `prefect.yaml` says of a schedule's rhythm; an interval is in seconds."""
    interval = getattr(schedule, "interval", None)
    return {
        "cron": getattr(schedule, "cron", None),
        "rrule": getattr(schedule, "rrule", None),
        "interval": None if interval is None else interval.total_seconds(),
    }
