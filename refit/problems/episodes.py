"""Plays episodes: builds the environment of a problem, sets each row's episode, and adds up what an agent earns."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from refit.errors import RefitError, UserError, message_of
from refit.extras import install_extra
from refit.problems.episode_options import IMPORTED, RANDOM, Number, ReinforcementOptions
from refit.problems.project_module import failure, file_of, project_module

if TYPE_CHECKING:
    import pyarrow as pa
    from gymnasium import Env

    from refit.problems.contract import Floats, Problem

__all__ = ["Act", "Agent", "Environment", "Episode", "agent_of", "library", "make_env", "open_environment"]

MOST_STEPS = 100_000  # of an episode
EVALUATION, TRAINING = 1, 2  # what a seed is for: seeds of the two are equal by chance alone, one in 2**32
WHERE = "params.yaml: train.problem"

ResetOptions = dict[str, Any]  # the `options` of gymnasium's `Env.reset`
Value = float | str | NDArray[np.float64] | None  # of a feature
Act = Callable[[Any], Any]  # the action for an observation
Agent = Callable[["Env[Any, Any]", int], Act]  # begins an episode, given a seed for its own random numbers


@dataclass(frozen=True)
class Episode:
    """What sets an episode apart from the others: its seed, and the values of the other features."""

    seed: int
    values: Mapping[str, Value]

    @property
    def options(self) -> ResetOptions | None:
        """The `options` of `Env.reset`: None where nothing but the seed is given."""
        return dict(self.values) or None


@dataclass(frozen=True)
class Environment:
    """An environment in which all agents play the same episodes."""

    problem: Problem
    env: Env[Any, Any]

    @property
    def options(self) -> ReinforcementOptions:
        return cast(ReinforcementOptions, self.problem.options)

    def episodes(self, table: pa.Table) -> list[Episode]:
        """The episode of each row of features.

        Raises:
            UserError: a row has no seed.
        """
        name = self.options.seed
        if name not in table.column_names:
            raise UserError(
                f"the features have no column {name!r} with the seed of each episode; they have "
                f"{', '.join(table.column_names)} ({WHERE}.seed)"
            )
        seeds = table.column(name).to_pylist()
        bad = [seed for seed in seeds if not _is_seed(seed)]
        if bad:
            raise UserError(
                f"{len(bad):,} episodes of {len(seeds):,} have no whole number from 0 on as their seed, such as "
                f"{bad[0]!r}; correct column {name!r} ({WHERE}.seed)"
            )
        columns = {each: table.column(each).to_pylist() for each in table.column_names if each != name}
        return [
            Episode(int(seed), {each: _value(values[row]) for each, values in columns.items()})
            for row, seed in enumerate(seeds)
        ]

    def returns(self, episodes: Sequence[Episode], agent: Agent) -> Floats:
        """(episodes,) the sum of the rewards that an agent earns in each."""
        return np.array([self.play(episode, agent) for episode in episodes], dtype=np.float64)

    def play(self, episode: Episode, agent: Agent) -> float:
        """The sum of the rewards of one episode.

        Raises:
            UserError: the environment or the agent fails, a reward is not finite, or the episode does not end.
        """
        env, earned = self.env, 0.0
        with environment_errors(self.options.environment):
            observation, _ = env.reset(seed=seed_for(EVALUATION, episode.seed), options=episode.options)
            act = agent(env, seed_for(EVALUATION, episode.seed, 1))
            for _ in range(MOST_STEPS):
                observation, reward, terminated, truncated, _ = env.step(act(observation))
                earned += finite_reward(reward, self.options.environment)
                if terminated or truncated:
                    return earned
        raise UserError(
            f"environment {self.options.environment!r}: the episode of seed {episode.seed} has not ended after "
            f"{MOST_STEPS:,} steps; set {WHERE}.time_limit, or let the environment end it"
        )

    def check(self, episode: Episode) -> None:
        """Check that the environment follows gymnasium's rules, and that an episode is the same whenever it is played.

        Raises:
            UserError: it does not.
        """
        from gymnasium.utils.env_checker import check_env

        name = self.options.environment
        require_spaces(self.env, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_env(_with_default(self.env, episode, name), skip_render_check=True, skip_close_check=True)
        except RefitError:
            raise
        except Exception as error:
            raise UserError(
                f"environment {name!r} breaks gymnasium's rules: {failure(error, file_of(name))}; correct it ({WHERE})"
            ) from error
        at_random = agent_of(self.problem, RANDOM, {})
        other = Episode(episode.seed + 1, episode.values)
        first, _, again = self.returns([episode, other, episode], at_random)
        if first != again:
            raise UserError(
                f"environment {name!r} is not the same after reset(seed=...): random actions earned {first:g}, and "
                f"{again:g} when played again; draw every chance from self.np_random, and reset all that it keeps"
            )


@contextmanager
def open_environment(problem: Problem) -> Iterator[Environment]:
    """The environment of a problem, closed at the end of the block.

    Raises:
        UserError: the environment cannot be built, or gymnasium is not installed.
    """
    env = make_env(problem)
    try:
        yield Environment(problem, env)
    finally:
        env.close()


def make_env(problem: Problem) -> Env[Any, Any]:
    """The environment that a problem names.

    Raises:
        UserError: it cannot be built, or gymnasium is not installed.
    """
    gymnasium = library()
    options = cast(ReinforcementOptions, problem.options)
    name = options.environment
    try:
        if file_of(name) is None and not IMPORTED.fullmatch(name):
            limit = {} if options.time_limit is None else {"max_episode_steps": options.time_limit}
            made: Env[Any, Any] = gymnasium.make(name, disable_env_checker=True, **limit, **options.params)
            return made
        made = _named(name, problem.sources)(**options.params)
    except (RefitError, ImportError) as error:
        raise UserError(f"environment {name!r} cannot be imported: {message_of(error)} ({WHERE}.environment)") from None
    except Exception as error:
        raise UserError(
            f"environment {name!r} cannot be built: {failure(error, file_of(name))}; name gymnasium's id, an import "
            f"path or file.py:Class, and its arguments under params ({WHERE}.environment)"
        ) from error
    if not isinstance(made, gymnasium.Env):
        raise UserError(f"environment {name!r} is a {type(made).__name__}, no gymnasium.Env ({WHERE}.environment)")
    limited: Env[Any, Any] = (
        made if options.time_limit is None else gymnasium.wrappers.TimeLimit(made, options.time_limit)
    )
    return limited


def library() -> Any:
    """The module `gymnasium`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import gymnasium
    except ModuleNotFoundError:
        raise UserError(
            "reinforcement needs gymnasium and stable-baselines3, which are not installed; install them next to Refit: "
            f"{install_extra('rl')} (params.yaml: train.task)"
        ) from None
    return gymnasium


