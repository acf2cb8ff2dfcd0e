"""Quarantined rows let back in: by a person, with a reason, on the record, and never so that a key names two rows."""

from __future__ import annotations

import pytest

from refit.errors import UserError
from refit.files import artifacts
from refit.storage import quarantine

AMOUNT = {"expect_column_values_to_be_between": {"column": "amount", "min_value": 0, "max_value": 100}}


def release(shop, *rows, batch="2024-01", why="the till was right", source="sales"):
    return quarantine.release(shop.context(), source, batch, rows or None, why)


def test_the_list_tells_each_refusal_with_its_reason_and_narrows_to_source_and_batch(shop, sales, fault):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}), faults=[fault(200)])
    shop.add("2024-02", sales(100, 2, at={4: {"amount": -2.0}}))
    shop.run(AMOUNT)
    lines = quarantine.listing(shop.context())
    assert [(line.batch, line.row, line.column, line.value) for line in lines] == [
        ("2024-01", 5, "amount", "-1.0"), ("2024-01", 200, "amount", "many"), ("2024-02", 6, "amount", "-2.0"),
    ]  # fmt: skip
    assert lines[0].raw["id"] == "1-3"
    assert {line.released for line in lines} == {False}
    assert len(quarantine.listing(shop.context(), "sales", "2024-02")) == 1
    with pytest.raises(UserError, match="there is no source 'sale'; did you mean 'sales'"):
        quarantine.listing(shop.context(), "sale")
    with pytest.raises(UserError, match="there is no batch '2024-2'; did you mean '2024-02'"):
        quarantine.listing(shop.context(), "sales", "2024-2")


def test_before_the_first_run_no_row_was_refused_and_the_line_says_what_to_do(shop):
    with pytest.raises(UserError, match="nothing was ingested yet, so that no row was refused; `refit run`"):
        quarantine.listing(shop.context())


def test_a_released_row_is_accepted_from_the_next_run_on_though_the_result_is_remembered(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}, 4: {"amount": -2.0}}))
    assert shop.run(AMOUNT)["batches"][0]["excluded"] == [5, 6]
    assert release(shop, 5) == "released 1 row of sales 2024-01, accepted from the next `refit run` on"
    batch = shop.run(AMOUNT)["batches"][0]
    assert (batch["accepted"], batch["quarantined"], batch["excluded"]) == (99, 1, [6])
    assert batch["warnings"][-1] == "1 quarantined row was released by a person (released.json)"
    assert [line.released for line in quarantine.listing(shop.context())] == [True, False]


def test_a_release_says_who_when_and_why_and_only_adds(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}, 4: {"amount": -2.0}}))
    shop.run(AMOUNT)
    release(shop, 5)
    release(shop, 6, why=" a refund ")
    first, second = artifacts.read_json(shop.project / artifacts.RELEASED)["released"]
    sha = shop.entries[0]["sha256"]
    assert first == {
        "source": "sales", "batch": "2024-01", "sha256": sha, "rows": [5], "why": "the till was right",
        "who": first["who"], "when": "2024-12-01T08:00:00Z",
    }  # fmt: skip
    assert first["who"]
    assert (second["rows"], second["why"]) == ([6], "a refund")
    with pytest.raises(UserError, match="no further row that can be released"):
        release(shop, 6)


def test_a_release_needs_a_reason_and_a_row_that_is_in_quarantine(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    shop.run(AMOUNT)
    with pytest.raises(UserError, match="a release needs a reason"):
        release(shop, 5, why="  ")
    with pytest.raises(UserError, match="row 77 of sales 2024-01 is not in quarantine"):
        release(shop, 5, 77)
    with pytest.raises(UserError, match="there is no batch '2025-01'"):
        release(shop, 5, batch="2025-01")
    assert not (shop.project / artifacts.RELEASED).exists()


def test_a_row_that_never_cast_cannot_be_released_and_all_leaves_it_out(shop, sales, fault):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}), faults=[fault(200)])
    shop.run(AMOUNT)
    with pytest.raises(UserError, match="row 200 of sales 2024-01 cannot be released: it never cast") as error:
        release(shop, 5, 200)
    assert "nothing was released" in str(error.value)
    assert "1 cannot be released" in release(shop)
    assert shop.run(AMOUNT)["rows"] == {"read": 101, "accepted": 100, "quarantined": 1, "pending": 0}


def test_a_key_never_names_two_accepted_rows(shop, sales):
    rows = sales(100)
    rows += [{**rows[8], "amount": 9.0, "_row": 300}, {**rows[8], "_row": 301}]
    shop.add("2024-01", rows)
    shop.run()
    with pytest.raises(UserError, match="row 10 of sales 2024-01 cannot be released: rows 10, 300 have one key"):
        release(shop, 10, 300)
    with pytest.raises(UserError, match=r"row 301 .* cannot be released: it repeats another row exactly"):
        release(shop, 301)
    with pytest.raises(UserError, match="no further row that can be released"):
        release(shop)
    release(shop, 300)
    assert shop.run()["batches"][0]["excluded"] == [10, 301]
    with pytest.raises(UserError, match="rows 10, 300 have one key"):
        release(shop, 10)


def test_a_release_written_by_hand_is_held_to_the_same_rules(shop, sales):
    rows = sales(100)
    shop.add("2024-01", [*rows, {**rows[8], "_row": 300}])
    shop.run()
    entry = {"source": "sales", "batch": "2024-01", "sha256": shop.entries[0]["sha256"], "rows": [300]}
    written = {**entry, "why": "x", "who": "y", "when": "2024-12-01T08:00:00Z"}
    artifacts.write_json(shop.project / artifacts.RELEASED, {"released": [written]})
    with pytest.raises(UserError, match=r"released\.json: row 300 of sales 2024-01 cannot be released: it repeats"):
        shop.run()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"released": [1]}', '{"released": [{"rows": [1]}]}', '{"released": {"rows": 1}}']
)
def test_a_broken_record_of_releases_is_told(shop, sales, content):
    shop.add("2024-01", sales(100))
    (shop.project / artifacts.RELEASED).write_text(content)
    with pytest.raises(UserError, match=r"released\.json holds no list of releases"):
        shop.run()


def test_a_release_is_for_the_batch_as_it_was(shop, sales):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    shop.run(AMOUNT)
    release(shop, 5)
    shop.add("2024-01", sales(100, at={3: {"amount": -500.0}}))
    batch = shop.run(AMOUNT)["batches"][0]
    assert batch["excluded"] == [5]
    assert (
        batch["warnings"][-1]
        == "a release of 2024-12-01T08:00:00Z is for other content of this batch and has no effect"
    )


def test_releasing_rows_that_are_right_lets_a_failed_batch_pass(shop, sales):
    shop.add("2024-01", sales(100, at={n: {"amount": 900.0} for n in range(10)}))
    with pytest.raises(UserError, match="10 of 100 values"):
        shop.run(AMOUNT)
    release(shop, 2, 3, 4, 5)
    with pytest.raises(UserError, match="10 of 100 values"):
        shop.run(AMOUNT)
    release(shop, 6)
    assert shop.run(AMOUNT)["rows"] == {"read": 100, "accepted": 95, "quarantined": 5, "pending": 0}
