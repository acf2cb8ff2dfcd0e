"""The stage `train` with a network: what a killed one had done is not done again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from refit.config import parse
from refit.files import artifacts
from refit.learners.networks.surroundings import checkpoints_in
from refit.runtime.context import Context
from tasks import train

NETWORK = {"name": "network", "kind": "mlp", "params": {"hidden": [8], "epochs": 4, "batch_rows": 128}}


def test_a_killed_training_goes_on_and_repeats_no_fit(
    new_project: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "checkpoints_in", partial(checkpoints_in, every_seconds=0))
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
    assert sum("network goes on from its checkpoint" in what for what in again) > 1
    assert not (killed.folder / artifacts.CHECKPOINTS).exists()
