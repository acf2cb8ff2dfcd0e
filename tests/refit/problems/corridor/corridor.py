"""A tiny environment made of data: a corridor, whose row says where the exit is and how far it may be looked for."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    """Walk to the exit: each step costs, the exit pays 10. The observation is the way to the exit, with some noise."""

    observation_space = spaces.Box(-20.0, 20.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, noise: float = 0.1, cost: float = 1.0) -> None:
        self.noise, self.cost = noise, cost

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.way = float((options or {}).get("exit", 3.0))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.way += -1.0 if action == 1 else 1.0
        there = abs(self.way) < 1
        return self._seen(), 10.0 * there - self.cost, there, False, {}

    def _seen(self) -> np.ndarray:
        seen = self.way + self.np_random.normal(0, self.noise)
        return np.clip(np.array([seen], dtype=np.float32), -20, 20)


def always_right(observation: Any) -> int:
    return 1


def towards(observation: Any, beyond: float = 0.0) -> int:
    return int(observation[0] > beyond)
