"""Compares the rows of a period with its stored batches: unchanged, grown, or contradicting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_text import quote
from refit.config import SourceParams
from refit.config.section import row_column, time_column
from refit.schemas.manifest import Manifest
from refit.storage.batches import FILE_STRIDE
from tasks.ingest.casting import cells

if TYPE_CHECKING:
    import duckdb

FRESH = "fresh_rows"


@dataclass(frozen=True)
class BatchDiff:
    """How the rows of a period differ from the stored ones."""

    new: int  # in the table `fresh_rows`, rows that could not be cast included
    changed: int  # new content under a stored key
    missing: int  # stored, but no longer in their file
    first_changed: str | None
    repeated: int = 0  # stored from a file that was not read this time

    @property
    def contradicts(self) -> bool:
        return bool(self.changed or self.missing)

    def describe(self) -> str:
        at = f", first {self.first_changed}" if self.first_changed else ""
        return f"{self.changed:,} changed, {self.new - self.changed:,} new, {self.missing:,} missing{at}"


# Rows that could not be cast, or have no key, are not identified: each copy is a separate row.
_COPY = "case when named then 1 else row_number() over (partition by named, good, content order by {}) end as copy"


def has_key(key: Sequence[str]) -> str:
    """Return SQL that is true if a row has a value for each column of its key."""
    return f"({' and '.join(f'{quote(column)} is not null' for column in key)})"


def key_digest(key: Sequence[str]) -> str:
    """Return SQL for a number that is equal for rows with one key, and null for a row without one: it equals none."""
    return f"case when {has_key(key)} then md5_number({row_text(key)}) end"


def row_text(columns: Sequence[str]) -> str:
    """Return SQL for a text that is equal only for equal rows."""
    return f"concat_ws(chr(31), {', '.join(f'coalesce({quote(column)}::varchar, chr(26))' for column in columns)})"


def fault_text() -> str:
    """Return SQL for a text that is equal for rows with equal faults, whatever their position in the file."""
    fault = "concat_ws(chr(31), coalesce(f.\"column\", ''), coalesce(f.\"value\", ''), f.reason)"
    return f"array_to_string(list_sort(list_transform(_faults, lambda f: {fault})), chr(30)) || coalesce(_raw, '')"


def faulty(uncast: str) -> str:
    """Return SQL for the rows of a batch's record of faults, for `fault_text`."""
    return (
        "(select _row, list({'column': \"column\", 'value': \"value\", 'reason': reason}) as _faults, "
        f'any_value("row") as _raw from {uncast} group by _row)'
    )


def compare(
    connection: duckdb.DuckDBPyConnection,
    project: Path,
    here: str,
    parts: Sequence[Manifest],
    source: SourceParams,
    files: Mapping[int, str],
    reaches: Mapping[str, datetime],
) -> BatchDiff:
    """Compare the rows of the relation `here` with the stored parts, and put new ones into `fresh_rows`.

    A row that equals a stored one is that row, whatever its position. A stored row is missing only if its file was
    read this time and `reaches` back to it: removing a file after it was read, or dropping the oldest rows of a table,
    loses nothing.
    """
    run = connection.execute
    row, time = row_column(source.columns), time_column(source.columns)
    columns = [name for name in parts[0].rows_table(project).column_names if name != row]
    _load(connection, project, parts, columns, source)
    now = {**cells(source), time: "_event_time"}
    key = [now[name] for name in source.row_key]
    good = row_text([now.get(name, name) for name in columns])
    run(
        f"create or replace table now_rows as select *, {_COPY.format('_file, _line')} from (select _file, _line, "
        f"_faults is null as good, _faults is null and {has_key(key)} as named, "
        f"md5_number(case when _faults is null then {good} else {fault_text()} end) as content, "
        f"{key_digest(key)} as key, _event_time from {here})"
    )
    run(
        "create or replace table fresh as "
        "select _file, _line, key from now_rows anti join then_rows using (good, content, copy)"
    )
    run(f"create or replace table {FRESH} as select h.* from {here} h semi join fresh using (_file, _line)")
    changed_rows = "(select * from fresh where key in (select key from then_rows))"
    new, changed = run(f"select (select count(*) from fresh), (select count(*) from {changed_rows})").fetchone()
    first = run(f"select _file, _line from {changed_rows} order by _file, _line limit 1").fetchone()
    run("create or replace table reaches (file varchar, since timestamp)")
    run("insert into reaches select unnest($files), unnest($since)", _columns(reaches))
    replaced = ""
    if source.changes.version is not None:  # a table of newest versions holds the earlier ones no longer
        ids = key_digest([now[name] for name in source.key])
        replaced = f" and coalesce(id in (select {ids} from placed where _faults is null), false) = false"
    (missing,) = run(
        "select count(*) from then_rows t join reaches r on t.file = r.file and t._event_time >= r.since "
        f"where good and content not in (select content from now_rows where good){replaced}"
    ).fetchone()
    (repeated,) = run(
        "select count(*) from now_rows where good and content in "
        "(select content from then_rows where good and file not in (select file from reaches))"
    ).fetchone()
    return BatchDiff(new, changed, missing, f"{files[first[0]]} line {first[1]}" if first else None, repeated)


def _columns(reaches: Mapping[str, datetime]) -> dict[str, list[object]]:
    return {"files": list(reaches), "since": [since.replace(tzinfo=None) for since in reaches.values()]}


def _load(
    connection: duckdb.DuckDBPyConnection,
    project: Path,
    parts: Sequence[Manifest],
    columns: Sequence[str],
    source: SourceParams,
) -> None:
    connection.execute(
        "create or replace table all_then_rows (good boolean, named boolean, content uhugeint, key uhugeint, "
        "id uhugeint, _event_time timestamp, file varchar)"
    )
    id_text = "null" if source.row_key == source.key else key_digest(source.key)
    row, time = quote(row_column(source.columns)), quote(time_column(source.columns))
    for part in parts:
        connection.register("part", part.rows_table(project))
        connection.execute(
            f"insert into all_then_rows select true, {has_key(source.row_key)}, md5_number({row_text(columns)}), "
            f"{key_digest(source.row_key)}, {id_text}, {time}, "
            f"list_extract($files, {row} // {FILE_STRIDE} + 1) from part",
            {"files": list(part.files)},
        )
        connection.unregister("part")
        if (uncast := part.uncast_table(project)) is None:
            continue
        connection.register("part", uncast)
        connection.execute(
            f"insert into all_then_rows select false, false, md5_number({fault_text()}), null, null, null, null "
            f"from {faulty('part')}"
        )
        connection.unregister("part")
    connection.execute(f"create or replace table then_rows as select *, {_COPY.format('file')} from all_then_rows")
