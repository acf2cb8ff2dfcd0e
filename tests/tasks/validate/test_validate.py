"""The stage as a whole: what is accepted, what is quarantined, what stops the run, and that nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from refit.errors import RefitError, UserError
from refit.files import artifacts

BETWEEN: dict[str, Any] = {"column": "amount", "min_value": 0, "max_value": 100}
AMOUNT = {"expect_column_values_to_be_between": BETWEEN}


def one_line(error: pytest.ExceptionInfo[RefitError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_good_batches_are_accepted_whole_and_every_row_is_accounted_for(shop, sales):
    shop.add("2024-01", sales(100))
    shop.add("2024-02", sales(120, 2))
    shop.add_shops([("north", "Oslo"), ("south", "Rome")])
    shop.pending["sales"] = 7
    shop.snapshot()
    found = shop.run(AMOUNT)
    assert found["rows"] == {"read": 229, "accepted": 222, "quarantined": 0, "pending": 7}
    snapshot = artifacts.read_json(shop.project / artifacts.SNAPSHOT)
    assert (found["as_of"], found["snapshot"]) == (snapshot["as_of"], snapshot["digest"])
    for batch, entry in zip(found["batches"], snapshot["batches"], strict=True):
        assert {key: batch[key] for key in entry} == entry
        assert (batch["accepted"], batch["quarantined"], batch["excluded"]) == (entry["rows"], 0, [])
        assert batch["excluded_rows"] is None
        assert batch["checks"] >= 5
    assert found["batches"][0]["warnings"] == [
        "row count not compared with earlier batches: this is the first whole one of sales"
    ]
    assert found["batches"][1]["warnings"] == []


def test_a_bad_row_goes_to_quarantine_with_its_reason_and_its_raw_row(shop, sales):
    shop.add("2024-01", sales(100, at={7: {"amount": -3.5, "note": "a\0b"}}))
    found = shop.run(AMOUNT)
    (batch,) = found["batches"]
    assert (batch["accepted"], batch["quarantined"], batch["excluded"]) == (99, 1, [9])
    assert found["rows"] == {"read": 100, "accepted": 99, "quarantined": 1, "pending": 0}
    assert batch["excluded_rows"] == "data/quarantine/sales/2024-01.parquet"
    (refusal,) = shop.refused("2024-01")
    assert (refusal.row, refusal.file, refusal.column, refusal.value) == (9, "sales.csv", "amount", "-3.5")
    assert refusal.reason == "expect_column_values_to_be_between: min_value 0, max_value 100"
    raw = json.loads(refusal.raw)
    assert raw == {
        "id": "1-7", "shop": "north", "amount": -3.5, "items": 2, "note": "a\0b", "sold_at": "2024-01-01T07:00:00",
    }  # fmt: skip


def test_the_quarantine_has_the_columns_that_the_docs_name(shop, sales):
    shop.add("2024-01", sales(100, at={7: {"amount": -3.5}}))
    shop.run(AMOUNT)
    table = pq.read_table(shop.project / "data/quarantine/sales/2024-01.parquet")
    assert table.column_names == ["_row", "file", "column", "value", "reason", "row", "check"]


def test_rows_that_did_not_cast_are_copied_in_so_that_the_quarantine_is_whole(shop, sales, fault):
    rows = sales(100, at={7: {"amount": -3.5}})
    shop.add("2024-01", rows, faults=[fault(200), fault(200, "items", "few"), fault(201)])
    found = shop.run(AMOUNT)
    (batch,) = found["batches"]
    assert (batch["read"], batch["accepted"], batch["quarantined"], batch["excluded"]) == (102, 99, 3, [9])
    refusals = shop.refused("2024-01")
    assert [(one.row, one.column, one.value) for one in refusals] == [
        (9, "amount", "-3.5"), (200, "amount", "many"), (200, "items", "few"), (201, "amount", "many"),
    ]  # fmt: skip
    assert json.loads(refusals[-1].raw) == {"id": "x", "amount": "many"}


def test_a_row_refused_for_several_reasons_counts_once(shop, sales):
    shop.add("2024-01", sales(100, at={7: {"amount": -3.5, "shop": "nowhere"}}))
    north = {"expect_column_values_to_be_in_set": {"column": "shop", "value_set": ["north"]}}
    found = shop.run(AMOUNT, north)
    assert found["rows"]["quarantined"] == 1
    assert [one.column for one in shop.refused("2024-01")] == ["amount", "shop"]


def test_mostly_decides_the_batch_and_each_bad_row_is_quarantined_all_the_same(shop, sales):
    shop.add("2024-01", sales(100, at={n: {"amount": -1.0} for n in range(3)}))
    lenient = {"expect_column_values_to_be_between": {**BETWEEN, "mostly": 0.97}}
    assert shop.run(lenient)["rows"]["quarantined"] == 3
    strict = {"expect_column_values_to_be_between": {**BETWEEN, "mostly": 0.98}}
    with pytest.raises(UserError, match="sales 2024-01 fails expect_column_values_to_be_between") as error:
        shop.run(strict)
    assert "3 of 100 values" in one_line(error)
    assert "at most 2.0% may be" in one_line(error)
    assert "validate.suites.sales[0]" in one_line(error)


def test_without_mostly_the_permitted_share_of_bad_rows_decides(shop, sales):
    shop.add("2024-01", sales(100, at={n: {"amount": -1.0} for n in range(5)}))
    assert shop.run(AMOUNT)["rows"]["quarantined"] == 5
    with pytest.raises(UserError, match="fails expect_column_values_to_be_between"):
        shop.run(AMOUNT, max_quarantined_share=0.04)
    strict = {"expect_column_values_to_be_between": {**BETWEEN, "mostly": 1.0}}
    with pytest.raises(UserError, match=r"at most 0\.0% may be"):
        shop.run(strict)


def test_rows_of_the_future_are_set_aside_and_fail_no_batch(shop, sales, fault):
    early = [fault(row, "event_time", "2313-01-09 00:00:00") | {"reason": "lies in the future"} for row in (300, 301)]
    shop.add("2024-01", sales(2), faults=early)
    assert shop.run(AMOUNT)["rows"]["quarantined"] == 2


def test_more_bad_rows_than_permitted_fail_the_batch_even_if_each_check_lets_them_pass(shop, sales, fault):
    rows = sales(100, at={**{n: {"amount": -1.0} for n in range(4)}, **{n: {"items": -1} for n in range(10, 14)}})
    shop.add("2024-01", rows, faults=[fault(300)])
    items = {"expect_column_values_to_be_between": {"column": "items", "min_value": 0}}
    with pytest.raises(UserError) as error:
        shop.run(AMOUNT, items)
    assert "9 of 101 rows (8.9%) are quarantined, at most 5.0% may be" in one_line(error)
    assert "max_quarantined_share" in one_line(error)
    assert "data/quarantine/sales/2024-01.parquet" in one_line(error)
    assert len(shop.refused("2024-01")) == 9


def test_a_failed_batch_stops_the_run_and_loses_nothing(shop, sales):
    shop.add("2024-01", sales(100))
    shop.add("2024-02", sales(100, 2, at={n: {"amount": -1.0} for n in range(50)}))
    shop.add("2024-03", sales(100, 3, at={4: {"amount": -1.0}}))
    shop.add("2024-04", sales(30, 4))
    with pytest.raises(UserError) as error:
        shop.run(AMOUNT)
    assert one_line(error).startswith(
        "sales 2024-02 fails expect_column_values_to_be_between (amount): 50 of 100 values"
    )
    assert "(1 more batch fails, see reports/data_docs/index.html)" in one_line(error)
    assert len(shop.refused("2024-02")) == 50
    assert len(shop.refused("2024-03")) == 1
    assert not (shop.project / artifacts.VALIDATED).exists()
    assert not list(shop.project.rglob("*.partial"))
    index = (shop.project / artifacts.DATA_DOCS / "index.html").read_text()
    assert "sales 2024-04 fails expect_table_row_count_to_be_between" in index


def test_an_empty_batch_fails(shop, sales):
    shop.add("2024-01", [])
    with pytest.raises(UserError, match="sales 2024-01 fails expect_table_row_count_to_be_between: found 0") as error:
        shop.run(AMOUNT)
    assert "expected min_value 1" in one_line(error)


def test_a_batch_far_smaller_or_larger_than_those_before_it_fails(shop, sales):
    for month in (1, 2, 3):
        shop.add(f"2024-0{month}", sales(100, month))
    shop.add("2024-04", sales(49, 4))
    with pytest.raises(UserError) as error:
        shop.run()
    assert "sales 2024-04 fails expect_table_row_count_to_be_between: found 49" in one_line(error)
    assert "expected min_value 50, max_value 200" in one_line(error)
    assert "validate.rows_band" in one_line(error)
    shop.add("2024-04", sales(201, 4))
    with pytest.raises(UserError, match="found 201"):
        shop.run()
    assert shop.run(rows_band__high=3)["rows"]["accepted"] == 501


def test_a_first_batch_whose_rows_begin_late_in_its_period_is_no_measure_of_the_next(shop, sales):
    shop.add("2024-01", sales(4, 1), first="2024-01-30T22:00:00Z")
    shop.add("2024-02", sales(100, 2))
    shop.add("2024-03", sales(100, 3))
    assert shop.run()["rows"]["accepted"] == 204
    shop.add("2024-04", sales(49, 4))
    with pytest.raises(UserError, match="sales 2024-04 fails expect_table_row_count_to_be_between: found 49"):
        shop.run()


def test_the_band_moves_with_the_recent_batches(shop, sales):
    for month, rows in enumerate((100, 150, 200, 250, 290), start=1):
        shop.add(f"2024-0{month}", sales(rows, month))
    assert shop.run()["rows"]["accepted"] == 990


def test_a_part_of_a_period_is_not_compared_and_the_warnings_say_so(shop, sales):
    shop.add("2024-01", sales(100))
    shop.add("2024-02.1", sales(10, 2))
    part = shop.run()["batches"][1]
    assert part["warnings"] == [
        "columns without any value are not looked for in a part of fewer than 100 rows",
        "row count not compared with earlier batches: this is a part of a period",
    ]


def test_a_part_neither_counts_as_a_recent_batch_nor_fails_for_a_sparse_column(shop, sales):
    shop.add("2024-01.1", sales(10, at={n: {"note": None} for n in range(10)}))
    shop.add("2024-02", sales(100, 2))
    assert shop.run()["rows"]["accepted"] == 110


def test_a_wholly_null_column_fails_and_the_line_says_how_to_allow_it(shop, sales):
    shop.add("2024-01", sales(100, at={n: {"note": None} for n in range(100)}))
    with pytest.raises(UserError) as error:
        shop.run()
    line = one_line(error)
    assert "sales 2024-01 fails expect_column_proportion_of_non_null_values_to_be_between (note): found 0" in line
    assert "add `expect_column_proportion_of_non_null_values_to_be_between: {column: note, min_value: 0}`" in line
    allowed = {"expect_column_proportion_of_non_null_values_to_be_between": {"column": "note", "min_value": 0}}
    assert shop.run(allowed)["rows"]["accepted"] == 100


def test_a_sparse_column_with_one_value_passes(shop, sales):
    shop.add("2024-01", sales(100, at={n: {"note": None} for n in range(99)}))
    assert shop.run()["rows"]["accepted"] == 100


def test_a_missing_key_or_required_value_is_quarantined(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"id": None}, 4: {"shop": None}}))
    assert shop.run()["batches"][0]["excluded"] == [5, 6]
    assert {one.reason for one in shop.refused("2024-01")} == {"expect_column_values_to_not_be_null"}


def test_rows_without_a_key_are_refused_for_that_and_not_as_repeats_of_each_other(shop, sales):
    rows = sales(100, at={3: {"id": None}})
    shop.add("2024-01", [*rows, {**rows[3], "_row": 300}])
    assert shop.run()["batches"][0]["excluded"] == [5, 300]
    assert {one.check for one in shop.refused("2024-01")} == {"expect_column_values_to_not_be_null"}


def test_times_outside_the_period_are_quarantined_and_many_fail_the_batch(shop, sales):
    rows = sales(100)
    rows[3]["sold_at"] = rows[3]["sold_at"].replace(year=2031)
    rows[4]["sold_at"] = rows[4]["sold_at"].replace(month=2, day=1, hour=0)  # the end is excluded
    rows[5]["sold_at"] = rows[5]["sold_at"].replace(month=1, day=31, hour=23, minute=59)
    rows[6]["sold_at"] = None
    shop.add("2024-01", rows)
    assert shop.run()["batches"][0]["excluded"] == [5, 6, 8]
    assert [one.column for one in shop.refused("2024-01")] == ["_event_time"] * 3
    shop.add("2024-01", sales(100, month=3), month=1)
    with pytest.raises(UserError, match=r"expect_column_values_to_be_between \(_event_time\): 100 of 100") as error:
        shop.run()
    assert "ingest.sources.sales.event_time" in one_line(error)


def test_of_identical_rows_the_first_is_kept(shop, sales):
    rows = sales(100)
    rows += [{**rows[8], "_row": 300}, {**rows[8], "_row": 301}]
    shop.add("2024-01", rows[::-1])
    assert shop.run()["batches"][0]["excluded"] == [300, 301]
    refusals = shop.refused("2024-01")
    assert {one.reason for one in refusals} == {"repeats another row exactly; the first is kept"}
    assert json.loads(refusals[0].raw)["id"] == "1-8"


def test_of_rows_that_contradict_each_other_under_one_key_none_is_kept(shop, sales):
    rows = sales(100)
    rows += [{**rows[8], "amount": 9.0, "_row": 300}, {**rows[8], "_row": 301}]
    shop.add("2024-01", rows)
    assert shop.run()["batches"][0]["excluded"] == [10, 300, 301]
    assert {one.row: one.reason for one in shop.refused("2024-01")} == {
        10: "expect_column_values_to_be_unique",
        300: "expect_column_values_to_be_unique",
        301: "repeats another row exactly; the first is kept",
    }


def test_a_compound_key_is_judged_as_a_whole(shop):
    cities = [(f"shop {n}", "Oslo") for n in range(40)]
    shop.add_shops([*cities, ("shop 1", "Rome"), ("shop 2", "Oslo"), ("shop 3", None)])
    assert shop.run()["batches"][0]["excluded"] == [43, 44]


def test_a_key_that_an_earlier_part_of_the_period_has_is_quarantined(shop, sales):
    shop.add("2024-01.1", sales(100))
    shop.add("2024-01.2", [*sales(200)[100:], {**sales(100)[5], "_row": 900, "amount": 7.0}])
    first, second = shop.run()["batches"]
    assert (first["excluded"], second["excluded"]) == ([], [900])
    assert shop.refused("2024-01.2")[0].reason == "its key is already in sales 2024-01.1"


def test_a_part_that_only_repeats_an_earlier_one_fails(shop, sales):
    shop.add("2024-01.1", sales(100))
    shop.add("2024-01.2", sales(100))
    with pytest.raises(UserError, match=r"sales 2024-01\.2 fails"):
        shop.run()


def test_a_column_that_appeared_or_went_missing_fails(shop, sales):
    shop.add("2024-01", sales(100))
    path = shop.project / shop.entries[0]["path"]
    table = pq.read_table(path).drop_columns(["note"])
    table = table.append_column("nota", table["shop"])
    shop.store("sales", "2024-01", table, (), {key: shop.entries[0][key] for key in ("start", "end", "static")})
    with pytest.raises(UserError) as error:
        shop.run(AMOUNT)
    line = one_line(error)
    assert (
        "sales 2024-01 fails expect_table_columns_to_match_set: found {'unexpected': ['nota'], 'missing': ['note']}"
        in line
    )
    assert "ingest.sources.sales.columns" in line


def test_whole_numbers_beyond_a_floats_reach_stay_apart_next_to_nulls(shop, sales):
    big = 2**60
    shop.add("2024-01", sales(100, at={n: {"items": big + n if n else None} for n in range(100)}))
    unique = {"expect_column_values_to_be_unique": {"column": "items"}}
    assert shop.run(unique)["rows"]["accepted"] == 100


@pytest.mark.ci
def test_times_beyond_nanoseconds_are_judged_too(shop, sales):
    rows = sales(100)
    rows[3]["sold_at"] = rows[3]["sold_at"].replace(year=1066)
    shop.add("2024-01", rows)
    assert shop.run()["batches"][0]["excluded"] == [5]
