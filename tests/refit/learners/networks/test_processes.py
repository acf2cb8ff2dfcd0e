"""Several processes train one network: the same model as one process makes, and none of them outlives the fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from refit.errors import RefitError, UserError
from refit.learners import Learner, Spec, make
from refit.learners.contract import Start
from refit.learners.networks import processes
from refit.learners.networks.loop import _batches
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to
from tests.refit.learners.networks.conftest import Rows, spec_of
from tests.refit.learners.networks.test_architectures import FEATURES_OF, columns

TWO: dict[str, Any] = {"epochs": 3, "batch_rows": 48, "processes": 2}
OWN = """
import os
from torch import nn


class Own(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs.flat, outputs)

    def forward(self, batch):
        result = self.layer(batch.images["picture"].flatten(1))
        if self.training and os.getpid() != PARENT:
            DO
        return result
"""
BY_ITSELF = """
import sys
sys.path.insert(0, {root!r})
from refit.learners import make
from tests.refit.learners.networks.conftest import image_rows, spec_of

if __name__ == "__main__":
    learner = make(spec_of("mlp", epochs=100_000, batch_rows=16, processes=2))
    learner.fit(*image_rows(240, 1), progress=lambda *said: print(*said, flush=True))
"""


def fitted(rows: Rows, unseen: Rows | None = None, kind: str = "mlp", **params: Any) -> Learner:
    learner = make(spec_of(kind, **params))
    learner.fit(*rows, validation=unseen)
    return learner


def others() -> list[psutil.Process]:
    """The processes that this one has spawned."""
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def own(does: str) -> Learner:
    """A learner of the project whose second process does this while it trains."""
    source = OWN.replace("PARENT", str(os.getpid())).replace("DO", does)
    return make(replace(spec_of("mlp"), kind="own.py:Own", source=source, params=TWO))


@pytest.mark.ci
@pytest.mark.parametrize(
    "params",
    [
        {"accumulate": 2, "clip_norm": 0.5, "ema": 0.9, "optimizer": "sgd"},
        pytest.param({}, marks=pytest.mark.slow),
    ],
    ids=["all at once", "plain"],
)
def test_two_processes_give_the_model_of_one_to_a_millionth(
    params: dict[str, Any], images: Rows, unseen_images: Rows
) -> None:
    reports: dict[int, list[EpochReport]] = {1: [], 2: []}
    predictions = {}
    for count in (1, 2):
        with reporting_to(reports[count].append):
            learner = fitted(images, unseen_images, **{**TWO, **params, "processes": count})
        predictions[count] = learner.predict(unseen_images[0])
    assert np.abs(predictions[1] - predictions[2]).max() < 1e-6
    assert len(reports[1]) == len(reports[2]) == 3
    for one, two in zip(reports[1], reports[2], strict=True):
        assert one.loss == pytest.approx(two.loss, abs=1e-6)
        assert one.validation == pytest.approx(two.validation, abs=0.02)
    assert others() == []


@pytest.mark.slow
def test_a_killed_fit_of_two_processes_ends_with_the_same_bits(images: Rows, tmp_path: Path) -> None:
    """Dropout too: its random numbers follow from seed, epoch and process."""
    uneven = {**TWO, "dropout": 0.3, "batch_rows": 35}
    through = fitted(images, **uneven)

    def killed(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), reporting_to(killed), checkpoints_in(tmp_path / "c", every_seconds=0):
        fitted(images, **uneven)
    assert [path.suffix for path in (tmp_path / "c").iterdir()] == [".safetensors"], "nothing but the checkpoint"
    epochs: list[int] = []
    with reporting_to(lambda report: epochs.append(report.epoch)), checkpoints_in(tmp_path / "c"):
        resumed = fitted(images, **uneven)
    assert epochs == [3]
    assert resumed.digest() == through.digest()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "kind", "message"),
    [
        pytest.param(
            "os.kill(os.getpid(), 9)",
            RefitError,
            r"process 2 of 2 was ended by signal 9.*goes on from its checkpoint",
            marks=pytest.mark.slow,
        ),
        (
            "raise ValueError('odd rows')",
            UserError,
            r"learner 'it' \(own\.py:Own\): fit failed: .*ValueError: odd rows.*; correct it, or disable it",
        ),
    ],
    ids=["killed", "an error of its own"],
)
def test_a_process_that_ends_is_one_clear_line(does: str, kind: type[RefitError], message: str, images: Rows) -> None:
    with pytest.raises(kind, match=message) as raised:
        own(does).fit(*images)
    assert "\n" not in str(raised.value)
    assert others() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("built", "kind", "message"),
    [
        ("os.kill(os.getpid(), 9)", RefitError, "process 2 of 2 was ended by signal 9"),
        ("raise ValueError('no layer')", UserError, "ValueError: no layer"),
        (
            "torch.distributed.init_process_group = lambda *given, **more: os.kill(os.getpid(), 9)",
            RefitError,
            "process 2 of 2 was ended by signal 9",
        ),
    ],
    ids=["killed", "an error of its own", "killed when the others wait for it"],
)
def test_a_process_that_ends_before_the_group_stands_is_one_clear_line(
    built: str, kind: type[RefitError], message: str, images: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GATHERING", timedelta(seconds=5))
    source = OWN.replace(
        "        super().__init__()",
        f"        super().__init__()\n        if os.getpid() != PARENT:\n            {built}",
    )
    source = source.replace("PARENT", str(os.getpid())).replace("DO", "pass").replace("import os", "import os, torch")
    with pytest.raises(kind, match=message) as raised:
        make(replace(spec_of("mlp"), kind="own.py:Own", source=source, params=TWO)).fit(*images)
    assert "\n" not in str(raised.value)
    assert others() == []
    if "init_process_group" in built:
        make(spec_of("mlp", **TWO)).fit(*images)  # the next group forms all the same


@pytest.mark.parametrize("params", [{"batch_rows": 1}, {"batch_rows": 101, "accumulate": 100}])
def test_a_batch_norm_that_would_read_one_row_is_one_clear_line(params: dict[str, Any]) -> None:
    table, label = columns(101, 1)
    features, categorical, _ = FEATURES_OF["columns"]
    learner = make(Spec("it", "tabular_resnet", features, categorical, {"units": 4, "epochs": 1, **params}))
    message = r"learner 'it': a batch norm cannot learn from one row.*raise batch_rows, or"
    with pytest.raises(UserError, match=message):
        learner.fit(table, label)
    with pytest.raises(UserError, match=message):
        learner.range_test(table, label, [0.1, 0.2])  # type: ignore[attr-defined]


@pytest.mark.slow
def test_rows_that_make_a_loss_infinite_are_named_whichever_process_reads_them(images: Rows) -> None:
    with pytest.raises(UserError, match="the loss is nan in epoch 1, batch 1"):
        own("result = result * float('nan')").fit(*images)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["kill -9", "Ctrl-C", "kill"],
)
def test_no_process_outlives_the_first(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(BY_ITSELF.format(root=str(Path(__file__).parents[4])))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert parent.stdout is not None
    while " 2 " not in (said := parent.stdout.readline()):
        assert said, parent.communicate()[1]
    children = psutil.Process(parent.pid).children(recursive=True)
    assert [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    parent.send_signal(how)
    assert parent.wait(30) != 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.parametrize("chosen", [{}, {"device": "cuda"}], ids=["by itself", "by the params"])
def test_several_processes_are_refused_on_a_gpu(
    chosen: dict[str, str], images: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    learner = make(spec_of("mlp", **TWO, **chosen), where="here")
    with pytest.raises(UserError, match=r"2 processes share the CPU.*device: cpu, or processes: 1 .*\(here\.params"):
        learner.fit(*images)


def test_a_last_batch_with_a_part_of_one_row_is_left_to_no_batch_norm() -> None:
    norm, plain = torch.nn.Sequential(torch.nn.BatchNorm1d(2)), torch.nn.Linear(2, 1)
    sizes = {
        (network, parts): [len(batch) for batch in _batches(network, torch.zeros(11), 4, torch.Generator(), parts)]
        for network in (norm, plain)
        for parts in (1, 2)
    }
    assert sizes == {(norm, 1): [4, 4, 3], (norm, 2): [4, 4], (plain, 1): [4, 4, 3], (plain, 2): [4, 4, 3]}


@pytest.mark.slow
def test_a_network_that_starts_from_another_is_trained_in_two_processes_too(images: Rows, tmp_path: Path) -> None:
    parent = fitted(images, kind="cnn", epochs=1)
    parent.save(tmp_path)
    learners = []
    for count in (1, 2):
        params = {**TWO, "freeze": ["body"], "thaw_epoch": 1, "processes": count}
        spec = replace(spec_of("cnn", **params), start=Start(tmp_path, "version 1 of base", parent.digest()))
        learners.append(make(spec))
        learners[-1].fit(*images)
    one, two = (learner.predict(images[0]) for learner in learners)
    assert np.abs(one - two).max() < 1e-5
