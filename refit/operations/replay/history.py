"""The data of a replay: every row with its features at prediction time, and the time when its label became known.

Features are computed once, for the end of the replay: they only use what was known at each row's prediction time, so
later data does not change them. Only those that other projects' models compute depend on the model that takes them: it
knows the versions of its own moment (`History.seen_by`). Everything else is limited to the simulated moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definition import ModelView
from feature_store.sql_text import quote
from refit.config import Params
from refit.config.forecasting import KNOWN_AT as COLUMN
from refit.config.forecasting import ZONE
from refit.config.windows import Window, as_numpy, local_days
from refit.errors import UserError
from refit.files import artifacts
from refit.models import feature_models
from refit.models.feature_models import Find
from refit.problems.contract import Problem
from refit.runtime.context import Context
from refit.runtime.stage_code import code_digest
from refit.schemas.artifact import utc_text
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_table import FeatureColumns
from refit.schemas.manifest import Manifest
from refit.schemas.validated import Validated
from refit.storage.columns import with_large_cells
from refit.storage.snapshots import label_source, snapshot_of
from tasks import featurize, ingest, validate
from tasks.featurize.definitions import resolve
from tasks.featurize.kinds import arrays_of, columns_of
from tasks.featurize.labels import CHOSEN, IS_LEARNED, LABEL, LABEL_KNOWN_AT, rows_until
from tasks.featurize.model_features import with_models
from tasks.featurize.naive_forecasts import naive_columns
from tasks.featurize.warehouse import open_warehouse
from tasks.train.problem import problem_in

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = artifacts.STATE / "replay"
Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class FeaturesOfModels:
    """The features that models of other projects compute."""

    views: tuple[ModelView, ...]  # with every version that was champion by the end of the replay
    find: Find
    trusted_types: tuple[str, ...]

    def known_by(self, as_of: datetime) -> tuple[ModelView, ...]:
        """Their definitions as a run at `as_of` has them.

        Raises:
            UserError: one of the models had no champion yet.
        """
        known = []
        for view in self.views:
            if not (by_then := tuple(each for each in view.versions if each.since <= as_of)):
                raise UserError(f"params.yaml: featurize.models: {view.name} had no champion by {utc_text(as_of)}")
            known.append(view.model_copy(update={"versions": by_then}))
        return tuple(known)


@dataclass(frozen=True)
class History:
    """Rows ordered by event time and key; arrays have the shape (rows,)."""

    table: pa.Table  # key, event_time, prediction_time, the features, `featurize.keep` and `label_known_at`
    label: Floats  # as metrics expect them; NaN if there is none, or none known by the end
    known_at: Times  # when the label could first be known; NaT if never
    event_time: Times
    prediction_time: Times
    days: Times  # the local day of each event
    features: FeatureColumns
    problem: Problem
    digest: str
    models: FeaturesOfModels | None = None
    learned: NDArray[np.bool_] | None = None  # whether a training window learns from a row (`learn`); None: from all

    def __len__(self) -> int:
        return len(self.label)

    def labels_at(self, rows: Rows, moment: datetime | None = None) -> NDArray[Any]:
        """The labels of rows, in the type that learners expect; if labels are optional, NaN for those without one.

        Args:
            moment: a label that was not known by then counts as none; by default, as known by the end.
        """
        labels = self.label[rows]
        if moment is not None and self.problem.optional_label:
            labels = np.where(self.known_at[rows] <= as_numpy(moment), labels, np.nan)
        return labels if np.isnan(labels).any() else labels.astype(self.problem.dtype)

    def usable(self, moment: datetime) -> NDArray[np.bool_]:
        """Mask of the rows that a run at a moment uses: labelled ones, or all that it knows if labels are optional."""
        return self.known(moment) if self.problem.optional_label else self.labelled(moment)

    def labelled(self, moment: datetime) -> NDArray[np.bool_]:
        """Mask of the rows that were predicted, and whose label was known, by a moment."""
        return ~np.isnan(self.label) & (self.known_at <= as_numpy(moment)) & self.known(moment)

    def known(self, moment: datetime) -> NDArray[np.bool_]:
        """Mask of the rows that were predicted by a moment."""
        return np.asarray(self.prediction_time <= as_numpy(moment))

    def between(self, start: datetime | None, end: datetime) -> NDArray[np.bool_]:
        """Mask of the rows whose event is in an interval of time."""
        inside = self.event_time < as_numpy(end)
        return inside if start is None else inside & (self.event_time >= as_numpy(start))

    def inside(self, window: Window, end: datetime) -> NDArray[np.bool_]:
        """Mask of the rows in a window whose event is before `end`; of forecasts with `learn`, training has not all."""
        rows = self.between(window.start, end)
        return rows if self.learned is None or window.name != "train" else rows & self.learned

    def seen_by(self, as_of: datetime, start: int) -> pa.Table:
        """The rows from `start` on, as a model of `as_of` sees them.

        A registered model stays with the versions of other models that it was trained with; those that became
        champion afterwards compute nothing for it.

        Raises:
            UserError: a model whose predictions are features had no champion by then.
        """
        rows = self.table.slice(start)
        if self.models is None or (known := self.models.known_by(as_of)) == self.models.views:
            return rows
        names = [feature.name for view in known for feature in view.features]
        return with_models(rows.drop_columns(names), known, self.models.find, self.models.trusted_types)

    def first_from(self, moment: datetime) -> int:
        """The index of the first row whose event is not before a moment."""
        return int(np.searchsorted(self.event_time, as_numpy(moment)))


def history(context: Context, until: datetime, known_by: datetime) -> History:
    """All rows whose event is before `until`, with what was known about them by `known_by`.

    New rows are ingested and validated in the replay's own folder; the project's files do not change.

    Raises:
        UserError: a source cannot be read, a batch fails, the definitions do not fit, or there are no rows.
        RefitError: a batch of the replay's folder is damaged.
    """
    own = _own_context(context)
    context.progress("looking for rows")
    stored = _taken_in(context, own)
    _require_a_batch(stored[label_source(own.params)], known_by, own.params)
    validated = validate.validated(own, snapshot_of(known_by.isoformat(), own.params, stored))
    champions = feature_models.current(context)
    definitions = resolve(context, validated.as_of, champions)
    name = _digest(context.params, validated, definitions, until)
    path, find = own.project / f"features-{name[:16]}.parquet", partial(feature_models.folder_of, context)
    if (table := _read_table(path)) is None:
        for old in own.project.glob("features-*.parquet"):
            old.unlink()
        context.progress("computing features once for all")
        table = _computed(own, validated, definitions, until, find)
        _write(path, table)
    return _of(table, definitions, name, context, find)


def _taken_in(context: Context, own: Context) -> dict[str, list[Manifest]]:
    """Ingest to the replay's own folder; if a source changed, its batches there are only copies and are made again."""
    _keep_arrivals(context, own)
    try:
        return ingest.take_in(own)
    except UserError:
        if not own.path(artifacts.BATCHES).is_dir():
            raise
    own.progress("not as it was for the last replay: reading the sources again")
    shutil.rmtree(own.path(artifacts.BATCHES))
    _keep_arrivals(context, own)
    return ingest.take_in(own)


