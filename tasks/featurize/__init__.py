"""The stage `featurize`: builds point-in-time features of labelled rows, split into time windows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.compile import OWN
from feature_store.definition import RESERVED, ModelVersion
from feature_store.errors import DefinitionError
from feature_store.offline import compute
from feature_store.sql_text import quote
from refit.config import Params, nearest
from refit.config.forecasting import KNOWN_AT
from refit.config.windows import LATE, NAMES, UNLABELLED, Window, period_start, windows
from refit.errors import RefitError, UserError, first_line
from refit.evaluation.giveaways import giveaways
from refit.files import artifacts
from refit.models import feature_models
from refit.models.feature_models import Find
from refit.problems import problem_of
from refit.runtime.context import Context
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_table import (
    FeatureColumns,
    FeatureTable,
    Giveaway,
    LabelCounts,
    TableFile,
    Windows,
    WindowSummary,
)
from refit.schemas.validated import Validated
from refit.storage.columns import BATCH, rows_of_window, with_large_cells
from tasks.featurize import forecasts, foresight, recomputed_rows, table_cache
from tasks.featurize.definitions import resolve
from tasks.featurize.kinds import advice, arrays_of, columns_of
from tasks.featurize.labels import CANDIDATES, CHOSEN, LABEL, LABEL_KNOWN_AT, WINDOW, label_rows, late_rows
from tasks.featurize.model_features import with_models
from tasks.featurize.naive_forecasts import naive_columns, with_columns
from tasks.featurize.parts import computed_in_parts
from tasks.featurize.profile import profile, write_profile
from tasks.featurize.table import StoredTable, write
from tasks.featurize.warehouse import Warehouse, open_warehouse

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

REHEARSED = 20_000  # rows


def run(context: Context) -> None:
    """Write the training table, its description, and the profile of each feature by day.

    Raises:
        UserError: definitions, label or windows do not fit the data.
        RefitError: a batch is gone or changed.
    """
    validated = Validated.read(context.path(artifacts.VALIDATED))
    definitions = resolve(context)
    used: dict[str, Path] = {}
    find = _noting(used, partial(feature_models.folder_of, context))
    cached = table_cache.read(context, validated, definitions)
    added = cached.added if cached else ()
    with artifacts.atomic(context.path(artifacts.TABLE)) as scratch:
        with open_warehouse(context.project, validated, context.params, added) as warehouse:
            labels, late = _labels(context, warehouse, definitions)
            written = _write_table(scratch, context, warehouse, definitions, find, cached)
            table = _labelled(written)  # rows without a label, and late ones, are learned from at most
            forecasts.require_season(warehouse, context.params, table)
            forecasts.require_known(warehouse, definitions.feature_set, table, definitions.sources)
            as_of = warehouse.as_of
        context.progress("profile")
        columns = _columns(context, definitions, table, _classes(written))
        leaks = _leaks(context, table, columns)
        sketch = profile(table, columns, context.params.project.zone)
        forecast, split = context.params.forecast, context.params.featurize.split
        description = FeatureTable(
            **dict(columns),
            definitions=definitions,
            definitions_digest=artifacts.digest(definitions.to_json()),
            extra_columns=tuple(context.params.featurize.keep),
            windows=_summaries(table, as_of, context.params, late),
            task=context.params.task,
            split=split.rule if split else None,
            forecast=forecasts.summary(forecast, table) if forecast else None,
            labels=labels,
            table=TableFile(sha256=artifacts.sha256(scratch), rows=written.num_rows),
            snapshot=validated.snapshot,
            as_of=validated.as_of,
            stand_in=tuple(sorted({batch.source for batch in validated.batches if batch.stand_in})),
            giveaways=tuple(leaks),
        )
    write_profile(sketch, context.path(artifacts.FEATURES))
    for view in definitions.feature_set.models:  # the newest computes later rows, although none here may be of its time
        find(view.name, view.versions[-1])
    _keep_models(context, used)
    description.write(context.path(artifacts.FEATURE_SET))
    table_cache.write(context, validated, definitions, description.table.sha256)


def _labels(context: Context, warehouse: Warehouse, definitions: Definitions) -> tuple[LabelCounts, dict[str, int]]:
    """Create the rows with labels; return the counts by label, and of late rows by window. Reports advice on them."""
    context.progress("labels")
    labels, late = label_rows(warehouse, definitions, context.params), late_rows(warehouse)
    if context.params.featurize.label.use_unlabelled and not labels.unlabelled:
        context.progress("no row of training and validation is without a label: use_unlabelled keeps none")
    for each in forecasts.advice(warehouse, context.params, CANDIDATES, quote(LABEL_KNOWN_AT)):
        context.progress(each)
    foreseen = foresight.known_too_early(warehouse, definitions, context.params)
    for each in (*foresight.advice(warehouse, definitions), *foreseen):
        context.progress(each)
    return labels, late


def _columns(
    context: Context, definitions: Definitions, table: StoredTable, classes: tuple[str, ...]
) -> FeatureColumns:
    """Classify the features. Reports advice on them."""
    key, names = definitions.feature_set.spine.key, definitions.feature_set.names()
    arrays = arrays_of(table, definitions, context.params)
    columns = columns_of(table, key, names, context.params, classes, arrays)
    for each in advice(table, columns.categorical):
        context.progress(each)
    return columns


def _leaks(context: Context, table: StoredTable, columns: FeatureColumns) -> list[Giveaway]:
    """Find the features that may leak the label, where that can be. Reports them."""
    can_leak = problem_of(context.params.train.task).can_leak
    leaks = giveaways(table, columns.numeric, columns.categorical) if can_leak else []
    for leak in leaks:
        context.progress(f"may give the label away: {leak}")
    return leaks


def rehearse(context: Context) -> list[Giveaway]:
    """Check on a sample of rows that the training table can be built; returns features that may leak the label.

    Nothing is written.

    Raises:
        UserError: as in `run`, except for features that fail only on other rows.
        RefitError: a batch is gone or changed.
    """
    validated = Validated.read(context.path(artifacts.VALIDATED))
    definitions = resolve(context)
    find = partial(feature_models.folder_of, context)
    with open_warehouse(context.project, validated, context.params) as warehouse:
        label_rows(warehouse, definitions, context.params)
        [rows] = warehouse.one(f"select count(*) from {CHOSEN}")
        every = f"select * from {CHOSEN} qualify row_number() over () % {max(1, rows // REHEARSED)} = 0"
        warehouse.connection.execute(f"create temp table rehearsed as {every}")
        table = _labelled(_training_rows(warehouse, definitions, "rehearsed", context, find).read_all())
    if not problem_of(context.params.train.task).can_leak:
        return []
    key, names = definitions.feature_set.spine.key, definitions.feature_set.names()
    columns = columns_of(table, key, names, context.params, arrays=arrays_of(table, definitions, context.params))
    return giveaways(table, columns.numeric, columns.categorical)


def rows_for(context: Context, definitions: Definitions, window: str, find: Find | None = None) -> pa.Table:
    """Compute the features of other definitions for one window of the training table (same keys, order and labels).

    Args:
        find: where the versions of other models are that compute some of them; by default in their registries.

    Raises:
        UserError: the definitions do not fit the current sources: they use another key, or give other rows.
        RefitError: a batch is gone or changed.
    """
    import pyarrow as pa

    if window not in NAMES:
        raise ValueError(f"window {window!r} is none of {', '.join(NAMES)}")
    current = FeatureTable.read(context.path(artifacts.FEATURE_SET))
    validated = Validated.read(context.path(artifacts.VALIDATED))
    key, spine = current.key, definitions.feature_set.spine
    if spine.key != key:
        raise UserError(
            f"the training table names rows by {key!r}, the stored definitions by {spine.key!r}: no row matches"
        )
    if validated.snapshot != current.snapshot:
        raise RefitError(
            "data/validated.json is not the one that the training table came from; `refit run` makes them agree"
        )
    table = rows_of_window(current.table.path(context.project), window, [key, "event_time", "window", "label"])
    with open_warehouse(context.project, validated, context.params) as warehouse:
        rows = _rows_named(warehouse, definitions, table[key])
        features = features_of(
            warehouse, definitions, rows, context, find or partial(feature_models.folder_of, context)
        )
    if not features[key].combine_chunks().equals(table[key].combine_chunks()):
        raise UserError(
            f"source {spine.source!r} of the stored definitions gives {features.num_rows} of the {table.num_rows} rows "
            f"of the {window} window: two models cannot be compared on different rows"
        )
    columns = {key: table[key], "event_time": table["event_time"], "prediction_time": features["prediction_time"]}
    columns |= {"window": table["window"], "label": table["label"]}
    return with_large_cells(pa.table(columns | {name: features[name] for name in definitions.feature_set.names()}))


def _rows_named(warehouse: Warehouse, definitions: Definitions, keys: pa.ChunkedArray) -> str:
    """Create a table of the spine's rows with these keys, in their order."""
    import pyarrow as pa

    spine, key, position = definitions.feature_set.spine, quote(definitions.feature_set.spine.key), f"{OWN}place"
    rows = warehouse.rows(spine, definitions.sources)
    warehouse.connection.register("wanted", pa.table({spine.key: keys, position: pa.array(range(len(keys)))}))
    warehouse.connection.execute(
        f"create temp table named as select s.* from wanted w join {rows} s using ({key}) order by {quote(position)}"
    )
    return "named"


