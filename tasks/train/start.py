"""What a training starts from: a champion to continue or to name segments after, another model, or nothing."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from refit import learners
from refit.errors import RefitError, UserError
from refit.files.artifacts import FEATURE_SET, SNAPSHOT, WARM_START
from refit.learners.contract import Learner, Start
from refit.learners.networks.transformer.folder import unaltered
from refit.models.verification import MODEL
from refit.problems import kind_of
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.feature_table import FeatureTable
from refit.schemas.snapshot import Snapshot
from refit.schemas.warm_start import Parent, WarmStart

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["keep_names", "parent_of", "require_unseen_by_parent", "start_of"]


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
    _require_unseen(context, parent, features)
    return Start(folder, str(parent), parent.model_digest)


def keep_names(context: Context, learner: Learner, start: WarmStart, rows: pa.Table) -> None:
    """Let a model name what it found as the champion that `start` names does; a champion of other features is none."""
    if start.folder is None or not hasattr(learner, "named_after"):
        return
    before = learners.load(context.path(start.folder), trusted_types=context.params.registry.trusted_types)
    if before.spec.task == learner.spec.task and set(before.spec.features) <= set(rows.column_names):
        learner.named_after(before, rows)


def _require_unseen(context: Context, parent: Parent, features: FeatureTable) -> None:
    """Refuse a parent that may have learned from the rows that its child is tested on."""
    start = features.windows.test.start
    if features.split is None:
        if parent.seen_until is not None and parent.seen_until > start:
            raise UserError(
                f"train.start_from: {parent} has learned from data up to {utc_text(parent.seen_until)}, the test "
                f"window starts at {utc_text(start)}: name an earlier version, which knows no more than "
                "could be known then"
            )
        return
    stored = context.path(parent.folder) / MODEL / FEATURE_SET.name
    if FeatureTable.read(stored).split_rule != features.split_rule and _share_batches(context, parent):
        raise UserError(
            f"train.start_from: {parent} may have learned from the test rows: it was made from the same batches, and "
            f"not split by {features.split_rule}; split both projects alike (featurize.split)"
        )


def require_unseen_by_parent(context: Context, start: WarmStart, features: FeatureTable, first: datetime) -> None:
    """Refuse a parent that may have learned from rows that outer folds score; what a pretrained one saw is unknown.

    Args:
        first: the time of the earliest of these rows.

    Raises:
        UserError: it may have.
    """
    parent = start.parent
    if parent is None or parent.pretrained:
        return
    if features.split is None and parent.seen_until is not None and parent.seen_until > first:
        raise UserError(
            f"outer folds score rows from {utc_text(first)} on, and {parent} (train.start_from) has learned from data "
            f"up to {utc_text(parent.seen_until)}: name an earlier version, or set train.start_from: null"
        )
    if features.split is not None and _share_batches(context, parent):
        raise UserError(
            f"outer folds score all rows in turn, and {parent} (train.start_from) was made from the same batches: "
            "set train.start_from: null"
        )


def _share_batches(context: Context, parent: Parent) -> bool:
    """Whether a parent was made from a batch of this project too, as far as is known."""
    listed = context.path(parent.folder) / "provenance/snapshot.json"
    if not listed.is_file():
        return True
    theirs, mine = (Snapshot.read(path).batches for path in (listed, context.path(SNAPSHOT)))
    return not {batch.sha256 for batch in theirs}.isdisjoint(batch.sha256 for batch in mine)
