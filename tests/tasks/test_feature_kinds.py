"""Numbers, categories and free text: which feature is which, and what is said of a text that nobody marked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from refit.config import Params, parse
from refit.errors import UserError
from tasks.featurize.kinds import advice, columns_of

TABLE = pa.table(
    {
        "price": [float(n) for n in range(40)],
        "shop": ["a", "b"] * 20,
        "remark": [f"this is remark number {n}" for n in range(40)],
        "token": [f"t{n}" for n in range(40)],
    }
)
NAMES = TABLE.column_names


def params(*text: str) -> Params:
    rows = {"kind": "files", "path": "*.csv", "columns": {"id": "text"}, "key": ["id"]}
    raw: dict[str, Any] = {
        "project": {"name": "demo"},
        "ingest": {"sources": {"rows": rows}},
        "featurize": {"label": {"source": "rows", "column": "label"}, "text": list(text)},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    return parse(raw)


def test_texts_are_categories_unless_they_are_marked() -> None:
    plain, marked = columns_of(TABLE, "id", NAMES, params()), columns_of(TABLE, "id", NAMES, params("remark"))
    assert plain.features == marked.features == tuple(NAMES)
    assert plain.numeric == marked.numeric == ("price",)
    assert (plain.categorical, plain.text) == (("shop", "remark", "token"), ())
    assert (marked.categorical, marked.text) == (("shop", "token"), ("remark",))


def test_what_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"featurize.text: there is no feature 'remarks'; did you mean 'remark'\?"):
        columns_of(TABLE, "id", NAMES, params("remarks"))
    with pytest.raises(UserError, match=r"featurize.text: feature 'price' holds double, not text"):
        columns_of(TABLE, "id", NAMES, params("price"))


def test_a_category_that_reads_like_free_text_is_pointed_out() -> None:
    assert advice(TABLE, ["shop", "remark", "token"]) == [
        "feature remark has 40 different texts in 40 rows: `featurize: {text: [remark]}` learns from its words"
    ]
