"""The points of a learner's search space: those of a grid, the given arguments, and those that a sampler suggests."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from refit.config.train import Arguments, SearchParams, TuningParams, flat
from refit.learners import Spec
from refit.problems import metric_named

if TYPE_CHECKING:
    import optuna

PLACE = " (place)"  # follows an argument's name for Optuna, which cannot hold lists, but their places among the choices
RANGE_POINTS = 5  # grid points of a range without a step


@dataclass(frozen=True)
class Search:
    """A search space with its settings."""

    space: Mapping[str, SearchParams]
    tuning: TuningParams
    metric: str

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        return "minimize" if metric_named(self.metric).gain(0.0, 1.0) > 0 else "maximize"


def planned(spec: Spec, search: Search) -> tuple[list[Arguments], bool]:
    """Return the arguments that are tried first, and whether no others are.

    They are all points of a grid, or of a space that has no more of them than there are trials; else those of the
    params.
    """
    fixed = flat(spec.params)
    if search.tuning.sampler == "grid":
        return list(_combined(search, [_points(space) for space in search.space.values()], fixed)), True
    every = [_every_value(space) for space in search.space.values()]
    if 0 < math.prod(map(len, every)) <= search.tuning.trials:
        return list(_combined(search, every, fixed)), True
    given = {name: fixed[name] for name in search.space if name in fixed}
    is_inside = bool(given) and all(_within(search.space[name], value) for name, value in given.items())
    return [given] if is_inside else [], False


def _combined(search: Search, values: Sequence[Sequence[Any]], fixed: Arguments) -> Iterator[Arguments]:
    """Yield the different combinations of values, without arguments whose condition does not hold."""
    seen: set[str] = set()
    for chosen in itertools.product(*values):
        point: Arguments = {}
        for (name, space), value in zip(search.space.items(), chosen, strict=True):
            if space.is_active({**fixed, **point}):
                point[name] = value
        if repr(point) not in seen:
            seen.add(repr(point))
            yield point


def _every_value(space: SearchParams) -> Sequence[Any]:
    """All values that a sampler could suggest; none if there is no end of them."""
    if space.choices or space.step is not None:
        return _points(space)
    if not space.whole or space.log:
        return ()
    assert space.low is not None
    assert space.high is not None
    return range(int(space.low), int(space.high) + 1)


def _points(space: SearchParams) -> list[Any]:
    if space.choices:
        return [_plain(choice) for choice in space.choices]
    assert space.low is not None
    assert space.high is not None
    if space.step is not None:
        count = int((space.high - space.low) / space.step + 1e-9) + 1
        return [space.low + index * space.step for index in range(count)]
    spread = np.geomspace if space.log else np.linspace
    points = spread(space.low, space.high, RANGE_POINTS)
    return list(dict.fromkeys(round(float(x)) if space.whole else float(f"{x:.12g}") for x in points))


def _within(space: SearchParams, value: Any) -> bool:
    if space.choices:
        return _plain(value) in [_plain(choice) for choice in space.choices]
    assert space.low is not None
    assert space.high is not None
    return isinstance(value, int | float) and space.low <= value <= space.high


def _plain(choice: Any) -> Any:
    return list(choice) if isinstance(choice, tuple) else choice


def _has_lists(space: SearchParams) -> bool:
    return any(isinstance(choice, tuple) for choice in space.choices)


def enqueued(point: Arguments, space: Mapping[str, SearchParams]) -> Arguments:
    """A planned point as `suggested` asks Optuna for it.

    >>> space = {"hidden": SearchParams(choices=((64,), (128, 64))), "dropout": SearchParams(low=0.0, high=0.5)}
    >>> enqueued({"hidden": [128, 64], "dropout": 0.1}, space)
    {'hidden (place)': 1, 'dropout': 0.1}
    """
    point = {name: _plain(value) for name, value in point.items()}
    choices = {name: [_plain(each) for each in space[name].choices] for name in point if _has_lists(space[name])}
    places = {f"{name}{PLACE}": every.index(point[name]) for name, every in choices.items()}
    return {**places, **{name: value for name, value in point.items() if name not in choices}}


def suggested(trial: optuna.Trial, space: Mapping[str, SearchParams], params: Arguments) -> Arguments:
    """Return the sampled arguments of a trial, without those whose condition does not hold."""
    arguments: Arguments = {}
    for name, wanted in space.items():
        if not wanted.is_active({**params, **arguments}):
            continue
        if wanted.choices:
            choices = [_plain(choice) for choice in wanted.choices]
            if _has_lists(wanted):
                arguments[name] = choices[trial.suggest_int(f"{name}{PLACE}", 0, len(choices) - 1)]
            else:
                arguments[name] = trial.suggest_categorical(name, choices)
            continue
        assert wanted.low is not None
        assert wanted.high is not None
        if wanted.whole:
            step = 1 if wanted.step is None else int(wanted.step)
            arguments[name] = trial.suggest_int(name, int(wanted.low), int(wanted.high), log=wanted.log, step=step)
        else:
            arguments[name] = trial.suggest_float(name, wanted.low, wanted.high, log=wanted.log, step=wanted.step)
    return arguments


def most_epochs(space: Mapping[str, SearchParams]) -> int:
    """The most epochs that a point of the space trains for; 0 if epochs are not searched."""
    names = [name for name in space if re.fullmatch(r"(params\.)*(max_)?epochs", name)]  # of a learner within, too
    return max((max(_points(space[name])) for name in names), default=0)
