"""Estimators of Refit's own are stored by a name and arrays, which a move of their module does not affect."""

from __future__ import annotations

import importlib
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from killing import noted, run_until_killed

from refit.errors import RefitError
from refit.files.artifacts import read_json, write_json, write_manifest
from refit.learners import Learner, Spec, estimator_files, load, make
from refit.learners.networks.surroundings import checkpoints_in, reporting_to

NAMES = tuple("abcd")
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ecod": ("refit.learners.tails.ECOD", "anomaly", {}),
    "copod": ("refit.learners.tails.COPOD", "anomaly", {}),
    "consensus": ("refit.learners.consensus.Consensus", "anomaly", {}),
    "autoencoder": ("refit.learners.networks.autoencoder.Autoencoder", "reduction", {"epochs": 5, "hidden": 4}),
}
METRICS = {"anomaly": "log_volume", "reduction": "reconstruction_error"}
KILLED = 3  # the epoch after which the process dies


def rows(seed: int = 0) -> pa.Table:
    return pa.table(dict(zip(NAMES, np.random.default_rng(seed).normal(size=(4, 60)), strict=True)))


def fitted(name: str) -> Learner:
    kind, task, params = KINDS[name]
    learner = make(Spec("it", kind, NAMES, params=params, metric=METRICS[task], task=task))
    learner.fit(rows(), np.zeros(60, dtype=np.int64))
    return learner


def stored(learner: Learner, folder: Path) -> Path:
    folder.mkdir()
    learner.save(folder)
    return folder


def test_the_names_in_stored_models_are_those_of_every_version() -> None:
    assert set(estimator_files.OWN) == {"autoencoder", "consensus", "copod", "ecod"}


@pytest.mark.parametrize("name", KINDS)
def test_no_stored_file_holds_the_path_of_a_class(name: str, tmp_path: Path) -> None:
    folder = stored(fitted(name), tmp_path / "model")
    for file in folder.glob("*.skops"):
        with zipfile.ZipFile(file) as stored_file:
            assert "refit" not in stored_file.read("schema.json").decode()
    assert read_json(folder / "model.json")["own_estimator"]["name"] == name


def test_a_stored_model_opens_after_its_class_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = fitted("ecod")
    folder = stored(learner, tmp_path / "model")
    moved = types.ModuleType("elsewhere")
    moved.Tails = importlib.import_module("refit.learners.tails").ECOD  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere", moved)
    monkeypatch.setitem(sys.modules, "refit.learners.tails", None)
    monkeypatch.setattr(estimator_files, "OWN", {"ecod": "elsewhere:Tails"})
    np.testing.assert_array_equal(load(folder).predict(rows(1)), learner.predict(rows(1)))


def test_a_name_that_this_version_does_not_know_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = stored(fitted("ecod"), tmp_path / "model")
    content = read_json(folder / "model.json")
    content["own_estimator"]["name"] = "os.system"
    write_json(folder / "model.json", content)
    write_manifest(folder)
    with pytest.raises(RefitError, match=r"holds a 'os.system', which this Refit does not know; upgrade Refit"):
        load(folder)


def test_an_estimator_of_scikit_learn_is_stored_by_skops_as_before(tmp_path: Path) -> None:
    learner = make(Spec("it", "sklearn.decomposition.PCA", NAMES, params={"n_components": 2}, task="reduction"))
    learner.fit(rows(), np.zeros(60, dtype=np.int64))
    folder = stored(learner, tmp_path / "model")
    assert zipfile.is_zipfile(folder / "reducer.skops")
    assert "own_estimator" not in read_json(folder / "model.json")


def with_checkpoints(folder: Path, *, kill: bool = False) -> tuple[Learner, list[int]]:
    """An autoencoder whose checkpoints stay in a folder, and the epochs that were run for it."""
    epochs: list[int] = []

    on_epoch = noted(epochs, killed_after=KILLED if kill else None)
    with pytest.raises(InterruptedError), reporting_to(on_epoch), checkpoints_in(folder, every_seconds=0):
        learner = fitted("autoencoder")
        raise InterruptedError
    return learner, epochs


@pytest.mark.slow
def test_a_killed_autoencoder_goes_on_from_its_last_epoch_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    call = f"with_checkpoints(Path({str(tmp_path)!r}), kill=True)"
    run_until_killed("tests.refit.learners.test_estimator_files", "with_checkpoints", call)
    again, epochs = with_checkpoints(tmp_path)
    assert epochs == [4, 5]
    assert again.digest() == fitted("autoencoder").digest()


def test_the_threads_of_the_process_do_not_change_an_autoencoder() -> None:
    import torch

    before, digests = torch.get_num_threads(), set()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            digests.add(fitted("autoencoder").digest())
            assert torch.get_num_threads() == count, "the process has its own number of threads again"
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1
