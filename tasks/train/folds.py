"""How the rows to learn from are cut, so that every score comes from rows that the fit had not seen."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.config import Params, nearest
from refit.config.forecasting import KNOWN_AT
from refit.config.shares import share_of
from refit.errors import UserError
from refit.learners import Labels
from refit.metrics.clusters import Clusters
from refit.problems.target import Target

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.config.training import CrossValidationParams

FEWEST_ROWS = 20  # in each window and each part of a fold

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Rows of one window in canonical order, with their labels."""

    rows: pa.Table
    label: Labels

    def __len__(self) -> int:
        return len(self.label)

    def recent(self, rows: int) -> Window:
        """The last `rows` rows."""
        start = max(0, len(self) - rows)
        return Window(self.rows.slice(start), self.label[start:])

    def named(self, name: str) -> Window:
        """The rows whose column `window` says so."""
        import pyarrow.compute as pc

        places = np.flatnonzero(pc.equal(self.rows["window"], name).to_numpy())
        return Window(self.rows.take(places), self.label[places])

    def known_by(self, moment: np.datetime64) -> NDArray[np.bool_]:
        """(rows,) whether the label was known by then; where a table of before does not tell, it is taken as known."""
        if KNOWN_AT not in self.rows.column_names:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.rows[KNOWN_AT].to_numpy() <= moment)

    def at(self, places: Places) -> Window:
        """The rows at these places."""
        if len(places) and len(places) == places[-1] - places[0] + 1:
            start, rows = int(places[0]), len(places)
            return Window(self.rows.slice(start, rows), self.label[start : start + rows])
        return Window(self.rows.take(places), self.label[places])


@dataclass(frozen=True)
class Fold:
    """Places of the rows that are fitted, and of those that this fit is scored on, each ascending."""

    fitted: Places
    scored: Places


@dataclass(frozen=True)
class Development:
    """All rows that may be learned from, in order of time, and how they are cut to compare learners."""

    whole: Window
    folds: tuple[Fold, ...]

    def windows(self, fold: Fold) -> tuple[Window, Window]:
        """The rows to fit, and the rows to score."""
        return self.whole.at(fold.fitted), self.whole.at(fold.scored)

    @property
    def unseen(self) -> Places:
        """Places of all rows that some fit was scored on, each once."""
        return np.unique(np.concatenate([fold.scored for fold in self.folds]))


def require_learnable(what: str, label: Labels, target: Target, *, count: str, advice: str) -> None:
    """Raise where nothing can be learned from rows with these labels.

    Args:
        what: the name of these rows, for errors.
        count: how many they are, in words that follow the name.
        advice: what to do about it.

    Raises:
        UserError: they are too few, or all alike.
    """
    if len(label) < FEWEST_ROWS:
        raise UserError(f"{what} {count}, {FEWEST_ROWS} are the fewest to learn from; {advice}")
    if alike := target.constant_labels(label):
        raise UserError(f"the label is constant in {what}: {alike}: check featurize.label, or {advice}")


def development(train: Window, validation: Window, params: Params, target: Target) -> Development:
    """The training and validation rows together, cut by `train.cross_validation` or as the two windows they came as.

    Raises:
        UserError: the folds that are asked for cannot be cut from these rows.
    """
    import pyarrow as pa

    rows = pa.concat_tables([train.rows, validation.rows])
    label = np.concatenate([train.label, validation.label])
    times = rows["event_time"].to_numpy()
    order = np.argsort(times, kind="stable")
    if (np.diff(order) != 1).any():
        rows, label, times = rows.take(order), label[order], times[order]
    whole = Window(rows, label)
    if params.train.cross_validation is None:
        scored = np.flatnonzero(order >= len(train))
        return Development(whole, (Fold(np.flatnonzero(order < len(train)), scored),))
    asked = params.train.cross_validation
    return Development(whole, cut(whole, asked, params, target, where="train.cross_validation"))


def cut(whole: Window, asked: CrossValidationParams, params: Params, target: Target, *, where: str) -> tuple[Fold, ...]:
    """Folds of rows that are in order of time.

    Args:
        where: the section of the params that asks for them.

    Raises:
        UserError: these rows cannot be cut so.
    """
    folds = tuple(_cut(whole, asked, params, target, where))
    advice = f"ask for fewer folds (params.yaml: {where})"
    for number, fold in enumerate(folds, start=1):
        for what, places in (("fitted", fold.fitted), ("scored", fold.scored)):
            rows = f"the {what} rows of fold {number} of {len(folds)}"
            require_learnable(rows, whole.label[places], target, count=f"are {len(places)}", advice=advice)
    return folds


