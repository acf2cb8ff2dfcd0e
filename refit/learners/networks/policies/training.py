"""Trains a policy with stable-baselines3, in the episodes of the training rows and with seeds of its own."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from refit.errors import UserError
from refit.learners.networks.checkpoints import Checkpoint
from refit.learners.networks.determinism import deterministic
from refit.learners.networks.policies.network import PolicyForm, PolicyNetwork
from refit.learners.networks.policies.params import PolicySettings, algorithm_class
from refit.learners.networks.policies.state import CheckHistory, PolicyState
from refit.learners.networks.policies.training_episodes import TrainingEpisodes
from refit.problems.contract import Problem
from refit.problems.episodes import Episode

__all__ = ["TrainingControl", "require_actions", "trained"]

Check = Callable[[PolicyNetwork, int], bool]  # of the policy after some steps: whether to go on
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class TrainingControl:
    """What goes on next to the learning: checks, progress, and where it stops."""

    check: Check  # called every `PolicySettings.check_every` steps, and at the end
    history: CheckHistory  # what `check` adds to, and a checkpoint gives back
    stop_at: int | None = None  # stop after so many steps, and return that policy
    progress: Callable[[int], None] = field(default=lambda steps: None)
    checkpoint: Checkpoint | None = None
    on_restored: Callable[[], None] = field(default=lambda: None)  # called once `history` is that of a checkpoint


@dataclass(frozen=True)
class StartingPolicy:
    """The policy that a training goes on from."""

    network: PolicyNetwork
    number: int  # of the policy: other episodes are played than those that it was trained in


class _Checks(BaseCallback):
    """Looks at the policy between two updates, every so many steps, and leaves checkpoints there."""

    def __init__(self, settings: PolicySettings, control: TrainingControl, state: PolicyState) -> None:
        super().__init__()
        self._settings, self._control, self._state = settings, control, state
        self._every = settings.check_every
        self._shown = time.monotonic()
        self.policy: PolicyNetwork | None = None  # of `stop_at`
        self.stopped = False

    def _on_rollout_start(self) -> None:
        steps, state = self.model.num_timesteps, self._state
        if self._control.stop_at is not None and steps >= self._control.stop_at:
            self.policy, self.stopped = network_of(self.model, self._settings), True
            return
        if is_due := steps >= state.next_check:
            state.next_check = (steps // self._every + 1) * self._every
            self.check(steps)
        if self._control.checkpoint and steps and not self.stopped:
            self._control.checkpoint.write(state, at_once=is_due)

    def check(self, steps: int) -> None:
        self._state.checked = steps
        self.stopped = not self._control.check(network_of(self.model, self._settings), steps)

    def _on_step(self) -> bool:
        if (now := time.monotonic()) - self._shown > 0.2:
            self._shown = now
            self._control.progress(self.model.num_timesteps)
        return not self.stopped


def trained(
    problem: Problem,
    episodes: Sequence[Episode],
    settings: PolicySettings,
    seed: int,
    control: TrainingControl,
    start: StartingPolicy | None = None,
) -> PolicyNetwork:
    """The policy after all steps of a training, or those up to `control.stop_at`; from random weights or `start`.

    Raises:
        UserError: the environment fails, an argument is invalid, or the training diverges.
    """
    own = settings.own
    with _own_random_state(), deterministic(seed, own.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that steps are no multiple of a batch
        make = partial(_started, problem, episodes, settings, seed, start)
        state, checkpoint = PolicyState(make, control.history, settings.check_every, own.steps), control.checkpoint
        if checkpoint:
            checkpoint.restore(state)
            if state.history.curve:
                control.on_restored()
        if state.last:
            return state.last
        if is_new := state.model is None:
            if start is not None:
                control.check(start.network, 0)
            state.model = make()
        model = state.model
        try:
            checks = _Checks(settings, control, state)
            model.learn(own.steps - model.num_timesteps, callback=checks, reset_num_timesteps=is_new)
            state.last = checks.policy
            if state.last is None:
                if state.checked < model.num_timesteps and not checks.stopped and control.stop_at is None:
                    checks.check(model.num_timesteps)
                state.last = network_of(model, settings)
            if checkpoint:
                checkpoint.write(state, at_once=True)
            return state.last
        finally:
            model.get_env().close()


def _started(
    problem: Problem, episodes: Sequence[Episode], settings: PolicySettings, seed: int, start: StartingPolicy | None
) -> Any:
    """The algorithm at its first step, with environments of its own."""
    own, seeds = settings.own, [seed] if start is None else [seed, start.number]
    makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [
        partial(TrainingEpisodes, problem, episodes, seeds, index) for index in range(own.environments)
    ]
    environments: Any = DummyVecEnv(makers)
    if own.normalize:
        environments = VecNormalize(environments, gamma=settings.algorithm.get("gamma", 0.99))
    try:
        model = _algorithm(environments, settings, seed)
        if start is not None:
            _take_over(start.network, model, settings)
    except BaseException:
        environments.close()
        raise
    return model


def _algorithm(environments: Any, settings: PolicySettings, seed: int) -> Any:
    own, arguments = settings.own, dict(settings.algorithm)
    if own.schedule == "linear":
        default = {"ppo": 3e-4, "a2c": 7e-4, "dqn": 1e-4, "sac": 3e-4}[own.algorithm]
        arguments["learning_rate"] = _linear(arguments.get("learning_rate", default))
        if own.algorithm == "ppo":
            arguments["clip_range"] = _linear(arguments.get("clip_range", 0.2))
    if isinstance(frequency := arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(frequency)
    shape = {"net_arch": list(own.hidden), "activation_fn": ACTIVATIONS[own.activation]}
    try:
        model = algorithm_class(own.algorithm)(
            "MlpPolicy", environments, seed=seed, device="cpu", policy_kwargs=shape, **arguments
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"learner 'policy': {own.algorithm} does not take {arguments}: {error}") from None
    model.set_logger(Logger(None, []))
    return model


def _linear(start: float) -> Callable[[float], float]:
    return lambda remaining: start * remaining


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Put the process's random numbers back: stable-baselines3 seeds them."""
    numbers, texts = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numbers)
        random.setstate(texts)


