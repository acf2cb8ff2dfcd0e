"""The stage `train` with a network: what a killed one had done is not done again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flows.run_options import RunOptions
from refit.cli.lr_finder import find
from refit.config import parse
from refit.errors import UserError
from refit.files import artifacts
from refit.learners.networks.surroundings import checkpoints_in
from refit.new_project.project_folder import pipeline
from refit.operations import lr_finder
from refit.runtime import dvc_runner
from refit.runtime.context import Context
from tasks import train
from tests.tasks.train.test_start import PARAMS, SOURCE, with_parent

NETWORK = {"name": "network", "kind": "mlp", "params": {"hidden": [8], "epochs": 4, "batch_rows": 128}}


def test_a_killed_training_goes_on_and_repeats_no_fit(
    new_project: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "checkpoints_in", partial(checkpoints_in, every_seconds=0))
    monkeypatch.setattr("refit.learners.networks.loop.SHOW_SECONDS", 3600.0)  # on a busy machine: whole epochs alone
    whole, killed = new_project(tmp_path / "whole"), new_project(tmp_path / "killed")
    said: list[str] = []
    expected = whole.run(said, train__learners=[NETWORK])
    epochs = [what for what in said if "fitting network, epochs" in what]
    left = len(epochs) - 1

    def dies(what: str, done: float = 0, total: float | None = None) -> None:
        nonlocal left
        left -= "fitting network, epochs" in what
        if left < 0:
            raise KeyboardInterrupt

    params = parse(killed.params(train__learners=[NETWORK]))
    with pytest.raises(KeyboardInterrupt):
        train.run(Context(project=killed.folder, params=params, progress=dies))
    again: list[str] = []
    assert killed.run(again, train__learners=[NETWORK])["model_digest"] == expected["model_digest"]
    assert sum("fitting network, epochs" in what for what in again) == 1
    assert (
        sum("note: network continues after" in what or "note: network was finished before" in what for what in again)
        > 1
    )
    assert not (killed.folder / artifacts.CHECKPOINTS).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missed_before_anything_is_fitted(project: Any) -> None:
    said: list[str] = []
    on_a_gpu = {**NETWORK, "params": {"device": "cuda"}}
    with pytest.raises(UserError, match=r"no GPU that torch can use.*train.learners\[1\].params.device"):
        project.run(said, train__learners=[{"name": "base_rate", "kind": "baseline"}, on_a_gpu])
    assert not any(line.startswith("fitting") for line in said)


def test_a_misspelt_learner_is_named_before_the_stages_run(tmp_path: Path, new_project: Callable[[Path], Any]) -> None:
    project = new_project(tmp_path / "p")
    params = project.params(train__learners=[NETWORK], train__seed=0, registry={"trusted_types": []})
    params |= {section: {} for section in ("validate", "evaluate", "register", "cost")}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params))
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(())}))
    dvc_runner.initialise(project.folder)
    with pytest.raises(UserError, match=r"no learner 'netwrok' .* did you mean 'network'\?"):  # not: no file *.csv
        find(project.folder, RunOptions(), "netwrok", lowest=0.001, highest=1.0, steps=20)


@pytest.mark.slow
def test_a_learning_rate_is_found_below_where_the_loss_diverges(project: Any) -> None:
    network = {**NETWORK, "params": {"hidden": [8], "batch_rows": 32, "optimizer": "sgd"}}
    context = Context(project.folder, parse(project.params(train__learners=[network])))
    result = lr_finder.run(context, "network", lowest=1e-4, highest=1000.0, steps=200)
    assert result == lr_finder.run(context, "network", lowest=1e-4, highest=1000.0, steps=200)
    assert len(result.losses) < 200  # it stopped where it diverged
    assert min(result.losses) < 0.9 * result.losses[0]
    assert 0.001 < result.suggestion < 1
    drawing = (project.folder / result.chart).read_text()
    assert "learning rate" in drawing
    assert "mathdefault" not in drawing
    assert f"{result.suggestion:g}" in drawing


def test_a_learning_rate_is_found_for_the_layers_as_training_starts_them(project: Any) -> None:
    with_parent(project)

    def losses(source: str | None = SOURCE, **params: Any) -> tuple[float, ...]:
        network = {"name": "net", "kind": "mlp", "params": {**PARAMS, **params}}
        settings = {"train__learners": [network], "train__start_from": source}
        context = Context(project.folder, parse(project.params(**settings)))
        return lr_finder.run(context, "net", lowest=0.01, highest=1.0, steps=10).losses

    scratch, started = losses(None), losses()
    assert scratch[0] != started[0]
    for params in ({"freeze": ["body"]}, {"head_learning_rate": 0.1}, {"layer_decay": 0.5}):
        at_their_pace = losses(**params)
        assert at_their_pace[0] == started[0], "before the first step"
        assert at_their_pace[1:] != started[1:], params


@pytest.mark.parametrize(
    ("name", "bounds", "what"),
    [
        (
            "netwrok",
            {},
            "no learner 'netwrok' is enabled in train.learners; did you mean 'network'\\?; enabled: network",
        ),
        ("base_rate", {}, "'base_rate' is a baseline, and no network"),
        ("network", {"lowest": 2.0}, "0 < --lowest < --highest"),
    ],
)
def test_a_learning_rate_that_cannot_be_found_is_one_line(
    project: Any, name: str, bounds: dict[str, float], what: str
) -> None:
    learners = [NETWORK, {"name": "base_rate", "kind": "baseline"}]
    context = Context(project.folder, parse(project.params(train__learners=learners)))
    with pytest.raises(UserError, match=what):
        lr_finder.run(context, name, **{"lowest": 0.001, "highest": 1.0, "steps": 20, **bounds})  # type: ignore[arg-type]
