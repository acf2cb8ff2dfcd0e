"""Naive forecasts as columns of the training table: opponents of a model, and no features of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from feature_store.definition import Aggregate, Expression, Feature, FeatureSet, FeatureView, Lag, Spine
from feature_store.offline import compute
from feature_store.sql_text import quote
from refit.config import ForecastParams, Params
from refit.config.forecasting import HORIZON, ZONE
from refit.files.artifacts import NAIVE_COLUMN
from refit.schemas.feature_definitions import Definitions
from tasks.featurize.warehouse import Warehouse

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_FEWEST, _MOST = 3, 24  # steps that an average is of; at most so many if its window cannot be given (months)
_SEASONS_OF_DRIFT = 4


def naive_columns(warehouse: Warehouse, definitions: Definitions, params: Params, rows: str) -> dict[str, pa.Array]:
    """Compute naive forecasts of some rows of the spine's source, in their order; none for any other task.

    All are as known at the forecast. The last value is that of the newest step. The values at the same time are of the
    newest day, week or year before the target that has passed. The moving average is over the last season, and
    the drift continues the last value by the mean change of a step over the last four seasons.
    """
    import pyarrow as pa

    if (forecast := params.forecast) is None:
        return {}
    feature_set = definitions.feature_set
    source = definitions.sources[feature_set.spine.source]
    local, label = ZONE in source.columns, params.featurize.label
    times = {
        f"{name}_at": forecast.model_copy(update={"season": steps}).season_time(local=local)
        for name, steps in forecast.calendar_seasons.items()
    }
    columns = ", ".join(quote(name) for name in [*source.columns, "event_time", "available_at"])
    made = "".join(f", {sql} as {quote(name)}" for name, sql in times.items())
    spine = Spine(
        source=feature_set.spine.source,
        key=feature_set.spine.key,
        calendar=feature_set.spine.calendar,
        features=(Expression(name=HORIZON, sql=HORIZON),),
    )
    features = tuple(_features(quote(label.name), forecast))
    view = FeatureView(name="naive", source=label.source, entity=tuple(forecast.series), features=features)
    relations = {
        name: warehouse.relation(name, definitions.sources) for name in (feature_set.spine.source, label.source)
    }
    relation = f"(select {columns}{made} from {rows})"
    table = compute(
        warehouse.connection, FeatureSet(spine=spine, views=(view,)), relation, relations, warehouse.as_of
    ).to_arrow_table()
    return {NAIVE_COLUMN + name: pa.array(values) for name, values in _forecasts(table, forecast)}


def _features(column: str, forecast: ForecastParams) -> Iterator[Feature]:
    yield Lag(name="last", column=column, before=(forecast.steps(1), forecast.steps(1 + _back(forecast))))
    for name in forecast.calendar_seasons:
        yield Lag(name=name, column=column, of=f"{name}_at")
    span = max(forecast.season, _FEWEST)
    if forecast.step[-1] in "mhdw":
        yield Aggregate(name="mean", function="mean", column=column, windows=(forecast.steps(span),))
    else:
        steps = tuple(forecast.steps(count) for count in range(1, min(span, _MOST) + 1))
        yield Lag(name="mean", column=column, before=steps)


def _back(forecast: ForecastParams) -> int:
    """Over how many steps the drift is measured."""
    return _SEASONS_OF_DRIFT * max(forecast.season, _FEWEST)


def _forecasts(table: pa.Table, forecast: ForecastParams) -> Iterator[tuple[str, Floats]]:
    import numpy as np

    def numbers(name: str) -> Floats:
        return np.asarray(table.column(name).cast("double", safe=False).to_numpy(), dtype=np.float64)

    last, earlier = (numbers(f"last_{forecast.steps(count)}") for count in (1, 1 + _back(forecast)))
    if forecast.season > 1:  # or the season before is the last value
        yield "last_value", last
    for name in forecast.calendar_seasons:
        yield name, numbers(name)
    averaged = np.array([numbers(name) for name in table.column_names if name.startswith("mean_")])
    known = np.isfinite(averaged)
    with np.errstate(invalid="ignore"):
        yield "moving_average", np.where(known, averaged, 0.0).sum(axis=0) / known.sum(axis=0)
    yield "drift", last + (last - earlier) / _back(forecast) * numbers(HORIZON)


def with_columns(reader: pa.RecordBatchReader, columns: Mapping[str, pa.Array]) -> pa.RecordBatchReader:
    """Append whole columns to rows that are read in batches.

    >>> import pyarrow as pa
    >>> rows = pa.table({"x": [1, 2, 3]}).to_reader(max_chunksize=2)
    >>> with_columns(rows, {"y": pa.array([4, 5, 6])}).read_all().to_pydict()
    {'x': [1, 2, 3], 'y': [4, 5, 6]}
    """
    import pyarrow as pa

    if not columns:
        return reader
    fields = [pa.field(name, values.type) for name, values in columns.items()]

    def extended() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in reader:
            for name, values in columns.items():
                batch = batch.append_column(name, values.slice(done, batch.num_rows))
            done += batch.num_rows
            yield batch

    return pa.RecordBatchReader.from_batches(pa.schema([*reader.schema, *fields]), extended())
