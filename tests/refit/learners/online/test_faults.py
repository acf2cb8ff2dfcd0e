"""What a model of a stream cannot do is said in a line: wrong arguments, rows it cannot read, and divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.learners import make
from refit.learners.networks.surroundings import checkpoints_in
from refit.learners.online.learner import Online
from tests.refit.learners.online.test_online import learned, spec_of, stream

MLP = "sklearn.neural_network.MLPRegressor"


@pytest.mark.parametrize("kind", ["LogisticRegression", "Perceptron"])
def test_a_model_that_takes_numbers_alone_says_so_at_a_category(kind: str) -> None:
    pytest.importorskip("river", reason="needs the extra [online]")
    table, label = stream(40)
    table = table.append_column("place", pa.array(["a", "b"] * 20))
    spec = replace(
        spec_of({"kind": f"river.linear_model.{kind}"}, features=("x", "place")), categorical=frozenset({"place"})
    )
    with pytest.raises(UserError, match=r"could not predict a row: .*set scale: true if it takes numbers alone"):
        make(spec).fit(table, label)


@pytest.mark.parametrize(
    ("params", "scale"),
    [
        ({"kind": MLP, "params": {"solver": "sgd", "learning_rate_init": 1e8, "hidden_layer_sizes": [4]}}, 1.0),
        ({"kind": "river.linear_model.LinearRegression", "params": {"intercept_lr": 1e4, "clip_gradient": 1e300}}, 1e9),
    ],
)
def test_divergence_is_an_error_and_no_prediction(params: Mapping[str, Any], scale: float) -> None:
    if "river" in str(params):
        pytest.importorskip("river", reason="needs the extra [online]")
    table, _ = stream(400)
    x = table["x"].to_numpy() * scale
    table = table.set_column(0, "x", pa.array(x))
    with pytest.raises(
        UserError, match=r"has diverged: its prediction of step [\d,]+ is no number|could not learn a row"
    ):
        learned(params, table, x, "regression")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"params": [1]}, "input should be a valid dictionary; found \\[1\\]"),
        ({"scale": "false"}, "input should be a valid boolean; found 'false'"),
        ({"params": {"learning_rate": True}}, "input should be a valid number; found True"),
        ({"kind": "river.compose.Pipeline"}, "Pipeline is no classifier; train.task is 'binary'"),
        (
            {"kind": "river.linear_model.LogisticRegression", "params": {"optimizer": "sgd"}},
            "could not learn a row: 'str' ",
        ),
        ({"detectors": ["adwin", {"kind": "river.drift.ADWIN"}]}, "two detectors are ADWIN"),
        ({"detectors": [{"knd": "river.drift.ADWIN"}]}, r"found {'knd': .*params\.detectors\.0"),
    ],
)
def test_an_argument_of_a_wrong_kind_is_named(params: Mapping[str, Any], said: str) -> None:
    if "river" in str(params) or "ad" in str(params):
        pytest.importorskip("river", reason="needs the extra [online]")
    with pytest.raises(UserError, match=said):
        learned(params, *stream(20))


def test_a_detector_that_json_cannot_hold_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("river", reason="needs the extra [online]")
    learner = learned({"detectors": ["adwin"]}, *stream(40))
    assert learner.unsafe_reason() is None
    learner._detectors["ADWIN"].made_by = lambda: 0
    assert "a detector cannot be stored as JSON: it holds a builtins.function" in str(learner.unsafe_reason())


def test_checkpoints_cost_a_tenth_of_the_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, label = stream(1_600)
    now, written = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    save, learn = Online._save, Online._step

    def slow(self: Online, folder: Path) -> None:
        save(self, folder)
        written.append(self.position.steps)
        now[0] += 5.0

    def step(self: Online, *given: Any) -> None:
        learn(self, *given)
        now[0] += 0.25

    monkeypatch.setattr(Online, "_save", slow)
    monkeypatch.setattr(Online, "_step", step)
    with checkpoints_in(tmp_path, every_seconds=1.0):
        learned({}, table, label)
    assert len(written) >= 5
    assert 5.0 * len(written) <= 0.25 * 1_600 / 10
