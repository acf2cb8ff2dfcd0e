"""What a training starts from: a champion to continue or to name segments after, another model, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refit import learners
from refit.errors import RefitError, UserError
from refit.files.artifacts import SNAPSHOT, WARM_START
from refit.learners.contract import Learner, Start
from refit.learners.networks.transformer.folder import unaltered
from refit.models.verification import MODEL
from refit.problems import kind_of
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.feature_table import FeatureTable
from refit.schemas.snapshot import Snapshot
from refit.schemas.warm_start import Seen, WarmStart

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["keep_names", "parent_of", "require_unseen", "require_unseen_by_parent", "start_of", "warn_of_parent"]


def start_of(context: Context) -> WarmStart:
    """What `warm_start.json` says, if the params ask for a start.

    Raises:
        RefitError: it names another parent than `train.start_from`.
    """
    params = context.params.train
    names_after = kind_of(params.task).keeps_names
    if params.warm_start is None and params.start_from is None and not names_after:
        return WarmStart()
    start = WarmStart.read(context.path(WARM_START))
    if params.start_from is not None:
        if start.parent is None or start.parent.source != params.start_from:
            it_names = f"names {start.parent.source}" if start.parent else "names no parent"
            raise RefitError(
                f"{WARM_START} {it_names}, train.start_from {params.start_from}; `refit run` writes it again"
            )
        return start
    if start.version is None and params.warm_start:
        context.progress("there is no champion yet: training starts from scratch")
    return WarmStart() if start.parent else start


def parent_of(context: Context, start: WarmStart, features: FeatureTable) -> Start | None:
    """The model that fits start from, or None.

    Raises:
        UserError: it may have learned from the test rows.
        RefitError: its copy is not the recorded model.
    """
    if (parent := start.parent) is None:
        return None
    if parent.pretrained:
        folder = context.path(parent.folder)
        unaltered(folder, parent.model_digest, str(parent))
        return Start(folder, str(parent), parent.model_digest, pretrained=True)
    folder = context.path(parent.folder) / MODEL
    digest = learners.load(folder, trusted_types=context.params.registry.trusted_types).digest()
    if digest != parent.model_digest:
        raise RefitError(
            f"train.start_from: {parent} was altered: its model was {parent.model_digest[:12]} and is {digest[:12]}; "
            "restore it from a copy, or name another one"
        )
    require_unseen(context, start, features)
    return Start(folder, str(parent), parent.model_digest)


def keep_names(context: Context, learner: Learner, start: WarmStart, rows: pa.Table) -> None:
    """Let a model name what it found as the champion that `start` names does; a champion of other features is none."""
    if start.folder is None or not hasattr(learner, "named_after"):
        return
    before = learners.load(context.path(start.folder), trusted_types=context.params.registry.trusted_types)
    if before.spec.task == learner.spec.task and set(before.spec.features) <= set(rows.column_names):
        learner.named_after(before, rows)


def require_unseen(context: Context, start: WarmStart, features: FeatureTable) -> None:
    """Refuse a start that may have learned from the test rows, by itself or through a model that it started from.

    Raises:
        UserError: it may have.
    """
    key, who = ("start_from", start.parent) if start.parent else ("warm_start", f"version {start.version}")
    opens = features.windows.test.start
    if features.split is None:
        if start.known_until is not None and start.known_until > opens:
            raise UserError(
                f"train.{key}: {who} has learned from data up to {utc_text(start.known_until)}, the test "
                f"window starts at {utc_text(opens)}: name an earlier version, which knows no more than "
                "could be known then"
            )
        return
    may_have = f"train.{key}: {who} may have learned from the test rows"
    if start.seen is None:
        raise UserError(
            f"{may_have}: it is not recorded what a model that it started from has learned from; name another one, "
            f"or set train.{key}: null (`refit run` looks for the record in the registry)"
        )
    if _of_these_batches(context, [each for each in start.seen if each.split != features.split_rule]):
        raise UserError(
            f"{may_have}: it, or a model that it started from, was made from the same batches, and not split by "
            f"{features.split_rule}; split both alike (featurize.split), or set train.{key}: null"
        )


def require_unseen_by_parent(context: Context, start: WarmStart, features: FeatureTable, first: datetime) -> None:
    """Refuse a parent that may have learned from rows that outer folds score.

    Args:
        first: the time of the earliest of these rows.

    Raises:
        UserError: it may have.
    """
    if not (known := _known_to_parent(context, start, features, first)):
        return
    which, remedy = f"rows from {utc_text(first)} on", "name an earlier version, or set train.start_from: null"
    if features.split is not None:
        which, remedy = "all rows in turn", "set train.start_from: null"
    raise UserError(f"outer folds score {which}, and {known}: {remedy}")


def warn_of_parent(context: Context, start: WarmStart, features: FeatureTable, scored: pa.Table) -> None:
    """Warn if a parent may have learned from rows that learners were compared on; the test rows it has not seen.

    Args:
        scored: those rows.
    """
    first = scored["event_time"].to_numpy().min().astype("datetime64[us]").item().replace(tzinfo=UTC)
    if known := _known_to_parent(context, start, features, first):
        context.progress(
            f"warning: {known}: learner, epochs, calibration, threshold and intervals were chosen by rows from "
            f"{utc_text(first)} on, which it may know, so they may promise more than new rows keep; the test rows of "
            "the gate are unseen"
        )


def _known_to_parent(context: Context, start: WarmStart, features: FeatureTable, first: datetime) -> str:
    """What a parent may know of rows from a time on; empty if nothing. What a pretrained one saw is unknown."""
    parent = start.parent
    if parent is None or parent.pretrained:
        return ""
    if features.split is None:
        if start.known_until is None or start.known_until <= first:
            return ""
        return f"{parent} (train.start_from) has learned from data up to {utc_text(start.known_until)}"
    if start.seen is not None and not _of_these_batches(context, start.seen):
        return ""
    return f"{parent} (train.start_from), or a model that it started from, was made from the same batches"


def _of_these_batches(context: Context, seen: Sequence[Seen]) -> list[Seen]:
    """What was learned from batches of this project, as far as is known."""
    if not seen:
        return []
    mine = {batch.sha256 for batch in Snapshot.read(context.path(SNAPSHOT)).batches}
    return [each for each in seen if each.batches is None or not mine.isdisjoint(each.batches)]
