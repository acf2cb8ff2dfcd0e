"""Reads expectations from the params and checks them against declared columns: GX would let a misfit pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from refit.config import ColumnType, Params, nearest
from refit.config.column_types import array_column
from refit.errors import UserError

# Expectations whose bounds are values of the column, and not counts or lengths.
BOUNDED = (
    "expect_column_values_to_be_between",
    "expect_column_max_to_be_between",
    "expect_column_min_to_be_between",
)


@dataclass(frozen=True)
class Check:
    """One expectation, under its snake_case name."""

    name: str
    arguments: Mapping[str, object]
    where: str | None = None  # its path in the params; None if it always applies
    advice: str = ""  # what to change if the batch is right and the check is wrong

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is about."""
        given = [self.arguments.get(role) for role in ("column", "column_A", "column_B")]
        listed = self.arguments.get("column_list")
        more = listed if isinstance(listed, list | tuple) else ()
        return tuple(str(column) for column in [*given, *more] if column is not None)

    @property
    def expected(self) -> str:
        """Its arguments as text, without the columns."""
        given = self.arguments.items()
        return ", ".join(
            f"{name} {value}" for name, value in given if name != "mostly" and not name.startswith("column")
        )


def suite_of(params: Params, source: str) -> tuple[Check, ...]:
    """Return the suite of a source."""
    kinds = params.ingest.sources[source].columns
    checks = []
    for index, step in enumerate(params.validate_.suites.get(source, ())):
        where = f"validate.suites.{source}[{index}]"
        for name, arguments in step.items():
            timely = name in BOUNDED and kinds.get(str(arguments.get("column"))) in ("timestamp", "date")
            fitting = {key: _stored_time(value) if timely else value for key, value in arguments.items()}
            checks.append(Check(name, fitting, where, f"change {where} in params.yaml"))
    return tuple(checks)


def _stored_time(value: Any) -> Any:
    """Convert a time to the form that GX needs: UTC without a zone, and never a bare date, which it cannot compare.

    >>> _stored_time("2013-01-02"), _stored_time("2013-01-02T03:00:00-05:00"), _stored_time(7)
    ('2013-01-02T00:00:00', '2013-01-02T08:00:00', 7)
    """
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return (moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment).isoformat()


def check_declared(params: Params) -> None:
    """Check all suites against the sources.

    Raises:
        UserError: one line for each suite without a source, unknown column, and value that its column cannot have.
    """
    problems = []
    for source in params.validate_.suites:
        if source not in params.ingest.sources:
            hint = nearest(source, params.ingest.sources) or f"; sources are {', '.join(params.ingest.sources)}"
            problems.append(f"validate.suites.{source}: there is no such source{hint}")
            continue
        kinds = params.ingest.sources[source].columns
        problems += [problem for check in suite_of(params, source) for problem in _misfits(check, kinds)]
    raise_problems(problems)


def raise_problems(problems: Sequence[str]) -> None:
    """Raise all problems of the params file as one error, if there are any."""
    if len(problems) == 1:
        raise UserError(f"params.yaml: {problems[0]}")
    if problems:
        raise UserError(f"params.yaml has {len(problems)} problems:", *problems)


_OF_ARRAYS = ("expect_column_to_exist", "expect_column_values_to_not_be_null")


def _misfits(check: Check, kinds: Mapping[str, ColumnType]) -> Iterator[str]:
    path = f"{check.where}.{check.name}"
    if unknown := [column for column in check.columns if column not in kinds]:
        yield from (f"{path}: column {column!r} is not declared{nearest(column, kinds)}" for column in unknown)
        return
    column = check.arguments.get("column")
    if column is None:
        return
    kind = kinds[str(column)]
    if array_column(kind):
        if check.name not in _OF_ARRAYS:
            yield f"{path}: column {column!r} is {kind}; only {' and '.join(_OF_ARRAYS)} take such a column"
        return
    values = check.arguments.get("value_set")
    if isinstance(values, list | tuple):
        if kind in ("timestamp", "date"):
            yield f"{path}.value_set: column {column!r} is a {kind}; use expect_column_values_to_be_between"
        elif invalid := [value for value in values if not _fits(value, kind)]:
            yield f"{path}.value_set: {invalid[0]!r} cannot be a value of {column!r}, which is {kind}; quote texts"
    for bound in ("min_value", "max_value"):
        value = check.arguments.get(bound)
        if check.name in BOUNDED and value is not None and (kind in ("text", "boolean") or not _fits(value, kind)):
            yield f"{path}.{bound}: {value!r} cannot bound {column!r}, which is {kind}"


def _fits(value: Any, kind: ColumnType) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "boolean" else str)
