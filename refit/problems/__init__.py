"""The kinds of problems: one file each, named as `train.task` names it. Reading params needs no numpy."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from refit.metrics import LIMITS, Metric

if TYPE_CHECKING:
    from refit.problems.contract import Problem

__all__ = ["KINDS", "kind_of", "metric_named", "metric_words", "problem_of"]

KINDS: dict[str, str] = {
    "binary": "refit.problems.binary:Binary",
    "multiclass": "refit.problems.multiclass:Multiclass",
    "regression": "refit.problems.regression:Regression",
    "forecast": "refit.problems.forecast:Forecast",
}


def kind_of(name: str) -> type[Problem]:
    """The class of a kind of problem.

    Raises:
        KeyError: there is no such kind.
    """
    module, _, cls = KINDS[name].partition(":")
    kind: type[Problem] = getattr(importlib.import_module(module), cls)
    return kind


def problem_of(name: str, classes: Iterable[str] = ()) -> Problem:
    """A problem.

    Args:
        classes: of a multiclass problem, in the order of their codes.

    >>> problem_of("multiclass", ("cat", "dog")).shape(3)
    (3, 2)
    """
    return kind_of(name)(tuple(classes))


def metric_named(name: str) -> Metric:
    """The metric of a name, of any kind of problem; its range may differ between kinds.

    Raises:
        ValueError: there is no such metric.

    >>> metric_named("log_loss").words, metric_named("log_loss").higher_is_better
    ('log loss', False)
    """
    known = _metrics(tuple(KINDS.values()))
    if name not in known:
        raise ValueError(f"metric {name!r} is unknown; known are {', '.join(known)}")
    return known[name]


def metric_words(name: str) -> str:
    """What people call a metric; the name itself of anything else that is measured."""
    known = _metrics(tuple(KINDS.values()))
    return known[name].words if name in known else name


@cache
def _metrics(_: tuple[str, ...]) -> Mapping[str, Metric]:
    every = (*(each for kind in KINDS for each in kind_of(kind).metrics), *LIMITS)
    known: dict[str, Metric] = {}
    for each in every:
        known.setdefault(each.name, each)
    return known
