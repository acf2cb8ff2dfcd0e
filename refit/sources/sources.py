"""Finds and reads the files, packages and databases that params name, without guessing."""

from __future__ import annotations

import difflib
import glob
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refit.config import SourceParams
from refit.errors import UserError
from refit.sources import (
    array_cells,
    csv_files,
    folders,
    idx_files,
    layouts,
    limits,
    numpy_files,
    object_stores,
    parquet_files,
    pictures,
    synthetic_data,
    table_kinds,
    text_streams,
)
from refit.sources.absent_files import absence, nearest_file
from refit.sources.declared_paths import as_declared, expanded
from refit.sources.source_files import ROWS, ReadDigest, SourceFile, numbered
from refit.storage.batches import LINE

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.config.column_types import ArrayColumn

_TABLES = ("auto", "csv", "parquet")  # formats of which a file is a table by itself
PARQUET_SUFFIXES = (".parquet", ".pq")


def find(project: Path, source: SourceParams, where: str, *, generated_in: Path | None = None) -> list[SourceFile]:
    """The files of a source, ordered by name; `where` is the source's path in params, for messages.

    If there are none and the source declares a script, the script generates them in `generated_in` or the project.

    Raises:
        UserError: there are no files, or several although one `sha256` is declared.
    """
    if source.is_table:
        return [table_kinds.table_of(project, source, where)]
    if source.kind == "package":
        files = _in_package(source, where)
    elif object_stores.is_remote(expanded(source.path)):
        files = object_stores.files(generated_in or project, source, where)
    elif not (files := _on_disk(project, source, where)):
        if source.stand_in is None:
            raise UserError(absence(project, source, where))
        files = synthetic_data.files(project, source, where, generated_in or project)
    if source.sha256 and len(files) != 1:
        raise UserError(f"{where}.sha256 names one file, {source.path} matches {len(files)}; drop sha256 or the glob")
    files = _with_parts(project, files, source, where)
    if source.sha256 and len(files[0].parts) > 1:
        raise UserError(
            f"{where}.sha256 names one file, and {files[0].name} is read with {files[0].parts[1].name}; drop sha256"
        )
    return files


def given(project: Path, path: Path, source: SourceParams, where: str) -> SourceFile:
    """A file in the layout of a source, wherever it is; of pictures, a folder of them too.

    Raises:
        UserError: there is no such file, or no picture in the folder.
    """
    if source.format == "images":
        home = path if path.is_dir() else path.parent
        paths = sorted(path.rglob(Path(source.path).name)) if path.is_dir() else [path]
        parts = tuple(filter(folders.inside(project, home), paths))
        if not parts:
            raise UserError(f"{path} has no picture {Path(source.path).name}; give one, or a folder of them ({where})")
        return SourceFile(home, path.name, parts=parts)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a file in the layout of {where}")
    (file,) = _with_parts(project, [SourceFile(path, path.name)], source, where)
    return file


def _with_parts(project: Path, files: Sequence[SourceFile], source: SourceParams, where: str) -> list[SourceFile]:
    """The same files, each with all others that it is read from."""
    if source.format == "images":
        return [_pictures(project, files, source)]
    if source.format == "idx":
        return [replace(file, parts=idx_files.parts(file.path)) for file in files]
    return [_with_named_pictures(project, file, source, where) for file in files]


def _with_named_pictures(project: Path, file: SourceFile, source: SourceParams, where: str) -> SourceFile:
    """The same table, with the pictures that its image columns name."""
    images = [name for name, array in source.arrays.items() if array.kind == "image"]
    if file.remote:
        return file
    try:
        if not images or (kind := format_of(file, source)) not in ("csv", "parquet"):
            return file
        names: set[str] = set()
        for batch in _texts_of(file, source, where, images, kind):
            for column in batch.columns[3:]:
                names.update(filter(None, column.unique().to_pylist()))
    except (UserError, OSError):
        return file  # reading it raises the same
    named = pictures.files_named(project, file.path.parent, names - {*source.nulls})
    return replace(file, parts=(file.path, *named)) if named else file


def _texts_of(
    file: SourceFile, source: SourceParams, where: str, columns: list[str], kind: str
) -> Iterator[pa.RecordBatch]:
    """The texts in some columns of a CSV or Parquet file."""
    limit = limits.of(source, where)
    if kind == "parquet":
        parquet_files.check_footer(file.path, file.name, limit)
        columns = parquet_files.text_columns(file.path, columns)
        return _read_parquet(file, columns, lambda names: None, limit) if columns else iter(())
    table = _csv_file(file, _in_file(source), where)
    names = csv_files.header(table)
    columns = [column for column in columns if names.count(column) == 1]
    return csv_files.read(table, columns, lambda names: None) if columns else iter(())


