"""The arguments of kind `policy`: how a policy is trained; those of the algorithm itself come on top of these."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from refit.config import nearest
from refit.errors import UserError
from refit.extras import install_extra
from refit.learners.networks.params import Closed, Positive, checked
from refit.problems.episodes import library

__all__ = ["PolicyParams", "PolicySettings", "settings_of"]


class _AlgorithmParams(Closed):
    """Arguments of the algorithms of stable-baselines3; those that are not set have the library's own defaults."""

    learning_rate: Positive | None = None
    gamma: float | None = Field(None, ge=0, le=1, description="discount of a reward that is one step later")


class _OnPolicyParams(_AlgorithmParams):
    n_steps: int | None = Field(None, ge=1, description="steps of each environment between two updates")
    gae_lambda: float | None = Field(None, ge=0, le=1)
    normalize_advantage: bool | None = None
    ent_coef: float | None = Field(None, ge=0)
    vf_coef: float | None = Field(None, ge=0)
    max_grad_norm: Positive | None = None


class _PpoParams(_OnPolicyParams):
    n_steps: int | None = Field(None, ge=2)
    batch_size: int | None = Field(None, ge=2)
    n_epochs: int | None = Field(None, ge=1)
    clip_range: Positive | None = None
    clip_range_vf: Positive | None = None
    target_kl: Positive | None = None


class _A2cParams(_OnPolicyParams):
    rms_prop_eps: Positive | None = None
    use_rms_prop: bool | None = None


def _frequency(value: Any) -> Any:
    """How often a policy is updated: every so many steps, or `[2, episode]`."""
    number, unit = value if isinstance(value, list) and len(value) == 2 else (value, "step")
    if type(number) is not int or number < 1 or unit not in ("step", "episode"):
        raise ValueError("a number of steps was expected, or one with its unit, such as [2, episode]")
    return value


