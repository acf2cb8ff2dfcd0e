"""Runs Great Expectations on one batch, and makes sure that an error inside it never counts as a pass."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refit.config import Params, nearest
from refit.errors import RefitError, UserError, message_of
from tasks.validate.expectations import Check, raise_problems, suite_of

if TYPE_CHECKING:
    import pandas

# GX's names that cannot be used on one pandas frame, and why.
UNUSABLE = {
    "expect_column_quantile_values_to_be_between": "fails on numpy 2; use the mean or the median",
    "expect_query_results_to_match_comparison": "needs two databases",
    "expect_table_row_count_to_equal_other_table": "needs a second table",
    "unexpected_rows_expectation": "needs a database",
}
# Reserved: which rows are listed and how errors are caught is set here, and all failures are equally severe.
RESERVED = ("id", "meta", "result_format", "catch_exceptions", "rendered_content", "batch_id", "windows", "severity")
Result = Mapping[str, Any]  # as Great Expectations returns it
SHOWN = 20  # bad values listed on the Data Docs page; the quarantine has all of them


@dataclass(frozen=True)
class Verdict:
    """The result of one expectation on one batch."""

    check: Check
    success: bool
    observed: str
    mostly: float | None = None  # for row-by-row expectations: the share of rows that must pass
    evaluated: int = 0
    rows: Mapping[int, Any] = field(default_factory=dict)  # the value of each bad row


def great_expectations() -> Any:
    """Import the library on first use, without logging and analytics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import_module("scipy.special")  # before GX imports it: skops looks up its functions in each module loaded earlier
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)  # errors are in exception_info
    return gx


def expectation_names() -> list[str]:
    """Return the expectation names that a suite may use."""
    great_expectations()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    return sorted(set(list_registered_expectation_implementations()) - set(UNUSABLE))


def check_suites(params: Params) -> None:
    """Build every expectation of the params once, so that mistakes are reported before any batch is read.

    Raises:
        UserError: one line for each problem.
    """
    problems = []
    for source in params.validate_.suites:
        for check in suite_of(params, source):
            problems += [f"{check.where}.{problem}" for problem in _problems(check.name, check.arguments)]
    raise_problems(problems)


def _problems(name: str, arguments: Mapping[str, object]) -> list[str]:
    from pydantic.v1 import ValidationError

    names = expectation_names()
    if name not in names:
        if name in UNUSABLE:
            return [f"{name} {UNUSABLE[name]}"]
        spelt = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()  # GX's class names are close, too
        return [f"{name} is not a Great Expectations name{nearest(spelt, names)}"]
    kind = _kind(name)
    allowed = sorted(set(kind.__fields__) - set(RESERVED))
    if unknown := [argument for argument in arguments if argument not in allowed]:
        return [f"{name}: unknown argument {word!r}{nearest(word, allowed)}" for word in unknown]
    low, high = arguments.get("min_value"), arguments.get("max_value")
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        return [f"{name}: min_value {low} is above max_value {high}"]
    try:
        kind(**arguments)
    except ValidationError as error:
        first: dict[str, str] = {}
        for detail in error.errors():
            first.setdefault(str(detail["loc"][0]), detail["msg"])
        if len(first) > 1:
            first.pop("__root__", None)  # only repeats that the other argument is invalid
        return [_format_problem(name, argument, message, arguments) for argument, message in first.items()]
    except Exception as error:
        return [f"{name}: {one_line(error)}"]
    return []


def _format_problem(name: str, argument: str, message: str, arguments: Mapping[str, object]) -> str:
    if argument == "__root__":
        return f"{name}: {message}"
    given = f"; found {arguments[argument]!r}" if argument in arguments else ""
    return f"{name}.{argument}: {message}{given}"


def _kind(name: str) -> Any:
    from great_expectations.expectations.registry import get_expectation_impl

    return get_expectation_impl(name)


def one_line(error: object) -> str:
    """Return an error's text without line breaks, shortened if it is long."""
    text = message_of(error) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


