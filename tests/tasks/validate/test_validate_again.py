"""A rerun of the stage validates what is new, and makes again what was lost or torn."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from snapshots import batch_of

from refit.errors import RefitError
from refit.files import artifacts
from refit.schemas.validated import ValidatedBatch
from refit.schemas.validation_record import ValidationRecord
from tasks import validate
from tasks.validate import one_batch
from tests.tasks.validate.test_validate import AMOUNT

pytestmark = pytest.mark.ci


def test_one_result_is_remembered_for_each_batch_and_a_rerun_imports_nothing_heavy(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    first = shop.run(AMOUNT)
    code = (
        "import sys; from pathlib import Path; from datetime import datetime; from tasks import validate\n"
        "from refit.runtime.context import Context; from refit.config import parse\n"
        f"project = Path({str(shop.project)!r})\n"
        f"validate.run(Context(project=project, params=parse({shop.raw(AMOUNT)!r})))\n"
        "heavy = {'pandas', 'great_expectations', 'duckdb', 'pyarrow', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert artifacts.read_json(shop.project / artifacts.VALIDATED) == first


def test_a_new_batch_costs_only_itself(shop, sales, monkeypatch):
    shop.add("2024-01", sales(100))
    shop.run(AMOUNT)
    done = []
    real = one_batch._validate_one
    monkeypatch.setattr(one_batch, "_validate_one", lambda *given: done.append(given[-1].name) or real(*given))
    shop.add("2024-02", sales(100, 2))
    shop.run(AMOUNT)
    assert done == ["sales 2024-02"]
    shop.run(AMOUNT, {"expect_column_values_to_be_unique": {"column": "id"}})
    assert done == ["sales 2024-02", "sales 2024-01", "sales 2024-02"]


def test_a_suite_that_became_lenient_leaves_no_rows_behind_in_quarantine(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    assert shop.run(AMOUNT)["rows"]["quarantined"] == 1
    assert shop.run()["rows"]["quarantined"] == 0
    assert shop.refused("2024-01") == []


@pytest.mark.parametrize("victim", ["data/quarantine/sales/2024-01.parquet", "data/validation/sales/2024-01.json",
                                    "reports/data_docs/sales/2024-01.html"])  # fmt: skip
def test_what_was_deleted_or_torn_is_made_again(shop, sales, victim):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    first = shop.run(AMOUNT)
    (shop.project / victim).unlink()
    assert shop.run(AMOUNT) == first
    assert (shop.project / victim).is_file()
    if not victim.endswith("html"):
        (shop.project / victim).write_text('{"key": ')
        assert shop.run(AMOUNT) == first
    assert len(shop.refused("2024-01")) == 1


def test_a_run_cut_short_between_batches_goes_on_where_it_was(shop, sales, monkeypatch):
    for month in (1, 2, 3):
        shop.add(f"2024-0{month}", sales(100, month, at={3: {"amount": -1.0}}))
    whole = shop.run(AMOUNT)
    for folder in ("data/validation", "data/quarantine", "reports"):
        (shop.project / folder).rename(shop.project / folder.replace("/", "_"))
    (shop.project / artifacts.VALIDATED).unlink()
    real = ValidationRecord.write

    def killed(record, path):
        if path.name == "2024-02.json":
            raise KeyboardInterrupt
        real(record, path)

    monkeypatch.setattr(ValidationRecord, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        shop.run(AMOUNT)
    monkeypatch.undo()
    assert [path.name for path in (shop.project / artifacts.VALIDATION / "sales").iterdir()] == ["2024-01.json"]
    assert not list(shop.project.rglob("*.partial"))
    assert shop.run(AMOUNT) == whole


def test_a_batch_whose_bytes_changed_is_not_read(shop, sales):
    shop.add("2024-01", sales(100))
    path = shop.project / shop.entries[0]["path"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RefitError, match=r"data/batches/sales/2024-01\.parquet has changed"):
        shop.run()


def test_rows_that_do_not_add_up_are_an_error(shop, sales, fault):
    shop.add("2024-01", sales(100), faults=[fault(200)], read=105)
    with pytest.raises(RefitError, match="105 rows were read, but 100 accepted and 1 quarantined"):
        shop.run()
    counts = {"read": 5, "accepted": 3, "quarantined": 1, "excluded": [], "excluded_rows": None, "checks": 0}
    batch = json.dumps(batch_of("sales", "2024-01", **counts, warnings=[]))
    with pytest.raises(RefitError, match="do not add up"):
        validate.balance([ValidatedBatch.model_validate_json(batch)], {})


def test_a_row_number_given_twice_is_an_error(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"_row": 2}}))
    with pytest.raises(RefitError, match="100 rows with 99 row numbers"):
        shop.run()


def test_validation_is_silent_and_reaches_no_network(shop, sales, monkeypatch, capfd):
    def refuse(*given):
        raise AssertionError(f"connected to {given[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    shop.run(AMOUNT)
    assert capfd.readouterr() == ("", "")


def test_the_same_batches_give_the_same_files(shop, sales, tmp_path):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0, "shop": "nowhere"}}))
    shop.run(AMOUNT)
    kept = {path: path.read_bytes() for folder in ("data", "reports") for path in (tmp_path / folder).rglob("*.*")}
    for path in kept:
        if "batches" not in path.parts and path.name != "snapshot.json":
            path.unlink()
    shop.run(AMOUNT)
    for path, content in kept.items():
        assert path.read_bytes() == content, path
