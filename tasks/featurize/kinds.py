"""Classifies features as numeric, categorical, free text, or arrays: images, vectors and sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.definition import Described, Expression, Lag, Latest
from feature_store.sql_text import quote
from refit.config import Params, nearest
from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_table import FeatureColumns

if TYPE_CHECKING:
    import pyarrow as pa

FREE = 0.5  # share of distinct texts from which a feature looks like free text
WORDS = 3  # mean number of words from which it looks like free text


def columns_of(
    table: pa.Table,
    key: str,
    names: Sequence[str],
    params: Params,
    classes: Sequence[str] = (),
    arrays: Mapping[str, ArrayColumn] | None = None,
) -> FeatureColumns:
    """Classify the features of a table.

    Args:
        names: of the features.
        arrays: those that are images, vectors or sequences; see `arrays_of`.

    Raises:
        UserError: featurize.text names something that is not a feature, or not a text.
    """
    texts = [name for name in names if str(table.schema.field(name).type) == "string"]
    for name in params.featurize.text:
        if name not in names:
            raise UserError(f"params.yaml: featurize.text: there is no feature {name!r}{nearest(name, names)}")
        if name not in texts:
            raise UserError(
                f"params.yaml: featurize.text: feature {name!r} holds {table.schema.field(name).type}, not text"
            )
    chosen, arrays = set(params.featurize.text), arrays or {}
    return FeatureColumns(
        key=key,
        features=tuple(names),
        numeric=tuple(name for name in names if name not in texts and name not in arrays),
        categorical=tuple(name for name in texts if name not in chosen),
        text=tuple(name for name in texts if name in chosen),
        classes=tuple(classes),
        arrays=arrays,
    )


def arrays_of(table: pa.Table, definitions: Definitions, params: Params) -> dict[str, ArrayColumn]:
    """The features that are images, vectors or sequences, with their shapes.

    Raises:
        UserError: an image is computed by SQL: its shape is known only if it is a declared column.
    """
    import pyarrow as pa

    arrays, sequences = {}, definitions.feature_set.sequences()
    for name, feature in definitions.feature_set.described().items():
        kind = table.schema.field(name).type
        if name in sequences:
            arrays[name] = ArrayColumn(kind="sequence", shape=sequences[name])
        elif pa.types.is_binary(kind):
            arrays[name] = _declared_image(name, feature, definitions, params)
        elif pa.types.is_fixed_size_list(kind):
            arrays[name] = ArrayColumn(kind="vector", shape=(kind.list_size,))
    return arrays


def _declared_image(name: str, feature: Described, definitions: Definitions, params: Params) -> ArrayColumn:
    """The declaration of the column that a feature takes an image from."""
    feature_set = definitions.feature_set
    sources = {view.name: view.source for view in feature_set.views}
    sources |= {lookup.name: lookup.source for lookup in feature_set.lookups}
    source = definitions.sources[sources.get(feature_set.origins().get(name, ""), feature_set.spine.source)]
    sql = (
        feature.column if isinstance(feature, Latest | Lag) else feature.sql if isinstance(feature, Expression) else ""
    )
    raw = params.ingest.sources[source.table]
    inner = next((each for column, each in source.columns.items() if _is_just(sql, column)), "")
    declared = next((array for column, array in raw.arrays.items() if _is_just(inner, column)), None)
    if declared is None:
        raise UserError(
            f"feature {name!r} holds bytes ({sql}); an image is a column declared as image(height, width) in "
            f"ingest.sources.{source.table}.columns, taken as it is"
        )
    return declared


def _is_just(sql: str, column: str) -> bool:
    """Whether an expression is a column, and nothing else."""
    return sql.strip() in (column, quote(column))


def advice(table: pa.Table, categorical: Sequence[str]) -> list[str]:
    """Recommend `text` for categories that look like free text: several words, and mostly distinct values."""
    import pyarrow.compute as pc

    hints = []
    for name in categorical:
        values = table[name].drop_null()
        distinct = pc.count_distinct(values).as_py()
        if len(values) < 20 or distinct < FREE * len(values):
            continue
        if pc.mean(pc.count_substring(values, " ")).as_py() + 1 >= WORDS:
            hints.append(
                f"feature {name} has {distinct:,} different texts in {len(values):,} rows: "
                f"`featurize: {{text: [{name}]}}` learns from its words"
            )
    return hints