def _keep_arrivals(context: Context, own: Context) -> None:
    """Copy the project's batches of sources whose rows change, since only they record when a row arrived, of forecasts,
    which record by which calendar their steps begin, and of tables elsewhere, which are large."""
    ingested = own.params.ingest
    for name, source in ingested.sources.items():
        stored = context.path(artifacts.BATCHES / name)
        if (ingested.may_be_late(name) or source.is_table or ZONE in source.columns) and stored.is_dir():
            shutil.rmtree(own.path(artifacts.BATCHES / name), ignore_errors=True)
            shutil.copytree(stored, own.path(artifacts.BATCHES / name))


def _require_a_batch(stored: Sequence[Manifest], known_by: datetime, params: Params) -> None:
    first = min(batch.start for batch in stored if batch.start)
    if known_by <= first:
        raise UserError(f"--to lies before all rows: the first are of {first.astimezone(params.project.zone):%Y-%m-%d}")


def _own_context(context: Context) -> Context:
    """A context with the project's sources and a separate folder for everything that is written."""
    folder = context.path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / artifacts.RELEASED).unlink(missing_ok=True)
    if context.path(artifacts.RELEASED).is_file():
        shutil.copyfile(context.path(artifacts.RELEASED), folder / artifacts.RELEASED)
    return replace(context, project=folder, declared_in=context.sources_root)


