"""Networks of sequences: what is after the last step is never read, and what is missing is no number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.learners import Spec, load, make
from refit.learners.networks.architecture import architecture
from refit.learners.networks.blocks import at_last_step
from refit.learners.networks.inputs import Inputs, InputShapes, Preparation
from refit.learners.networks.params import ArchitectureParams

KINDS = ("gru", "lstm", "tcn")
STEPS, COLUMNS, ROWS = 9, 4, 6
SHAPES = InputShapes(numbers=2, sequences={"steps": (STEPS, COLUMNS)})
every_kind = pytest.mark.parametrize("kind", KINDS)


def network(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return architecture(kind).build(architecture(kind).Params(), SHAPES, 1).eval()


def batch(longer: int = 0, garbage: bool = False) -> Inputs:
    """Rows of 0 to 9 steps, with more padding, or with something else in the padding."""
    torch.manual_seed(1)
    lengths = torch.tensor([4, 9, 0, 1, 7, 9])
    steps, numbers = torch.randn(ROWS, STEPS, COLUMNS), torch.randn(ROWS, 2)
    padding = torch.arange(STEPS) >= lengths[:, None]
    steps[padding] = 1e9 if garbage else 0.0
    steps = torch.cat([steps, torch.zeros(ROWS, longer, COLUMNS)], dim=1)
    return Inputs(torch.zeros(ROWS, 0).long(), numbers, sequences={"steps": steps}, lengths={"steps": lengths})


@every_kind
@pytest.mark.parametrize("other", [batch(longer=1), batch(longer=40), batch(garbage=True)], ids=["1", "40", "garbage"])
def test_padding_changes_no_bit(kind: str, other: Inputs) -> None:
    assert torch.equal(network(kind)(batch()), network(kind)(other))


@every_kind
def test_padding_changes_no_bit_of_the_gradient(kind: str) -> None:
    gradients = []
    for rows in (batch(), batch(longer=3)):
        module = network(kind)
        module(rows).sum().backward()
        gradients.append([weight.grad for weight in module.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["gru", "sklearn.tree.DecisionTreeClassifier"])
def test_arrays_that_are_named_in_any_order_are_read_in_one_when_loaded(kind: str, tmp_path: Path) -> None:
    """Layers and columns belong to them by their place, and files are sorted by name."""
    random = np.random.default_rng(0)
    shape = ("sequence", (3, 1)) if kind == "gru" else ("vector", (3,))
    arrays = {name: ArrayColumn(kind=shape[0], shape=shape[1]) for name in ("b", "a")}  # type: ignore[arg-type]
    cells = {name: random.normal(place, 1, (60, *shape[1])).tolist() for name, place in (("a", 0.0), ("b", 9.0))}
    params = {"units": 4, "dense": 4, "epochs": 1} if kind == "gru" else {}
    table, label = pa.table(cells), random.integers(0, 2, 60)
    learner = make(Spec("it", kind, ("a", "b"), arrays=arrays, params=params))
    learner.fit(table, label)
    learner.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(table), learner.predict(table))


def test_no_more_steps_are_read_than_the_longest_row_has() -> None:
    class Seen(torch.nn.Module):
        def forward(self, steps: torch.Tensor) -> torch.Tensor:
            self.steps = steps.shape[1]
            return steps

    encoder, lengths = Seen(), torch.tensor([2, 5])
    last = at_last_step(encoder, torch.arange(20.0).reshape(2, 10, 1), lengths)
    assert (encoder.steps, last.flatten().tolist()) == (5, [1.0, 14.0])


@every_kind
def test_every_step_matters_and_their_order(kind: str) -> None:
    rows, module = batch(), network(kind)
    before = module(rows)[1]
    for step in range(STEPS):
        changed = rows.sequences["steps"].clone()
        changed[1, step] += 1
        assert module(replace(rows, sequences={"steps": changed}))[1] != before
    assert module(replace(rows, sequences={"steps": rows.sequences["steps"].flip(1)}))[1] != before


@every_kind
def test_a_batch_of_rows_without_steps_is_predicted(kind: str) -> None:
    rows = batch()
    empty = replace(rows, lengths={"steps": torch.zeros(ROWS).long()})
    assert network(kind)(empty).isfinite().all()
    assert torch.equal(network(kind)(empty), network(kind)(replace(empty, sequences={"steps": torch.ones(6, 9, 4)})))


def test_steps_are_standardised_and_what_is_missing_is_marked() -> None:
    column = ArrayColumn(kind="sequence", shape=(3, 2))
    cells = [[[1.0, 10.0], [3.0, None]], None, [], [[float("inf"), 30.0], [5.0, 20.0]]]
    table = pa.table({"steps": pa.array(cells, pa.list_(pa.list_(pa.float32())))})
    prepared = Preparation.learn(Spec("it", "gru", ("steps",), arrays={"steps": column}), table, ArchitectureParams())
    read = prepared.inputs(table)
    first, second = (np.array(each) for each in ([1.0, 3.0, 5.0], [10.0, 30.0, 20.0]))
    a, b = ((each - each.mean()) / each.std() for each in (first, second))
    expected = [
        [[a[0], b[0], 0, 0], [a[1], 0, 0, 1], [0, 0, 0, 0]],
        [[0, 0, 0, 0]] * 3,
        [[0, 0, 0, 0]] * 3,
        [[0, b[1], 1, 0], [a[2], b[2], 0, 0], [0, 0, 0, 0]],
    ]
    np.testing.assert_allclose(read.sequences["steps"], expected, rtol=1e-6)
    assert read.lengths["steps"].tolist() == [2, 0, 0, 2]
    assert prepared.shapes.sequences == {"steps": (3, 4)}


@every_kind
def test_features_without_a_sequence_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match=f"learner '{kind}' reads sequences, the features have none"):
        make(Spec("it", kind, ("x",))).fit(pa.table({"x": [0.0, 1.0]}), np.array([0, 1]))


@every_kind
def test_mixup_of_sequences_is_refused(kind: str) -> None:
    arrays = {"steps": ArrayColumn(kind="sequence", shape=(3, 2))}
    with pytest.raises(UserError, match=f"learner '{kind}': mixup mixes .*, feature 'steps' is none of these"):
        make(Spec("it", kind, ("steps",), params={"mixup": 0.2}, arrays=arrays))


def test_a_change_from_a_level_is_learned_from_a_sequence(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    level, rises = random.uniform(10, 100, 300), random.random(300) < 0.5
    cells = [[[step * (1.0 if up else -1.0)] for step in range(4)] for up in rises]
    table = pa.table({"level": level, "steps": pa.array(cells, pa.list_(pa.list_(pa.float32())))})
    label = level * np.where(rises, 2.0, 0.5)
    params = {"level": "level", "kind": "gru", "params": {"units": 8, "epochs": 20, "learning_rate": 0.02}}
    arrays = {"steps": ArrayColumn(kind="sequence", shape=(4, 1))}
    spec = Spec("it", "relative", ("level", "steps"), params=params, metric="mae", task="regression", arrays=arrays)
    learner, other = make(spec), {**params, "kind": "sklearn.linear_model.Ridge", "params": {}}
    assert learner.declaration.sequences
    assert not make(replace(spec, params=other)).declaration.sequences
    learner.fit(table, label)
    predicted = learner.predict(table)
    assert np.abs(predicted - label).mean() < 5
    learner.save(tmp_path)
    assert np.array_equal(load(tmp_path).predict(table), predicted)
