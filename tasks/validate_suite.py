"""What is expected of one batch, as plain data: the always-on checks, then the suite from the params."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks import artifacts
from tasks.errors import UserError
from tasks.params import Params, SourceParams, ValidateParams, nearest
from tasks.quarantine import path_of

EVENT_TIME = "_event_time"
ROW = "_row"
CODE_VERSION = 1  # part of every remembered result's key: raise it when a check's meaning changes
FEW_ROWS = 100  # a part with fewer rows may lack every value of a sparse column by chance

# A statement of the suite about a column's nulls takes the place of the always-on one.
ABOUT_NULLS = (
    "expect_column_proportion_of_non_null_values_to_be_between",
    "expect_column_values_to_be_null",
    "expect_column_values_to_not_be_null",
)


@dataclass(frozen=True)
class Check:
    """One expectation, under its snake_case name."""

    name: str
    arguments: Mapping[str, Any]
    where: str | None = None  # its place in the params; none: always on
    advice: str = ""  # what to change if the batch is right and the check is wrong

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it speaks of, for a person."""
        given = [self.arguments.get(role) for role in ("column", "column_A", "column_B")]
        return tuple(str(column) for column in [*given, *self.arguments.get("column_list", ())] if column is not None)


@dataclass(frozen=True)
class Plan:
    """All that is expected of one batch, and the name under which its result is remembered."""

    entry: Mapping[str, Any]
    source: SourceParams
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    max_share: float
    periodmates: tuple[Mapping[str, Any], ...]  # earlier parts of the same period

    @property
    def name(self) -> str:
        return f"{self.entry['source']} {self.entry['name']}"

    @property
    def quarantine_path(self) -> Path:
        """Where its refused rows go."""
        return path_of(self.entry["source"], self.entry["name"])

    @property
    def record_path(self) -> Path:
        """The remembered result: its presence, under the right key, says that the batch was validated."""
        return artifacts.VALIDATION / self.entry["source"] / f"{self.entry['name']}.json"

    @property
    def page_path(self) -> Path:
        """The batch's page of the Data Docs."""
        return artifacts.DATA_DOCS / self.entry["source"] / f"{self.entry['name']}.html"

    @cached_property
    def key(self) -> str:
        """Digest of everything that the result depends on."""
        return artifacts.digest(
            {
                "code": CODE_VERSION,
                "batch": [self.entry["sha256"], self.entry["uncast_sha256"]],
                "checks": [[check.name, check.arguments, check.where] for check in self.checks],
                "columns": self.source.columns,
                "key": self.source.key,
                "max_share": self.max_share,
                "periodmates": [mate["sha256"] for mate in self.periodmates],
            }
        )


def is_part(name: str) -> bool:
    """Whether a batch is a part of a growing period.

    >>> is_part("2013-10.2"), is_part("2013-10")
    (True, False)
    """
    return re.search(r"\.\d+$", name) is not None


def plans(params: Params, entries: Sequence[Mapping[str, Any]]) -> list[Plan]:
    """What is expected of each batch, in the snapshot's order.

    Raises:
        UserError: a suite is for no source, or speaks of a column that its source does not have.
    """
    _check_suites(params)
    result = []
    for index, entry in enumerate(entries):
        source = params.ingest.sources[entry["source"]]
        earlier = [other for other in entries[:index] if other["source"] == entry["source"]]
        asked = _asked(params, entry["source"])
        always, warnings = _always_on(source, params.validate_, entry, earlier, asked)
        result.append(
            Plan(
                entry=entry,
                source=source,
                checks=(*always, *asked),
                warnings=tuple(warnings),
                max_share=params.validate_.max_quarantined_share,
                periodmates=tuple(_periodmates(entry, earlier)),
            )
        )
    return result


def _asked(params: Params, source: str) -> tuple[Check, ...]:
    return tuple(
        Check(name, arguments, place := f"validate.suites.{source}[{index}]", f"change {place} in params.yaml")
        for index, step in enumerate(params.validate_.suites.get(source, ()))
        for name, arguments in step.items()
    )


def _check_suites(params: Params) -> None:
    problems = []
    for source in params.validate_.suites:
        if source not in params.ingest.sources:
            hint = nearest(source, params.ingest.sources) or f"; sources are {', '.join(params.ingest.sources)}"
            problems.append(f"validate.suites.{source}: there is no such source{hint}")
            continue
        declared = params.ingest.sources[source].columns
        problems += [
            f"{check.where}: {check.name}: column {column!r} is not declared{nearest(column, declared)}"
            for check in _asked(params, source)
            for column in check.columns
            if column not in declared
        ]
    raise_problems(problems)