def _cut(whole: Window, asked: CrossValidationParams, params: Params, target: Target, where: str) -> Iterator[Fold]:
    if asked.kind in ("time", "rolling"):
        delay, ahead = params.featurize.label.delay_hours, params.forecast.lead_hours if params.forecast else 0.0
        gap_hours = max(delay, ahead) if asked.gap_hours is None else asked.gap_hours
        yield from _by_time(whole, asked, _span(gap_hours))
        return
    from sklearn import model_selection as cuts

    groups = _groups(whole, asked.group, where) if asked.group else None
    places = np.arange(len(whole))
    for repeat in range(asked.repeats):
        seed = params.train.seed + repeat
        splitter: Any
        if asked.kind == "shuffle":
            size = math.ceil(share_of(asked.share, len(whole)))
            splitter = cuts.StratifiedShuffleSplit(asked.folds, test_size=size, random_state=seed)
        else:
            kinds = {"kfold": cuts.KFold, "stratified": cuts.StratifiedKFold, "group": cuts.StratifiedGroupKFold}
            splitter = kinds[asked.kind](asked.folds, shuffle=True, random_state=seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a class or a group too rare for the folds is only warned of
                found = list(splitter.split(places, target.strata(whole.label), groups))
        except (ValueError, UserWarning) as error:
            raise UserError(f"params.yaml: {where}: {len(whole):,} rows cannot be cut so: {error}") from None
        for fitted, scored in found:
            yield Fold(np.sort(fitted), np.sort(scored))


def _groups(whole: Window, column: str, where: str) -> Places:
    """(rows,) codes of the groups; rows without one make one together."""
    if column not in whole.rows.column_names:
        near = nearest(column, whole.rows.column_names)
        raise UserError(
            f"params.yaml: {where}.group: no column {column!r}{near}; featurize.keep carries columns "
            "along that are no features"
        )
    return Clusters.of(np.asarray(whole.rows[column].to_pylist(), dtype=object)).codes


def _by_time(whole: Window, asked: CrossValidationParams, gap: Any) -> Iterator[Fold]:
    """Equal numbers of rows are scored one after another, each by a fit of rows that are earlier by the gap.

    Rows of one moment stay together. The first part is only fitted. Of the earlier rows those are fitted whose label
    was known when the first scored row happened, however late that was.
    """
    times, n = whole.rows["event_time"].to_numpy(), len(whole)
    edges = [times[min(n - 1, round(n * part / (asked.folds + 1)))] for part in range(1, asked.folds + 1)]
    for number, edge in enumerate(edges):
        end = edges[number + 1] if number + 1 < len(edges) else None
        scored = (times >= edge) & ((times < end) if end is not None else True)
        fitted = (times < edge - gap) & whole.known_by(edge)
        if asked.training_days is not None:
            fitted &= times >= edge - gap - _span(asked.training_days * 24)
        yield Fold(np.flatnonzero(fitted), np.flatnonzero(scored))


def newest(whole: Window, share: float, params: Params) -> Fold:
    """The newest rows, to be scored, and of those before them the ones whose labels could be relied on by then.

    As with windows, the label of a fitted row was known and its delay had passed for all rows of its time.
    """
    edge = len(whole) - round(share * len(whole))
    times = whole.rows["event_time"].to_numpy()
    if edge in (0, len(whole)):
        return Fold(np.arange(edge), np.arange(edge, len(whole)))
    delay = params.featurize.label.delay_hours
    known = whole.known_by(times[edge]) & (times < times[edge] - _span(delay) if delay else True)
    return Fold(np.flatnonzero(known[:edge]), np.arange(edge, len(whole)))


def _span(hours: float) -> np.timedelta64:
    return np.timedelta64(round(hours * 3_600_000_000), "us")


def content(table: pa.Table) -> str:
    """Digest of a table's values, whatever its chunks."""
    found = hashlib.sha256(str(table.schema).encode())
    for batch in table.combine_chunks().to_batches(max_chunksize=65_536):
        found.update(batch.serialize())
    return found.hexdigest()
