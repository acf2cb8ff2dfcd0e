"""A kiosk that sells to one in a hundred riders, and orders each evening: an environment made of past days."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LEAD = 2  # evenings from an order to its delivery
MOST = 6.0  # days of recent demand that one order may hold
LEAST = 0.1  # an order of less is none


class Inventory(gymnasium.Env):
    """Costs of stock that is left over, of riders who find none, and of each order; what is not sold is kept.

    The row's `demand` is the city's riders of two weeks: the first is what the kiosk has seen, the second is played. It
    never learns which evening is the last: the week is cut off, it does not end.

    Observation: stock, deliveries of the next two mornings and yesterday's demand in days of recent demand; the
    logarithm of recent demand. Action: what to order, in days of recent demand.
    """

    observation_space = spaces.Box(-10.0, 1000.0, (LEAD + 3,), np.float32)
    action_space = spaces.Box(0.0, MOST, (1,), np.float32)

    def __init__(self, share: float = 0.01, holding: float = 0.1, lost: float = 1.0, order: float = 10.0) -> None:
        self.share, self.holding, self.lost, self.order = share, holding, lost, order

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        riders = np.asarray((options or {})["demand"], dtype=np.float64).ravel()
        sold = self.np_random.poisson(riders * self.share)
        before, self.coming_demand = sold[: len(sold) // 2], deque(sold[len(sold) // 2 :].tolist())
        self.recent = deque([float(each) for each in before], maxlen=len(before))
        self.stock = float(round(2 * self.pace))
        self.deliveries = deque([float(round(self.pace))] + [0.0] * (LEAD - 1))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        days = float(np.asarray(action).ravel()[0])
        ordered = float(round(days * self.pace)) if days >= LEAST else 0.0
        self.deliveries.append(ordered)
        self.stock += self.deliveries.popleft()
        demand = float(self.coming_demand.popleft())
        lost, self.stock = max(0.0, demand - self.stock), max(0.0, self.stock - demand)
        self.recent.append(demand)
        cost = self.holding * self.stock + self.lost * lost + self.order * (ordered > 0)
        return self._seen(), -cost, False, not self.coming_demand, {}

    @property
    def pace(self) -> float:
        """Mean demand of the last week, of one a day at least."""
        return max(1.0, sum(self.recent) / len(self.recent))

    def _seen(self) -> Any:
        numbers = [self.stock, *self.deliveries, self.recent[-1]]
        return np.array([*(each / self.pace for each in numbers), math.log(self.pace)], dtype=np.float32)


def units(observation: Any, s: float, S: float) -> Any:
    """(s, S): with less than `s` units at hand and on order, order up to `S`."""
    pace = math.exp(observation[-1])
    position = float(sum(observation[: LEAD + 1])) * pace
    return _order((S - position) / pace if position < s else 0.0)


def days(observation: Any, s: float, S: float) -> Any:
    """(s, S) in days of recent demand, so that it follows the seasons."""
    position = float(sum(observation[: LEAD + 1]))
    return _order(S - position if position < s else 0.0)


def _order(days_of_demand: float) -> Any:
    return np.array([min(max(days_of_demand, 0.0), MOST)], dtype=np.float32)
