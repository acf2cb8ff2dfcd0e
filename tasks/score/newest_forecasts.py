"""The rows of `refit score newest`: the forecasts of each series' newest moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from feature_store.sql_text import quote
from refit.config import Params
from refit.config.column_types import sql_type
from refit.config.forecasting import ZONE, newest_query
from tasks.featurize.warehouse import Warehouse, sql_time
from tasks.score.champion_model import Champion
from tasks.score.missing import NAMED


@dataclass(frozen=True)
class NewestForecasts:
    """The rows of the newest forecasts, and a note if some series end before the others."""

    relation: str
    count: int
    notes: tuple[str, ...]


def newest_forecasts(warehouse: Warehouse, champion: Champion, params: Params) -> NewestForecasts:
    """Select the newest forecasts; with `forecast.every` above 1 they are not stored, and are created here."""
    forecast = params.forecast
    assert forecast
    series = ", ".join(map(quote, forecast.series))
    table = warehouse.rows(champion.definitions.feature_set.spine, champion.definitions.sources)
    if forecast.every > 1:
        types = {name: sql_type(kind) for name, kind in params.ingest.sources[champion.table].columns.items()}
        cells = ", ".join(f"{quote(name)}::{kind} as {quote(name)}" for name, kind in types.items())
        stored = f"select any_value({ZONE}) from {quote(champion.table)}"
        calendar = warehouse.one(stored)[0] if forecast.by_calendar and ZONE in types else None
        query = newest_query(forecast, params.project.timezone, sql_time(warehouse.as_of), calendar)
        rows = warehouse.arrow(f"select {cells}, forecast_time::timestamp as event_time from ({query})")
        table = warehouse.given(champion.spine, rows)
    relation = (
        f"(select * from {table} qualify event_time = max(event_time) over ({series and f'partition by {series}'}) "
        f"order by {series and f'{series}, '}horizon)"
    )
    (count,) = warehouse.one(f"select count(*) from {relation}")
    return NewestForecasts(relation, count, tuple(_ended(warehouse, series, relation)) if series else ())


def _ended(warehouse: Warehouse, series: str, relation: str) -> Iterator[str]:
    """Yield a note naming the series that end before the others: a shop that closed, or whose data is late."""
    ended = warehouse.connection.execute(
        f"select concat_ws(', ', {series}), event_time, max(event_time) over () as newest from "
        f"(select distinct {series}, event_time from {relation}) qualify event_time < newest order by event_time, 1"
    ).fetchall()
    if ended:
        listed = "; ".join(f"{name} ({end:%Y-%m-%d %H:%M})" for name, end, _ in ended[:NAMED])
        more = f"; and {len(ended) - NAMED} more" if len(ended) > NAMED else ""
        yield (
            f"these series end before {ended[0][2]:%Y-%m-%d %H:%M} (UTC), to which others reach, and are forecast from "
            f"there: {listed}{more}"
        )