def _write_table(
    scratch: Path,
    context: Context,
    warehouse: Warehouse,
    definitions: Definitions,
    find: Find,
    cached: table_cache.CachedTable | None,
) -> StoredTable:
    context.progress("features")
    [rows] = warehouse.one(f"select count(*) from {CHOSEN}")
    reader = _training_rows(warehouse, definitions, CHOSEN, context, find, cached)
    write(scratch, reader, reader.schema, lambda done: context.progress("writing features", done, rows))
    return StoredTable(scratch)


def _training_rows(
    warehouse: Warehouse,
    definitions: Definitions,
    rows: str,
    context: Context,
    find: Find,
    cached: table_cache.CachedTable | None = None,
) -> pa.RecordBatchReader:
    """Compute the training table of some chosen rows, and read it in batches."""
    import pyarrow as pa

    feature_set, params = definitions.feature_set, context.params
    extra_columns = kept_columns(warehouse, definitions, params)
    key, same_key = feature_set.spine.key, f"{OWN}key"
    naive = naive_columns(warehouse, definitions, params, rows)  # before anything is read in batches
    compute = partial(_computed, warehouse, definitions, context=context)
    copied = recomputed_rows.features(context, warehouse, definitions, rows, cached, compute) if cached else None
    features = compute(rows) if copied is None else copied
    spine_columns, names = [key, "event_time", "prediction_time"], feature_set.model_copy(update={"models": ()}).names()
    of_label = {WINDOW: "window", LABEL: "label", **{name: name for name in extra_columns}, LABEL_KNOWN_AT: KNOWN_AT}
    cells = [f"features.{quote(name)}" for name in spine_columns]
    cells += [f"labels.{quote(name)} as {quote(title)}" for name, title in of_label.items()]
    cells += [f"features.{quote(name)}" for name in names] + [f"labels.{quote(key)} as {quote(same_key)}"]
    joined = f"select {', '.join(cells)} from features positional join {rows} as labels"
    reader = features.query("features", joined).to_arrow_reader(BATCH)

    def in_order() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            if not batch[key].equals(batch[same_key]):
                raise AssertionError("features are not in the order of their rows: the engine is broken")
            yield batch.drop_columns([same_key])

    schema = pa.schema([field for field in reader.schema if field.name != same_key])
    read = with_columns(pa.RecordBatchReader.from_batches(schema, in_order()), naive)
    if not feature_set.models:
        return read
    table = read.read_all()
    of_row = with_models(
        table.select([*spine_columns, *names]), feature_set.models, find, params.registry.trusted_types
    )
    along = {name: table[name] for name in (*spine_columns, *of_label.values(), *naive)}
    return pa.table(along | {name: of_row[name] for name in feature_set.names()}).to_reader()


