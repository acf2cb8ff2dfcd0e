"""The contract of every architecture, on a small problem that it should learn."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from quick import quick
from tiny_transformer import write_folder

from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.learners import Learner, Spec, load, make
from refit.learners.contract import Start
from refit.learners.networks.architectures import ARCHITECTURES
from tests.refit.learners.networks.conftest import IMAGE, Rows, image_rows

STEPS = ArrayColumn(kind="sequence", shape=(12, 2))
FAST: dict[str, Any] = {"epochs": 8, "batch_rows": 32, "learning_rate": 0.01, "dropout": 0.0}
VECTORISER = {"kind": "sklearn.feature_extraction.text.TfidfVectorizer", "params": {}, "components": 50}  # not used
RECURRENT = {**FAST, "units": 16, "dense": 16}


@dataclass(frozen=True)
class Case:
    """An architecture with the features that it reads."""

    kind: str
    params: dict[str, Any]
    features: str
    reaches: float  # accuracy on rows that it was not trained on
    wrong: dict[str, Any] = field(default_factory=lambda: {"dropout": 1.5})

    @property
    def spec(self) -> Spec:
        features, categorical, arrays = FEATURES_OF[self.features]
        text = tuple(name for name in features if name == "remark")
        spec = Spec("it", self.kind, features, categorical, self.params, metric="accuracy", arrays=arrays)
        spec = replace(spec, text=text, vectoriser=VECTORISER if text else {})
        if self.kind != "transformer":
            return spec
        return replace(spec, start=Start(pretrained(), "pretrained tiny", "0" * 64, pretrained=True))

    def rows(self, count: int, seed: int) -> Rows:
        return ROWS_OF[self.features](count, seed)


@cache
def pretrained() -> Path:
    """A tiny transformer, for this process."""
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return write_folder(folder / "tiny")


def columns(count: int, seed: int) -> Rows:
    """Whether a number is positive or, of blue rows, negative, with gaps, an empty and a constant column."""
    random = np.random.default_rng(seed)
    number, blue, gap = random.normal(size=count), random.random(count) < 0.4, random.random(count) < 0.05
    table = pa.table(
        {
            "number": pa.array(number, mask=gap),
            "colour": pa.array(np.where(blue, "blue", "red").tolist(), mask=gap),
            "empty": pa.nulls(count, pa.float64()),
            "constant": np.ones(count),
        }
    )
    return table, ((number > 0) ^ blue).astype(np.int64)


def pictures(count: int, seed: int) -> Rows:
    """Images with a stripe, across or upright."""
    table, label = image_rows(count * 2, seed)
    chosen = np.flatnonzero(label < 2)[:count]
    return table.take(chosen), label[chosen]


def sequences(count: int, seed: int) -> Rows:
    """Steps that rise or fall at the end, from 0 to 12 of them with gaps; without any, the category decides."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    cells: list[list[list[float | None]]] = []
    for each, length in zip(label, random.integers(0, 13, count).tolist(), strict=True):
        steps = random.normal(50, 5, (length, 2))
        steps[-4:, 0] += 20 * each
        cells.append([[None if random.random() < 0.1 else value, other] for value, other in steps.tolist()])
    colour = np.where(random.random(count) < 0.9, np.array(["red", "blue"])[label], "green")
    table = pa.table({"steps": pa.array(cells, pa.list_(pa.list_(pa.float32()))), "colour": colour.tolist()})
    return table, label


