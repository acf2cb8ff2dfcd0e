"""Features of forecasts: those that every forecast has, and the defaults of a project that defines none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from feature_store.definition import (
    Aggregate,
    Expression,
    Feature,
    FeatureSet,
    FeatureView,
    Lag,
    Source,
    Spine,
    interval,
)
from feature_store.sql_text import quote
from refit.config import ForecastParams, Params, nearest
from refit.config.forecasting import HORIZON, ZONE, cycle_time, series_of
from refit.errors import UserError
from refit.problems.regression import SEASONAL_NAIVE
from refit.schemas.feature_table import ForecastRows
from tasks.featurize.warehouse import Warehouse, key_column, sources

if TYPE_CHECKING:
    import pyarrow as pa

_NAMED = 5  # series that a message names
_RECENT = 3  # newest steps in the default feature set
_CALENDAR = {
    "m": ("hour", "isodow"),
    "h": ("hour", "isodow", "month"),
    "d": ("isodow", "day", "month"),
    "w": ("week",),
    "mo": ("month",),
    "y": (),
}


def completed(
    feature_set: FeatureSet, params: Params, forecast: ForecastParams, declared: Mapping[str, Source]
) -> FeatureSet:
    """Add the horizon, the columns that identify series, and the seasonal naive forecast to a feature set.

    Raises:
        UserError: the feature set predicts other rows than forecasts, or the label's source lacks such a column.
    """
    spine, label = feature_set.spine, params.featurize.label
    if spine.source != (name := params.forecast_source):
        raise UserError(
            f"{params.featurize.definitions}: the spine's source is {spine.source!r}; train.task 'forecast' predicts "
            f"the rows of {name!r}: Spine(source={name!r}, key={key_column(params.ingest.sources[name])[0]!r})"
        )
    for column in forecast.series:
        if column not in (columns := declared[label.source].columns):
            raise UserError(
                f"params.yaml: source {label.source!r} has no column {column!r} to tell its series by"
                f"{nearest(column, columns)}"
            )
    names = set(feature_set.names())
    row = [
        Expression(name=HORIZON, sql=HORIZON, description="steps from the forecast to its target", unit="steps"),
        *(Expression(name=each, sql=quote(each), description="which series") for each in forecast.series),
    ]
    naive = Lag(
        name=SEASONAL_NAIVE,
        column=quote(label.name),
        of="season_time",
        description="the value a season before the target, or as many seasons as make it known",
        missing="no such step, or not known yet",
    )
    view = FeatureView(name="season", source=label.source, entity=tuple(forecast.series), features=(naive,))
    spine = spine.model_copy(update={"features": (*spine.features, *(each for each in row if each.name not in names))})
    if spine.calendar is None and ZONE in declared[name].columns:
        spine = spine.model_copy(update={"calendar": ZONE})
    views = feature_set.views if SEASONAL_NAIVE in names else (*feature_set.views, view)
    return FeatureSet(spine=spine, views=views, lookups=feature_set.lookups, description=feature_set.description)


def require_features(feature_set: FeatureSet, forecast: ForecastParams) -> None:
    """Require the features that forecasts are identified and evaluated by.

    Raises:
        UserError: one of them is excluded.
    """
    names = feature_set.names()
    if excluded := [name for name in (HORIZON, SEASONAL_NAIVE, *forecast.series) if name not in names]:
        raise UserError(
            f"params.yaml: featurize.exclude: forecasts are judged by {', '.join(excluded)}; narrow the pattern, or "
            "leave it out"
        )


def default(params: Params, forecast: ForecastParams) -> FeatureSet:
    """Return default features of a series: newest steps, earlier seasons and cycles, their means, the calendar."""
    label, source = params.featurize.label, params.ingest.sources[params.forecast_source]
    spine = Spine(source=params.forecast_source, key=key_column(source)[0], features=tuple(_calendar(params, forecast)))
    features = tuple(_of_series(quote(label.name), forecast, local=ZONE in source.columns))
    view = FeatureView(name="series", source=label.source, entity=tuple(forecast.series), features=features)
    return FeatureSet(
        spine=spine, views=(view,), description="Forecasts by the features that Refit makes of any series."
    )


def scales(forecast: ForecastParams) -> tuple[str, list[str]]:
    """Return the default feature to difference against, and patterns of all default features in the label's units.

    >>> scales(ForecastParams(of="days", step="1d", horizons=(1,), season=7))
    ('mean_7d', ['last_*', 'seasons_*', 'mean_*', 'seasonal_naive'])
    >>> scales(ForecastParams(of="hours", step="1h", horizons=(1,), season=168))
    ('mean_168h', ['last_*', 'seasons_*', 'cycle_*', 'mean_*', 'seasonal_naive'])
    >>> scales(ForecastParams(of="months", step="1mo", horizons=(1,)))
    ('seasonal_naive', ['last_*', 'seasonal_naive'])
    """
    made = list(_of_series("value", forecast))
    means = [each for each in made if isinstance(each, Aggregate)]
    level = next(iter(means[0].columns())) if means else SEASONAL_NAIVE
    patterns = dict.fromkeys(f"{each.name.partition('_')[0]}_*" for each in made)
    return level, [*patterns, SEASONAL_NAIVE]


def _calendar(params: Params, forecast: ForecastParams) -> Iterator[Expression]:
    zone, unit = params.project.timezone, forecast.step.lstrip("0123456789")
    local = "target_time" if zone == "UTC" else f"timezone('{zone}', timezone('UTC', target_time))"
    within_hour = ("minute",) if unit == "m" and int(forecast.step[:-1]) % 60 else ()
    for part in (*_CALENDAR[unit], *within_hour):
        yield Expression(name=f"target_{part}", sql=f"{part}({local})", description=f"{part} of the target")


def _of_series(column: str, forecast: ForecastParams, *, local: bool = False) -> Iterator[Feature]:
    recent = tuple(forecast.steps(count) for count in range(1, _RECENT + 1))
    yield Lag(name="last", column=column, before=recent, description="the newest steps")
    span = max(forecast.season, _RECENT)
    if forecast.season > 1:
        ago = forecast.seasons if local else lambda count: forecast.steps(forecast.season * count)
        seasons = tuple(map(ago, (1, 2)))
        yield Lag(name="seasons", column=column, of="season_time", before=seasons, description="the seasons before")
    for steps in forecast.cycles:
        name, described = f"cycle_{forecast.steps(steps)}", "the newest value known whole cycles before the target"
        yield Lag(name=name, column=column, of=cycle_time(steps), description=described)
    if forecast.step[-1] in "mhdw":  # months differ in length
        lengths = dict.fromkeys((span, 4 * span, *forecast.cycles))
        windows = tuple(map(forecast.steps, lengths))
        yield Aggregate(name="mean", function="mean", column=column, windows=windows, description="over seasons")


def advice(warehouse: Warehouse, params: Params, candidates: str, known_at: str) -> Iterator[str]:
    """Yield a message naming the series whose outcomes are mostly missing though later ones are known.

    Args:
        candidates: a relation of the rows to predict.
        known_at: its column, as SQL, with the time since when the outcome is known.
    """
    if (forecast := params.forecast) is None:
        return
    name = f"concat_ws(', ', {', '.join(map(quote, forecast.series))})" if forecast.series else "'all'"
    incomplete = warehouse.connection.execute(
        f"select {name}, count(*) - count({known_at}), count(*) from {candidates} where target_time <= "
        f"(select max(target_time) from {candidates} where {known_at} is not null) group by 1 "
        f"having count({known_at}) < count(*) / 2 order by 2 desc, 1"
    ).fetchall()
    if incomplete:
        more = f" and {len(incomplete) - _NAMED} more series" if len(incomplete) > _NAMED else ""
        listed = ", ".join(f"{series} ({gone:,} of {rows:,})" for series, gone, rows in incomplete[:_NAMED])
        yield (
            f"forecasts without an outcome, as {forecast.of!r} has no row of just then: {listed}{more}; nothing is "
            f"learned of them: its rows must lie {forecast.step} apart (Refit's docs/forecasting.md)"
        )


def require_season(warehouse: Warehouse, params: Params, table: pa.Table) -> None:
    """Require that a season fits into the history, because otherwise no earlier season is known.

    Args:
        table: the training table.

    Raises:
        UserError: the season is longer.
    """
    forecast, label = params.forecast, params.featurize.label
    if forecast is None or table[SEASONAL_NAIVE].null_count < table.num_rows:
        return
    relation = warehouse.relation(label.source, sources(params))
    first, last, steps, longer = warehouse.one(
        "select min(event_time), max(event_time), count(distinct event_time), "
        f"max(event_time) - {interval(forecast.steps(forecast.season))} < min(event_time) from {relation}"
    )
    if longer:
        raise UserError(
            f"a season of {forecast.season:,} steps of {forecast.step} is longer than the history: {label.source!r} "
            f"has {steps:,} steps, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} (UTC); set a shorter one, or 1 "
            f"where nothing repeats itself (params.yaml: ingest.sources.{params.forecast_source}.forecast.season)"
        )


def require_known(
    warehouse: Warehouse, feature_set: FeatureSet, table: pa.Table, declared: Mapping[str, Source]
) -> None:
    """Require that every lag is known for some row: one that never is, although its source has rows, needs the future.

    Args:
        table: the training table.

    Raises:
        UserError: a lag is known for no row.
    """
    for view in feature_set.views:
        for feature in view.features:
            if isinstance(feature, Lag) and all(table[name].null_count == table.num_rows for name in feature.columns()):
                relation = warehouse.relation(view.source, declared)
                (rows,) = warehouse.one(f"select count({feature.column}) from {relation}")
                if rows:
                    raise UserError(
                        f"feature {feature.name!r} of view {view.name!r} is known for no row: what {view.source!r} "
                        f"tells of {feature.of} becomes known only after the prediction, or is of other moments; look "
                        "farther back (`before`), use Latest, or read a source of what is known ahead, such as holidays"
                    )


def summary(forecast: ForecastParams, table: pa.Table) -> ForecastRows:
    """Describe the forecasts, with the seasonal naive error of each series on the training and validation rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    learned = table.filter(pc.not_equal(table["window"], "test"))
    errors = pc.abs(pc.subtract(learned["label"], learned[SEASONAL_NAIVE]))
    names = series_of(learned, tuple(forecast.series))
    means = pa.table({"series": names, "error": errors}).group_by("series").aggregate([("error", "mean")])
    scales = dict(zip(means["series"].to_pylist(), means["error_mean"].to_pylist(), strict=True))
    return ForecastRows(
        of=forecast.of,
        series=tuple(forecast.series),
        step=forecast.step,
        horizons=forecast.horizons,
        season=forecast.season,
        scales=scales,
    )