def _digest(params: Params, validated: Validated, definitions: Definitions, until: datetime) -> str:
    batches: list[object] = [(batch.sha256, batch.excluded) for batch in validated.batches]
    changing = {name: each.changes for name, each in params.ingest.sources.items() if not each.changes.is_append}
    batches += [[name, changes.model_dump(mode="json")] for name, changes in changing.items()]
    batches += [utc_text(batch.arrived) for batch in validated.batches if batch.arrived]
    label: list[object] = [params.featurize.label.model_dump(mode="json"), params.task, *params.featurize.keep]
    label += [params.forecast.learn] if params.forecast and params.forecast.learn else []
    zone = params.project.timezone
    times = [utc_text(validated.as_of), until.isoformat()]
    return artifacts.digest([batches, definitions.to_json(), label, zone, times, code_digest("featurize")])


def _computed(own: Context, validated: Validated, definitions: Definitions, until: datetime, find: Find) -> pa.Table:
    with open_warehouse(own.project, validated, own.params) as warehouse:
        rows_until(warehouse, definitions, own.params, until)
        features = featurize.features_of(warehouse, definitions, CHOSEN, own, find)
        naive = naive_columns(warehouse, definitions, own.params, CHOSEN)
        key = definitions.feature_set.spine.key
        along = [LABEL, LABEL_KNOWN_AT, IS_LEARNED, *featurize.kept_columns(warehouse, definitions, own.params)]
        columns = warehouse.arrow(f"select {', '.join(map(quote, [key, *along]))} from {CHOSEN}")
    if not columns[key].combine_chunks().equals(features[key].combine_chunks()):
        raise AssertionError("features are not in the order of their rows: the engine is broken")
    if not features.num_rows:
        raise UserError(f"no row to predict lies before {until:%Y-%m-%d}; give a later --to")
    for name in along:
        features = features.append_column(name, columns[name])
    for name, values in naive.items():
        features = features.append_column(name, values)
    return features


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with artifacts.atomic(path) as scratch:
        pq.write_table(table, scratch, compression="zstd", compression_level=1, write_page_checksum=True)


def _read_table(path: Path) -> pa.Table | None:
    """The table in a file; None if there is no file or it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return with_large_cells(pq.read_table(path, page_checksum_verification=True))
    except (OSError, pa.ArrowException):
        return None


def _of(table: pa.Table, definitions: Definitions, name: str, context: Context, find: Find) -> History:
    import pyarrow as pa
    import pyarrow.compute as pc

    params = context.params
    key, names, task = definitions.feature_set.spine.key, definitions.feature_set.names(), params.task
    table = table.append_column(COLUMN, table[LABEL_KNOWN_AT])  # used to cut folds in time
    classes = sorted(pc.unique(table[LABEL].drop_null()).to_pylist()) if task == "multiclass" else ()
    target, views = problem_in(params, context.project, classes), definitions.feature_set.models
    moments = {
        each: table[each].cast(pa.timestamp("us")).to_numpy()
        for each in ("event_time", "prediction_time", LABEL_KNOWN_AT)
    }
    return History(
        table=table.drop_columns([LABEL, LABEL_KNOWN_AT, IS_LEARNED]),
        label=target.labels_or_nan(table[LABEL]),
        known_at=moments[LABEL_KNOWN_AT],
        event_time=moments["event_time"],
        prediction_time=moments["prediction_time"],
        days=local_days(table["event_time"], params.project.zone),
        features=columns_of(table, key, names, params, target.classes, arrays_of(table, definitions, params)),
        problem=target,
        digest=name,
        models=FeaturesOfModels(views, find, params.registry.trusted_types) if views else None,
        learned=table[IS_LEARNED].to_numpy() if params.forecast and params.forecast.learn else None,
    )