def _labelled(table: Any) -> Any:
    """The rows of a table, stored or not, that have a label in time."""
    import pyarrow.compute as pc

    apart = [pc.ends_with(table["window"], f" {kind}") for kind in (UNLABELLED, LATE)]
    return table.filter(pc.invert(pc.or_(*apart)))


def kept_columns(warehouse: Warehouse, definitions: Definitions, params: Params) -> list[str]:
    """Return the columns of `featurize.keep`.

    Raises:
        UserError: one of them is not a column of the rows to predict, or has another role.
    """
    columns = warehouse.connection.sql(f"select * from {CHOSEN}").columns
    taken = {definitions.feature_set.spine.key, *RESERVED, *definitions.feature_set.names()}
    for name in params.featurize.keep:
        if name not in columns:
            source = definitions.feature_set.spine.source
            near = nearest(name, columns)
            raise UserError(f"params.yaml: featurize.keep: source {source!r} has no column {name!r}{near}")
        if name in taken:
            raise UserError(f"params.yaml: featurize.keep: {name!r} is in the table already; leave it out")
    return list(params.featurize.keep)


def features_of(warehouse: Warehouse, definitions: Definitions, rows: str, context: Context, find: Find) -> pa.Table:
    """Compute the features of some rows of the spine's source, in their order; the label's column is hidden from them.

    Args:
        rows: a relation of the warehouse with the columns of the spine's source, `event_time` and `available_at`.
        find: where the versions of other models are that compute some of them.

    Raises:
        UserError: the definitions do not fit the current sources.
        RefitError: the machine has too little memory.
    """
    table = _computed(warehouse, definitions, rows, context).to_arrow_table()
    return with_models(table, definitions.feature_set.models, find, context.params.registry.trusted_types)


