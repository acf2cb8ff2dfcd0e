"""Reinforcement: a row is an episode, a model is a policy, and its prediction for a row is the return that it earns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from refit.errors import RefitError
from refit.metrics import Metric
from refit.problems.contract import Guess, Options
from refit.problems.episode_options import RANDOM, Number, ReinforcementOptions
from refit.problems.unlabelled import Unlabelled

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from refit.metrics.formulas import Formula
    from refit.problems.contract import Floats, Labels, Naive


class Opponent(Guess):
    """The opponent of policies, with what each of those tried has earned."""

    opponent: str  # `random`, or the rule of a heuristic
    arguments: Mapping[str, Number]
    earned: Mapping[str, float]  # mean return, by opponent
    features: tuple[str, ...] = Field(alias="scene")  # of an episode


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
        from refit.problems.episodes import agent_of, open_environment

        if rows is None:
            raise RefitError("the opponent of a policy plays episodes: it needs the rows")
        tried: dict[str, tuple[float, Mapping[str, Number]]] = {}
        with open_environment(self) as environment:
            episodes = environment.episodes(rows)
            for opponent, arguments in self._opponents():
                earned = float(environment.returns(episodes, agent_of(self, opponent, arguments)).mean())
                if opponent not in tried or earned > tried[opponent][0]:
                    tried[opponent] = (earned, arguments)
        best = max(tried, key=lambda name: tried[name][0])  # of equal ones the first
        return Opponent(
            opponent=best,
            arguments=tried[best][1],
            earned={name: each[0] for name, each in tried.items()},
            features=tuple(rows.column_names),
        ).to_json()

    def _opponents(self) -> Iterator[tuple[str, Mapping[str, Number]]]:
        yield RANDOM, {}
        for heuristic in self.options.heuristics:
            yield from ((heuristic.rule, arguments) for arguments in heuristic.candidates())

    def guess(self, naive: Naive, rows: int) -> Floats:
        raise RefitError("the opponent of a policy plays episodes: it needs the rows")

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        """The returns of the opponent in the episodes of a table.

        Raises:
            RefitError: it is none of the problem's: a stored guess must not name code that is not trusted.
        """
        from refit.problems.episodes import agent_of, open_environment

        guess = Opponent.stored(naive)
        if guess.opponent not in {RANDOM, *(heuristic.rule for heuristic in self.options.heuristics)}:
            raise RefitError(f"opponent {guess.opponent!r} is none of train.problem.heuristics; train again")
        with open_environment(self) as environment:
            episodes = environment.episodes(table.select(list(guess.features)))
            return environment.returns(episodes, agent_of(self, guess.opponent, guess.arguments))

    def formula(self, metric: str) -> Formula:
        from refit.metrics.formulas import RETURNS

        return RETURNS[metric]
