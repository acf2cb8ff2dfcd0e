"""From whatever a source is to immutable batches and the snapshot of those that this run may see."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tasks import batches, runfile, sources
from tasks.artifacts import SNAPSHOT, STATE, digest, read_json, sha256, write_json
from tasks.batches import Manifest, utc_moment, utc_text
from tasks.context import Context
from tasks.errors import RefitError, UserError
from tasks.params import Params

REMEMBERED = STATE / "ingest.json"


def run(context: Context) -> None:
    """Take what is new in every source into batches, and write the snapshot.

    Raises:
        UserError: a source cannot be read as declared, or a batch has changed.
    """
    remembered = _remembered(context.project)
    for name in context.params.ingest.sources:
        _take(context, name, remembered)
    snapshot = snapshot_of(context)
    write_json(context.path(SNAPSHOT), snapshot)


def _remembered(project: Path) -> dict[str, Any]:
    try:
        found = read_json(project / REMEMBERED)
    except RefitError:
        return {}  # it only saves time
    return found if isinstance(found, dict) else {}


def _take(context: Context, name: str, remembered: dict[str, Any]) -> None:
    source = context.params.ingest.sources[name]
    where = f"ingest.sources.{name}"
    files = sources.find(context.project, source, where)
    known = {"declaration": declaration(context.params, name), "code": runfile.code_digest("ingest")}
    digests = {file.name: sha256(file.path) for file in files}
    if source.sha256 and (found := digests[files[0].name]) != source.sha256:
        raise UserError(
            f"{files[0].name} has sha256 {found}, {where}.sha256 names {source.sha256}; "
            "fetch the right file, or name this one's"
        )
    stored = batches.manifests(context.project, name)
    known |= {"files": digests, "query": source.query, "batches": [batch.name for batch in stored]}
    if stored and remembered.get(name) == known and all(batch.is_whole(context.project) for batch in stored):
        context.progress(f"{name}: unchanged", 1, 1)
        return
    from tasks import ingest_cast

    connection = ingest_cast.connect(str(context.path(STATE) / "spill"))
    caster = ingest_cast.Caster(connection, source, where, context.now())
    for number, file in enumerate(files):
        context.progress(f"{name}: reading {file.name}", number, len(files))
        caster.add(number, sources.read(file, source, where))
    cutter = batches.Cutter(connection, context.project, name, context.params, list(digests), known["declaration"])
    written = cutter.write_new()
    connection.close()
    context.progress(f"{name}: {len(written)} new batches", len(files), len(files))
    remembered[name] = known | {"batches": [batch.name for batch in batches.manifests(context.project, name)]}
    write_json(context.path(REMEMBERED), remembered)


def declaration(params: Params, name: str) -> str:
    """Digest of what decides how a source's rows are read and cut."""
    source = params.ingest.sources[name]
    parts = source.model_dump(include={"columns", "required", "nulls", "delimiter", "event_time"})
    return digest([parts, params.ingest.period, params.project.timezone])


def snapshot_of(context: Context) -> dict[str, Any]:
    """The batches that this run may see, and how many rows it may not see yet.

    Raises:
        UserError: `as_of` is no time, or lies before the first batch.
    """
    params = context.params
    stored = {name: batches.manifests(context.project, name) for name in params.ingest.sources}
    as_of = resolve_as_of(runfile.read(context.project).as_of, params, stored)
    seen: list[dict[str, Any]] = []
    pending: dict[str, int] = {}
    for name, found in stored.items():
        if params.ingest.sources[name].event_time is None:
            visible = found[-1:]
            pending[name] = 0
        else:
            visible = [batch for batch in found if batch.start and utc_moment(batch.start) < as_of]
            pending[name] = sum(batch.read for batch in found) - sum(batch.read for batch in visible)
        seen += [_entry(batch) for batch in visible]
    snapshot = {"as_of": utc_text(as_of), "batches": seen, "pending": pending}
    return {**snapshot, "digest": digest(snapshot)}


def _entry(batch: Manifest) -> dict[str, Any]:
    names = (
        "source", "name", "static", "start", "end", "sha256", "rows", "read", "uncast", "uncast_sha256", "first", "last",
        "files",
    )  # fmt: skip
    entry = {name: value for name, value in asdict(batch).items() if name in names}
    uncast = batch.uncast_path.as_posix() if batch.uncast_path else None
    return {**entry, "files": list(batch.files), "path": batch.path.as_posix(), "uncast_path": uncast}


def label_source(params: Params) -> str:
    """The raw source that the label comes from."""
    label = params.featurize.label.source
    for name, source in params.ingest.sources.items():
        if label == name or label in source.events:
            return name
    known = [event for s in params.ingest.sources.values() for event in s.events] or list(params.ingest.sources)
    raise UserError(f"featurize.label.source {label!r} is no source; the event sources are {', '.join(known)}")


def resolve_as_of(text: str, params: Params, stored: dict[str, list[Manifest]]) -> datetime:
    """`as_of` as a moment: `latest` is the end of the newest complete period of the label's source."""
    name = label_source(params)
    found = stored[name]
    spans = sorted({(utc_moment(b.start), utc_moment(b.end)) for b in found if b.start and b.end})
    if text == "latest":
        newest = max(utc_moment(batch.last) for batch in found if batch.last)
        near = timedelta(hours=params.ingest.complete_within_hours)
        complete = [end for index, (_, end) in enumerate(spans) if index + 1 < len(spans) or newest >= end - near]
        return complete[-1]
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=params.project.zone)