def _computed(warehouse: Warehouse, definitions: Definitions, rows: str, context: Context) -> DuckDBPyRelation:
    """Compute the features that no model computes, as in `features_of`; the relation can be read once."""
    import duckdb

    params = context.params
    feature_set = definitions.feature_set.model_copy(update={"models": ()})
    source, label = feature_set.spine.source, params.featurize.label
    hidden = label.column if label.source == source else None
    columns = [*definitions.sources[source].columns, "event_time", "available_at"]
    spine = f"(select {', '.join(quote(name) for name in columns if name != hidden)} from {rows})"
    relations = {name: warehouse.relation(name, definitions.sources) for name in feature_set.sources()}
    try:
        in_parts = computed_in_parts(context, warehouse, feature_set, spine, relations)
        if in_parts is not None:
            return in_parts
        return compute(warehouse.connection, feature_set, spine, relations, warehouse.as_of)
    except DefinitionError as error:
        raise UserError(f"{params.featurize.definitions or 'params.yaml'}: {error}") from None
    except duckdb.OutOfMemoryException as error:
        raise RefitError(
            f"the features need more memory: {first_line(error)}; give it more, or leave features out"
        ) from None


def _noting(used: dict[str, Path], find: Find) -> Find:
    """Note the folders that are found."""

    def noting(model: str, version: ModelVersion) -> Path:
        folder = find(model, version)
        used[folder.name] = folder
        return folder

    return noting


def _keep_models(context: Context, used: Mapping[str, Path]) -> None:
    """Copy the versions of other models next to the table: they are stored with every model that is trained on it."""
    shutil.rmtree(context.path(artifacts.MODELS_USED), ignore_errors=True)
    for name, folder in used.items():
        shutil.copytree(folder, context.path(artifacts.MODELS_USED) / name)


def _summaries(table: StoredTable, as_of: datetime, params: Params, late: Mapping[str, int]) -> Windows:
    """Describe each window: bounds, rows and labels. Training begins at the start of the first row's period.

    `late` counts rows within the bounds that are left out, because their label came too late for the next window.
    """
    import pyarrow.compute as pc

    first: datetime = pc.min(table["event_time"]).as_py().replace(tzinfo=UTC)
    problem, delay = problem_of(params.train.task), timedelta(hours=params.featurize.label.delay_hours)

    def summary(window: Window) -> WindowSummary:
        labels = table["label"].filter(pc.equal(table["window"], window.name))
        start = window.start or period_start(first, params.ingest.period, params.project.zone)
        until = window.until(delay)
        return WindowSummary(
            start=start.replace(microsecond=0),
            end=window.end.replace(microsecond=0),
            rows=len(labels),
            until=until.replace(microsecond=0) if until < window.end else None,
            late=late.get(window.name, 0),
            **problem.describe_labels(labels),
        )

    train, validation, test = map(summary, windows(as_of, params))
    return Windows(train=train, validation=validation, test=test)


def _classes(table: StoredTable) -> tuple[str, ...]:
    """Return the sorted text labels of the training and validation rows; empty if labels are numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(table["label"].type):
        return ()
    learned = table["label"].filter(pc.not_equal(table["window"], "test"))
    return tuple(sorted(pc.unique(learned.drop_null()).to_pylist()))