def raise_problems(problems: Sequence[str]) -> None:
    """Raise all problems of the params file as one error, if there are any."""
    if len(problems) == 1:
        raise UserError(f"params.yaml: {problems[0]}")
    if problems:
        raise UserError("\n  ".join([f"params.yaml has {len(problems)} problems:", *problems]))


def _always_on(
    source: SourceParams,
    params: ValidateParams,
    entry: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]],
    asked: Sequence[Check],
) -> tuple[list[Check], list[str]]:
    """The checks that no params file can leave out, and what of them was left out here and why."""
    place = f"ingest.sources.{entry['source']}"
    columns, key = sorted([*source.columns, ROW, EVENT_TIME]), list(source.key)
    required = sorted({*source.required, *source.key})
    some, doubt = _some_value(source, entry, asked, required)
    band, caution = _row_count(params, entry, earlier)
    unique = f"change {place}.key in params.yaml"
    checks = [
        Check("expect_table_row_count_to_be_between", {"min_value": 1}, advice="leave the empty batch out"),
        Check("expect_table_columns_to_match_set", {"column_set": columns}, advice=f"change {place}.columns"),
        Check("expect_compound_columns_to_be_unique", {"column_list": key}, advice=unique)
        if len(key) > 1
        else Check("expect_column_values_to_be_unique", {"column": key[0]}, advice=unique),
        *(_present(column, f"take {column} out of {place}.required in params.yaml") for column in required),
        *(() if entry["static"] else _within_period(entry, f"change {place}.event_time in params.yaml")),
        *some,
        *band,
    ]
    return checks, [*doubt, *caution]


def _present(column: str, advice: str) -> Check:
    return Check("expect_column_values_to_not_be_null", {"column": column}, advice=advice)


def _within_period(entry: Mapping[str, Any], advice: str) -> list[Check]:
    # Text without a zone: GX would cut a datetime to its date, and a zone cannot be compared with stored UTC.
    start, end = (str(entry[bound]).removesuffix("Z") for bound in ("start", "end"))
    between = {"column": EVENT_TIME, "min_value": start, "max_value": end, "strict_max": True}
    return [_present(EVENT_TIME, advice), Check("expect_column_values_to_be_between", between, advice=advice)]


def _some_value(
    source: SourceParams, entry: Mapping[str, Any], asked: Sequence[Check], required: Sequence[str]
) -> tuple[list[Check], list[str]]:
    """No column wholly null, unless the suite itself says what to expect of its nulls."""
    if is_part(entry["name"]) and entry["rows"] < FEW_ROWS:
        return [], [f"columns without any value are not looked for in a part of fewer than {FEW_ROWS} rows"]
    spoken = {check.columns[0] for check in asked if check.name in ABOUT_NULLS and check.columns}
    name = "expect_column_proportion_of_non_null_values_to_be_between"
    checks = []
    for column in source.columns:
        if column in spoken or column in required:
            continue
        advice = (
            f"say that it may be empty: add `{name}: {{column: {column}, min_value: 0}}` "
            f"to validate.suites.{entry['source']} in params.yaml"
        )
        checks.append(Check(name, {"column": column, "min_value": 0, "strict_min": True}, advice=advice))
    return checks, []


def _row_count(
    params: ValidateParams, entry: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
) -> tuple[list[Check], list[str]]:
    """A batch about as large as those just before it."""
    if is_part(entry["name"]):
        return [], ["row count not compared with earlier batches: this is a part of a period"]
    recent = [other["rows"] for other in earlier if not is_part(other["name"])][-params.rows_band.recent :]
    if not recent:
        return [], [f"row count not compared with earlier batches: this is the first of {entry['source']}"]
    mean = sum(recent) / len(recent)
    band = {"min_value": math.floor(params.rows_band.low * mean), "max_value": math.ceil(params.rows_band.high * mean)}
    advice = "widen validate.rows_band in params.yaml"
    return [Check("expect_table_row_count_to_be_between", band, advice=advice)], []


def _periodmates(entry: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [other for other in earlier if not entry["static"] and other["start"] == entry["start"]]
