"""Plans the checks of one batch, as plain data: built-in checks and those of the params."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib import metadata
from pathlib import Path

from refit.config import Params, SourceParams
from refit.config.section import time_column
from refit.config.shares import share_of
from refit.errors import RefitError
from refit.files import artifacts
from refit.schemas.artifact import utc_text
from refit.schemas.snapshot import SnapshotBatch
from refit.storage import quarantine
from tasks.validate.expectations import Check, check_declared, suite_of

CODE_VERSION = 1  # part of the key of cached results: raise it when a check's meaning changes
FEW_ROWS = 100  # a part with fewer rows may lack every value of a sparse column by chance
NOT_NULL = "expect_column_values_to_not_be_null"
SOME_VALUE = "expect_column_proportion_of_non_null_values_to_be_between"
ROW_COUNT = "expect_table_row_count_to_be_between"
# An expectation of the suite about a column's nulls replaces the built-in check for "not wholly null".
ABOUT_NULLS = (SOME_VALUE, NOT_NULL, "expect_column_values_to_be_null")


@dataclass(frozen=True)
class BatchPlan:
    """The expectations on one batch, and the key under which their result is cached."""

    batch: SnapshotBatch
    source: SourceParams
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]  # checks left out here, and why
    max_share: float
    periodmates: tuple[SnapshotBatch, ...]  # earlier batches of the same period
    among: int = 0  # of a batch of differences: the number of rows that its bad rows may be a share of

    @property
    def name(self) -> str:
        """Source and batch, for display."""
        return self.batch.title

    @property
    def quarantine_path(self) -> Path:
        """The file of its refused rows."""
        return quarantine.path_of(self.batch.source, self.batch.name)

    @property
    def record_path(self) -> Path:
        """The file of the cached result; if it has the right key, the batch was validated."""
        return artifacts.VALIDATION / f"{self.batch.source}/{self.batch.name}.json"

    @property
    def page_path(self) -> Path:
        """Its page of the Data Docs."""
        return artifacts.DATA_DOCS / f"{self.batch.source}/{self.batch.name}.html"

    @cached_property
    def key(self) -> str:
        """Digest of everything that the result depends on."""
        return artifacts.digest(
            {
                **({"taken": self.batch.taken} if self.batch.taken else {}),
                "code": [CODE_VERSION, metadata.version("great-expectations")],
                "batch": [self.batch.sha256, self.batch.uncast_sha256],
                "checks": [[check.name, check.arguments, check.where] for check in self.checks],
                "columns": self.source.columns,
                "key": self.source.row_key,
                "max_share": self.max_share,
                "periodmates": [mate.sha256 for mate in self.periodmates],
            }
        )


def is_part(name: str) -> bool:
    """Return whether a batch is a part of a growing period.

    >>> is_part("2013-10.2"), is_part("2013-10")
    (True, False)
    """
    return re.search(r"\.\d+$", name) is not None


def plans(params: Params, batches: Sequence[SnapshotBatch]) -> list[BatchPlan]:
    """Plan the checks of each batch, in the snapshot's order.

    Raises:
        UserError: an expectation does not fit its source.
        RefitError: the snapshot was made with other params.
    """
    check_declared(params)
    result = []
    for index, batch in enumerate(batches):
        if batch.source not in params.ingest.sources:
            raise RefitError(f"{artifacts.SNAPSHOT} holds {batch.source}, params.yaml no longer does; run `refit run`")
        earlier = [other for other in batches[:index] if other.source == batch.source]
        result.append(_plan(params, batch, earlier))
    return result


def _plan(params: Params, batch: SnapshotBatch, earlier: Sequence[SnapshotBatch]) -> BatchPlan:
    source = params.ingest.sources[batch.source]
    max_share = params.validate_.max_quarantined_share
    if batch.deletes:  # copies of rows that were validated; if one were refused, the row would not be deleted
        return BatchPlan(batch, source, (), ("not checked: these rows were deleted",), max_share, ())
    mates = tuple(other for other in earlier if other.start == batch.start)
    among = _among(batch, mates, source)
    if among and not batch.rows:
        return BatchPlan(batch, source, (), ("not checked: none of its rows could be cast",), max_share, (), among)
    suite = suite_of(params, batch.source)
    path = f"ingest.sources.{batch.source}"
    some, doubt = _some_value(source, batch, suite, params.featurize.label.column)
    band, caution = _row_count(params, batch, earlier)
    always = [
        Check(ROW_COUNT, {"min_value": 1}, advice="leave the empty batch out"),
        Check(
            "expect_table_columns_to_match_set",
            {"column_set": list(source.columns)},
            advice=f"change {path}.columns in params.yaml",
        ),
        *row_checks(source, path),
        *(
            ()
            if batch.static
            else _within_period(batch, time_column(source.columns), f"change {path}.event_time in params.yaml")
        ),
        *some,
        *band,
    ]
    return BatchPlan(
        batch=batch,
        source=source,
        checks=(*always, *suite),
        warnings=(*doubt, *caution),
        max_share=max_share,
        periodmates=() if batch.static or source.changes.is_snapshot else mates,
        among=among,
    )


def _among(batch: SnapshotBatch, mates: Sequence[SnapshotBatch], source: SourceParams) -> int:
    """The number of rows that its bad rows may be a share of; 0 for its own.

    A delivery is judged as a whole, and late rows and corrections with their period: of the differences alone, one bad
    row may be all, and no later row would ever mend that.
    """
    if batch.delivered_rows:
        return batch.delivered_rows
    if (source.changes.is_append and not batch.arrived) or batch.static or not mates:
        return 0
    before = [mate.last for mate in mates if mate.last]
    late = batch.arrived or batch.last is None or (before and batch.last <= max(before))
    return batch.rows_read + sum(mate.rows_read for mate in mates if not mate.deletes) if late else 0


def row_checks(source: SourceParams, path: str) -> list[Check]:
    """Return the built-in checks of single rows: a unique key, and values where they are required."""
    return [
        _unique(source.row_key, f"change {path}.key in params.yaml"),
        *(_present(column, f"change {path}.required or .key in params.yaml") for column in _needed(source)),
    ]


def _needed(source: SourceParams) -> list[str]:
    needed = {*source.required, *source.row_key}
    return [column for column in source.columns if column in needed]


def _unique(key: Sequence[str], advice: str) -> Check:
    if len(key) == 1:
        return Check("expect_column_values_to_be_unique", {"column": key[0]}, advice=advice)
    return Check("expect_compound_columns_to_be_unique", {"column_list": list(key)}, advice=advice)


def _present(column: str, advice: str) -> Check:
    return Check(NOT_NULL, {"column": column}, advice=advice)


def _within_period(batch: SnapshotBatch, time: str, advice: str) -> Iterator[Check]:
    # Text without a zone: GX would cut a datetime to its date, and a zone cannot be compared with stored UTC.
    start, end = (utc_text(bound).removesuffix("Z") for bound in (batch.start, batch.end) if bound)
    between = {"column": time, "min_value": start, "max_value": end, "strict_max": True}
    yield _present(time, advice)
    yield Check("expect_column_values_to_be_between", between, advice=advice)


def _some_value(
    source: SourceParams, batch: SnapshotBatch, suite: Sequence[Check], label: str | None
) -> tuple[list[Check], list[str]]:
    """Check that no column is wholly null, unless the suite says something about its nulls; labels may be absent."""
    if is_part(batch.name) and batch.rows < FEW_ROWS:
        return [], [f"columns without any value are not looked for in a part of fewer than {FEW_ROWS} rows"]
    covered = {label, *(column for check in suite if check.name in ABOUT_NULLS for column in check.columns)}
    covered |= {*_needed(source)}
    checks = []
    for column in source.columns:
        if column not in covered:
            advice = (
                f"say that it may be empty: add `{SOME_VALUE}: {{column: {column}, min_value: 0}}` "
                f"to validate.suites.{batch.source} in params.yaml"
            )
            checks.append(Check(SOME_VALUE, {"column": column, "min_value": 0, "strict_min": True}, advice=advice))
    return checks, []


def _row_count(params: Params, batch: SnapshotBatch, earlier: Sequence[SnapshotBatch]) -> tuple[list[Check], list[str]]:
    """Check the row count against the latest batches, without a first one that starts in the middle of its period."""
    bounds = params.validate_.rows_band
    if is_part(batch.name):
        return [], ["row count not compared with earlier batches: this is a part of a period"]
    late = timedelta(hours=params.ingest.complete_within_hours)
    whole = earlier[1:] if earlier and _begun(earlier[0]) > late else earlier
    recent = [other.rows for other in whole if not is_part(other.name)][-bounds.recent :]
    if not recent:
        return [], [f"row count not compared with earlier batches: this is the first whole one of {batch.source}"]
    mean = sum(recent) / len(recent)
    band = {
        "min_value": math.floor(share_of(bounds.low, mean)),
        "max_value": math.ceil(share_of(bounds.high, mean)),
    }
    return [Check(ROW_COUNT, band, advice="widen validate.rows_band in params.yaml")], []


def _begun(batch: SnapshotBatch) -> timedelta:
    """Return how far into its period a batch's first row lies; zero for an empty batch."""
    return batch.first - batch.start if batch.first and batch.start else timedelta(0)