def require_spaces(environment: Env[Any, Any], name: str) -> None:
    """Check that a policy can read the observations and choose the actions of an environment.

    Raises:
        UserError: it cannot.
    """
    from gymnasium import spaces

    seen, chosen = environment.observation_space, environment.action_space
    if not getattr(seen, "is_np_flattenable", False):
        raise UserError(f"environment {name!r}: observations {seen} are no fixed number of numbers ({WHERE})")
    if isinstance(chosen, spaces.Discrete):
        if int(chosen.start) == 0:
            return
        raise UserError(f"environment {name!r}: actions {chosen} begin at {int(chosen.start)}, let them begin at 0")
    if not isinstance(chosen, spaces.Box):
        raise UserError(
            f"environment {name!r}: actions {chosen} are not supported; one choice (Discrete) and numbers (Box) are"
        )
    if not chosen.is_bounded() or not np.issubdtype(chosen.dtype, np.floating):
        raise UserError(f"environment {name!r}: actions {chosen} have no bounds, or are no floats; give them both")


def agent_of(problem: Problem, opponent: str, arguments: Mapping[str, Number]) -> Agent:
    """An opponent: random actions, or a rule with some arguments.

    Raises:
        UserError: the rule cannot be imported.
    """
    if opponent == RANDOM:
        return _at_random
    try:
        rule = _named(opponent, problem.sources)
    except (RefitError, ImportError) as error:
        raise UserError(
            f"heuristic {opponent!r} cannot be imported: {message_of(error)} ({WHERE}.heuristics)"
        ) from None
    except Exception as error:
        said = failure(error, file_of(opponent))
        raise UserError(f"heuristic {opponent!r} cannot be imported: {said} ({WHERE}.heuristics)") from error

    def begin(environment: Env[Any, Any], seed: int) -> Act:
        def act(observation: Any) -> Any:
            try:
                action = rule(observation, **arguments)
            except Exception as error:
                raise failed(error, opponent, "heuristic") from error
            if not environment.action_space.contains(action):
                raise UserError(f"heuristic {opponent!r} chose {action!r}, no action of {environment.action_space}")
            return action

        return act

    return begin


