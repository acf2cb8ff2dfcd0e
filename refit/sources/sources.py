"""Where raw rows come from: the files, packages and databases that params name, found and read without guessing."""

from __future__ import annotations

import difflib
import glob
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config import SourceParams, nearest
from refit.errors import UserError
from refit.sources import csv_files, folders, limits, parquet_files, synthetic_data
from refit.sources.source_files import SourceFile, numbered
from refit.storage.batches import LINE

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_SUFFIXES = (".parquet", ".pq")
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def find(project: Path, source: SourceParams, where: str, *, generated_in: Path | None = None) -> list[SourceFile]:
    """The files of a source, ordered by name; `where` is the source's place in params, for messages.

    Where none is there, those that the project's own script generates in their place, if it declares one; they are
    written into `generated_in`, or else into the project.

    Raises:
        UserError: nothing there, or several files where one `sha256` is declared.
    """
    if source.kind == "package":
        files = _in_package(source, where)
    elif not (files := _on_disk(project, source, where)):
        if source.stand_in is None:
            raise UserError(absence(project, source, where))
        files = synthetic_data.files(project, source, where, generated_in or project)
    if source.sha256 and len(files) != 1:
        raise UserError(f"{where}.sha256 names one file, {source.path} matches {len(files)}; drop sha256 or the glob")
    return files


def _on_disk(project: Path, source: SourceParams, where: str) -> list[SourceFile]:
    pattern = _expanded(source.path)
    plain = project / pattern
    if plain.is_file():
        folders.check_one(project, pattern, f"{where}.path")
        return [SourceFile(plain, _as_declared(pattern, source.path))]
    if plain.is_dir():
        raise UserError(
            f"{source.path} is a folder; name its files by a pattern such as {source.path}/*.csv ({where}.path)"
        )
    if not glob.has_magic(pattern):
        if plain.exists() or plain.is_symlink():
            folders.check_file(project, plain, pattern, plain.parent, f"{where}.path")
        return []
    found = folders.matches(project, pattern, f"{where}.path")
    return [SourceFile(path, _as_declared(name, source.path)) for name, path in found]


def _expanded(path: str) -> str:
    """A path with the environment's values in it: `${NAME:-default}`; a name that has no value stays as it is."""
    return _VARIABLE.sub(lambda found: os.environ.get(found["name"]) or found["default"] or found[0], path)


def _as_declared(name: str, path: str) -> str:
    """A file's name with the variable that its path begins with, in place of what only this machine has there."""
    variable = _VARIABLE.match(path)
    return name.replace(_expanded(variable[0]), f"${{{variable['name']}}}", 1) if variable else name


def absence(project: Path, source: SourceParams, where: str) -> str:
    """That a source's file is not there, and where it could come from."""
    pattern = _expanded(source.path)
    what = "matches no file" if glob.has_magic(pattern) else "does not exist"
    near = "" if glob.has_magic(pattern) else _nearest_file(project / pattern)
    published = f"; it is published at {source.published}" if source.published else ""
    return f"{pattern} {what}, looked in {project.resolve()}{near} ({where}.path){published}"


def _nearest_file(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, siblings)


def _in_package(source: SourceParams, where: str) -> list[SourceFile]:
    package, *inner = str(source.package).split(".")
    try:
        spec = importlib.util.find_spec(package)  # looks, and never imports: the parent of a dotted name would be
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"package {package!r} is not installed here; install it, or correct {where}.package")
    for location in spec.submodule_search_locations:
        folder = Path(location).joinpath(*inner)
        path = folder / source.path
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return [SourceFile(path, f"{source.package}:{source.path}")]
    raise UserError(f"package {package!r} has no file {source.path!r}{_nearest_file(path)} ({where}.path)")


