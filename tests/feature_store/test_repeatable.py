"""What decides features and rows gives the same on every run: no clock, no chance, no second statement."""

from __future__ import annotations

import duckdb
import pytest

from feature_store import DefinitionError
from feature_store.sql_guard import require_repeatable, require_row_level

MOVING = [
    "random()", "uuid()", "gen_random_uuid()", "uuidv7()", "now()", "today()", "current_timestamp", "current_date",
    "localtimestamp", "current_localtimestamp()", "current_localtime()", "get_current_timestamp()", "age(t)",
    "transaction_timestamp()", "ago('1 day')", "txid_current()", "nextval('s')", "current_setting('threads')",
    "list_transform([1], lambda e: e + random())", "NOW()", "pg_postmaster_start_time()",
]  # fmt: skip
STEADY = ["age(t, u)", "hash(t)", "md5('x')", "t + interval 1 day", "row_number() over (order by t)", "'random()'"]
STEADY += ["date_trunc('day', t)", "count(*) over ()", '"now()"', "timestamp '2020-01-01'"]


@pytest.mark.parametrize("sql", MOVING)
def test_an_expression_that_differs_from_run_to_run_is_refused(sql: str) -> None:
    with duckdb.connect() as connection, pytest.raises(DefinitionError, match="differs from run to run"):
        require_row_level(connection, "x", sql)


@pytest.mark.parametrize("sql", ["random()", "current_timestamp", "age(t)"])
@pytest.mark.parametrize(
    "query",
    ["select {} as x from a", "select * from a where x < {}", "select * from a order by {}",
     "with r as (select {} as x) select * from r", "select (select max({}) from a)", "select 1 union all select {}"],
)  # fmt: skip
def test_so_is_a_query_wherever_it_says_so(sql: str, query: str) -> None:
    with duckdb.connect() as connection, pytest.raises(DefinitionError, match=r"query has .* differs from run to run"):
        require_repeatable(connection, "query", query.format(sql))


@pytest.mark.parametrize("sql", STEADY)
def test_a_query_that_gives_the_same_rows_is_taken(sql: str) -> None:
    with duckdb.connect() as connection:
        require_repeatable(connection, "query", f"select *, {sql} as x from a group by all having count(*) > 1")
        require_repeatable(connection, "query", f"select * from (\nselect distinct {sql} from a -- a comment\n)")


@pytest.mark.parametrize(
    "query",
    ["select 1; select 2", "select 1) ; create table x as (select 1", "create table x as select 1", "drop table a",
     "copy a to 'x.csv'", "attach 'x.db'", "set threads = 1", "", "pragma version", "insert into a values (1)"],
)  # fmt: skip
def test_more_or_other_than_one_select_is_refused(query: str) -> None:
    with duckdb.connect() as connection, pytest.raises(DefinitionError, match="one SELECT was expected"):
        require_repeatable(connection, "query", query)


def test_a_sample_needs_a_seed() -> None:
    with duckdb.connect() as connection:
        for query in ("select * from a using sample 10", "select * from a tablesample 5 percent"):
            with pytest.raises(DefinitionError, match="a sample without a seed"):
                require_repeatable(connection, "query", query)
        require_repeatable(connection, "query", "select * from a using sample reservoir(10 rows) repeatable (7)")


def test_a_column_may_be_called_as_a_clock_is() -> None:
    with duckdb.connect() as connection:
        require_row_level(connection, "x", '"current_date"', ["Current_Date"])
        require_repeatable(connection, "query", 'select "current_date" from a', ["current_date"])
