"""Integers of any size on their way from a file to the training table: every digit stays, or a line says why not."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.config import parse
from refit.errors import UserError
from refit.files import artifacts
from refit.learners.encoding import Encoding
from refit.runtime.context import Context
from tasks import featurize, ingest, validate

BIG = (2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1, -(2**63), -(2**63) + 1)
START = datetime(2024, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone
PARAMS: dict[str, Any] = {
    "project": {"name": "orders"},
    "ingest": {
        "sources": {
            "orders": {
                "kind": "files",
                "path": "raw/orders.parquet",
                "columns": {"id": "integer", "at": "timestamp", "item": "text", "amount": "number", "back": "integer"},
                "key": ["id"],
                "event_time": "at",
            },
            "items": {
                "kind": "files",
                "path": "raw/items.parquet",
                "columns": {"item": "text", "weight": "number"},
                "key": ["item"],
            },
        }
    },
    "featurize": {"label": {"source": "orders", "column": "back", "delay_hours": 0}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}


def project(
    path: Path,
    columns: Mapping[str, pa.Array] | None = None,
    kinds: Mapping[str, str] | None = None,
    task: str = "binary",
) -> Context:
    """Four months of orders, of which some columns are others."""
    count = 480
    table: dict[str, Any] = {
        "id": pa.array([BIG[n % 6] - (n // 6) * (1 if BIG[n % 6] > 0 else -1) * 2 for n in range(count)], pa.int64()),
        "at": pa.array([START + timedelta(hours=6 * n) for n in range(count)], pa.timestamp("ns")),
        "item": pa.array([2**64 - 1 - n % 40 for n in range(count)], pa.uint64()),
        "amount": pa.array([n % 17 / 4 for n in range(count)]),
        "back": pa.array([n % 2 for n in range(count)]),
    } | dict(columns or {})
    (path / "raw").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path / "raw/orders.parquet")
    items = pa.table({"item": table["item"].slice(0, 40), "weight": pa.array([float(n) for n in range(40)])})
    pq.write_table(items, path / "raw/items.parquet")
    params = copy.deepcopy(PARAMS)
    params["ingest"]["sources"]["orders"]["columns"] |= dict(kinds or {})
    params["train"]["task"] = task
    if task == "regression":
        params["evaluate"] = {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 1.0}}
    return Context(path, parse(params), now=lambda: datetime(2024, 6, 1, tzinfo=UTC))


def made(context: Context, stages: Sequence[Any] = (ingest, validate, featurize)) -> pa.Table:
    for stage in stages:
        stage.run(context)
    return pq.read_table(context.path(artifacts.TABLE))


def test_keys_and_categories_keep_every_digit_up_to_the_training_table(tmp_path: Path) -> None:
    context = project(tmp_path)
    raw = pq.read_table(tmp_path / "raw/orders.parquet")
    table = made(context)
    assert set(table["id"].to_pylist()) <= set(raw["id"].to_pylist())
    assert len(set(table["id"].to_pylist())) == len(table)
    assert set(table["item"].to_pylist()) == {str(2**64 - 1 - n) for n in range(40)}
    encoding = Encoding.learn(table, ("item",), frozenset({"item"}))
    assert len(set(encoding.matrix(table)[:, 0])) == 40


def test_an_integer_feature_that_no_double_holds_stops_featurize(tmp_path: Path) -> None:
    items = pa.array([2**60 + n % 40 for n in range(480)])
    context = project(tmp_path, {"item": items}, {"item": "integer"})
    with pytest.raises(UserError, match=r"feature 'item' holds 1152921504606846\d+, which no double is.*column text"):
        made(context)


def test_a_number_too_long_for_a_double_is_quarantined_and_said_to_be(tmp_path: Path) -> None:
    items = pa.array([str(2**60 + n % 40) for n in range(480)])
    context = project(tmp_path, {"item": items}, {"item": "number"})
    with pytest.raises(UserError, match="`item` has more digits than a number holds") as caught:
        made(context, (ingest, validate))
    assert "declare the column text, such as '1152921504606846" in str(caught.value)


def test_unsigned_keys_declared_integer_are_said_not_to_cast(tmp_path: Path) -> None:
    ids = pa.array([2**63 + n for n in range(480)], pa.uint64())
    context = project(tmp_path, {"id": ids})
    with pytest.raises(UserError) as caught:
        made(context, (ingest, validate))
    words = str(caught.value)
    assert (
        "none of its 124 rows could be cast; in 124 of them `id` is no integer, such as '9223372036854775808'" in words
    )
    assert "declare the column text" in words
    assert "leave the empty batch out" not in words


def test_unsigned_keys_declared_text_are_keys(tmp_path: Path) -> None:
    ids = pa.array([2**64 - 1 - n for n in range(480)], pa.uint64())
    table = made(project(tmp_path, {"id": ids}, {"id": "text"}))
    assert set(table["id"].to_pylist()) <= {str(2**64 - 1 - n) for n in range(480)}


def test_a_label_to_regress_on_that_no_double_holds_is_refused(tmp_path: Path) -> None:
    back = pa.array([2**53 + 1 + n for n in range(480)])
    with pytest.raises(
        UserError, match=r"label orders.back holds '9007199254740993'.*finite numbers that a double holds"
    ):
        made(project(tmp_path, {"back": back}, task="regression"))


def test_classes_of_big_integers_are_as_many_as_there_are(tmp_path: Path) -> None:
    back = pa.array([2**53 + n % 3 for n in range(480)])
    table = made(project(tmp_path, {"back": back}, task="multiclass"))
    assert set(table["label"].to_pylist()) == {str(2**53 + n) for n in range(3)}


@pytest.mark.parametrize("value", [2**53 + 1, 2**60, 2**63 - 1, -(2**63)])
def test_a_learner_takes_no_integers_that_no_double_holds(value: int) -> None:
    table = pa.table({"x": pa.array([1, value])})
    with pytest.raises(UserError, match="feature 'x' holds integers that no double does"):
        Encoding(("x",), {}).matrix(table)
    assert Encoding(("x",), {}).matrix(pa.table({"x": pa.array([1, 2**53])})).tolist() == [[1.0], [2.0**53]]
