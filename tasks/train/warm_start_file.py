"""Writes what the next training starts from to a file before `train`, so that DVC can track it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refit.files.artifacts import TRAINING, WARM_START, read_json, write_json
from refit.models import incumbent, run_logging
from refit.runtime.context import Context
from registry.champion import current_champion
from tasks.train import inputs_digest

NOTHING: dict[str, Any] = {"version": None}


def ensure(project: Path) -> None:
    """Write an empty `warm_start.json` if there is none, because DVC needs the file on a fresh clone."""
    if not (project / WARM_START).is_file():
        write_json(project / WARM_START, NOTHING)


def refresh(context: Context) -> None:
    """Write `warm_start.json` from the params and the registry, if its content has changed.

    If the champion *is* the candidate and would be trained from the same start again, the file keeps that start, so
    that a second run is unchanged.

    Raises:
        RefitError: the champion's files are gone or differ from the registered ones.
    """
    content = _content(context) if context.params.train.warm_start else NOTHING
    if read_json(context.path(WARM_START)) != content:
        write_json(context.path(WARM_START), content)


def _content(context: Context) -> dict[str, Any]:
    with run_logging.opened(context) as store:
        champion = current_champion(store, context.params.project.name)
    if champion is None:
        return NOTHING
    if incumbent.is_candidate(context, champion):
        training = read_json(context.path(TRAINING))
        started: dict[str, Any] = training.get("started_from", NOTHING)
        if training["inputs"] == inputs_digest(context, started):
            return started
    folder = incumbent.fetch_model(context, champion.version)
    return {
        "version": champion.version,
        "model_digest": incumbent.required_tag(champion, "refit.model_digest"),
        "seen_until": incumbent.required_tag(champion, "refit.seen_until"),
        "folder": folder.relative_to(context.project).as_posix(),
    }