def _entropy(value: Any) -> Any:
    """The weight of the entropy: a number above 0, or learned, from 1 or from a first value."""
    is_learned = isinstance(value, str) and re.fullmatch(r"auto(_[0-9]+(\.[0-9]+)?)?", value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if not (is_learned or is_number):
        raise ValueError("a number above 0 was expected, auto, or auto with a first value, such as auto_0.1")
    return value


def _target(value: Any) -> Any:
    """The entropy that is aimed at: a number, or that of the library."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number or value == "auto"):
        raise ValueError("a number was expected, or auto")
    return value


class _OffPolicyParams(_AlgorithmParams):
    buffer_size: int | None = Field(None, ge=1)
    learning_starts: int | None = Field(None, ge=0)
    batch_size: int | None = Field(None, ge=1)
    tau: float | None = Field(None, gt=0, le=1)
    train_freq: Annotated[Any, AfterValidator(_frequency)] = 1
    gradient_steps: int | None = Field(None, ge=-1, description="-1: as many as steps were played")
    n_steps: int | None = Field(None, ge=1, description="rewards that are summed before a value is estimated")
    target_update_interval: int | None = Field(None, ge=1)


class _DqnParams(_OffPolicyParams):
    exploration_fraction: float | None = Field(None, ge=0, le=1)
    exploration_initial_eps: float | None = Field(None, ge=0, le=1)
    exploration_final_eps: float | None = Field(None, ge=0, le=1)
    max_grad_norm: Positive | None = None


class _SacParams(_OffPolicyParams):
    ent_coef: Annotated[Any, AfterValidator(_entropy)] = "auto"
    target_entropy: Annotated[Any, AfterValidator(_target)] = "auto"


ALGORITHMS: Mapping[str, type[_AlgorithmParams]] = {
    "ppo": _PpoParams,
    "a2c": _A2cParams,
    "dqn": _DqnParams,
    "sac": _SacParams,
}

# Arguments of the algorithms that are set elsewhere, or that params cannot hold.
UNSUPPORTED = (
    *("use_sde", "sde_sample_freq", "use_sde_at_warmup", "action_noise", "stats_window_size", "optimize_memory_usage"),
    *("rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class", "replay_buffer_kwargs"),
    *("_init_setup_model", "self"),
)
DECIDED = {
    "policy": "it is hidden and activation",
    "policy_kwargs": "it is hidden and activation",
    "env": "it is train.problem.environment",
    "seed": "it is train.seed",
    "device": "small networks are trained on the CPU, where they are the same each time",
    "verbose": "progress is shown by Refit",
    "tensorboard_log": "MLflow has the learning curve",
    **dict.fromkeys(UNSUPPORTED, "it is not supported"),
}
NULLABLE = ("clip_range_vf", "target_kl")  # of the algorithms' arguments: null is their default
ALONE = ("dqn", "sac")  # learn from one episode at a time


class PolicyParams(Closed):
    """Arguments of kind `policy`."""

    algorithm: Literal["ppo", "a2c", "dqn", "sac"] = "ppo"
    steps: int = Field(100_000, ge=1, description="of training, over all episodes")
    environments: int = Field(1, ge=1, le=256, description="ppo, a2c: episodes that are played side by side")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([64, 64], min_length=1, description="units of each layer")
    activation: Literal["tanh", "relu"] = "tanh"
    normalize: bool = Field(False, description="learn from observations and rewards by their running mean and spread")
    schedule: Literal["constant", "linear"] = Field(
        "constant", description="linear: learning_rate, and the clip_range of ppo, sink to 0 over the training"
    )
    check_every: int | None = Field(
        None, ge=1, description="steps between checks on the validation episodes; default: a twentieth of all"
    )
    patience: int | None = Field(
        None, ge=1, description="checks without a better validation score before it stops; default: it never does"
    )
    threads: int = Field(1, ge=1, description="of the CPU; the model depends on it")


@dataclass(frozen=True)
class PolicySettings:
    """The arguments of a policy: Refit's own, and those that go to the algorithm as they are."""

    own: PolicyParams
    algorithm: Mapping[str, Any]  # what is valid, its class knows

    @property
    def check_every(self) -> int:
        return self.own.check_every or max(1, self.own.steps // 20)


def settings_of(params: Mapping[str, object], kind: str, where: str) -> PolicySettings:
    """The checked arguments of a learner.

    Args:
        where: the address of the learner in the params, for errors; empty for a stored one, whose arguments are not
            checked against the installed library.

    Raises:
        UserError: an argument is unknown, invalid or set elsewhere, or stable-baselines3 is not installed.
    """
    names = PolicyParams.model_fields
    own = checked(PolicyParams, kind, {name: value for name, value in params.items() if name in names}, where)
    others = {name: value for name, value in params.items() if name not in names}
    if where:
        algorithm_class(own.algorithm)
        valid = ALGORITHMS[own.algorithm].model_fields
        for name, value in others.items():
            address = f"{where}.params.{name}"
            if name in DECIDED:
                raise UserError(f"learner {kind!r}: {name} is not set here, {DECIDED[name]} ({address})")
            if name not in valid:
                near = nearest(name, [*names, *valid])
                raise UserError(f"learner {kind!r} has no argument {name!r} with {own.algorithm}{near} ({address})")
            if value is None and name not in NULLABLE:
                raise UserError(f"learner {kind!r}: {name} is null; leave it out for the library's default ({address})")
        checked(ALGORITHMS[own.algorithm], kind, others, where)
        if own.environments > 1 and own.algorithm in ALONE:
            raise UserError(
                f"learner {kind!r}: {own.algorithm} plays one episode at a time, leave environments out "
                f"({where}.params.environments)"
            )
    return PolicySettings(own, others)


def algorithm_class(name: str) -> Any:
    """The class of an algorithm.

    Raises:
        UserError: stable-baselines3 is not installed.
    """
    library()
    try:
        import stable_baselines3
    except ModuleNotFoundError:
        raise UserError(
            "policies need stable-baselines3, which is not installed; install it next to Refit: "
            f"{install_extra('rl')} (params.yaml: train.learners)"
        ) from None
    return getattr(stable_baselines3, name.upper())
