"""Maps files with other columns to the declared ones: columns that were renamed, are missing, or are not wanted."""

from __future__ import annotations

import difflib
import glob
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from refit.config import SourceParams

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["as_declared", "declared_names", "in_file", "proposed"]

_NEAR, _INSIDE = 0.6, 0.8  # how alike names of one column are; a name that is a part of the other


def in_file(source: SourceParams, name: str) -> SourceParams:
    """The declaration with the columns that a file has, under the names that they have there."""
    layout = source.layout_of(name)
    if layout is None:
        return source
    columns = {
        layout.renamed.get(column, column): kind
        for column, kind in source.columns.items()
        if column not in layout.missing
    }
    return source.model_copy(update={"columns": columns | dict.fromkeys(layout.ignored, "text")})


def as_declared(source: SourceParams, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give the rows of a file the declared columns, as texts without a value where the file has none."""
    import pyarrow as pa

    layout = source.layout_of(name)
    if layout is None:
        yield from batches
        return
    for batch in batches:
        others = [each for each in batch.schema.names if each not in in_file(source, name).columns]
        columns = {each: batch[each] for each in others}
        for column in source.columns:
            there = column not in layout.missing
            columns[column] = (
                batch[layout.renamed.get(column, column)] if there else pa.nulls(batch.num_rows, pa.string())
            )
        yield pa.RecordBatch.from_pydict(columns)


def declared_names(source: SourceParams, name: str, names: Sequence[str]) -> list[str]:
    """The declared names of the columns that a file has."""
    layout = source.layout_of(name)
    if layout is None:
        return list(names)
    declared = {there: column for column, there in layout.renamed.items()}
    return [declared.get(each, each) for each in names if each not in layout.ignored]


def proposed(source: SourceParams, name: str, missing: Sequence[str], surprising: Sequence[str]) -> str:
    """The layout that would let a file in, as a line for the params: columns with similar names are taken for renamed.

    Args:
        missing: declared columns that the file has not.
        surprising: columns of the file that are not declared.
    """
    renamed: dict[str, str] = {}
    for column in missing:
        rest = [each for each in surprising if each not in renamed.values()]
        near = max(rest, key=lambda each: _likeness(column, each), default=None)
        if near is not None and _likeness(column, near) >= _NEAR:
            renamed[column] = near
    parts = {
        "files": glob.escape(name),
        "renamed": renamed,
        "missing": [each for each in missing if each not in renamed],
        "ignored": [each for each in surprising if each not in renamed.values()],
    }
    return f"[{json.dumps({key: value for key, value in parts.items() if value}, ensure_ascii=False)}]"


def _likeness(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1, without case and punctuation.

    >>> _likeness("ride_id", "Ride ID"), _likeness("id", "trip_id"), round(_likeness("started_at", "starttime"), 2)
    (1.0, 0.8, 0.67)
    """
    first, second = ("".join(each for each in name.lower() if each.isalnum()) for name in (one, other))
    ratio = difflib.SequenceMatcher(None, first, second).ratio()
    short, long = sorted((first, second), key=len)
    inside = len(short) > 1 and (long.startswith(short) or long.endswith(short))
    return max(ratio, _INSIDE) if inside else ratio
