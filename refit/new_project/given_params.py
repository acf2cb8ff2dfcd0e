"""`refit init` in a folder whose params.yaml the user wrote: adds the stages, deployments and DVC repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath

from refit.config import Params
from refit.new_project.description import Description

__all__ = ["describe_completed", "raw_paths"]


_LITERAL = re.compile(r"\s*(timestamp|timestamptz|date)\s+'[^']*'\s*", re.IGNORECASE)


def _notes(params: Params) -> Iterator[str]:
    """What to set where all labelled rows are of one moment, as folders of pictures are."""
    for model in params.featurize.models:
        before = "run its project first, with the same registry"
        yield f"features come from {model.name}: {before} (Refit's docs/features.md)"
    source = params.ingest.sources.get(params.featurize.label.source)
    if source is None or not source.event_time or not _LITERAL.fullmatch(source.event_time):
        return
    if params.featurize.split is None:
        yield "all rows are of one moment: set featurize.split, such as {test: 0.2, validation: 0.2}"
    if params.evaluate.gate.cluster == "day":
        yield "all rows are of one day, one cluster: set evaluate.gate.cluster: row if each counts for itself"


def raw_paths(params: Params) -> tuple[str, ...]:
    """The files and folders of the project that its sources read: what the stage `ingest` depends on.

    A path in the environment or outside of the project is left out; a pattern counts as the folder that it starts with.
    """
    return tuple(dict.fromkeys(_tops(params)))


def _tops(params: Params) -> Iterator[str]:
    for source in params.ingest.sources.values():
        path = PurePosixPath(source.path)
        if source.kind != "files" or "$" in source.path or "://" in source.path:
            continue
        if not source.path or path.is_absolute() or ".." in path.parts:
            continue
        fixed = tuple(takewhile(lambda part: not re.search(r"[*?\[]", part), path.parts))
        if fixed:
            yield "/".join(fixed)


def describe_completed(folder: Path, params: Params) -> Description:
    """Describe what the folder has become."""
    sentence = f"the project {params.project.name!r} of its params.yaml (sources: {', '.join(params.ingest.sources)})"
    added = "dvc.yaml with the six stages, prefect.yaml with the deployments, .gitignore, a DVC repository"
    return Description(folder, sentence, (("added", added), *(("note", note) for note in _notes(params))))
