"""A policy as it is stored and played: layers of numbers, applied to one observation at a time by numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.schemas.artifact import Part

if TYPE_CHECKING:
    from gymnasium import Env, Space

    from refit.problems.episodes import Act

Floats = NDArray[np.float32]
Head = Literal["choice", "clipped", "squashed"]

SPREAD, FARTHEST = 1e-8, 10.0  # of normalized observations, as stable-baselines3 has them


class PolicyForm(Part):
    """What `model.json` says of a policy; its numbers are in the file of weights."""

    head: Head  # choice: the largest output; clipped, squashed: outputs between -1 and 1, stretched to the bounds
    activation: Literal["tanh", "relu"]
    layers: int
    observations: int  # numbers of an observation
    actions: int  # choices, or numbers of an action
    normalized: bool


@dataclass(frozen=True)
class PolicyNetwork:
    """Chooses the action for an observation, always the same one.

    Each observation is computed by itself: in a batch, rounding would depend on the others, and so might an action.
    """

    form: PolicyForm
    arrays: Mapping[str, Floats]

    def agent(self, environment: Env[Any, Any], seed: int) -> Act:
        """Begin an episode (`refit.problems.episodes.Agent`); the policy draws no random numbers, and needs no seed.

        Raises:
            UserError: the environment has other observations or actions than the one that the policy was trained in.
        """
        seen, chosen = environment.observation_space, environment.action_space
        self._require_fit(seen, chosen)
        if self.form.head == "choice":
            return lambda observation: int(np.argmax(self._outputs(flat(seen, observation))))
        low, high = (np.asarray(bound, dtype=np.float64) for bound in (chosen.low, chosen.high))  # type: ignore[attr-defined]

        def act(observation: Any) -> NDArray[Any]:
            outputs = self._outputs(flat(seen, observation)).astype(np.float64).reshape(low.shape)
            share = np.tanh(outputs) if self.form.head == "squashed" else np.clip(outputs, -1.0, 1.0)
            stretched: NDArray[Any] = np.clip(low + (share + 1) / 2 * (high - low), low, high).astype(chosen.dtype)
            return stretched

        return act

    def _outputs(self, values: Floats) -> Floats:
        if self.form.normalized:
            spread = np.sqrt(self.arrays["observation.variance"] + SPREAD)
            values = np.clip((values - self.arrays["observation.mean"]) / spread, -FARTHEST, FARTHEST)
        for layer in range(self.form.layers):
            if layer:
                values = np.tanh(values) if self.form.activation == "tanh" else np.maximum(values, 0)
            values = self.arrays[f"layer{layer}.weight"] @ values + self.arrays[f"layer{layer}.bias"]
        return values

    def _require_fit(self, seen: Space[Any], chosen: Space[Any]) -> None:
        from gymnasium import spaces

        width = spaces.flatdim(seen)
        is_choice = isinstance(chosen, spaces.Discrete)
        actions = int(chosen.n) if isinstance(chosen, spaces.Discrete) else spaces.flatdim(chosen)
        if (width, actions, is_choice) != (self.form.observations, self.form.actions, self.form.head == "choice"):
            kind = "choices" if self.form.head == "choice" else "numbers"
            raise UserError(
                f"the policy was trained on observations of {self.form.observations} numbers and actions of "
                f"{self.form.actions} {kind}; the environment has {seen} and {chosen}"
            )


def flat(space: Space[Any], observation: Any) -> Floats:
    """An observation of any space as one row of numbers.

    Raises:
        UserError: one of them is not finite.
    """
    from gymnasium import spaces

    values = observation if isinstance(space, spaces.Box) else spaces.flatten(space, observation)
    row: Floats = np.asarray(values, dtype=np.float32).ravel()
    if not np.isfinite(row).all():
        raise UserError(f"the environment gave the observation {observation!r}; observations are finite numbers")
    return row
