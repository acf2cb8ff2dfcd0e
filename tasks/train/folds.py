"""Splits the training rows into folds, so that every score is out of sample."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.config import Params, nearest
from refit.config.forecasting import KNOWN_AT
from refit.config.shares import share_of
from refit.config.windows import LATE, UNLABELLED, label_wait
from refit.errors import UserError
from refit.learners import Labels, Spec, make
from refit.learners.averaged import members_of
from refit.learners.newest import newest_of, taken
from refit.metrics.clusters import Clusters
from refit.problems.contract import Problem

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.config.train import CrossValidationParams

PREDICTED_AT = "prediction_time"
FEWEST_ROWS = 20  # in each window and each part of a fold

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one window in canonical order, with their labels."""

    rows: pa.Table
    label: Labels
    unlabelled: pa.Table | None = None  # rows without a label that may be learned from together with these
    late: LabelledRows | None = None  # rows for the last fit of a stream alone: no fold may know their labels

    def __len__(self) -> int:
        return len(self.label)

    def recent(self, rows: int) -> LabelledRows:
        """Return the newest `rows` rows."""
        return self.at(newest_of(self.rows, rows))

    def named(self, name: str) -> LabelledRows:
        """Return the rows of the window `name`."""
        import pyarrow.compute as pc

        indices, unlabelled = np.flatnonzero(pc.equal(self.rows["window"], name).to_numpy()), self.unlabelled
        if unlabelled is not None:
            unlabelled = unlabelled.filter(pc.equal(unlabelled["window"], f"{name} {UNLABELLED}"))
        late = None if self.late is None else self.late.named(f"{name} {LATE}")
        return LabelledRows(taken(self.rows, indices), self.label[indices], unlabelled, late)

    def with_late(self) -> LabelledRows:
        """Return all rows in order of time, the late ones among them."""
        import pyarrow as pa

        if self.late is None:
            return self
        rows = pa.concat_tables([self.rows, self.late.rows])
        order = np.argsort(rows["event_time"].to_numpy(), kind="stable")
        label = np.concatenate([self.label, self.late.label])
        return LabelledRows(rows.take(order), label[order], self.unlabelled)

    def known_by(self, moment: np.datetime64) -> NDArray[np.bool_]:
        """Return (rows,) whether the label was known by then; always true for older tables without such a column."""
        if KNOWN_AT not in self.rows.column_names:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.rows[KNOWN_AT].to_numpy() <= moment)

    def first_prediction(self, indices: Indices) -> np.datetime64:
        """Return the earliest time at which one of these rows was predicted; its event's for tables without a column.

        A model that predicts them can have learned only from labels that were known by then.
        """
        times = self.rows["event_time"].to_numpy()[indices]
        if PREDICTED_AT in self.rows.column_names:
            times = np.fmin(times, self.rows[PREDICTED_AT].to_numpy()[indices])  # of a row without one, its event's
        return np.datetime64(times.min(), "us")

    def fitted(self, fold: Fold) -> LabelledRows:
        """Return the rows that a fold fits, with those without a label."""
        extra = None if self.unlabelled is None else taken(self.unlabelled, fold.unlabelled)
        return replace(self.at(fold.fitted), unlabelled=extra)

    def rest(self, fold: Fold) -> LabelledRows:
        """Return the rows that a fold scores, with those without a label that it does not fit."""
        if self.unlabelled is None:
            return self.at(fold.scored)
        others = np.setdiff1d(np.arange(len(self.unlabelled)), fold.unlabelled)
        return replace(self.at(fold.scored), unlabelled=taken(self.unlabelled, others))

    def unlabelled_before(self, moment: np.datetime64, since: np.datetime64 | None = None) -> Indices:
        """Return the indices of the rows without a label that were predicted before a moment.

        Args:
            since: leave out rows of earlier events.
        """
        if self.unlabelled is None:
            return np.arange(0)
        times, predicted = (self.unlabelled[name].to_numpy() for name in ("event_time", PREDICTED_AT))
        before = (times < moment) & (predicted <= moment)
        return np.flatnonzero(before if since is None else before & (times >= since))

    def at(self, indices: Indices) -> LabelledRows:
        """Return the labelled rows at these indices."""
        return LabelledRows(taken(self.rows, indices), self.label[indices])


@dataclass(frozen=True)
class Fold:
    """Indices of the fitted rows and of the scored rows, each ascending."""

    fitted: Indices
    scored: Indices
    unlabelled: Indices = field(default_factory=lambda: np.arange(0))  # of the rows without a label to fit as well


