"""The episodes that a policy is trained in, which can be taken up again in the middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from refit.learners.networks.policies.network import Floats, flat
from refit.problems.contract import Problem
from refit.problems.episodes import (
    TRAINING,
    Episode,
    ResetOptions,
    environment_errors,
    finite_reward,
    make_env,
    seed_for,
)

__all__ = ["Place", "TrainingEpisodes"]

Info = dict[str, Any]  # that gymnasium returns with an observation
Array = NDArray[Any]


class Place(BaseModel):
    """Where a training is in its episodes, next to the actions of the current one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    random: Mapping[str, Any]  # state of the generator that draws episodes, as numpy has it
    episode: int | None  # number of the current one among those with values
    seed: int  # of its reset


class TrainingEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment in which each episode has the features of a row, drawn by chance, and a seed that no row has.

    It can go on in the middle of an episode in another process: the state of an environment cannot be stored, but an
    episode of the same seed is the same under the same actions.
    """

    def __init__(self, problem: Problem, episodes: Sequence[Episode], seeds: Sequence[int], index: int) -> None:
        super().__init__(make_env(problem))
        self._name = str(problem.options.environment)
        self._random = np.random.default_rng([TRAINING, seeds[0], index, *seeds[1:]])
        self._episodes = [episode for episode in episodes if episode.values]  # without values all are the same
        self._seen = self.env.observation_space
        self._episode: int | None = None
        self._seed = 0
        self._actions: list[Array] = []  # since the reset
        self._observation: Floats = np.empty(0, dtype=np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (spaces.flatdim(self._seen),), np.float32)
        if isinstance(chosen := self.env.action_space, spaces.Box):
            self.action_space = spaces.Box(-1.0, 1.0, (spaces.flatdim(chosen),), np.float32)
            self._low, self._high = chosen.low.astype(np.float64), chosen.high.astype(np.float64)

    def reset(self, *, seed: int | None = None, options: ResetOptions | None = None) -> tuple[Floats, Info]:
        self._episode = int(self._random.integers(len(self._episodes))) if self._episodes else None
        self._seed = seed_for(TRAINING, int(self._random.integers(2**32)))
        return self._begin()

    def _begin(self) -> tuple[Floats, Info]:
        episode = None if self._episode is None else self._episodes[self._episode]
        with environment_errors(self._name):
            observation, info = self.env.reset(seed=self._seed, options=episode.options if episode else None)
        self._actions = []
        self._observation = flat(self._seen, observation)
        return self._observation, info

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, Info]:
        self._actions.append(np.array(action))
        if isinstance(chosen := self.env.action_space, spaces.Box):
            share = np.asarray(action, dtype=np.float64).reshape(self._low.shape)
            stretched = np.clip(self._low + (share + 1) / 2 * (self._high - self._low), self._low, self._high)
            action = stretched.astype(chosen.dtype)
        else:
            action = int(action)
        with environment_errors(self._name):
            observation, reward, terminated, truncated, info = self.env.step(action)
        self._observation = flat(self._seen, observation)
        # A time limit is no end: stable-baselines3 adds the value of what would follow where `truncated` alone is true.
        return self._observation, finite_reward(reward, self._name), terminated, truncated, info

    @property
    def place(self) -> Place:
        return Place(random=self._random.bit_generator.state, episode=self._episode, seed=self._seed)

    def arrays(self) -> dict[str, Array]:
        """The actions of the current episode, and what was seen after the last."""
        return {"actions": np.array(self._actions), "observation": self._observation}

    def go_to(self, place: Place, arrays: Mapping[str, Array]) -> None:
        """Play the current episode of another process up to where that was.

        Raises:
            ValueError: it is another episode there.
        """
        self._random.bit_generator.state = dict(place.random)
        self._episode, self._seed = place.episode, place.seed
        self._begin()
        for action in arrays["actions"]:
            self.step(action)
        if not np.array_equal(self._observation, arrays["observation"]):
            raise ValueError("the environment does not repeat an episode of the same seed and actions")