def require_actions(algorithm: str, environment: Any, name: str, where: str) -> None:
    """Check that an algorithm can choose the actions of an environment.

    Raises:
        UserError: it cannot.
    """
    is_choice = isinstance(environment.action_space, spaces.Discrete)
    if (algorithm == "dqn" and not is_choice) or (algorithm == "sac" and is_choice):
        chosen, others = ("one choice", "ppo, a2c or sac") if algorithm == "dqn" else ("numbers", "ppo, a2c or dqn")
        raise UserError(
            f"learner 'policy': {algorithm} chooses {chosen}, environment {name!r} takes {environment.action_space}: "
            f"use {others} ({where}.params.algorithm)"
        )


def _take_over(network: PolicyNetwork, model: Any, settings: PolicySettings) -> None:
    """Give a model the layers of a policy, and what the policy knows of the scale of observations.

    Raises:
        UserError: they do not fit.
    """
    fresh = network_of(model, settings)
    shapes = [{name: array.shape for name, array in each.arrays.items()} for each in (fresh, network)]
    if fresh.form != network.form or shapes[0] != shapes[1]:
        raise UserError(
            f"learner 'policy' goes on from a policy with {_words(network)}, and the params ask for {_words(fresh)}: "
            "set algorithm, hidden, activation, normalize and the environment as they were, or train.warm_start: null"
        )
    with torch.no_grad():
        for index, layer in enumerate(_layers(model, settings)):
            layer.weight.copy_(torch.from_numpy(network.arrays[f"layer{index}.weight"]))
            layer.bias.copy_(torch.from_numpy(network.arrays[f"layer{index}.bias"]))
    if settings.own.algorithm == "dqn":
        model.policy.q_net_target.load_state_dict(model.policy.q_net.state_dict())
    if settings.own.normalize:
        seen = model.get_vec_normalize_env().obs_rms
        seen.mean = network.arrays["observation.mean"].astype(np.float64)
        seen.var = network.arrays["observation.variance"].astype(np.float64)
        seen.count = float(settings.own.steps)


def _words(network: PolicyNetwork) -> str:
    """What a policy is, in words."""
    form = network.form
    widths = [len(network.arrays[f"layer{index}.bias"]) for index in range(form.layers)]
    scaled = ", normalized" if form.normalized else ""
    return f"layers of {' x '.join(map(str, [form.observations, *widths]))} ({form.activation}, {form.head}{scaled})"


def _layers(model: Any, settings: PolicySettings) -> list[nn.Linear]:
    """The layers of a model that choose actions, from observations on."""
    policy = model.policy
    if settings.own.algorithm == "dqn":
        modules = [*policy.q_net.q_net]
    elif settings.own.algorithm == "sac":
        modules = [*policy.actor.latent_pi, policy.actor.mu]
    else:
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
    return [module for module in modules if isinstance(module, nn.Linear)]


def network_of(model: Any, settings: PolicySettings) -> PolicyNetwork:
    """A copy of the part of a model that chooses actions.

    Raises:
        UserError: a weight is not finite.
    """
    own, linear = settings.own, _layers(model, settings)
    is_choice = isinstance(model.action_space, spaces.Discrete)
    head = "squashed" if own.algorithm == "sac" else "choice" if is_choice else "clipped"
    arrays = {}
    for index, layer in enumerate(linear):
        arrays[f"layer{index}.weight"] = layer.weight.detach().numpy().astype(np.float32).copy()
        arrays[f"layer{index}.bias"] = layer.bias.detach().numpy().astype(np.float32).copy()
    if own.normalize:
        seen = model.get_vec_normalize_env().obs_rms
        arrays["observation.mean"] = np.asarray(seen.mean, dtype=np.float32).copy()
        arrays["observation.variance"] = np.asarray(seen.var, dtype=np.float32).copy()
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UserError(
            f"learner 'policy': {own.algorithm} has diverged after {model.num_timesteps:,} steps: a weight is not "
            "finite; lower learning_rate, or set normalize: true"
        )
    form = PolicyForm(
        head=head,  # type: ignore[arg-type]
        activation=own.activation,
        layers=len(linear),
        observations=linear[0].in_features,
        actions=linear[-1].out_features,
        normalized=own.normalize,
    )
    return PolicyNetwork(form, arrays)
