"""The options of a reinforcement problem: what is played, and against which opponents."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

from pydantic import Field, JsonValue, field_validator

from refit.problems.contract import Options

__all__ = ["IMPORTED", "RANDOM", "Heuristic", "Number", "ReinforcementOptions"]

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
    """What is played, and against which rules policies are judged."""

    environment: str = Field(
        min_length=1, description="gymnasium's id, an import path, or `file.py:Class` of the project"
    )
    params: dict[str, JsonValue] = Field({}, description="arguments of the environment")
    seed: str = Field("seed", description="the feature with the seed of each episode")
    time_limit: int | None = Field(
        None,
        ge=1,
        json_schema_extra={"unit": "steps"},
        description="steps after which an episode is cut off; default: the environment's own limit",
    )
    heuristics: tuple[Heuristic, ...] = Field((), description="fixed rules; the best one is the opponent")

    def code(self) -> tuple[str, ...]:
        """Every class and function that is not gymnasium's own."""
        own = [self.environment] if ":" in self.environment or IMPORTED.fullmatch(self.environment) else []
        return tuple(dict.fromkeys([*own, *(each.rule for each in self.heuristics)]))
