"""The state of a training of a policy between two updates: all that it needs to go on with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from refit.learners.contract import CurvePoint
from refit.learners.networks.policies.network import PolicyForm, PolicyNetwork
from refit.learners.networks.policies.training_episodes import Place, TrainingEpisodes

__all__ = ["CheckHistory", "PolicyState"]

T = TypeVar("T")
Array = NDArray[Any]
COUNTS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls")  # of a model of stable-baselines3
SHARES = ("_current_progress_remaining", "exploration_rate")
SEEN = ("_last_obs", "_last_episode_starts", "_last_original_obs")
REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")  # of a replay buffer


@dataclass
class CheckHistory:
    """The checks of a training so far, and the policy of the best."""

    curve: list[CurvePoint] = field(default_factory=list)
    taken: int = 0  # index of the best check
    best: PolicyNetwork | None = None

    def add(self, point: CurvePoint, network: PolicyNetwork, gain: Callable[[float, float], float]) -> None:
        self.curve.append(point)
        if self.best is None or gain(point.validation, self.curve[self.taken].validation) > 0:
            self.best, self.taken = network, len(self.curve) - 1


class PolicyEntries(BaseModel):
    """The numbers of a training, stored as JSON next to its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    finished: bool
    next_check: int  # steps
    checked: int
    curve: tuple[CurvePoint, ...]
    taken: int
    best: PolicyForm | None
    last: PolicyForm | None  # of a finished training
    counts: Mapping[str, int] = {}
    shares: Mapping[str, float] = {}
    places: tuple[Place, ...] = ()  # of its environments
    numpy_random: tuple[str, int, int, float] | None = None  # without its array
    action_random: Mapping[str, Any] = {}
    buffer_position: int = 0
    buffer_full: bool = False
    scales: Mapping[str, float] = {}  # counts of the running means of observations and returns


