"""Suites as people write them: mistakes are told before any batch is read, and an error inside GX is never a pass."""

from __future__ import annotations

import pytest

from refit.errors import RefitError, UserError
from refit.files import artifacts
from tasks.validate import gx_runner
from tasks.validate.suites import NOT_NULL


def between(column, **bounds):
    return {"expect_column_values_to_be_between": {"column": column, **bounds}}


def among(column, *values, name="expect_column_values_to_be_in_set"):
    return {name: {"column": column, "value_set": list(values)}}


@pytest.mark.parametrize(
    ("suite", "line"),
    [
        (
            {"expect_column_values_to_be_betwen": {"column": "amount", "min_value": 0}},
            "validate.suites.sales[0].expect_column_values_to_be_betwen is not a Great Expectations name; "
            "did you mean 'expect_column_values_to_be_between'?",
        ),
        (
            {"ExpectColumnValuesToBeUnique": {"column": "id"}},
            "validate.suites.sales[0].ExpectColumnValuesToBeUnique is not a Great Expectations name; "
            "did you mean 'expect_column_values_to_be_unique'?",
        ),
        (
            {"expect_column_quantile_values_to_be_between": {"column": "amount"}},
            "validate.suites.sales[0].expect_column_quantile_values_to_be_between fails on numpy 2; use the mean or "
            "the median",
        ),
        (
            between("amount", min_valu=0),
            "validate.suites.sales[0].expect_column_values_to_be_between: unknown argument 'min_valu'; "
            "did you mean 'min_value'?",
        ),
        (
            between("amount", min_value=0, result_format="BASIC"),
            "validate.suites.sales[0].expect_column_values_to_be_between: unknown argument 'result_format'",
        ),
        (
            between("amount", min_value=0, mostly=1.5),
            "validate.suites.sales[0].expect_column_values_to_be_between.mostly: "
            "ensure this value is less than or equal to 1.0; found 1.5",
        ),
        (
            between("amount", min_value=9, max_value=1),
            "validate.suites.sales[0].expect_column_values_to_be_between: min_value 9 is above max_value 1",
        ),
        (
            between("amount"),
            "validate.suites.sales[0].expect_column_values_to_be_between: min_value and max_value cannot both be None",
        ),
        (
            {"expect_column_value_lengths_to_equal": {"column": "note"}},
            "validate.suites.sales[0].expect_column_value_lengths_to_equal.value: field required",
        ),
        (
            between("amuont", min_value=0),
            "validate.suites.sales[0].expect_column_values_to_be_between: column 'amuont' is not declared; "
            "did you mean 'amount'?",
        ),
        (
            between("note", min_value=0),
            "validate.suites.sales[0].expect_column_values_to_be_between.min_value: 0 cannot bound 'note', "
            "which is text",
        ),
        (
            between("amount", max_value="2024-01-01"),
            "validate.suites.sales[0].expect_column_values_to_be_between.max_value: '2024-01-01' cannot bound "
            "'amount', which is number",
        ),
        (
            among("shop", "north", False),
            "validate.suites.sales[0].expect_column_values_to_be_in_set.value_set: False cannot be a value of 'shop', "
            "which is text; quote texts",
        ),
        (
            among("items", "1", name="expect_column_values_to_not_be_in_set"),
            "validate.suites.sales[0].expect_column_values_to_not_be_in_set.value_set: '1' cannot be a value of "
            "'items', which is integer; quote texts",
        ),
        (
            among("sold_at", "2024-01-01"),
            "validate.suites.sales[0].expect_column_values_to_be_in_set.value_set: column 'sold_at' is a timestamp; "
            "use expect_column_values_to_be_between",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_suite_is_told_with_its_place_and_what_would_be_right(shop, sales, suite, line):
    shop.add("2024-01", sales(100))
    with pytest.raises(UserError) as error:
        shop.run(suite)
    assert str(error.value) == f"params.yaml: {line}"
    assert not (shop.project / artifacts.VALIDATION).exists()


def test_all_mistakes_of_the_suites_are_told_at_once(shop, sales):
    shop.add("2024-01", sales(100))
    with pytest.raises(UserError) as error:
        shop.run(between("amount"), between("amount", min_value=0, mostly=-1))
    assert str(error.value).splitlines()[0] == "params.yaml has 2 problems:"
    assert len(str(error.value).splitlines()) == 3


def test_a_suite_for_no_source_is_told(shop, sales):
    shop.add("2024-01", sales(100))
    with pytest.raises(UserError, match=r"validate\.suites\.sale: there is no such source; did you mean 'sales'\?"):
        shop.run(suites__sale=[between("amount", min_value=0)])


def test_every_other_gx_name_builds_with_the_arguments_that_it_documents(shop, sales):
    """A sample across kinds: row by row, pairs, several columns, aggregates, the table."""
    shop.add("2024-01", sales(100, at={5: {"note": "refunded"}}))
    found = shop.run(
        between("sold_at", min_value="2024-01-01", max_value="2024-02-01T00:00:00Z"),
        {"expect_column_max_to_be_between": {"column": "sold_at", "max_value": "2024-01-31"}},
        {"expect_column_values_to_match_regex": {"column": "note", "regex": "^paid$"}},
        {"expect_column_value_lengths_to_be_between": {"column": "id", "min_value": 3, "max_value": 8}},
        {
            "expect_column_pair_values_a_to_be_greater_than_b": {
                "column_A": "amount",
                "column_B": "items",
                "mostly": 0.1,
            }
        },
        {"expect_select_column_values_to_be_unique_within_record": {"column_list": ["id", "shop"]}},
        {"expect_column_mean_to_be_between": {"column": "amount", "min_value": 2, "max_value": 3}},
        {"expect_column_median_to_be_between": {"column": "items", "min_value": 1, "max_value": 3}},
        {"expect_column_unique_value_count_to_be_between": {"column": "shop", "max_value": 3}},
        {"expect_table_column_count_to_equal": {"value": 6}},
        {"expect_table_columns_to_match_ordered_list": {"column_list": list(shop.types)}},
        {"expect_column_values_to_be_of_type": {"column": "shop", "type_": "str"}},
        among("items", 1, 2, 3),
        max_quarantined_share=0.4,
    )
    refused = {(one.row, one.check) for one in shop.refused("2024-01")}
    assert (7, "expect_column_values_to_match_regex") in refused
    assert found["batches"][0]["quarantined"] == len({row for row, _ in refused}) == 33


def test_an_aggregate_that_fails_names_itself_and_what_it_found(shop, sales):
    shop.add("2024-01", sales(100))
    with pytest.raises(UserError) as error:
        shop.run({"expect_column_mean_to_be_between": {"column": "amount", "min_value": 3, "max_value": 4}})
    assert "sales 2024-01 fails expect_column_mean_to_be_between (amount): found 2.5" in str(error.value)
    assert "expected min_value 3, max_value 4" in str(error.value)


def test_an_expectation_of_the_params_that_cannot_be_evaluated_is_the_users_to_correct(shop, sales):
    shop.add("2024-01", sales(100))
    with pytest.raises(UserError) as error:
        shop.run({"expect_column_values_to_match_regex": {"column": "note", "regex": "("}})
    line = str(error.value)
    assert line.startswith(
        "sales 2024-01: expect_column_values_to_match_regex could not be evaluated "
        "(params.yaml: validate.suites.sales[0]): "
    )
    assert "Invalid regular expression" in line
    assert "\n" not in line
    assert not (shop.project / artifacts.VALIDATED).exists()


def test_an_error_inside_gx_is_a_fault_and_what_came_before_is_kept(shop, sales, monkeypatch):
    real = gx_runner.Engine.judge

    def judge(self, name, frame, checks, **more):
        """GX itself, which in the second month meets one of our checks that it cannot evaluate."""
        broken = gx_runner.Check("expect_column_values_to_match_regex", {"column": "note", "regex": "("})
        return real(self, name, frame, [broken] if name == "sales 2024-02" else checks, **more)

    monkeypatch.setattr(gx_runner.Engine, "judge", judge)
    shop.add("2024-01", sales(100))
    shop.add("2024-02", sales(100, 2))
    with pytest.raises(
        RefitError, match="sales 2024-02: expect_column_values_to_match_regex could not be evaluated"
    ) as e:
        shop.run()
    assert e.value.exit_status == 1
    assert [path.name for path in (shop.project / artifacts.VALIDATION / "sales").iterdir()] == ["2024-01.json"]


def test_every_record_of_an_error_counts_whether_gx_gives_one_or_one_for_each_metric():
    raised = {"raised_exception": True, "exception_message": "a\nb", "exception_traceback": ""}
    calm = {"raised_exception": False, "exception_message": None, "exception_traceback": None}
    assert gx_runner._errors(raised) == ["a b"]
    assert gx_runner._errors({"metric one": calm, "metric two": raised}) == ["a b"]
    assert gx_runner._errors(calm) == gx_runner._errors(None) == gx_runner._errors({}) == []


def test_bad_values_without_their_rows_are_an_error_and_not_lost(shop, sales, monkeypatch):
    shop.add("2024-01", sales(100, at={3: {"amount": -1.0}}))
    from great_expectations.core import ExpectationSuite  # noqa: F401 - GX must be loaded before its class is changed
    from great_expectations.datasource.fluent.interfaces import Batch

    real = Batch.validate

    def forgetful(self, *given, **named):
        result = real(self, *given, **named)
        for item in result.results:
            item.result.pop("unexpected_index_list", None)
        return result

    monkeypatch.setattr(Batch, "validate", forgetful)
    with pytest.raises(RefitError, match="found 1 bad values but named 0 rows"):
        shop.run(between("amount", min_value=0))


def test_a_statement_about_nulls_in_the_suite_takes_the_place_of_the_always_on_one(shop, sales):
    shop.add("2024-01", sales(100, at={n: {"note": None} for n in range(4)}))
    assert shop.run({NOT_NULL: {"column": "note"}})["rows"]["quarantined"] == 4
    shop.add("2024-01", sales(100, at={n: {"note": None} for n in range(100)}))
    assert shop.run({"expect_column_values_to_be_null": {"column": "note"}})["rows"]["quarantined"] == 0
