"""Classifies features as numeric, categorical or free text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refit.config import Params, nearest
from refit.errors import UserError
from refit.schemas.feature_table import FeatureColumns

if TYPE_CHECKING:
    import pyarrow as pa

FREE = 0.5  # share of distinct texts from which a feature looks like free text
WORDS = 3  # mean number of words from which it looks like free text


def columns_of(
    table: pa.Table, key: str, names: Sequence[str], params: Params, classes: Sequence[str] = ()
) -> FeatureColumns:
    """Classify the features of a table.

    Args:
        names: of the features.

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
    chosen = set(params.featurize.text)
    return FeatureColumns(
        key=key,
        features=tuple(names),
        numeric=tuple(name for name in names if name not in texts),
        categorical=tuple(name for name in texts if name not in chosen),
        text=tuple(name for name in texts if name in chosen),
        classes=tuple(classes),
    )


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
