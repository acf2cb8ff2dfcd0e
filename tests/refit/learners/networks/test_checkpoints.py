"""A fit that is killed goes on from its last complete epoch and ends with the same bits."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import noted, run_until_killed
from safetensors import safe_open
from safetensors.torch import save_file

from refit.learners import Learner, make
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to
from tests.refit.learners.networks.conftest import image_rows, spec_of

# whatever has a state that goes on from epoch to epoch
PARAMS: dict[str, Any] = {
    "epochs": 5,
    "dropout": 0.2,
    "ema": 0.9,
    "mixup": 0.2,
    "augment": {"crop": 1, "flip": True, "rotate": 10.0, "noise": 0.05},
    "schedule": "plateau",
    "plateau_epochs": 1,
    "patience": 5,
}
KILLED = 3  # the epoch after which the process is killed


def fitted(
    folder: Path | None, messages: list[str] | None = None, *, seed: int = 1, kill: bool = False, **params: Any
) -> tuple[Learner, list[int]]:
    """A learner and the epochs that were run for it, with checkpoints in a folder."""
    epochs: list[int] = []

    def progress(what: str, done: float = 0, total: float | None = None) -> None:
        if messages is not None:
            messages.append(what)

    learner = make(spec_of("cnn", **{**PARAMS, **params}))
    with reporting_to(noted(epochs, killed_after=KILLED if kill else None)), left_there(folder):
        learner.fit(*image_rows(150, seed), validation=image_rows(60, 2), progress=progress)
    return learner, epochs


@contextmanager
def left_there(folder: Path | None) -> Iterator[None]:
    """Checkpoints after every epoch, which stay after the block, as if another fit had failed."""
    if folder is None:
        yield
        return
    with pytest.raises(InterruptedError), checkpoints_in(folder, every_seconds=0):
        yield
        raise InterruptedError


@pytest.mark.ci
def test_a_killed_fit_ends_with_the_same_bits_and_repeats_no_complete_epoch(tmp_path: Path) -> None:
    module = "tests.refit.learners.networks.test_checkpoints"
    run_until_killed(module, "fitted", f"fitted(Path({str(tmp_path)!r}), kill=True)")
    again, epochs = fitted(tmp_path)
    assert epochs == [4, 5]
    assert again.digest() == fitted(None)[0].digest()


def in_half_precision(folder: Path | None, *, kill: bool = False) -> tuple[Learner, list[int], list[dict[str, float]]]:
    """A learner, its epochs, and the scaler of its gradients after each: it grows every third step, and overflows."""
    states: list[dict[str, float]] = []

    class Scaler(torch.amp.GradScaler):
        def __init__(self, device: str, enabled: bool) -> None:
            super().__init__(device, growth_interval=3, enabled=enabled)

        def state_dict(self) -> dict[str, float]:
            states.append(super().state_dict())
            return states[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", Scaler)
        return *fitted(folder, kill=kill, precision="16-mixed"), states


@pytest.mark.slow
def test_a_killed_fit_in_half_precision_goes_on_with_the_scale_of_its_gradients(tmp_path: Path) -> None:
    """With that of the start it would skip other steps."""
    module = "tests.refit.learners.networks.test_checkpoints"
    run_until_killed(module, "in_half_precision", f"in_half_precision(Path({str(tmp_path)!r}), kill=True)")
    again, epochs, later = in_half_precision(tmp_path)
    whole, _, states = in_half_precision(tmp_path / "whole")
    assert epochs == [4, 5]
    assert later == states[3:]
    assert max(each["scale"] for each in states) > states[-1]["scale"], "an overflow has lowered it"
    assert again.digest() == whole.digest()


def test_a_complete_fit_is_not_repeated_when_the_block_is_run_again(tmp_path: Path) -> None:
    before, epochs = fitted(tmp_path)
    assert epochs == [1, 2, 3, 4, 5]
    again, none = fitted(tmp_path)
    assert none == []
    assert again.digest() == before.digest()


def test_the_folder_is_removed_once_all_fits_are_complete(tmp_path: Path) -> None:
    with checkpoints_in(tmp_path / "checkpoints", every_seconds=0):
        make(spec_of("mlp", epochs=2)).fit(*image_rows(60, 1))
        assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("other", [{"channels": [4, 5]}, {"learning_rate": 0.02}, {"seed": 3}], ids=str)
def test_the_checkpoint_of_another_fit_is_never_used(tmp_path: Path, other: dict[str, Any]) -> None:
    fitted(tmp_path)
    learner, epochs = fitted(tmp_path, **other)
    assert epochs == [1, 2, 3, 4, 5]
    assert learner.digest() == fitted(None, **other)[0].digest()


def test_a_module_whose_file_was_changed_starts_again(tmp_path: Path) -> None:
    with checkpoints_in(tmp_path / "checkpoints", every_seconds=0):
        for source in ("return outputs", "return -outputs"):
            make(replace(spec_of("mlp", epochs=1), source=source)).fit(*image_rows(40, 1))
        assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@pytest.mark.slow
def test_a_checkpoint_under_the_name_of_another_or_a_damaged_one_is_left_alone(tmp_path: Path) -> None:
    fitted(tmp_path, channels=[4, 5])
    (other,) = tmp_path.iterdir()
    learner, _ = fitted(tmp_path)
    (mine,) = set(tmp_path.iterdir()) - {other}
    for content, why in ((other.read_bytes(), "it is of another fit"), (mine.read_bytes()[:-100], "")):
        mine.write_bytes(content)
        messages: list[str] = []
        again, epochs = fitted(tmp_path, messages)
        assert epochs == [1, 2, 3, 4, 5]
        assert again.digest() == learner.digest()
        assert f"cannot be used ({why}" in messages[0]


@pytest.mark.parametrize("change", ["name", "shape"])
def test_a_checkpoint_of_weights_that_the_network_has_no_longer_is_left_alone(tmp_path: Path, change: str) -> None:
    """A package may rename an attribute of its module; no weight is taken over then."""
    learner, _ = fitted(tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        names, metadata = file.keys(), file.metadata()
        tensors = {name: file.get_tensor(name) for name in names}
    name = next(name for name in names if name.startswith("network/") and name.endswith("bias"))
    tensors[f"{name}_" if change == "name" else name] = tensors.pop(name).repeat(1 if change == "name" else 2)
    save_file(tensors, path, metadata)
    messages: list[str] = []
    again, epochs = fitted(tmp_path, messages)
    assert epochs == [1, 2, 3, 4, 5]
    assert again.digest() == learner.digest()
    assert f"cannot be used (its weights are those of another network: {name.partition('/')[2]}" in messages[0]


@pytest.mark.parametrize("part", ["averaged/n_averaged", "random/cpu"])
def test_nothing_is_taken_over_from_a_checkpoint_that_lacks_a_part(tmp_path: Path, part: str) -> None:
    """The weights alone would be the start of another model."""

    def ended(report: EpochReport) -> None:
        if report.epoch == KILLED:
            raise InterruptedError

    with reporting_to(ended), left_there(tmp_path):
        make(spec_of("cnn", **PARAMS)).fit(*image_rows(150, 1), validation=image_rows(60, 2))
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del tensors[part]
    save_file(tensors, path, metadata)
    messages: list[str] = []
    again, epochs = fitted(tmp_path, messages)
    assert "starts again" in messages[0]
    assert epochs == [1, 2, 3, 4, 5]
    assert again.digest() == fitted(None)[0].digest()


def test_a_finished_fit_leaves_the_weights_that_predict_and_no_others(tmp_path: Path) -> None:
    """A search leaves many of them."""
    learner, _ = fitted(tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name.partition("/")[0] for name in stored} == {"network", "random"}
    for name, weight in learner.weights().items():  # type: ignore[attr-defined]
        assert torch.equal(stored[f"network/{name}"], weight)


def test_a_full_disk_costs_the_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    messages: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        learner, epochs = fitted(tmp_path, messages)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert epochs == [1, 2, 3, 4, 5]
    assert list(tmp_path.iterdir()) == []
    assert sum(message.startswith("warning: no checkpoint of it") for message in messages) == 5
    assert learner.digest() == fitted(None)[0].digest()
