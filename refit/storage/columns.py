"""Reads feature columns as doubles or strings, and refuses values that the conversion would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refit.config import nearest
from refit.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def numbers(table: pa.Table, name: str) -> Any:
    """Read a feature as doubles.

    Raises:
        UserError: the column is missing, has another type, or holds integers beyond 2^53.
    """
    import pyarrow as pa

    column = cells_of(table, name)
    if column.type == pa.float64():
        return column
    kinds = pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null
    if not any(is_number(column.type) for is_number in kinds):
        raise UserError(f"feature {name!r} holds {column.type}, a number was expected; cast it to double")
    try:
        return column.cast(pa.float64(), safe=pa.types.is_integer(column.type))
    except pa.ArrowInvalid as error:
        raise UserError(
            f"feature {name!r} holds integers that no double does, so that several would be one ({error}); give them "
            "as strings to a model that takes them for categories, or make them smaller"
        ) from None


def texts(table: pa.Table, name: str) -> Any:
    """Read a categorical feature as strings.

    Raises:
        UserError: the column is missing, or has another type.
    """
    import pyarrow as pa

    column = cells_of(table, name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null
    if not any(is_text(column.type) for is_text in kinds):
        raise UserError(f"feature {name!r} holds {column.type}, categories are texts; cast it to string")
    return column.cast(pa.string())


def cells_of(table: pa.Table, name: str) -> Any:
    """A feature as one array.

    Raises:
        UserError: the column is missing.
    """
    if table.schema.get_field_index(name) < 0:  # `column_names` in each call would be quadratic in columns
        raise UserError(
            f"feature {name!r} is missing from the rows{nearest(name, table.column_names)}; the model needs it"
        )
    column = table.column(name)
    if column.num_chunks == 1:  # `combine_chunks` would copy it
        return column.chunk(0)
    return column.combine_chunks()