def _at_random(environment: Env[Any, Any], seed: int) -> Act:
    environment.action_space.seed(seed)
    return lambda observation: environment.action_space.sample()


def seed_for(purpose: int, *seeds: int) -> int:
    """A seed of 32 bits.

    >>> seed_for(EVALUATION, 7) == seed_for(TRAINING, 7)
    False
    """
    return int(np.random.SeedSequence([purpose, *seeds]).generate_state(1)[0])


def finite_reward(reward: Any, name: str) -> float:
    """A reward as a number.

    Raises:
        UserError: it is not finite.
    """
    try:
        value = float(reward)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"environment {name!r} gave the reward {reward!r}; rewards are finite numbers ({WHERE})")
    return value


@contextmanager
def environment_errors(name: str) -> Iterator[None]:
    """Report a failure of an environment as a UserError, with the line of its file."""
    try:
        yield
    except RefitError:
        raise
    except Exception as error:
        raise failed(error, name, "environment") from error


def failed(error: Exception, name: str, what: str) -> UserError:
    """The error that an environment or a heuristic has failed."""
    return UserError(f"{what} {name!r} failed: {failure(error, file_of(name))}; correct it ({WHERE})")


def _named(name: str, sources: Mapping[str, str]) -> Any:
    """What a path names: in a project's file by its stored text, else in a module.

    Raises:
        ImportError: there is no such thing.
    """
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    file = file_of(name)
    if file is not None and file not in sources:
        raise ImportError(f"there is no file {file}")
    module = importlib.import_module(module_name) if file is None else project_module(file, sources[file])
    if not hasattr(module, attribute):
        raise ImportError(f"{file or module_name} has no {attribute}")
    return getattr(module, attribute)


def _with_default(env: Env[Any, Any], episode: Episode, name: str) -> Env[Any, Any]:
    """The bare environment, in one episode unless another is given: environments made of data need one."""
    import gymnasium

    class WithDefault(gymnasium.Wrapper[Any, Any, Any, Any]):
        def reset(self, *, seed: int | None = None, options: ResetOptions | None = None) -> Any:
            return self.env.reset(seed=seed, options=options or episode.options)

        def step(self, action: Any) -> Any:
            observation, reward, *others = self.env.step(action)
            finite_reward(reward, name)  # before the checker says that nan differs from nan
            return observation, reward, *others

    return WithDefault(env.unwrapped)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0 and float(value).is_integer()


def _value(value: Any) -> Value:
    """A value of a feature as environments are given it: a float, a text, or an array of floats; None if missing."""
    if isinstance(value, bool | int | float):
        return float(value)
    return np.asarray(value, dtype=np.float64) if isinstance(value, list) else value