@dataclass(frozen=True)
class Development:
    """All rows to learn from, in order of time, and the folds to compare learners on."""

    whole: LabelledRows
    folds: tuple[Fold, ...]

    def windows(self, fold: Fold) -> tuple[LabelledRows, LabelledRows]:
        """Return the rows to fit, and the rows to score."""
        return self.whole.fitted(fold), self.whole.at(fold.scored)

    @property
    def unseen(self) -> Indices:
        """Indices of all rows that some fit is scored on, each once."""
        return np.unique(np.concatenate([fold.scored for fold in self.folds]))


def require_learnable(what: str, label: Labels, target: Problem, *, count: str, advice: str) -> None:
    """Raise an error if nothing can be learned from rows with these labels.

    Args:
        what: the name of these rows, for errors.
        count: their number, as a phrase that follows the name.
        advice: what to do about it.

    Raises:
        UserError: there are too few rows, or the label is constant.
    """
    if len(label) < FEWEST_ROWS:
        raise UserError(f"{what} {count}, {FEWEST_ROWS} are the fewest to learn from; {advice}")
    if constant := target.constant_labels(label):
        raise UserError(f"the label is constant in {what}: {constant}: check featurize.label, or {advice}")


def out_of_order(params: Params) -> str:
    """The reason why the fitted rows are not all earlier than the scored ones; empty if they are."""
    folds = params.train.cross_validation
    if folds is not None and folds.kind not in ("time", "rolling"):
        return f"folds of kind {folds.kind!r} mix it up: set train.cross_validation.kind: time, or leave it out"
    if params.featurize.split is not None:
        return "featurize.split draws windows by chance: set featurize.windows instead"
    return ""


def require_late(specs: Sequence[Spec], late: int, params: Params, *, apart: bool) -> None:
    """Raise UserError if a learner of a stream would pass over rows between two windows for ever.

    Args:
        late: labelled rows of the training window that it leaves out.
        apart: whether rows lie between training and validation.
    """
    if params.featurize.label.keep_late or params.featurize.split is not None or not (late or apart):
        return
    if stream := next((spec for spec in specs if members_of(make(spec))[0].declaration.order), None):
        raise UserError(
            f"learner {stream.name!r} learns each row once, and would never learn those whose labels came after the "
            f"validation window opened ({late:,} of the training window, and all between the two): set "
            "featurize.label.keep_late: true"
        )


def development(train: LabelledRows, validation: LabelledRows, params: Params, target: Problem) -> Development:
    """Combine training and validation rows, split by `train.cross_validation`, or as the two windows.

    Raises:
        UserError: the rows cannot be split into the configured folds.
    """
    import pyarrow as pa

    rows = pa.concat_tables([train.rows, validation.rows])
    label = np.concatenate([train.label, validation.label])
    times = rows["event_time"].to_numpy()
    order = np.argsort(times, kind="stable")
    if (np.diff(order) != 1).any():
        rows, label, times = rows.take(order), label[order], times[order]
    extra = [window.unlabelled for window in (train, validation) if window.unlabelled is not None]
    whole = LabelledRows(rows, label, pa.concat_tables(extra) if extra else None, train.late)
    if params.train.cross_validation is None:
        scored = np.flatnonzero(order >= len(train))
        of_train = np.arange(0 if train.unlabelled is None else len(train.unlabelled))
        return Development(whole, (Fold(np.flatnonzero(order < len(train)), scored, of_train),))
    cv = params.train.cross_validation
    return Development(whole, cut(whole, cv, params, target, where="train.cross_validation"))


def cut(
    whole: LabelledRows, cv: CrossValidationParams, params: Params, target: Problem, *, where: str
) -> tuple[Fold, ...]:
    """Split rows that are in order of time into folds.

    Args:
        where: the section of the params that configures the folds.

    Raises:
        UserError: these rows cannot be split in this way.
    """
    folds = tuple(_cut(whole, cv, params, target, where))
    advice = f"ask for fewer folds (params.yaml: {where})"
    for number, fold in enumerate(folds, start=1):
        for what, indices in (("fitted", fold.fitted), ("scored", fold.scored)):
            rows = f"the {what} rows of fold {number} of {len(folds)}"
            require_learnable(rows, whole.label[indices], target, count=f"are {len(indices)}", advice=advice)
    return folds


