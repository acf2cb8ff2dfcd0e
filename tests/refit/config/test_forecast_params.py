"""Which horizons of a forecast are learned from."""

from __future__ import annotations

from itertools import pairwise

import duckdb
import pytest

from refit.config import ForecastParams


@pytest.mark.parametrize(("count", "learn"), [(48, 14), (48, 30), (48, 47), (3, 2), (1, 1)])
def test_of_each_forecast_exactly_as_many_horizons_are_learned_as_asked_far_apart(count: int, learn: int) -> None:
    horizons = tuple(range(5, 5 + count))
    learned = ForecastParams(of="t", step="1h", horizons=horizons, learn=learn).is_learned("forecast::varchar")
    rows = "(select unnest(range(200)) as forecast), (select unnest(range(5, 5 + $1)) as horizon)"
    found = duckdb.execute(
        f"select list(horizon order by horizon) from {rows} where {learned} group by forecast", [count]
    )
    chosen = [each for (each,) in found.fetchall()]
    assert {len(each) for each in chosen} == {learn}
    assert {b - a for each in chosen for a, b in pairwise(each)} <= {count // learn, -(-count // learn)}
    assert set().union(*chosen) == set(horizons)
