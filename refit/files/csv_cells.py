"""Escapes texts in the CSV files that Refit writes, so that no spreadsheet runs one as a formula, and restores them.

A text that a spreadsheet would evaluate (beginning with `=`, `+`, `-`, `@`, a tab or a line end) is written after an
apostrophe, which marks text in spreadsheets. Numbers, such as `-3.5`, are not changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# The last columns of a file of predictions, by which Refit recognises its own files.
WRITTEN_BY_REFIT = ("model", "model_version", "snapshot", "as_of", "predicted_at")
_FORMULA = r"^('*[=+\-@\t\r\n＝＋－＠])"
_ESCAPED = r"^'('*[=+\-@\t\r\n＝＋－＠])"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def escaped(text: str) -> str:
    """Escape a text so that no spreadsheet evaluates it.

    >>> [escaped(text) for text in ("=1+1", "-3.5", "-x", "'=1", "plain")]
    ["'=1+1", '-3.5', "'-x", "''=1", 'plain']
    """
    return text if re.match(_NUMBER, text) else re.sub(_FORMULA, r"'\1", text)


def escaped_columns(table: pa.Table) -> pa.Table:
    """Escape all texts of a table, so that no spreadsheet evaluates them."""
    return _replaced(table, range(table.num_columns), _FORMULA, r"'\1", but=_NUMBER)


def restored_columns(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Restore the escaped texts of `columns` in rows of a file that Refit wrote."""
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    restored = _replaced(table, [batch.schema.get_field_index(name) for name in columns], _ESCAPED, r"\1")
    return restored.combine_chunks().to_batches()[0] if batch.num_rows else batch


def _replaced(
    table: pa.Table, indices: Sequence[int], pattern: str, replacement: str, *, but: str | None = None
) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for index in indices:
        field = table.schema.field(index)
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        column = table.column(index)
        changed = pc.replace_substring_regex(column, pattern, replacement)
        if but is not None:
            changed = pc.if_else(pc.match_substring_regex(column, but), column, changed)
        table = table.set_column(index, field, changed)
    return table
