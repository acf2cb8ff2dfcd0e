"""A model that was trained before rows were corrected is the same for ever, whatever was delivered since."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from driving import drive

from refit.cli.running import reproduce
from refit.files import artifacts
from refit.new_project.project_folder import create
from refit.schemas.feature_table import FeatureTable
from refit.schemas.training import Training

pytestmark = pytest.mark.slow
HEAD = ["id", "at", "price", "back", "updated_at", "gone"]


def orders(months: int) -> Iterator[dict[str, Any]]:
    """Orders whose outcome hangs on their price, each in its first version."""
    chance = random.Random(5)
    for n in range(180 * months):
        at = datetime(2024, 1, 1) + timedelta(hours=4 * n)  # noqa: DTZ001 - a CSV's times have no zone
        price = chance.randrange(1, 100)
        back = int(price + chance.randrange(40) > 70)
        yield {"id": n, "at": at, "price": price, "back": back, "updated_at": at, "gone": 0}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        writer.writerows(rows)


def corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In June, every third row is changed or deleted, and rows of April come that nobody had seen."""
    chance, june = random.Random(6), datetime(2024, 6, 3)  # noqa: DTZ001
    changed = [
        {
            **row,
            "price": chance.randrange(1, 100),
            "back": 1 - row["back"],
            "updated_at": june,
            "gone": int(row["id"] % 9 == 0),
        }
        for row in rows
        if row["id"] % 3 == 0
    ]
    late = [{**row, "id": row["id"] + 100_000, "updated_at": june} for row in rows if row["at"].month == 4]
    return changed + late


def delivered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table in June as a whole: the newest version of each row, without those that are deleted."""
    newest = {row["id"]: row for row in [*rows, *corrected(rows)]}
    return [row for row in newest.values() if not row["gone"]]


CHANGES = {
    "corrections": {"kind": "corrections", "version": "updated_at", "deleted": "gone = 1"},
    "snapshot": {"kind": "snapshot", "delivered": "%Y-%m-%d", "max_deleted_share": 0.2},
}
IN_JUNE = {"corrections": corrected, "snapshot": delivered}


@pytest.fixture(scope="module", params=CHANGES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    """A project of five months of orders, after its first run."""
    folder = tmp_path_factory.mktemp("corrected")
    table = folder / "orders-2024-05-31.csv"
    write(table, list(orders(5)))
    made = folder / "orders"
    create(made, csv=table, time="at", label="back", key=("id",))
    params = yaml.safe_load((made / "params.yaml").read_text())
    [source] = params["ingest"]["sources"].values()
    source |= {"path": "raw/*.csv", "changes": CHANGES[kind], "required": ["id"]}
    source["columns"] |= {"gone": "integer", "updated_at": "timestamp"}
    params["featurize"]["label"]["delay_hours"] = 0
    params["featurize"]["exclude"] = ["updated_at*", "gone"]
    line = {"name": "line", "kind": "sklearn.linear_model.LogisticRegression"}
    params["train"]["learners"] = [{"name": "base", "kind": "baseline"}, line]
    (made / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert drive(made, as_of="2024-05-25")["model"]["version"] == "1"
    return made


def digests(project: Path) -> tuple[str, str]:
    table = FeatureTable.read(project / artifacts.FEATURE_SET).table.sha256
    return table, Training.read(project / artifacts.TRAINING).model_digest


def test_what_comes_later_changes_neither_the_run_as_of_then_nor_its_model(project: Path, kind: str) -> None:
    before = digests(project)
    write(project / "raw/orders-2024-06-03.csv", IN_JUNE[kind](list(orders(5))))
    later = drive(project, as_of="2024-06-20")
    assert later["labels"]["contradicting"] > 50
    assert digests(project) != before
    drive(project, as_of="2024-05-25")
    assert digests(project) == before
    assert [each.what for each in reproduce(project, "1", wait_seconds=0) if not each.same] == []
