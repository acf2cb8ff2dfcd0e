"""Returns the data known at a moment: ingests and validates new rows, without changing the pipeline's snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta

from refit.runtime.context import Context
from refit.schemas.manifest import Manifest
from refit.schemas.validated import Validated
from refit.storage.snapshots import LATEST, label_source, snapshot_of
from tasks import ingest, validate

NOW = "now"


def validated_data_at(context: Context, as_of: str) -> Validated:
    """Return what `data/validated.json` would hold at `as_of`; the caller holds the project's lock.

    Args:
        as_of: `now`, a date or time in the project's zone, or `latest`: now, or the end of the data if that is earlier.

    Raises:
        UserError: a source cannot be read, a batch fails, or `as_of` is not a time.
    """
    context.progress("looking for new rows")
    stored = ingest.take_in(context)
    snapshot = snapshot_of(_moment(context, as_of, stored), context.params, stored)
    return validate.validated(context, snapshot)


def _moment(context: Context, as_of: str, stored: Mapping[str, Sequence[Manifest]]) -> str:
    if as_of not in (NOW, LATEST):
        return as_of
    moment = context.now()
    if as_of == LATEST:
        lasts = [batch.last for batch in stored[label_source(context.params)] if batch.last]
        day = max(lasts).astimezone(context.params.project.zone).date() + timedelta(days=1)
        moment = min(moment, datetime.combine(day, time(), context.params.project.zone))
    return moment.isoformat()
