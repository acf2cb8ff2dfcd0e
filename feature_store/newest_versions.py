"""The newest row of an entity in a source of versions, as it was known at each prediction.

Which row that is cannot be told from the order in which versions became known: a correction does not make its row the
newest, and a deletion makes the one before it the newest again. So rows are sorted as they became known, and each
prediction reads backwards from the newest one, past versions that were not known yet, or no longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feature_store import compile as sql
from feature_store import sequences
from feature_store.compile import N, own
from feature_store.definition import Age, Aggregate, FeatureView, Latest
from feature_store.errors import DefinitionError
from feature_store.sql_text import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


def require_no_calendar(view: FeatureView, zone: str | None) -> None:
    """Refuse windows of days by the clock of a zone, where rows have ends: no row can know when such a day begins."""
    days = [f.name for f in view.features if isinstance(f, Aggregate) and not all(w[-1] in "mh" for w in f.windows)]
    if zone is not None and days:
        why = "by event_time" if view.windows_by == "event_time" else f"over source {view.source!r} with corrected rows"
        raise DefinitionError(
            f"view {view.name!r}: {days[0]} has windows of days by a calendar, {why}; write the windows in hours, or "
            "leave out the spine's calendar"
        )


def _cells(view: FeatureView) -> dict[str, str]:
    """The column of each value -> its SQL."""
    wanted = [feature for feature in view.features if isinstance(feature, Latest)]
    return {own(f"y{index}"): f"({feature.column})" for index, feature in enumerate(wanted)}


def ordered_sql(view: FeatureView, entities: str, source: str, as_of: str) -> str:
    """Select the versions of the entities, sorted by entity, and by when their row became known."""
    by = ("available_at", "event_time")
    return sequences.sorted_sql(view, _cells(view), entities, source, as_of, by, versions=True)


def find(connection: DuckDBPyConnection, view: FeatureView, spine: str, entities: str, ordered: str) -> pa.Table:
    """The position of the newest row for each row of the spine that has one: `N`, `position`."""
    import pyarrow as pa

    events = sequences.Events.read(connection, ordered, 0)
    query = sequences.newest_sql(view, None, spine, entities, ordered)
    rows, positions = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for row, length, places in sequences.read_back(events, sequences.Predictions.read(connection, query), 1):
        rows.append(row[length > 0] + 1)
        positions.append(places)
    return pa.table({N[1:-1]: np.concatenate(rows), "position": np.concatenate(positions)})


def values_sql(view: FeatureView, spine: str, ordered: str, chosen: str) -> str:
    """Select the values and ages for each row of the spine that has a newest row."""
    columns, cells = [], iter(_cells(view))
    for feature in view.features:
        if isinstance(feature, Latest):
            value = f"known.{next(cells)}"
        elif isinstance(feature, Age):
            value = "epoch(prediction_time - known.available_at) / 3600"
        else:
            continue
        columns.append(f"{sql.fresh(view, feature, 'known.available_at', value)} as {quote(feature.name)}")
    return (
        f"select spine.{N}, {sql.commas(columns)} from {spine} as spine "
        f"join {chosen} as chosen on spine.{N} = chosen.{N} join {ordered} as known on chosen.position = known.position"
    )
