"""Writes what the next training starts from to a file before `train`, so that DVC can track it."""

from __future__ import annotations

from pathlib import Path

from refit.files.artifacts import TRAINING, WARM_START
from refit.models import ancestry, incumbent, parents
from refit.models.verification import MODEL
from refit.problems import kind_of
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.artifact import utc_moment
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from registry.champion import current_champion
from tasks.train import inputs_digest


def ensure(project: Path) -> None:
    """Write an empty `warm_start.json` if there is none, because DVC needs the file on a fresh clone."""
    if not (project / WARM_START).is_file():
        WarmStart().write(project / WARM_START)


def refresh(context: Context) -> None:
    """Write `warm_start.json` from the params and the registry, or the folder that they name, if it has changed.

    If the champion *is* the candidate and would be trained from the same start again, the file keeps that start, so
    that a second run is unchanged.

    Raises:
        UserError: there is no model that `train.start_from` names.
        RefitError: the files of the champion or of the parent are gone or differ from the registered ones.
    """
    params, before = context.params.train, WarmStart.read(context.path(WARM_START))
    if params.start_from is not None:
        parent = parents.fetched(context, params.start_from, before.parent)
        seen = before.seen if before.parent == parent else None
        if seen is None and not parent.pretrained:
            seen = ancestry.seen_by(context, context.path(parent.folder))
        start = WarmStart(parent=parent, seen=seen)
    else:
        start = _champion(context) if params.warm_start or kind_of(params.task).keeps_names else WarmStart()
    if before != start:
        start.write(context.path(WARM_START))


def _champion(context: Context) -> WarmStart:
    with registry_store.opened(context) as store:
        champion = current_champion(store, context.params.project.name)
    if champion is None:
        return WarmStart()
    if incumbent.is_candidate(context, champion):
        training = Training.read(context.path(TRAINING))
        if training.inputs == inputs_digest(context, training.started_from):
            return training.started_from
    folder = incumbent.fetch_model(context, champion.version)
    return WarmStart(
        version=champion.version,
        model_digest=incumbent.required_tag(champion, "refit.model_digest"),
        seen_until=utc_moment(incumbent.required_tag(champion, "refit.seen_until")),
        folder=folder.relative_to(context.project).as_posix(),
        seen=ancestry.seen_by(context, folder.parents[len(MODEL.parts) - 1])
        if context.params.train.warm_start
        else None,
    )
