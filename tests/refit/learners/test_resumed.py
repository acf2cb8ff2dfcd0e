"""Each kind of learner that leaves checkpoints says in one line, and in the same words, that a fit goes on from one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from refit.learners import Learner, make
from refit.learners.conformance.sample import sample
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to
from refit.runtime.context import Progress, silent
from tests.refit.learners.networks import conftest, test_policy_checkpoints
from tests.refit.learners.online import test_online
from tests.refit.learners.test_keras import has_keras, spec_of

Fit = Callable[[Progress], Learner]


def a_network(progress: Progress) -> Learner:
    learner = make(conftest.spec_of("cnn", epochs=4, dropout=0.2))
    learner.fit(*conftest.image_rows(60, 1), progress=progress)
    return learner


def a_keras_model(progress: Progress) -> Learner:
    rows = sample("binary", 120, 1)
    learner = make(spec_of(epochs=4))
    learner.fit(rows.table, rows.label, progress=progress)
    return learner


def a_policy(progress: Progress) -> Learner:
    learner = make(test_policy_checkpoints.spec("ppo"))
    rows = test_policy_checkpoints.rows
    learner.fit(*rows(0), validation=rows(1, 4), progress=progress)
    return learner


def a_stream(progress: Progress) -> Learner:
    learner = make(test_online.spec_of({}))
    learner.fit(*test_online.stream(1_200), progress=progress)
    return learner


KINDS: dict[str, tuple[Fit, str]] = {
    "network": (a_network, r"it continues after epoch 2 of 4"),
    "keras": (a_keras_model, r"it continues after epoch 2 of 4"),
    "policy": (a_policy, r"it continues after 1\d\d of 400 steps"),
    "stream": (a_stream, r"stream continues after row \d+ of 1,200"),
}


@pytest.mark.ci
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[has_keras, pytest.mark.slow] if kind == "keras" else []) for kind in KINDS]
)
def test_a_fit_that_goes_on_says_so_and_from_where(kind: str, tmp_path: Path) -> None:
    fit, reached = KINDS[kind]

    def dies(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    def dies_late(what: str, done: float = 0, total: float | None = None) -> None:
        if what.startswith("learning the stream"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), checkpoints_in(tmp_path, every_seconds=0), reporting_to(dies):
        fit(dies_late)
    said: list[str] = []
    with checkpoints_in(tmp_path, every_seconds=0):
        again = fit(lambda what, *_: said.append(what))
    (note,) = (what for what in said if what.startswith("note: "))
    assert re.fullmatch(rf"note: {reached}, from the checkpoint of 20\d\d-\d\d-\d\d \d\d:\d\d UTC", note)
    assert again.digest() == fit(silent).digest()


def test_a_fit_that_was_complete_is_said_to_be(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(InterruptedError), checkpoints_in(tmp_path, every_seconds=0):
        a_network(silent)
        a_network(lambda what, *_: said.append(what))
        raise InterruptedError
    (note,) = said
    assert note.startswith("note: it was finished before, from the checkpoint of 20")
