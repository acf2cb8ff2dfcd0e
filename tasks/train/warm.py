"""Warm start: continues training the champion with only the rows that are new to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from refit import learners
from refit.config.train import flat, placed
from refit.errors import UserError
from refit.learners import Spec, make
from refit.learners.online.learner import Online
from refit.learners.postprocessed import fitted_within
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.warm_start import WarmStart
from tasks.train.folds import FEWEST_ROWS, Development, LabelledRows, newest
from tasks.train.interval_margins import with_intervals
from tasks.train.trial import Trained, fit_fold, fit_rows, last_rows, scored

HELD_BACK = 0.2  # share of the new rows, the newest, that decides the number of iterations


def go_on(
    context: Context,
    specs: Sequence[Spec],
    start: WarmStart,
    train: LabelledRows,
    validation: LabelledRows,
    *,
    opens: datetime | None,
) -> Trained:
    """Continue training the version that `start` names on the rows at or after its `seen_until`; a stream from its end.

    The number of iterations is chosen on the newest of them; then the learner is trained on all with that number.

    Args:
        opens: when the training window does; None if it has all rows that there are.

    Raises:
        UserError: its learner is no longer configured, has other features, cannot be continued, or too few rows are
            new; or it is a stream, and the window may lack rows that it has not learned.
    """
    assert start.folder is not None
    assert start.seen_until is not None
    before = fitted_within(
        learners.load(context.path(start.folder), trusted_types=context.params.registry.trusted_types)
    )
    who = f"version {start.version} ({before.spec.name}, {before.spec.kind})"
    spec = _same(before.spec, specs, who)
    searched = next(learner.search for learner in context.params.train.learners if learner.name == spec.name)
    found = {name: value for name, value in flat(before.spec.params).items() if name in searched}
    spec = replace(spec, params=placed(spec.params, found))  # what a search had chosen stays
    since = start.seen_until
    if isinstance(before, Online) and before.position.until is not None:
        since = before.position.until + timedelta(microseconds=1)  # the newest rows may not have been known by then
        if opens is not None and opens > since:
            raise UserError(
                f"{who} has read its stream up to {utc_text(before.position.until)}, and the training window begins at "
                f"{utc_text(opens)}: rows in between would never be learned; lengthen featurize.windows.training, or "
                "set train.warm_start: null to learn the stream again"
            )
    new = _newer(train, validation, since)
    fold = newest(new, HELD_BACK, context.params)
    first, last = new.at(fold.fitted), new.at(fold.scored)
    for part in (first, last):
        if len(part) < FEWEST_ROWS or spec.problem.constant_labels(part.label):
            raise UserError(
                f"a warm start from {who} needs {FEWEST_ROWS} new rows with labels that differ to learn from "
                f"and as many to check on; {len(new):,} rows are newer than {utc_text(start.seen_until)}, the newest "
                "seen: wait for more, or set train.warm_start: null"
            )
    development = Development(new, (fold,))
    trial = scored([fit_fold(spec, development, fold, context.progress, before=before)], development, context.params)
    if spec.problem.played:  # the policy of the best check is the candidate
        learner, rows = trial.learner, first
    else:
        learner = make(spec)
        rows = last_rows(learner, _newer(train.with_late(), validation, since), new)
        fit_rows(learner, rows, before=before, iterations=trial.report.iterations, progress=context.progress)
    ready = with_intervals(trial.finish.on(learner), trial, development, context.params, context.progress)
    return Trained(ready, trial, [trial], len(rows), last)


def _same(before: Spec, specs: Sequence[Spec], who: str) -> Spec:
    spec = next((spec for spec in specs if (spec.name, spec.kind) == (before.name, before.kind)), None)
    if spec is None:
        raise UserError(
            f"a warm start goes on with {who}, which train.learners does not ask for; they are "
            f"{', '.join(f'{each.name} ({each.kind})' for each in specs)}: add it, or set train.warm_start: null"
        )
    if (spec.task, spec.classes) != (before.task, before.classes):
        was, now = (f"{each.task} {' '.join(each.classes)}".strip() for each in (before, spec))
        raise UserError(
            f"a warm start from {who} needs its labels; they were {was} and are {now}: set train.warm_start: null"
        )
    if set(spec.features) != set(before.features):
        differ = sorted(set(spec.features) ^ set(before.features))
        raise UserError(
            f"a warm start from {who} needs its features; {len(differ)} differ, such as {differ[0]}: "
            "set train.warm_start: null to learn them"
        )
    return spec


def _newer(train: LabelledRows, validation: LabelledRows, seen_until: datetime) -> LabelledRows:
    """The rows of both windows from a time on, in order of time: `featurize.split` gives both windows all times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.concat_tables([train.rows, validation.rows])
    label = np.concatenate([train.label, validation.label])
    unlabelled = [window.unlabelled for window in (train, validation) if window.unlabelled is not None]
    limit = pa.scalar(seen_until.replace(tzinfo=None), rows["event_time"].type)
    order = np.argsort(rows["event_time"].to_numpy(), kind="stable")
    if (np.diff(order) != 1).any():
        rows, label = rows.take(order), label[order]
    new = pc.greater_equal(rows["event_time"], limit).combine_chunks().to_numpy(zero_copy_only=False)
    extra = [table.filter(pc.greater_equal(table["event_time"], limit)) for table in unlabelled]
    return LabelledRows(rows.filter(pa.array(new)), label[new], pa.concat_tables(extra) if extra else None)