def _pictures(project: Path, files: Sequence[SourceFile], source: SourceParams) -> SourceFile:
    """All pictures of a source as one file: they are read in the order of their names, and change together."""
    first = files[0]
    pattern = expanded(source.path)
    if first.stand_in:
        home, name = synthetic_data.folder_of(first.path), f"{source.stand_in}:{Path(pattern).name}"
    elif source.kind == "package":
        home, name = first.path.parent, first.name
    else:
        home, name = folders.base_of(project, pattern), as_declared(pattern, source.path)
    return SourceFile(home, name, first.stand_in, tuple(file.path for file in files))


def _on_disk(project: Path, source: SourceParams, where: str) -> list[SourceFile]:
    pattern = expanded(source.path)
    plain = project / pattern
    if plain.is_file():
        folders.check_one(project, pattern, f"{where}.path")
        return [SourceFile(plain, as_declared(pattern, source.path))]
    if plain.is_dir():
        raise UserError(
            f"{source.path} is a folder; name its files by a pattern such as {source.path}/*.csv ({where}.path)"
        )
    if not glob.has_magic(pattern):
        if plain.exists() or plain.is_symlink():
            folders.check_file(project, plain, pattern, plain.parent, f"{where}.path")
        return []
    files = folders.matches(project, pattern, f"{where}.path")
    return [SourceFile(path, as_declared(name, source.path)) for name, path in files]


def empty_folders(project: Path, source: SourceParams) -> list[str]:
    """The folders without a file of a source whose `folder_column` they would be a value of."""
    if source.kind != "files" or not source.folder_column or object_stores.is_remote(expanded(source.path)):
        return []
    return folders.without_files(project, expanded(source.path))


def unread_files(project: Path, declared: Mapping[str, SourceParams]) -> dict[str, list[str]]:
    """By source, the tables in the folder of its pattern that no source reads."""
    local = {name: source for name, source in declared.items() if source.kind == "files"}
    paths = {name: expanded(source.path) for name, source in local.items() if source.format in _TABLES}
    every = [path for source in local.values() if not object_stores.is_remote(path := expanded(source.path))]
    found = {name: folders.not_matched(project, path, every) for name, path in paths.items() if path in every}
    return {name: files for name, files in found.items() if files}


def _in_package(source: SourceParams, where: str) -> list[SourceFile]:
    package, *inner = str(source.package).split(".")
    try:
        spec = importlib.util.find_spec(package)  # does not import; for a dotted name the parent would be imported
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"package {package!r} is not installed here; install it, or correct {where}.package")
    for location in spec.submodule_search_locations:
        folder = Path(location).joinpath(*inner)
        path = folder / source.path
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return [SourceFile(path, f"{source.package}:{source.path}")]
    raise UserError(f"package {package!r} has no file {source.path!r}{nearest_file(path)} ({where}.path)")