class Engine:
    """An ephemeral GX context that is reused for all frames."""

    def __init__(self) -> None:
        gx = great_expectations()
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        self._gx = gx
        self._context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(),
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )
        # One asset for all frames: GX writes all of its settings as YAML whenever one is added or deleted.
        frames = self._context.data_sources.add_pandas("batches").add_dataframe_asset("frames")
        self._whole = frames.add_batch_definition_whole_dataframe("whole")

    def judge(
        self, name: str, frame: pandas.DataFrame, checks: Sequence[Check], *, mostly: float
    ) -> tuple[list[Verdict], Any]:
        """Return the verdict of every check, in their order, and GX's result, reduced to what its page shows.

        The frame's index, by its name, identifies the rows. `mostly` is the default of row-by-row expectations.

        Raises:
            UserError: an expectation of the params could not be evaluated.
            RefitError: a built-in expectation could not be evaluated.
        """
        suite = self._gx.ExpectationSuite(
            name=name, expectations=[self._build(check, index, mostly) for index, check in enumerate(checks)]
        )
        batch = self._whole.get_batch({"dataframe": frame})
        result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
        results = {item.expectation_config.meta["check"]: item for item in result.results}
        verdicts = [
            _verdict(name, check, results.get(index), str(frame.index.name)) for index, check in enumerate(checks)
        ]
        return verdicts, _cut(result)

    def _build(self, check: Check, index: int, mostly: float) -> Any:
        kind = _kind(check.name)
        given = {"mostly": mostly, **check.arguments} if "mostly" in kind.__fields__ else dict(check.arguments)
        return kind(**given, meta={"check": index, "asked": check.where or "always on"})


def _verdict(batch: str, check: Check, item: Any, index: str) -> Verdict:
    where = f" (params.yaml: {check.where})" if check.where else ""
    if item is None:
        raise RefitError(f"{batch}: Great Expectations returned nothing for {check.name}{where}; nothing was accepted")
    if errors := _errors(item.exception_info):
        kind = UserError if check.where else RefitError
        raise kind(
            f"{batch}: {check.name} could not be evaluated{where}: {errors[0]}; nothing of the batch was accepted, "
            f"{'correct its arguments' if check.where else 'this is a fault of Refit or of Great Expectations'}"
        )
    result = item.result
    if "element_count" not in result:
        return Verdict(check, bool(item.success), f"found {_observed(result)}")
    evaluated = result["element_count"] - result.get("missing_count", 0)
    rows = {int(entry[index]): _value(entry, index) for entry in result.get("unexpected_index_list") or ()}
    count = result.get("unexpected_count", 0)
    if count != len(rows):
        raise RefitError(
            f"{batch}: {check.name} found {count:,} bad values but named {len(rows):,} rows{where}; "
            "nothing of the batch was accepted, use another expectation"
        )
    example = "" if not rows else f", e.g. {_text(next(iter(rows.values())))} in row {next(iter(rows))}"
    return Verdict(
        check,
        success=bool(item.success),
        observed=f"{count:,} of {evaluated:,} values are not as expected{example}",
        mostly=float(item.expectation_config.kwargs.get("mostly", 1.0)),
        evaluated=evaluated,
        rows=rows,
    )


def _observed(result: Result) -> str:
    mismatched = (result.get("details") or {}).get("mismatched")
    return one_line(mismatched if mismatched else result.get("observed_value", "nothing"))


def _errors(info: Result | None) -> list[str]:
    """Return the messages of all raised errors: GX gives one record, or one per metric."""
    if not info:
        return []
    records = [info] if "raised_exception" in info else [value for value in info.values() if isinstance(value, dict)]
    return [
        one_line(record.get("exception_message") or "no message") for record in records if record["raised_exception"]
    ]


def _value(entry: Result, index: str) -> Any:
    values = [value for column, value in entry.items() if column != index]
    return values[0] if len(values) == 1 else values


def _text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _cut(result: Any) -> Any:
    """Remove the lists of all bad rows from GX's result, which would fill the page."""
    for item in result.results:
        for long in ("unexpected_list", "unexpected_index_list", "unexpected_index_query"):
            item.result.pop(long, None)
        for short in ("partial_unexpected_list", "partial_unexpected_index_list", "partial_unexpected_counts"):
            if short in item.result:
                item.result[short] = item.result[short][:SHOWN]
    return result
