"""Snapshots: the batches that a run may use, those whose period began and whose rows had arrived before its `as_of`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from refit.config import Params, nearest
from refit.errors import UserError
from refit.schemas.manifest import Manifest, Ranges
from refit.schemas.snapshot import Snapshot, SnapshotBatch, snapshot_digest
from refit.storage import waiting

LATEST = "latest"


def snapshot_of(as_of: str, params: Params, stored: Mapping[str, Sequence[Manifest]]) -> Snapshot:
    """The snapshot of the batches that a run at `as_of` may use.

    Raises:
        UserError: `as_of` is not a time, or there is no batch before it.
    """
    moment = resolve_as_of(as_of, params, stored)
    seen: list[SnapshotBatch] = []
    pending: dict[str, int] = {}
    for name, batches in stored.items():
        if params.ingest.sources[name].event_time is None:
            visible, hidden = list(batches[-1:]), []
        else:
            visible = [batch for batch in batches if batch.start and batch.start < moment and _arrived(batch, moment)]
            hidden = [batch for batch in batches if batch not in visible]
        taken = waiting.taken_rows(batches)
        seen += [_entry(batch, taken.get(batch.name, ())) for batch in visible]
        pending[name] = sum(batch.rows_read - waiting.count(taken.get(batch.name, ())) for batch in hidden)
    generated = {batch.source for batch in seen if batch.stand_in}
    published = {name: params.ingest.sources[name].published for name in sorted(generated)}
    return Snapshot(
        as_of=moment,
        batches=tuple(seen),
        pending=pending,
        stand_in={name: where for name, where in published.items() if where} if generated else None,
        digest=snapshot_digest(moment, seen),
    )


def _entry(batch: Manifest, taken: Ranges) -> SnapshotBatch:
    """The snapshot's entry for a batch; rows that waited in it and were moved to a later batch count there."""
    moved = waiting.count(taken)
    return SnapshotBatch(
        source=batch.source,
        name=batch.name,
        static=batch.static,
        start=batch.start,
        end=batch.end,
        files=batch.files,
        rows=batch.rows,
        rows_read=batch.rows_read - moved,
        uncast=batch.uncast - moved,
        first=batch.first,
        last=batch.last,
        path=batch.path.as_posix(),
        sha256=batch.sha256,
        uncast_path=batch.uncast_path.as_posix() if batch.uncast_path else None,
        uncast_sha256=batch.uncast_sha256,
        stand_in=batch.stand_in,
        repeats=batch.repeats,
        taken=taken,
        arrived=batch.arrived,
        delivered=batch.delivered,
        delivered_rows=batch.delivered_rows,
        deletes=batch.deletes,
    )


def _arrived(batch: Manifest, moment: datetime) -> bool:
    """Whether a batch had arrived by a moment, or a row of it: of one that came later, an earlier run knew nothing."""
    arrived = batch.arrived or batch.arrives_from
    return arrived is None or arrived <= moment


def label_source(params: Params) -> str:
    """The raw source from which the label is computed.

    Raises:
        UserError: there is no such source, or it is a static table.
    """
    label = params.featurize.label.source
    sources = params.ingest.sources
    name = next((name for name, source in sources.items() if label == name or label in source.events), None)
    if name is None:
        valid_names = [name for source in sources for name in (source, *sources[source].events)]
        raise UserError(
            f"params.yaml: featurize.label.source: no source {label!r}{nearest(label, valid_names)}; "
            f"there are {', '.join(valid_names)}"
        )
    if sources[name].event_time is None:
        raise UserError(
            f"params.yaml: ingest.sources.{name}: the label's source needs an event_time, to tell past from future"
        )
    return name


def resolve_as_of(text: str, params: Params, stored: Mapping[str, Sequence[Manifest]]) -> datetime:
    """`as_of` as a moment in UTC; `latest` is the end of the newest complete period of the label's source.

    Raises:
        UserError: it is not a time, lies before all batches, or no period is complete yet.
    """
    name = label_source(params)
    spans = sorted({(batch.start, batch.end) for batch in stored[name] if batch.start and batch.end})
    zone = params.project.zone
    available = f"{name} has {spans[0][0].astimezone(zone):%Y-%m-%d} to {spans[-1][1].astimezone(zone):%Y-%m-%d}"
    if text == LATEST:
        last = max((batch.last for batch in stored[name] if batch.last), default=None)
        near = timedelta(hours=params.ingest.complete_within_hours)
        ends = [end for _, end in spans[:-1]]
        if last is not None and last >= spans[-1][1] - near:
            ends.append(spans[-1][1])
        if not ends:
            shown = f"{last.astimezone(zone):%Y-%m-%d %H:%M}" if last else "none"
            raise UserError(
                f"no {params.ingest.period} of {name} is complete yet: its newest row is of {shown}, "
                f"the {params.ingest.period} ends {spans[-1][1].astimezone(zone):%Y-%m-%d %H:%M}; "
                "give --as-of DATE, or wait"
            )
        return ends[-1]
    moment = moment_of(text, params)
    if moment <= spans[0][0]:
        raise UserError(f"as_of {text} lies before the first batch; {available}: give a later --as-of")
    return moment


def moment_of(text: str, params: Params, *, name: str = "as_of", also: str = f"{LATEST}, ") -> datetime:
    """Parse a date or time in the project's zone, and convert it to UTC.

    Args:
        name: how error messages name it.
        also: for error messages, what is accepted in addition to dates and times.

    Raises:
        UserError: it is not a time.
    """
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=params.project.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UserError(
            f"{name} {text!r} is no time; write {also}a date such as 2013-11-03, or a time such as 2013-11-03T06:00"
        ) from None