def remarks(count: int, seed: int) -> Rows:
    """Texts in which one of a few words decides; some are missing."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    texts: list[str | None] = []
    for each in label:
        good = random.choice(["fine", "great", "lovely"]) if each else random.choice(["poor", "awful", "dull"])
        words = [f"w{n}" for n in random.integers(0, 30, random.integers(0, 12))]
        words.insert(int(random.integers(0, len(words) + 1)), good)
        texts.append(" ".join(words) if random.random() < 0.95 else None)
    colour = np.where(random.random(count) < 0.9, np.array(["red", "blue"])[label], "green")
    return pa.table({"remark": pa.array(texts, pa.string()), "colour": colour.tolist()}), label


FEATURES_OF: dict[str, tuple[tuple[str, ...], frozenset[str], dict[str, ArrayColumn]]] = {
    "columns": (("number", "colour", "empty", "constant"), frozenset({"colour"}), {}),
    "image": (("picture",), frozenset(), {"picture": IMAGE}),
    "sequence": (("steps", "colour"), frozenset({"colour"}), {"steps": STEPS}),
    "text": (("remark", "colour"), frozenset({"colour"}), {}),
}
ROWS_OF = {"columns": columns, "image": pictures, "sequence": sequences, "text": remarks}
CASES = [
    Case("mlp", {**FAST, "hidden": [32], "epochs": 20}, "columns", 0.9),
    Case("cnn", {**FAST, "channels": [4], "dense": 16}, "image", 0.9),
    Case("resnet", {"epochs": 8, "batch_rows": 32, "depth": 8, "width": 4}, "image", 0.9, {"depth": 9}),
    Case("gru", RECURRENT, "sequence", 0.9),
    Case("lstm", RECURRENT, "sequence", 0.9),
    Case("tcn", {**FAST, "channels": 8, "dense": 16}, "sequence", 0.9, {"kernel": 1}),
    Case("text_embedding", {**FAST, "units": 16}, "text", 0.9, {"tokenizer": "letters"}),
    Case("text_transformer", {**FAST, "units": 16, "heads": 2, "layers": 1}, "text", 0.9, {"heads": 3}),
    Case(
        "autoencoder",
        {**FAST, "hidden": [32], "epochs": 20, "pretrain": {"epochs": 3}},
        "columns",
        0.9,
        {"pretrain": {"kind": "adversarial"}},
    ),
    Case("transformer", {**FAST, "tuned_layers": 1}, "text", 0.9, {"tuned_layers": -1}),
    Case("tabular_resnet", {**FAST, "units": 16, "blocks": 1}, "columns", 0.9, {"blocks": 0}),
]
every_architecture = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)


@cache
def fitted(kind: str) -> Learner:
    case = next(case for case in CASES if case.kind == kind)
    learner = make(case.spec)
    learner.fit(*case.rows(240, seed=1), validation=case.rows(80, seed=2))
    return learner


def test_every_architecture_is_in_this_suite() -> None:
    assert {case.kind for case in CASES} == {*ARCHITECTURES, "transformer"}


@pytest.mark.parametrize("case", quick(CASES, *range(9), 10), ids=lambda case: case.kind)
def test_it_learns(case: Case) -> None:
    unseen, label = case.rows(200, seed=3)
    assert case.spec.score(label, fitted(case.kind).predict(unseen)) >= case.reaches


@pytest.mark.parametrize("case", quick(CASES, 0, 1), ids=lambda case: case.kind)
def test_the_same_seed_gives_the_same_model_and_another_seed_another(case: Case) -> None:
    again, other = make(case.spec), make(replace(case.spec, seed=1))
    for learner in (again, other):
        learner.fit(*case.rows(240, seed=1), validation=case.rows(80, seed=2))
    assert again.digest() == fitted(case.kind).digest() != other.digest()


@every_architecture
def test_a_stored_one_predicts_the_same_bits(case: Case, tmp_path: Path) -> None:
    unseen, _ = case.rows(50, seed=3)
    fitted(case.kind).save(tmp_path)
    stored = load(tmp_path)
    np.testing.assert_array_equal(stored.predict(unseen), fitted(case.kind).predict(unseen))
    assert stored.digest() == fitted(case.kind).digest()


@every_architecture
def test_a_row_is_predicted_as_among_others(case: Case) -> None:
    """Up to the rounding of sums, whose order depends on the number of rows."""
    unseen, _ = case.rows(50, seed=3)
    among = fitted(case.kind).predict(unseen)
    alone = np.concatenate([fitted(case.kind).predict(unseen.slice(row, 1)) for row in range(50)])
    np.testing.assert_allclose(alone, among, rtol=1e-5, atol=1e-6)


@every_architecture
def test_no_rows_have_no_predictions(case: Case) -> None:
    assert fitted(case.kind).predict(case.rows(5, seed=3)[0].slice(0, 0)).shape == (0,)


@every_architecture
def test_a_wrong_argument_is_refused_in_one_line(case: Case) -> None:
    for params, what in (
        (case.wrong, f"learner '{case.kind}': .*params"),
        ({"epoch": 3}, "no argument 'epoch'; did you mean 'epochs'"),
    ):
        with pytest.raises(UserError, match=what) as raised:
            make(replace(case.spec, params={**case.params, **params}))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("case", [case for case in CASES if case.features != "image"], ids=lambda case: case.kind)
def test_what_is_missing_or_unknown_is_predicted(case: Case) -> None:
    unseen, _ = case.rows(20, seed=3)
    for name in unseen.column_names:
        index, column = unseen.column_names.index(name), unseen[name]
        absent = pa.nulls(len(unseen), column.type)
        for cells in (absent, pa.array(["never seen"] * 20) if pa.types.is_string(column.type) else absent):
            predicted = fitted(case.kind).predict(unseen.set_column(index, name, cells))
            assert np.isfinite(predicted).all()


@every_architecture
def test_it_goes_on_from_what_it_has_learned(case: Case) -> None:
    later = make(case.spec)
    later.resume(fitted(case.kind), *case.rows(60, seed=4), iterations=1)
    assert later.digest() != fitted(case.kind).digest()
    unseen, label = case.rows(200, seed=3)
    assert case.spec.score(label, later.predict(unseen)) >= case.reaches - 0.1


@every_architecture
def test_a_feature_that_it_cannot_read_is_refused(case: Case) -> None:
    other = ArrayColumn(kind="image", shape=(4, 4, 1)) if case.features == "sequence" else STEPS
    with pytest.raises(UserError, match=rf"learner '{case.kind}' reads .*, feature 'more' is a .*; leave it out"):
        make(replace(case.spec, features=(*case.spec.features, "more"), arrays={**case.spec.arrays, "more": other}))