@dataclass
class PolicyState:
    """The state of a training; `model` is None until it is made by `make`, or restored."""

    make: Callable[[], Any]
    history: CheckHistory
    next_check: int
    steps: int  # to take
    checked: int = 0
    model: Any = None
    last: PolicyNetwork | None = None  # once it is finished

    def tensors(self) -> dict[str, Tensor]:
        arrays: dict[str, Array] = {}
        for name, network in (("best", self.history.best), ("last", self.last)):
            arrays |= _in_group(name, network.arrays if network else {})
        tensors = {name: torch.from_numpy(np.array(each)) for name, each in arrays.items()}
        return tensors if self.last else tensors | self._learned() | self._played()

    def _learned(self) -> dict[str, Tensor]:
        model = self.model
        tensors = {"torch_random": torch.get_rng_state()}
        states, variables = model._get_torch_save_params()
        for name in states:
            if name.endswith("optimizer"):
                moments = _inner(model, name).state_dict()["state"]
                flat = {f"{index}/{key}": value for index, each in moments.items() for key, value in each.items()}
            else:
                flat = _inner(model, name).state_dict()
            tensors |= {f"learned/{name}/{key}": torch.as_tensor(value) for key, value in flat.items()}
        return tensors | {f"variable/{name}": _inner(model, name) for name in variables}

    def _played(self) -> dict[str, Tensor]:
        model = self.model
        arrays: dict[str, Array] = {"numpy_random": _numpy_random()[1].astype(np.int64)}
        arrays |= {f"seen/{name}": seen for name in SEEN if (seen := getattr(model, name, None)) is not None}
        for index, environment in enumerate(_episodes(model)):
            arrays |= _in_group(f"environment{index}", environment.arrays())
        if (buffer := getattr(model, "replay_buffer", None)) is not None:
            filled = buffer.buffer_size if buffer.full else buffer.pos
            arrays |= {f"buffer/{name}": getattr(buffer, name)[:filled] for name in REPLAYED}
        for name, scale in _scales(model).items():
            arrays |= {f"scale/{name}/mean": np.asarray(scale.mean), f"scale/{name}/var": np.asarray(scale.var)}
        if (normalized := model.get_vec_normalize_env()) is not None:
            arrays["scale/returns_so_far"] = normalized.returns
        return {name: torch.from_numpy(np.array(each)) for name, each in arrays.items()}

    def entries(self) -> PolicyEntries:
        model, history = self.model, self.history
        entries = PolicyEntries(
            finished=self.last is not None,
            next_check=self.next_check,
            checked=self.checked,
            curve=tuple(history.curve),
            taken=history.taken,
            best=history.best.form if history.best else None,
            last=self.last.form if self.last else None,
        )
        if self.last:
            return entries
        name, _, *numbers = _numpy_random()
        buffer = getattr(model, "replay_buffer", None)
        playing = {
            "counts": {each: int(getattr(model, each)) for each in COUNTS if hasattr(model, each)},
            "shares": {each: float(getattr(model, each)) for each in SHARES if hasattr(model, each)},
            "places": tuple(environment.place for environment in _episodes(model)),
            "numpy_random": (name, *numbers),
            "action_random": model.action_space.np_random.bit_generator.state,
            "buffer_position": 0 if buffer is None else buffer.pos,
            "buffer_full": buffer is not None and buffer.full,
            "scales": {each: float(scale.count) for each, scale in _scales(model).items()},
        }
        return entries.model_copy(update=playing)

    def restore(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
        """Make the model again and bring it to where it was: it has played the same, and draws the same.

        Raises:
            ValueError: an environment does not repeat its current episode.
        """
        entries = PolicyEntries.model_validate(content)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        best, last = (
            None if form is None else PolicyNetwork(form, _group(arrays, name))
            for name, form in (("best", entries.best), ("last", entries.last))
        )
        if last is None:
            model = self.make()
            try:
                for index, (environment, place) in enumerate(zip(_episodes(model), entries.places, strict=True)):
                    environment.go_to(place, _group(arrays, f"environment{index}"))
            except Exception:
                model.get_env().close()
                raise
            _restore_learned(model, tensors)
            _restore_played(model, entries, arrays)
            torch.set_rng_state(tensors["torch_random"])
            self.model = model
        history = self.history
        history.curve[:], history.taken, history.best = entries.curve, entries.taken, best
        self.next_check, self.checked, self.last = entries.next_check, entries.checked, last

    def reached(self) -> str | None:
        return None if self.last else f"{self.model.num_timesteps:,} of {self.steps:,} steps"


def _restore_learned(model: Any, tensors: Mapping[str, Tensor]) -> None:
    states, variables = model._get_torch_save_params()
    for name in states:
        flat, inner = _group(tensors, f"learned/{name}"), _inner(model, name)
        if name.endswith("optimizer"):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in flat.items():
                index, _, moment = key.partition("/")
                moments.setdefault(int(index), {})[moment] = value
            inner.load_state_dict(inner.state_dict() | {"state": moments})
        else:
            inner.load_state_dict(flat)
    with torch.no_grad():
        for name in variables:
            _inner(model, name).copy_(tensors[f"variable/{name}"])


def _restore_played(model: Any, entries: PolicyEntries, arrays: Mapping[str, Array]) -> None:
    for name, value in (*entries.counts.items(), *entries.shares.items(), *_group(arrays, "seen").items()):
        setattr(model, name, value)
    if (buffer := getattr(model, "replay_buffer", None)) is not None:
        for name, values in _group(arrays, "buffer").items():
            getattr(buffer, name)[: len(values)] = values
        buffer.pos, buffer.full = entries.buffer_position, entries.buffer_full
    for name, scale in _scales(model).items():
        scale.mean, scale.var = (arrays[f"scale/{name}/{each}"] for each in ("mean", "var"))
        scale.count = entries.scales[name]
    if (normalized := model.get_vec_normalize_env()) is not None:
        normalized.returns = arrays["scale/returns_so_far"]
    model.action_space.np_random.bit_generator.state = dict(entries.action_random)
    assert entries.numpy_random is not None
    name, *numbers = entries.numpy_random
    np.random.set_state((name, arrays["numpy_random"].astype(np.uint32), *numbers))  # type: ignore[arg-type]


def _numpy_random() -> tuple[str, Array, int, int, float]:
    """The state of numpy's own generator, from which batches are drawn."""
    return cast("tuple[str, Array, int, int, float]", np.random.get_state())


def _episodes(model: Any) -> list[TrainingEpisodes]:
    environments: list[TrainingEpisodes] = model.get_env().unwrapped.envs
    return environments


def _scales(model: Any) -> dict[str, Any]:
    """The running means and variances of a training with `normalize`."""
    normalized: VecNormalize | None = model.get_vec_normalize_env()
    return {} if normalized is None else {"observations": normalized.obs_rms, "returns": normalized.ret_rms}


def _inner(model: Any, path: str) -> Any:
    for name in path.split("."):
        model = getattr(model, name)
    return model


def _in_group(group: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{group}/{name}": array for name, array in arrays.items()}


def _group(named: Mapping[str, T], group: str) -> dict[str, T]:
    return {name.removeprefix(f"{group}/"): each for name, each in named.items() if name.startswith(f"{group}/")}
