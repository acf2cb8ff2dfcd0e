"""When a row is known that says itself when it arrived."""

from __future__ import annotations

from datetime import datetime

import duckdb
import pytest

from feature_store.compile import SINCE
from feature_store.definition import Source
from feature_store.offline import configure
from refit.config.ingest import SourceParams
from tasks.featurize.known_rows import Changing, create_known


@pytest.mark.parametrize(
    "changes", [{"version": "day"}, {"version": "seq", "arrived_at": "day"}], ids=["version", "arrived_at"]
)
def test_what_was_changed_on_a_date_is_known_at_the_end_of_that_day(changes: dict[str, str]) -> None:
    columns = {"id": "integer", "seq": "integer", "sold": "timestamp", "price": "number", "day": "date"}
    source = SourceParams.model_validate(
        {"kind": "files", "path": "a", "columns": columns, "key": ("id",), "event_time": "sold"}
        | {"changes": {"kind": "corrections", **changes}}
    )
    with duckdb.connect() as connection:
        configure(connection)
        connection.execute(
            "create table prices as select *, sold as event_time from (values "
            "(1, 1, timestamp '2024-05-02 09:00', 10.0, date '2024-05-02'), "
            "(1, 2, timestamp '2024-05-02 09:00', 14.0, date '2024-05-05')) t(id, seq, sold, price, day)"
        )
        expressions = {"id": "id", "price": "price", "event_time": "event_time", "available_at": "event_time"}
        table = Source(table="prices", event_time="sold", columns={"id": "id", "price": "price"})
        changing = Changing.of(source, "Europe/Berlin")
        create_known(connection, table, expressions, changing, "dated", "timestamp '2024-06-01'")
        rows = connection.execute(f"select price, {SINCE} from dated order by 1").fetchall()
    assert rows == [(10, datetime(2024, 5, 2, 22)), (14, datetime(2024, 5, 5, 22))]  # noqa: DTZ001 - UTC
