"""Texts in the CSV files that Refit writes: a spreadsheet must not run one as a formula, and Refit reads it back as is.

A text that a spreadsheet would evaluate (`=cmd|...`, `+`, `-`, `@`, a tab or a line end first) is written behind an
apostrophe, which spreadsheets take for "text". Numbers, `-3.5` among them, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# The columns at the end of a file of predictions, by which Refit knows that it wrote it.
WRITTEN_BY_REFIT = ("model", "model_version", "snapshot", "as_of", "predicted_at")
_FORMULA = r"^('*[=+\-@\t\r\n＝＋－＠])"
_ESCAPED = r"^'('*[=+\-@\t\r\n＝＋－＠])"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def escaped(text: str) -> str:
    """A text as a cell that no spreadsheet evaluates.

    >>> [escaped(text) for text in ("=1+1", "-3.5", "-x", "'=1", "plain")]
    ["'=1+1", '-3.5', "'-x", "''=1", 'plain']
    """
    return text if re.match(_NUMBER, text) else re.sub(_FORMULA, r"'\1", text)


def escaped_columns(table: pa.Table) -> pa.Table:
    """A table whose texts no spreadsheet evaluates."""
    return _replaced(table, range(table.num_columns), _FORMULA, r"'\1", but=_NUMBER)


def restored_columns(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Rows of a file that Refit wrote, with the texts of `columns` as they were before they were escaped."""
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    restored = _replaced(table, [batch.schema.get_field_index(name) for name in columns], _ESCAPED, r"\1")
    return restored.combine_chunks().to_batches()[0] if batch.num_rows else batch


def _replaced(
    table: pa.Table, places: Sequence[int], pattern: str, replacement: str, *, but: str | None = None
) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for place in places:
        field = table.schema.field(place)
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        column = table.column(place)
        changed = pc.replace_substring_regex(column, pattern, replacement)
        if but is not None:
            changed = pc.if_else(pc.match_substring_regex(column, but), column, changed)
        table = table.set_column(place, field, changed)
    return table