def read(
    file: SourceFile, source: SourceParams, where: str, read_digest: ReadDigest | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in order, as record batches.

    Columns: LINE (line or row number), FAULT and TEXT (why a line is not a row, and that line), then the declared
    columns, as text from CSV and with the file's own types otherwise.

    Args:
        read_digest: receives the digest of plain text once the last row is read.

    Raises:
        UserError: the file cannot be read as declared, or its columns are not the declared ones.
    """

    own, name = _in_file(source), file.path.name
    batches = _read_file(file, layouts.in_file(own, name), where, None if file.parts else read_digest)
    batches = layouts.as_declared(own, name, batches)
    if format_of(file, source) in ("csv", "parquet") and any(each.kind == "image" for each in source.arrays.values()):
        batches = pictures.with_named(file, source, where, batches)
    return _with_filled_columns(file, source, batches) if source.filled_columns else batches


def _read_file(
    file: SourceFile, source: SourceParams, where: str, read_digest: ReadDigest | None
) -> Iterator[pa.RecordBatch]:
    def check_header(names: Sequence[str]) -> None:
        check_columns(names, source, f"{file.name}", where)

    match format_of(file, source):
        case "database":
            from refit.sources import databases  # imports duckdb

            return databases.read(file, source, where, check_header)
        case "parquet":
            return _read_parquet(file, list(source.columns), check_header, limits.of(source, where), source.arrays)
        case "idx":
            return idx_files.read(file, source, where)
        case "images":
            return pictures.read(file, source, where)
        case "numpy":
            return numpy_files.read(file, source, where, check_header)
        case "csv":
            csv_file = replace(_csv_file(file, source, where), read_digest=read_digest)
            return csv_files.read(csv_file, list(source.columns), check_header)


def _in_file(source: SourceParams) -> SourceParams:
    """The declaration without the columns that are filled by reading."""
    columns = {name: kind for name, kind in source.columns.items() if name not in source.filled_columns}
    return source.model_copy(update={"columns": columns})


def _with_filled_columns(
    file: SourceFile, source: SourceParams, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Fill the columns for the names of file and folder (without its own, which may be moved) and the line."""
    import pyarrow as pa

    for batch in batches:
        filled = batch
        for column, name in ((source.file_column, file.path.name), (source.folder_column, file.path.parent.name)):
            if column and column not in batch.schema.names:  # pictures have their own
                filled = filled.append_column(column, pa.array([name] * batch.num_rows, pa.string()))
        for column in source.hive_columns:
            value = folders.hive_value(file.path, column, file.name)
            filled = filled.append_column(column, pa.array([value] * batch.num_rows, pa.string()))
        if source.line_column:
            filled = filled.append_column(source.line_column, batch[LINE].cast(pa.string()))
        yield filled


def _csv_file(file: SourceFile, source: SourceParams, where: str) -> csv_files.CsvFile:
    """A CSV file with the layout declared by its source."""
    if source.delimiter in '"\r\n\0' or not source.delimiter.isascii():
        raise UserError(
            f"{where}.delimiter: {source.delimiter!r} cannot separate columns; use a character such as , or ;"
        )
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
    """The columns of a file, whatever is declared; of a format without names of columns, the declared ones.

    Raises:
        UserError: the file cannot be read in its format.
    """
    where = "ingest.sources"
    match format_of(file, source):
        case "parquet":
            names = parquet_files.names(file.path, file.name, limits.of(source, where))
        case "idx":
            names = idx_files.column_names(file, _in_file(source))
        case "images":
            names = list(_in_file(source).columns)
        case "numpy":
            names = numpy_files.column_names(file, _in_file(source))
        case _:
            names = csv_files.header(_csv_file(file, _in_file(source), where))
    return [*layouts.declared_names(_in_file(source), file.path.name, names), *source.filled_columns]


Format = Literal["csv", "parquet", "numpy", "idx", "images", "database"]


def format_of(file: SourceFile, source: SourceParams) -> Format:
    """The format of a file: as declared, or by its suffix or first bytes."""
    if source.kind == "database":
        return "database"
    if source.format != "auto":
        return source.format
    if file.path.suffix.lower() in PARQUET_SUFFIXES:
        return "parquet"
    if file.path.suffix.lower() in numpy_files.SUFFIXES:
        return "numpy"
    with file.path.open("rb") as stream:
        return "parquet" if stream.read(4) == b"PAR1" else "csv"


def is_plain_text(file: SourceFile, source: SourceParams) -> bool:
    """Whether the file can be opened, and its own bytes are the text that `read` reads from the first to the last."""
    try:
        return not file.parts and format_of(file, source) == "csv" and not text_streams.is_packed(file.path)
    except OSError:
        return False


def check_columns(actual: Sequence[str], source: SourceParams, name: str, where: str) -> None:
    """Refuse columns that are not exactly the declared ones, in any order; those without a name are passed over.

    Raises:
        UserError: columns are missing, unknown or repeated; one line lists them all.
    """
    declared = list(source.columns)
    actual = [column for column in actual if column.strip()]  # such as an index that pandas wrote
    problems = []
    if twice := sorted(column for column, number in Counter(actual).items() if number > 1):
        problems.append(f"column {_listed(twice)} is there twice")
    surprising = [column for column in dict.fromkeys(actual) if column not in source.columns]
    present = set(actual)
    missing = [column for column in declared if column not in present]
    if missing:
        problems.append(f"column {_listed(missing, surprising)} is missing")
    if surprising:
        problems.append(f"column {_listed(surprising, declared)} is not declared")
    if len(actual) == 1 and (other := next((mark for mark in ";\t|," if mark in actual[0]), None)):
        problems.append(f"its header looks separated by {other!r}, not {source.delimiter!r} (`delimiter`)")
    if len(actual) == len(declared) == len(missing):
        problems.append("its first line may be a row already (`header: false`)")
    if problems:
        proposal = ""
        named = source.header and source.kind in ("files", "package") and not source.layout_of(Path(name).name)
        if present & {*declared} and named and not twice:
            rest = layouts.proposed(source, Path(name).name, missing, surprising)
            proposal = f"; if these columns are right, add to {where}.layouts: {rest}"
        advice = f"correct the file or {where}.columns in params.yaml"
        raise UserError(f"{name}: {', and '.join(problems)}; {advice}{proposal}")


def _listed(columns: Sequence[str], near: Sequence[str] = ()) -> str:
    def one(column: str) -> str:
        match = difflib.get_close_matches(column[:100], near[:1000], n=1, cutoff=0.6)
        return f"{column!r} (near {match[0]!r})" if match else repr(column)

    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return ", ".join(one(column) for column in columns[:5]) + more


def _read_parquet(
    file: SourceFile,
    columns: list[str],
    check_header: Callable[[Sequence[str]], None],
    limit: limits.Limits,
    arrays: Mapping[str, ArrayColumn] | None = None,
) -> Iterator[pa.RecordBatch]:
    line = 1
    rows = array_cells.rows_at_once(sum(array.size for array in arrays.values())) if arrays else ROWS
    for batch in parquet_files.read(file.path, file.name, columns, check_header, limit, rows):
        yield numbered(batch, line)
        line += batch.num_rows
    if line == 1:
        raise UserError(f"{file.name} has no rows; at least one row was expected")