def _cut(whole: LabelledRows, cv: CrossValidationParams, params: Params, target: Problem, where: str) -> Iterator[Fold]:
    if cv.kind in ("time", "rolling"):
        gap_hours = label_wait(params) / timedelta(hours=1) if cv.gap_hours is None else cv.gap_hours
        yield from _by_time(whole, cv, _span(gap_hours))
        return
    from sklearn import model_selection as cuts

    groups = _groups(whole, cv.group, where) if cv.group else None
    indices = np.arange(len(whole))
    for repeat in range(cv.repeats):
        seed = params.train.seed + repeat
        splitter: Any
        if cv.kind == "shuffle":
            size = math.ceil(share_of(cv.share, len(whole)))
            splitter = cuts.StratifiedShuffleSplit(cv.folds, test_size=size, random_state=seed)
        else:
            kinds = {"kfold": cuts.KFold, "stratified": cuts.StratifiedKFold, "group": cuts.StratifiedGroupKFold}
            splitter = kinds[cv.kind](cv.folds, shuffle=True, random_state=seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # scikit-learn only warns of a class or group too rare for the folds
                splits = list(splitter.split(indices, target.strata(whole.label), groups))
        except (ValueError, UserWarning) as error:
            raise UserError(f"params.yaml: {where}: {len(whole):,} rows cannot be cut so: {error}") from None
        for fitted, scored in splits:
            yield Fold(np.sort(fitted), np.sort(scored), _unlabelled_of_others(whole, scored, cv.group))


def _unlabelled_of_others(whole: LabelledRows, scored: Indices, group: str | None) -> Indices:
    """Return the indices of the rows without a label that share no group with a scored row."""
    if whole.unlabelled is None:
        return np.arange(0)
    if group is None:
        return np.arange(len(whole.unlabelled))
    groups = set(whole.rows[group].take(scored).to_pylist())
    return np.flatnonzero([value not in groups for value in whole.unlabelled[group].to_pylist()])


def _groups(whole: LabelledRows, column: str, where: str) -> Indices:
    """Return (rows,) codes of the groups; rows without a group form one group."""
    if column not in whole.rows.column_names:
        near = nearest(column, whole.rows.column_names)
        raise UserError(
            f"params.yaml: {where}.group: no column {column!r}{near}; featurize.keep carries columns "
            "along that are no features"
        )
    return Clusters.of(np.asarray(whole.rows[column].to_pylist(), dtype=object)).codes


def _by_time(whole: LabelledRows, cv: CrossValidationParams, gap: Any) -> Iterator[Fold]:
    """Yield folds that score consecutive parts of equal size, each by a fit of rows earlier by the gap.

    Rows of one moment stay together. The first part is only fitted. Only those earlier rows are fitted whose label was
    known when the first of the scored rows was predicted, which may be long before its event.
    """
    times, n = whole.rows["event_time"].to_numpy(), len(whole)
    edges = [times[min(n - 1, round(n * part / (cv.folds + 1)))] for part in range(1, cv.folds + 1)]
    for number, edge in enumerate(edges):
        end = edges[number + 1] if number + 1 < len(edges) else None
        scored = (times >= edge) & ((times < end) if end is not None else True)
        made = whole.first_prediction(np.flatnonzero(scored)) if scored.any() else edge  # `cut` refuses a fold of none
        fitted = (times < edge - gap) & whole.known_by(made)
        since = None if cv.training_days is None else edge - gap - _span(cv.training_days * 24)
        if since is not None:
            fitted &= times >= since
        yield Fold(np.flatnonzero(fitted), np.flatnonzero(scored), whole.unlabelled_before(edge, since))


def newest(whole: LabelledRows, share: float, params: Params) -> Fold:
    """Score the newest rows, and fit the earlier rows whose labels were final by then.

    The label of a fitted row was known when the first of the newest rows was predicted, and the delay had passed for
    all rows of its time when that row happened. Where a rule divides the rows, all count as predicted at their event.
    """
    edge = len(whole) - round(share * len(whole))
    times = whole.rows["event_time"].to_numpy()
    scored = newest_of(whole.rows, len(whole) - edge)
    earlier = np.setdiff1d(np.arange(len(whole)), scored)
    if edge in (0, len(whole)):
        return Fold(earlier, scored)
    unlabelled = whole.unlabelled_before(times[edge])
    delay = params.featurize.label.delay_hours
    by_rule = params.featurize.split is not None
    made = times[edge] if by_rule else whole.first_prediction(scored)
    is_final = whole.known_by(made) & (times < times[edge] - _span(delay) if delay else True)
    return Fold(earlier[is_final[earlier]], scored, unlabelled)


def _span(hours: float) -> np.timedelta64:
    return np.timedelta64(round(hours * 3_600_000_000), "us")


def content(table: pa.Table) -> str:
    """Return the digest of a table's values, independent of its chunks."""
    hashed = hashlib.sha256(str(table.schema).encode())
    for batch in table.combine_chunks().to_batches(max_chunksize=65_536):
        hashed.update(batch.serialize())
    return hashed.hexdigest()
