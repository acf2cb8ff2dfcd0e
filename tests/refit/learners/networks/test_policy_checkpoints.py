"""A training of a policy that is killed goes on from its last checkpoint and ends with the same bits."""

from __future__ import annotations

import random
import resource
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from killing import noted, run_until_killed
from quick import quick

from refit.learners import FitReport, Learner, Spec, make
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to

pytest.importorskip("stable_baselines3", reason="needs the extra [rl]")

KILLED = 3  # the check in which the process is killed
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "ppo": {"n_steps": 32, "batch_size": 32, "environments": 2, "schedule": "linear"},
    "a2c": {"normalize": True},
    "dqn": {"learning_starts": 40, "buffer_size": 150, "n_steps": 3, "target_update_interval": 50},
    "sac": {"learning_starts": 60, "buffer_size": 500, "normalize": True, "check_every": 60},
}


def spec(algorithm: str, **params: Any) -> Spec:
    """A training of some seconds, checked every 80 steps; episodes of up to 50 steps are cut off anywhere."""
    arguments = {"algorithm": algorithm, "steps": 400, "check_every": 80, "hidden": [8], **PARAMS[algorithm], **params}
    environment = {"environment": "Pendulum-v1" if algorithm == "sac" else "CartPole-v1", "time_limit": 50}
    kinds: Any = {"metric": "mean_return", "task": "reinforcement", "options": environment}
    return Spec("it", "policy", ("seed",), params=arguments, **kinds)


def rows(start: int, count: int = 8) -> tuple[pa.Table, Any]:
    return pa.table({"seed": random.Random(start).sample(range(10_000), count)}), np.zeros(count)


def fitted(
    wanted: Spec,
    folder: Path | None,
    *,
    every_seconds: float = 0,
    kill: bool = False,
    before: Learner | None = None,
    messages: list[str] | None = None,
) -> tuple[Learner, FitReport, list[int]]:
    """A policy, its report, and the checks that were made for it; its checkpoints stay in the folder."""
    checks: list[int] = []

    def progress(what: str, done: float = 0, total: float | None = None) -> None:
        if messages is not None:
            messages.append(what)

    learner = make(wanted)
    given: Any = {"validation": rows(1, 4), "progress": progress}
    with reporting_to(noted(checks, killed_after=KILLED if kill else None)):
        if folder is None:
            report = learner.fit(*rows(0), **given) if before is None else learner.resume(before, *rows(0), **given)
        else:
            with pytest.raises(InterruptedError), checkpoints_in(folder, every_seconds=every_seconds):
                report = learner.fit(*rows(0), **given) if before is None else learner.resume(before, *rows(0), **given)
                raise InterruptedError
    return learner, report, checks


def killed(algorithm: str, folder: Path, every_seconds: float = 0) -> None:
    """Leave what a training leaves whose process dies in a check."""
    call = f"fitted(spec({algorithm!r}), Path({str(folder)!r}), every_seconds={every_seconds}, kill=True)"
    run_until_killed("tests.refit.learners.networks.test_policy_checkpoints", "fitted, spec", call)


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm", ["ppo", "dqn", *(pytest.param(each, marks=pytest.mark.slow) for each in ("a2c", "sac"))]
)
def test_a_killed_training_ends_with_the_same_bits_and_repeats_no_check(algorithm: str, tmp_path: Path) -> None:
    killed(algorithm, tmp_path)
    messages: list[str] = []
    again, report, checks = fitted(spec(algorithm), tmp_path, messages=messages)
    whole, reported, _ = fitted(spec(algorithm), None)
    assert checks[0] == KILLED, "the one in which it died is made again, and none before it"
    assert any("note: it continues after" in message for message in messages)
    assert again.digest() == whole.digest()
    assert report == reported


@pytest.mark.slow
def test_a_killed_training_loses_the_steps_since_the_last_check_at_most(tmp_path: Path) -> None:
    killed("ppo", tmp_path, every_seconds=1000)
    messages: list[str] = []
    again, _, _ = fitted(spec("ppo"), tmp_path, messages=messages)
    (note,) = (message for message in messages if "continues" in message)
    assert 160 <= int(note.split("after ")[1].split(" of 400 steps")[0]) < 240, (
        "the second of the checks every 80 steps"
    )
    assert again.digest() == fitted(spec("ppo"), None)[0].digest()


@pytest.mark.slow
def test_a_training_that_goes_on_from_a_policy_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    before = fitted(spec("ppo"), None)[0]
    first, report, checks = fitted(spec("ppo"), tmp_path, before=before)
    again, reported, none = fitted(spec("ppo"), tmp_path, before=before)
    assert len(checks) == len(report.curve) == 6, "the champion is the first check"
    assert none == []
    assert again.digest() == first.digest() == fitted(spec("ppo"), None, before=before)[0].digest()
    assert reported == report
    assert len(fitted(spec("ppo"), tmp_path)[2]) == 5, "from nothing it is another training"


@pytest.mark.slow
@pytest.mark.parametrize("other", quick([{"params": {"learning_rate": 0.02}}, {"seed": 3}], 1), ids=str)
def test_the_checkpoint_of_another_training_is_never_used(tmp_path: Path, other: dict[str, Any]) -> None:
    fitted(spec("ppo"), tmp_path)
    wanted = spec("ppo", **other["params"]) if "params" in other else replace(spec("ppo"), **other)
    learner, _, checks = fitted(wanted, tmp_path)
    assert len(checks) == 5
    assert learner.digest() == fitted(wanted, None)[0].digest()


@pytest.mark.slow
def test_a_full_disk_costs_the_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    messages: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        learner, report, _ = fitted(spec("ppo"), tmp_path, messages=messages)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert any(message.startswith("warning: no checkpoint of it") for message in messages)
    whole, reported, _ = fitted(spec("ppo"), None)
    assert (learner.digest(), report) == (whole.digest(), reported)


FORGETFUL = """
import gymnasium
import numpy as np


class Forgetful(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self):
        Forgetful.made += 1
        self.number = Forgetful.made

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {}

    def step(self, action):
        self.steps += 1
        return self._seen(), float(action), self.steps == 50, False, {}

    def _seen(self):  # by one environment an episode always looks the same
        return np.array([self.number * self.steps], dtype=np.float32)
"""


@pytest.mark.slow
def test_an_environment_that_does_not_repeat_an_episode_makes_a_training_start_again(tmp_path: Path) -> None:
    name = "forgetful.py:Forgetful"
    wanted = replace(
        spec("ppo", environments=1, steps=320),
        options={"environment": name},
        sources={"forgetful.py": FORGETFUL},
        trusted_types=(name,),
    )
    messages: list[str] = []
    _, _, checks = _broken_off(wanted, tmp_path)
    _, _, again = fitted(wanted, tmp_path, messages=messages)
    assert checks == [1, 2]
    assert again == [1, 2, 3, 4]
    assert any("does not repeat an episode" in message and "it starts again" in message for message in messages)


def _broken_off(wanted: Spec, folder: Path) -> tuple[None, None, list[int]]:
    checks: list[int] = []

    def on_epoch(report: EpochReport) -> None:
        checks.append(report.epoch)
        if report.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError), reporting_to(on_epoch), checkpoints_in(folder, every_seconds=0):
        make(wanted).fit(*rows(0), validation=rows(1, 4))
    return None, None, checks
