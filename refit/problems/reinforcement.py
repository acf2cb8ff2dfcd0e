"""Reinforcement: a row is an episode, a model is a policy, and its prediction for a row is the return that it earns."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from refit.errors import RefitError
from refit.metrics import Metric
from refit.problems.contract import Options
from refit.problems.unlabelled import Unlabelled

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from refit.metrics.formulas import Formula
    from refit.problems.contract import Floats, Labels, Naive

RANDOM = "random"  # the opponent that draws its actions
MOST_CANDIDATES = 10_000  # values of a heuristic's arguments that are tried
IMPORTED = re.compile(r"[A-Za-z_][\w.]*[.:][A-Za-z_]\w*")  # package.module.Class or package.module:Class

Number = int | float | str | bool


class Heuristic(Options):
    """A fixed rule, an opponent that every policy has to beat: a function of the observation that gives the action."""

    rule: str = Field(description="`file.py:function` of the project, or an import path")
    choices: dict[str, tuple[Number, ...]] = Field(
        {}, description="its arguments by name: the values that are all tried on the training rows; the best counts"
    )

    def candidates(self) -> Iterator[dict[str, Number]]:
        """All combinations of the values of its arguments.

        >>> list(Heuristic(rule="env.py:wait", choices={"low": (1, 2)}).candidates())
        [{'low': 1}, {'low': 2}]
        """
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    @field_validator("choices")
    @classmethod
    def _not_endless(cls, value: dict[str, tuple[Number, ...]]) -> dict[str, tuple[Number, ...]]:
        if empty := [name for name, values in value.items() if not values]:
            raise ValueError(f"{empty[0]} has no value to try")
        if (count := math.prod(len(values) for values in value.values())) > MOST_CANDIDATES:
            raise ValueError(f"{count:,} combinations; {MOST_CANDIDATES:,} are the most that are tried")
        return value


class ReinforcementOptions(Options):
    """What is played, and by which rules its players are judged."""

    environment: str = Field(
        min_length=1, description="gymnasium's id, an import path, or `file.py:Class` of the project"
    )
    params: dict[str, Any] = Field({}, description="arguments of the environment")
    seed: str = Field("seed", description="the feature with the seed of each episode")
    time_limit: int | None = Field(
        None, ge=1, description="steps after which an episode is cut off; default: the environment's own limit"
    )
    heuristics: tuple[Heuristic, ...] = Field((), description="fixed rules; the best one is the opponent")

    def code(self) -> tuple[str, ...]:
        """Every class and function that is not gymnasium's own."""
        own = [self.environment] if ":" in self.environment or IMPORTED.fullmatch(self.environment) else []
        return tuple(dict.fromkeys([*own, *(each.rule for each in self.heuristics)]))


@dataclass(frozen=True)
class Reinforcement(Unlabelled):
    """A prediction is the return of the one episode that the policy has played with the row's seed and features.

    All policies play the same episodes (common random numbers), so their returns are compared pair by pair.

    >>> Reinforcement().score("mean_return", [0, 0], [1.0, 2.0])
    1.5
    """

    name: ClassVar[str] = "reinforcement"
    task: ClassVar[str] = "reinforcement"
    demand: ClassVar[str] = "no finite return"
    played: ClassVar[bool] = True
    options_class: ClassVar[type[Options] | None] = ReinforcementOptions
    inexplicable: ClassVar[str] = (
        "a prediction is the return of an episode: features set its scene, and the policy sees observations instead"
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mean_return", "mean return", True, (-math.inf, math.inf), in_label_units=True),
        Metric("return_spread", "standard deviation of returns", False, comparable=False),
    )
    default_metric: ClassVar[str] = "mean_return"

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        import numpy as np

        invalid: NDArray[np.bool_] = ~np.isfinite(predicted)
        return invalid

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The best of random actions and the heuristics, with the arguments that earn most, on these rows."""
        from refit.problems import episodes

        if rows is None:
            raise RefitError("the opponent of a policy plays episodes: it needs the rows")
        tried: dict[str, tuple[float, Mapping[str, Number]]] = {}
        with episodes.arena(self) as arena:
            scenes = arena.scenes(rows)
            for opponent, arguments in self._opponents():
                earned = float(arena.returns(scenes, episodes.player(self, opponent, arguments)).mean())
                if opponent not in tried or earned > tried[opponent][0]:
                    tried[opponent] = (earned, arguments)
        best = max(tried, key=lambda name: tried[name][0])  # of equal ones the first
        return {
            "opponent": best,
            "arguments": dict(tried[best][1]),
            "earned": {name: each[0] for name, each in tried.items()},
            "scene": rows.column_names,
        }

    def _opponents(self) -> Iterator[tuple[str, Mapping[str, Number]]]:
        yield RANDOM, {}
        for heuristic in self.options.heuristics:
            yield from ((heuristic.rule, arguments) for arguments in heuristic.candidates())

    def guess(self, naive: Naive, rows: int) -> Floats:
        raise RefitError("the opponent of a policy plays episodes: it needs the rows")

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        """The returns of the opponent in the episodes of a table."""
        from refit.problems import episodes

        with episodes.arena(self) as arena:
            scenes = arena.scenes(table.select(naive["scene"]))
            return arena.returns(scenes, episodes.player(self, naive["opponent"], naive["arguments"]))

    def formula(self, metric: str) -> Formula:
        from refit.metrics.formulas import RETURNS

        return RETURNS[metric]
