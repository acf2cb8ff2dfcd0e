"""A network that the older kind `torch_tabular` stored, before it became another name of `mlp`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from refit.files.artifacts import read_json
from refit.learners import load
from refit.learners.contract import DESCRIPTION
from refit.learners.networks.network import WEIGHTS

STORED = Path(__file__).parent / "torch_tabular"
DIGEST = "5acedd2dcb6f97226d46468c9558fb6871425e3b49dd2aeb894bd67a069fbeda"


def test_an_older_network_has_its_digest_its_predictions_and_its_files(tmp_path: Path) -> None:
    learner = load(STORED)
    assert learner.digest() == DIGEST
    rows = pa.table({"x": [0.12573022, -0.13210486, 0.64042265], "colour": ["green", "green", "blue"]})
    assert np.isfinite(learner.predict(rows)).all()
    (tmp_path / "after").mkdir()
    learner.save(tmp_path / "after")
    assert (tmp_path / "after" / WEIGHTS).read_bytes() == (STORED / WEIGHTS).read_bytes()
    before, after = (read_json(folder / DESCRIPTION) for folder in (STORED, tmp_path / "after"))
    assert set(before.pop("libraries")) == {"torch"}
    assert set(after.pop("libraries")) == {"torch", "safetensors"}  # the one that reads the weights is named since
    assert after == before
