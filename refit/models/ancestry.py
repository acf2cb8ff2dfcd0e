"""What a stored model has learned from, its own start included, so that no later model is tested on rows it knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import FEATURE_SET, SNAPSHOT, WARM_START
from refit.models import parents
from refit.models.verification import MODEL
from refit.runtime.context import Context
from refit.schemas.feature_table import FeatureTable
from refit.schemas.snapshot import Snapshot
from refit.schemas.warm_start import Seen, WarmStart

__all__ = ["seen_by"]


def seen_by(context: Context, stored: Path) -> tuple[Seen, ...] | None:
    """What a stored folder's model and all those before it have learned from; None if that is not known of one.

    A folder that an earlier Refit stored does not say what its parent has seen: then the parent is looked up.

    Raises:
        RefitError: a file of the folder is missing or damaged.
    """
    features = FeatureTable.read(stored / MODEL / FEATURE_SET.name)
    listed = stored / "provenance" / SNAPSHOT.name
    batches = {batch.sha256 for batch in Snapshot.read(listed).batches} if listed.is_file() else None
    own = Seen(
        split=features.split_rule,
        until=features.windows.validation.seen_until,
        batches=None if batches is None else tuple(sorted(batches)),
    )
    before = _before(context, stored / "provenance" / WARM_START.name)
    return None if before is None else tuple(_by_rule([own, *before]))


def _before(context: Context, record: Path) -> tuple[Seen, ...] | None:
    """What the start that a model's record names has seen; None if that is not known."""
    start = WarmStart.read(record) if record.is_file() else WarmStart()
    if start.parent is None and start.version is None:
        return ()
    if start.seen is not None or start.parent is None:
        return start.seen
    if start.parent.pretrained:
        return ()
    try:
        return seen_by(context, parents.fetched_again(context, start.parent))
    except RefitError:
        return None  # it was deleted, or lies elsewhere


def _by_rule(seen: Iterable[Seen]) -> list[Seen]:
    """The same, with all that one rule divided as one: a champion that goes on for years has a short list."""
    together: dict[str | None, Seen] = {}
    for each in seen:
        other = together.get(each.split, each)
        batches = None
        if each.batches is not None and other.batches is not None:
            batches = tuple(sorted({*each.batches, *other.batches}))
        together[each.split] = Seen(split=each.split, until=max(each.until, other.until), batches=batches)
    return list(together.values())
