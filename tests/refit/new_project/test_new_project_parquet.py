"""`refit init --parquet`: the same project as from a CSV of the same rows."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from commands import refit_in

from refit.config import parse
from refit.files.yaml_files import read_yaml
from refit.runtime.context import Context
from refit.schemas.snapshot import Snapshot
from tasks import ingest

ROLES = ("--time", "signed", "--label", "left", "--key", "customer")


def customers(rows: int = 600) -> pa.Table:
    """Customers with a value of each plain type, some of them missing."""
    days = [date(2024, 1, 1) + timedelta(days=n % 150) for n in range(rows)]
    return pa.table(
        {
            "customer": pa.array([f"{n:05d}" for n in range(rows)]),
            "signed": pa.array(days, pa.date32()),
            "seen": pa.array([1_704_096_000_000_000 + n * 60_000_000 for n in range(rows)], pa.timestamp("us")),
            "plan": pa.array([("basic", "plus", None)[n % 3] for n in range(rows)]).dictionary_encode(),
            "amount": pa.array([None if n % 50 == 7 else n % 97 / 4 for n in range(rows)], pa.float64()),
            "calls": pa.array([n % 9 for n in range(rows)], pa.int32()),
            "paper": pa.array([n % 2 == 0 for n in range(rows)]),
            "left": pa.array([int(n % 9 > 5) for n in range(rows)], pa.int8()),
        }
    )


@pytest.mark.slow
def test_a_project_from_parquet_is_that_of_a_csv_of_the_same_rows(tmp_path: Path) -> None:
    pq.write_table(customers(), tmp_path / "customers.parquet")
    pa.csv.write_csv(pq.read_table(tmp_path / "customers.parquet"), tmp_path / "customers.csv")
    for kind in ("csv", "parquet"):
        done = refit_in(tmp_path, "init", f"by_{kind}/shop", f"--{kind}", f"customers.{kind}", *ROLES, "--no-git")
        assert done.returncode == 0, done.stderr
        assert "600 of raw/customers" in done.stdout
    of_csv, of_parquet = (
        yaml.safe_load((tmp_path / f"by_{kind}/shop/params.yaml").read_text()) for kind in ("csv", "parquet")
    )
    table: dict[str, Any] = of_parquet["ingest"]["sources"]["table"]
    assert table["path"] == "raw/*.parquet"
    assert table["columns"]["amount"] == "number"
    assert of_csv["ingest"]["sources"]["table"].pop("delimiter") == ","
    of_csv["ingest"]["sources"]["table"]["path"] = "raw/*.parquet"
    assert of_parquet == of_csv
    assert stored(tmp_path / "by_parquet/shop") == stored(tmp_path / "by_csv/shop")


def stored(project: Path) -> list[dict[str, Any]]:
    """The rows of a project that a run ingests."""
    ingest.run(Context(project, parse(read_yaml(project / "params.yaml"))))
    batches = Snapshot.read(project / "data/snapshot.json").batches
    assert sum(batch.uncast for batch in batches) == 0
    rows = [row for batch in batches for row in pq.read_table(project / batch.path).to_pylist()]
    assert len(rows) > 500
    return [{name: value for name, value in row.items() if name != "_row"} for row in rows]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--parquet", "lists.parquet"), "column 'amount' holds list<element: double>"),
        (("--parquet", "none.parquet"), "none.parquet does not exist"),
        (("--parquet", "table.csv"), "table.csv is no Parquet file"),
        (("--parquet", "empty.parquet"), "empty.parquet has no rows"),
        (("--parquet", "good.parquet", "--csv", "table.csv"), "--csv and --parquet are two tables"),
        (("--parquet", "good.parquet", "--encoding", "cp1252"), "leave --encoding out"),
        (("--csv", "good.parquet"), "name it by --parquet"),
    ],
)
def test_what_is_no_table_in_parquet_is_refused_with_one_line(
    tmp_path: Path, options: tuple[str, ...], error: str
) -> None:
    table = customers(9)
    pq.write_table(table, tmp_path / "good.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    lists = pa.array([[1.0]] * 9, pa.list_(pa.float64()))
    pq.write_table(table.set_column(4, "amount", lists), tmp_path / "lists.parquet")
    (tmp_path / "table.csv").write_text("customer,left\n1,2\n")
    done = refit_in(tmp_path, "init", "shop", *options, *ROLES, "--no-git")
    assert (done.returncode, error in done.stderr) == (2, True), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "shop").exists()
