"""What the model of customers' spending is worth on the test customers, against what anyone can say without one."""

from __future__ import annotations

from pathlib import Path

import duckdb

HERE = Path(__file__).resolve().parent

QUERY = f"""
with judged as (
  select customer_id, p.label as spent, p.candidate as model, 0 as zero, t.spent_39w as last_period,
    t.purchases_39w * t.value_39w as frequency_x_value
  from '{HERE}/reports/predictions.parquet' p join '{HERE}/data/features/table.parquet' t using (customer_id)
), each as (unpivot judged on model, zero, last_period, frequency_x_value into name guess value says)
, ranked as (
  select *, row_number() over (partition by guess order by says desc, customer_id)
    <= count(*) over (partition by guess) / 10 as top from each
)
select guess, count(*) as customers, round(avg(abs(says - spent)), 2) as mae,
  round(sqrt(avg((says - spent) ** 2)), 2) as rmse, round(sum(says) / sum(spent), 3) as total,
  round(sum(spent) filter (where top) / sum(spent), 3) as top_decile
from ranked group by guess order by rmse
"""

if __name__ == "__main__":
    print(duckdb.sql(QUERY))
    print(
        "total: what it says they spend in all, of what they spent; top_decile: share of that spent by its first tenth"
    )
