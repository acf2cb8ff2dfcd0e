"""`refit init --sql`: a project whose source is a query, the same as from a CSV of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import refit_in
from servers import execute, postgresql, postgresql_server  # noqa: F401

from refit.config import parse
from refit.files.yaml_files import read_yaml
from refit.runtime.context import Context
from tasks import ingest

ROLES = ("--time", "signed", "--label", "gone", "--key", "customer", "--no-git")
QUERY = "select customer, signed, seen, plan, amount, calls, paper, gone from customers"


@pytest.fixture
def shop(postgresql: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:  # noqa: F811
    """A folder, and customers in a database that SHOP_URL names, with a value of each plain type."""
    monkeypatch.setenv("SHOP_URL", postgresql)
    execute(
        postgresql,
        "create table customers as select lpad(n::text, 5, '0') as customer, date '2024-01-01' + n % 150 as signed, "
        "timestamptz '2024-01-01 08:00Z' + n * interval '1 minute' as seen, (array['basic', 'plus', null])[n % 3 + 1] "
        "as plan, case when n % 50 <> 7 then (n % 97 / 4.0)::numeric(9, 2) end as amount, n % 9 as calls, "
        "n % 2 = 0 as paper, (n % 9 > 5)::int as gone from generate_series(0, 599) n",
    )
    return tmp_path


def source_of(folder: Path) -> dict[str, Any]:
    source: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text())["ingest"]["sources"]["table"]
    return source


@pytest.mark.slow
def test_a_project_from_a_query_reads_what_one_from_a_csv_of_its_rows_reads(shop: Path, postgresql: str) -> None:  # noqa: F811
    done = refit_in(shop, "init", "by_sql", "--sql", "SHOP_URL", "--query", f"{QUERY};", *ROLES)
    assert done.returncode == 0, done.stderr
    assert "600 of the query of SHOP_URL, by week of `signed`" in done.stdout
    names = QUERY.split(" from ")[0].removeprefix("select ").split(", ")
    lines = [",".join(names)]
    for row in execute(postgresql, f"{QUERY} order by customer"):
        cells = dict(zip(names, row, strict=True)) | {"paper": str(row[6]).lower()}
        lines.append(",".join("" if each is None else str(each) for each in cells.values()))
    (shop / "customers.csv").write_text("\n".join(lines) + "\n")
    assert refit_in(shop, "init", "by_csv", "--csv", "customers.csv", *ROLES).returncode == 0
    of_sql, of_csv = source_of(shop / "by_sql"), source_of(shop / "by_csv")
    assert (of_sql.pop("kind"), of_sql.pop("url"), of_sql.pop("query")) == ("database", "${SHOP_URL}", QUERY)
    assert of_sql == {name: value for name, value in of_csv.items() if name not in ("kind", "path", "delimiter")}
    contents = []
    for folder in (shop / "by_sql", shop / "by_csv"):
        context = Context(folder, parse(read_yaml(folder / "params.yaml")))
        manifests = ingest.take_in(context)["table"]
        contents.append([(each.name, each.rows, each.content) for each in manifests])
        assert sum(each.rows for each in manifests) == 600
    assert contents[0] == contents[1]
    assert not (shop / "by_sql/raw").exists()
    assert yaml.safe_load((shop / "by_sql/dvc.yaml").read_text())["stages"]["ingest"]["deps"] == []
    stored = [path for path in (shop / "by_sql").rglob("*") if path.is_file()]
    assert not [path for path in stored if b"refit@127" in path.read_bytes()]


@pytest.mark.slow
def test_what_lies_in_raw_already_stays_there(shop: Path) -> None:
    (shop / "new/raw").mkdir(parents=True)
    (shop / "new/raw/notes.txt").write_text("mine")
    done = refit_in(shop, "init", "new", "--sql", "SHOP_URL", "--query", QUERY, *ROLES)
    assert done.returncode == 0, done.stderr
    assert [each.name for each in (shop / "new/raw").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sql", "postgresql://u:hunter2-of-ours@h/d", "--query", QUERY), "--sql names an environment variable"),
        (("--sql", "NOWHERE_URL", "--query", QUERY), "the environment variable NOWHERE_URL is not set"),
        (("--sql", "SHOP_URL"), "--sql and --query belong together"),
        (("--sql", "SHOP_URL", "--query", "select * from nowhere"), "nowhere"),
        (("--sql", "SHOP_URL", "--query", f"{QUERY} where false"), "the query gives no rows"),
        (("--sql", "SHOP_URL", "--query", QUERY, "--csv", "x.csv"), "leave --csv, --parquet and --from-example out"),
    ],
    ids=["literal", "unset", "alone", "fails", "empty", "two"],
)
def test_a_query_that_makes_no_project_is_one_line_and_leaves_nothing(
    shop: Path, options: tuple[str, ...], said: str
) -> None:
    done = refit_in(shop, "init", "new", *options, *ROLES)
    assert done.returncode != 0
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert not (shop / "new").exists()