def read(file: SourceFile, source: SourceParams, where: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in order, as record batches.

    Columns: LINE (line or row number), FAULT and TEXT (why a line is no row, and that line), then the declared columns,
    as text from CSV and of the file's own types elsewhere.

    Raises:
        UserError: the file cannot be read as what it is declared to be, or its columns are not the declared ones.
    """

    batches = _read_file(file, _in_file(source), where)
    return _with_told(file, source, batches) if source.told else batches


def _read_file(file: SourceFile, source: SourceParams, where: str) -> Iterator[pa.RecordBatch]:
    def check_header(found: Sequence[str]) -> None:
        check_columns(found, source, f"{file.name}", where)

    if source.kind == "database":
        from refit.sources import databases  # imports duckdb

        return databases.read(file, source, where, check_header)
    if is_parquet(file, source):
        return _read_parquet(file, list(source.columns), check_header, limits.of(source, where))
    if source.delimiter in '"\r\n\0' or not source.delimiter.isascii():
        raise UserError(
            f"{where}.delimiter: {source.delimiter!r} cannot separate columns; use a character such as , or ;"
        )
    return csv_files.read(_csv_file(file, source, where), list(source.columns), check_header)


def _in_file(source: SourceParams) -> SourceParams:
    """The declaration of what the files themselves hold: without the columns that reading fills."""
    columns = {name: kind for name, kind in source.columns.items() if name not in source.told}
    return source.model_copy(update={"columns": columns})


def _with_told(file: SourceFile, source: SourceParams, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows with the name of their file (no folder: it may be moved) and their line, where a column is for them."""
    import pyarrow as pa

    for batch in batches:
        told = batch
        if source.file_column:
            told = told.append_column(source.file_column, pa.array([file.path.name] * batch.num_rows, pa.string()))
        if source.line_column:
            told = told.append_column(source.line_column, batch[LINE].cast(pa.string()))
        yield told


def _csv_file(file: SourceFile, source: SourceParams, where: str) -> csv_files.CsvFile:
    """A file in the layout that its source declares."""
    return csv_files.CsvFile(
        file.path,
        file.name,
        delimiter=source.delimiter,
        names=None if source.header else tuple(source.columns),
        skip_lines=source.skip_lines,
        quoting=source.quoting,
        encoding=source.encoding,
        member=source.member,
        limits=limits.of(source, where),
    )


def column_names(file: SourceFile, source: SourceParams) -> list[str]:
    """The columns that a file of rows has, whatever is declared.

    Raises:
        UserError: it cannot be read as CSV or Parquet.
    """
    where = "ingest.sources"
    if not is_parquet(file, source):
        return [*csv_files.header(_csv_file(file, _in_file(source), where)), *source.told]
    return [*parquet_files.names(file.path, file.name, limits.of(source, where)), *source.told]


def is_parquet(file: SourceFile, source: SourceParams) -> bool:
    """Whether a file is read as Parquet: as declared, or else by its suffix or its first bytes."""
    if source.format != "auto":
        return source.format == "parquet"
    if file.path.suffix.lower() in PARQUET_SUFFIXES:
        return True
    with file.path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def check_columns(found: Sequence[str], source: SourceParams, name: str, where: str) -> None:
    """Refuse columns that are not exactly the declared ones, in any order.

    Raises:
        UserError: all that is missing, unknown or there twice, in one line.
    """
    declared = list(source.columns)
    problems = []
    if twice := sorted(column for column, number in Counter(found).items() if number > 1):
        problems.append(f"column {_listed(twice)} is there twice")
    surprising = [column for column in dict.fromkeys(found) if column not in source.columns]
    present = set(found)
    missing = [column for column in declared if column not in present]
    if missing:
        problems.append(f"column {_listed(missing, surprising)} is missing")
    if surprising:
        problems.append(f"column {_listed(surprising, declared)} is not declared")
    if len(found) == 1 and (other := next((mark for mark in ";\t|," if mark in found[0]), None)):
        problems.append(f"its header looks separated by {other!r}, not {source.delimiter!r} (`delimiter`)")
    if len(found) == len(declared) == len(missing):
        problems.append("its first line may be a row already (`header: false`)")
    if problems:
        raise UserError(f"{name}: {', and '.join(problems)}; correct the file or {where}.columns in params.yaml")


def _listed(columns: Sequence[str], near: Sequence[str] = ()) -> str:
    def one(column: str) -> str:
        match = difflib.get_close_matches(column[:100], near[:1000], n=1, cutoff=0.6)
        return f"{column!r} (near {match[0]!r})" if match else repr(column)

    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return ", ".join(one(column) for column in columns[:5]) + more


def _read_parquet(
    file: SourceFile, columns: list[str], check_header: Callable[[Sequence[str]], None], limit: limits.Limits
) -> Iterator[pa.RecordBatch]:
    line = 1
    for batch in parquet_files.read(file.path, file.name, columns, check_header, limit):
        yield numbered(batch, line)
        line += batch.num_rows
    if line == 1:
        raise UserError(f"{file.name} has no rows; at least one row was expected")
