"""Handles repeated rows: equal rows count once, and one key (and version) may not stand for different rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_text import quote
from refit.config import SourceParams
from refit.errors import UserError
from refit.schemas.manifest import Manifest
from tasks.ingest.batch_diff import fault_text, has_key, row_text
from tasks.ingest.casting import cells

if TYPE_CHECKING:
    import duckdb

_ROWS = "repeated_rows"


def drop(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], key: Sequence[str]) -> dict[int, int]:
    """Remove from `placed` every row that equals an earlier one of its period; returns how many, by period.

    Rows that could not be cast, or have no key, are not identified: the n-th copy in one file equals the n-th copy in
    another, so that exports may overlap, while a file with the same bad line twice has two bad lines.
    """
    run = connection.execute
    values = ", ".join(map(quote, [*columns, "_event_time"]))
    run(
        "create or replace temp table repeated_hashes as select _period, hash(" + values + ") as hashed "
        "from placed group by all having count(*) > 1"
    )
    if not _one(connection, "select count(*) from repeated_hashes"):
        return {}
    content = f"case when _faults is null then {row_text([*columns, '_event_time'])} else {fault_text()} end"
    run(
        f"create or replace temp table {_ROWS} as with texts as ("
        f"select _period, _file, _line, _faults is null and {has_key(key)} as named, "
        f"_faults is null as good, md5_number({content}) as content "
        f"from placed semi join repeated_hashes h on placed._period is not distinct from h._period "
        f"and hash({values}) = h.hashed), copies as ("
        "select *, case when named then 1 else row_number() over "
        "(partition by _period, good, content, _file order by _line) end as copy from texts) "
        "select _period, _file, _line from copies qualify row_number() over "
        "(partition by _period, named, good, content, copy order by _file, _line) > 1"
    )
    counts = run(f"select _period, count(*) from {_ROWS} group by _period").fetchall()
    if counts:
        run(f"delete from placed where (_file, _line) in (select (_file, _line) from {_ROWS})")
    return dict(counts)


def check(connection: duckdb.DuckDBPyConnection, key: Mapping[str, str], files: Mapping[int, str], where: str) -> None:
    """Check that no two files have different rows of one period with one key; equal rows are already dropped.

    Read one after the other, the second would be refused as a change; read at once, no row may win by chance.

    Args:
        key: columns in `placed` -> their names in the source.

    Raises:
        UserError: two files do; names the first such key.
    """
    if len(files) < 2:
        return
    columns = ", ".join(map(quote, key))
    pairs = (
        f"select min(_file), arg_min(_line, _file), max(_file), arg_max(_line, _file), {columns} from placed "
        f"where _faults is null and {has_key(list(key))} group by _period, {columns} having min(_file) < max(_file)"
    )
    first = connection.execute(f"{pairs} order by all limit 1").fetchone()
    if first is None:
        return
    number = _one(connection, f"select count(*) from ({pairs})")
    file, line, file_2, line_2, *value = first
    shown = ", ".join(f"{column} {text}" for column, text in zip(key.values(), value, strict=True))
    raise UserError(
        f"{files[file_2]} line {line_2} and {files[file]} line {line} differ and have one key ({shown}), as have "
        f"{number:,} in all: which is right is not known; take one of the files away, correct it, or change {where}.key"
    )


def check_versions(
    connection: duckdb.DuckDBPyConnection,
    project: Path,
    name: str,
    source: SourceParams,
    stored: Sequence[Manifest],
    files: Mapping[int, str],
) -> None:
    """Check that no new row has the key and version of a row in another period, whose content differs as its time does.

    Two rows of one period are found where its batches are compared, and between files by `check`.

    Raises:
        UserError: one has; names the first.
    """
    if source.changes.version is None:
        return
    run, names = connection.execute, cells(source)
    key = [names[column] for column in source.row_key]
    run(
        f"create or replace temp table versions_read as select md5_number({row_text(key)}) as id, _start as start, "
        f"_file, _line from placed join periods using (_period) where _faults is null and {has_key(key)}"
    )
    run("create or replace temp table versions_stored (id uhugeint, start timestamp, batch varchar)")
    for part in stored:
        assert part.start is not None
        connection.register("part", part.rows_table(project, source.row_key))
        run(
            f"insert into versions_stored select id, ?, ? from (select md5_number({row_text(source.row_key)}) as id "
            "from part) semi join versions_read using (id)",
            [part.start.replace(tzinfo=None), part.name],
        )
        connection.unregister("part")
    run(
        "create or replace temp table versions_new as select * from versions_read r anti join versions_stored s "
        "on s.id = r.id and s.start = r.start"
    )
    pairs = (
        "versions_new n join (select id, start, batch, null as _file, null as _line from versions_stored union all "
        "select id, start, null, _file, _line from versions_read) o on o.id = n.id and o.start <> n.start"
    )
    first = run(f"select n._file, n._line, o.batch, o._file, o._line from {pairs} order by all limit 1").fetchone()
    if first is None:
        return
    file, line, batch, other, other_line = first
    columns = ", ".join(key)
    values = run(f"select {columns} from placed where _file = ? and _line = ?", [file, line]).fetchall()[0]
    shown = ", ".join(f"{column} {value}" for column, value in zip(source.row_key, values, strict=True))
    elsewhere = f"batch {name}/{batch} has a row" if batch else f"{files[other]} line {other_line} is one"
    number = _one(connection, f"select count(distinct n.id) from {pairs}")
    raise UserError(
        f"{files[file]} line {line} is a row of another period than the one under its key and version ({shown}): "
        f"{elsewhere}, as for {number:,} in all; which is right is not known: give the newer one a newer version, or "
        f"correct ingest.sources.{name}.key or .changes.version"
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    (value,) = connection.execute(query).fetchone() or (0,)
    return int(value)
