"""Arguments of a policy's algorithm: each with its type and range, and a mistake in one line."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from refit.errors import UserError
from refit.learners.networks.policies.params import ALGORITHMS, DECIDED, algorithm_class, settings_of

pytest.importorskip("stable_baselines3", reason="needs the extra [rl]")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gamma": "x"}, r"'policy': input should be a valid number; found 'x' \(.*\.params\.gamma\)"),
        ({"gamma": None}, r"gamma is null; leave it out for the library's default \(.*\.params\.gamma\)"),
        ({"gamma": 1.5}, r"less than or equal to 1; found 1.5 \(.*\.params\.gamma\)"),
        ({"learning_rate": 0}, r"greater than 0; found 0 \(.*learning_rate\)"),
        ({"learning_rate": float("nan")}, r"finite number; found nan \(.*learning_rate\)"),
        ({"n_steps": 2.5}, r"valid integer; found 2.5 \(.*n_steps\)"),
        ({"normalize_advantage": "yes"}, r"valid boolean; found 'yes' \(.*normalize_advantage\)"),
        ({"clip_range": [0.1]}, r"valid number; found \[0.1\] \(.*clip_range\)"),
        ({"algorithm": "a2c", "gae_lambda": -1}, r"greater than or equal to 0; found -1 \(.*gae_lambda\)"),
        ({"algorithm": "dqn", "train_freq": [4]}, r"a number of steps was expected, .*; found \[4\] \(.*train_freq\)"),
        ({"algorithm": "dqn", "train_freq": [4, "days"]}, r"such as \[2, episode\]; found"),
        ({"algorithm": "dqn", "exploration_fraction": 2}, r"less than or equal to 1; found 2"),
        ({"algorithm": "sac", "ent_coef": "autto"}, r"a number above 0 was expected, auto, .*; found 'autto'"),
        ({"algorithm": "sac", "target_entropy": "x"}, r"a number was expected, or auto; found 'x'"),
    ],
)
def test_an_argument_of_a_wrong_type_or_range_is_one_line(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        settings_of(params, "policy", "params.yaml: train.learners[0]")
    assert "\n" not in str(caught.value)


def test_every_argument_of_the_library_has_a_type_or_says_why_not() -> None:
    for name, fields in ALGORITHMS.items():
        valid = {*inspect.signature(algorithm_class(name).__init__).parameters} - {*DECIDED}
        assert {*fields.model_fields} == valid, name


@pytest.mark.parametrize(
    "params",
    [
        {"algorithm": "dqn", "train_freq": [2, "episode"], "gradient_steps": -1, "learning_starts": 0},
        {"algorithm": "sac", "ent_coef": "auto_0.1", "target_entropy": -1, "train_freq": 8, "tau": 1},
        {"algorithm": "ppo", "target_kl": None, "learning_rate": 1, "clip_range_vf": 0.2},
        {"algorithm": "a2c", "use_rms_prop": False, "n_steps": 1},
    ],
)
def test_valid_arguments_reach_the_algorithm_as_they_are(params: dict[str, Any]) -> None:
    others = {name: value for name, value in params.items() if name != "algorithm"}
    assert settings_of(params, "policy", "here").algorithm == others
