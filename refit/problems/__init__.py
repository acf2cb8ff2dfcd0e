"""The kinds of problems: one file each, named as `train.task` names it. Reading params needs no numpy."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from refit.errors import RefitError
from refit.metrics import LIMITS, Metric
from refit.problems.project_module import file_of

if TYPE_CHECKING:
    from refit.problems.contract import Problem

__all__ = [
    "OWN_KINDS",
    "is_kind",
    "kind_of",
    "kinds",
    "metric_named",
    "metric_words",
    "output_names",
    "problem_of",
    "tasks",
]

PLUGINS = "refit.problems"  # entry points of installed packages that add kinds: NAME = module:Class
_KINDS = {
    "binary": "refit.problems.binary:Binary",
    "multiclass": "refit.problems.multiclass:Multiclass",
    "regression": "refit.problems.regression:Regression",
    "forecast": "refit.problems.forecast:Forecast",
    "anomaly": "refit.problems.anomaly:Anomaly",
    "association": "refit.problems.association:Association",
    "clustering": "refit.problems.clustering:Clustering",
    "reinforcement": "refit.problems.reinforcement:Reinforcement",
    "reduction": "refit.problems.reduction:Reduction",
}
OWN_KINDS = tuple(_KINDS)


def kind_of(name: str) -> type[Problem]:
    """The class of a kind of problem.

    Raises:
        RefitError: there is no such kind.
    """
    entry = _KINDS.get(name) or _plugins().get(name)
    if entry is None:
        raise RefitError(f"problems of kind {name!r} are unknown; there are {', '.join(kinds())}: install its package")
    module, _, cls = entry.partition(":")
    kind: type[Problem] = getattr(importlib.import_module(module), cls)
    return kind


def output_names(task: str, classes: Iterable[str]) -> tuple[str, ...]:
    """Names of the columns of predictions; none if a prediction is one number.

    >>> output_names("anomaly", ()), output_names("regression", ())
    (('score', 'log_volume', 'flagged'), ())
    """
    return tuple(classes) or kind_of(task).parts


def is_kind(name: object) -> bool:
    """Whether there is such a kind. Packages are looked through only for a name that is none of Refit's own."""
    return isinstance(name, str) and (name in _KINDS or name in _plugins())


def kinds() -> tuple[str, ...]:
    """The names of all kinds: Refit's own, then those of installed packages."""
    return (*_KINDS, *(name for name in _plugins() if name not in _KINDS))


def tasks() -> tuple[str, ...]:
    """What learners can declare: the kinds of predictions."""
    return tuple(dict.fromkeys(kind_of(name).task for name in kinds()))


@cache
def _plugins() -> Mapping[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=PLUGINS)}


def problem_of(
    name: str,
    classes: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
    sources: Mapping[str, str] | None = None,
) -> Problem:
    """A problem.

    Args:
        classes: of a multiclass problem, in the order of their codes.
        options: of a kind that has some (`train.problem`); without them it has labels and metrics, and judges nothing.
        sources: texts of the project's files that the options name.

    Raises:
        ValueError: an option is unknown or invalid.

    >>> problem_of("multiclass", ("cat", "dog")).shape(3)
    (3, 2)
    """
    kind = kind_of(name)
    checked = kind.options_class.model_validate_json(json.dumps(options)) if kind.options_class and options else None
    files = {file_of(each) for each in (checked.code() if checked else ())}  # no other text is ever run
    return kind(tuple(classes), checked, {name: text for name, text in (sources or {}).items() if name in files})


def metric_named(name: str) -> Metric:
    """The metric of a name, of any kind of problem; its range may differ between kinds.

    Raises:
        ValueError: there is no such metric.

    >>> metric_named("log_loss").words, metric_named("log_loss").higher_is_better
    ('log loss', False)
    """
    if (metric := _metric(name)) is None:
        raise ValueError(f"metric {name!r} is unknown; known are {', '.join(_metrics(kinds()))}")
    return metric


def metric_words(name: str) -> str:
    """What people call a metric; the name itself of anything else that is measured."""
    metric = _metric(name)
    return name if metric is None else metric.words


def _metric(name: str) -> Metric | None:
    return _metrics(tuple(_KINDS)).get(name) or _metrics(kinds()).get(name)


@cache
def _metrics(names: tuple[str, ...]) -> Mapping[str, Metric]:
    every = (*(each for name in names for each in kind_of(name).metrics), *LIMITS)
    metrics: dict[str, Metric] = {}
    for each in every:
        metrics.setdefault(each.name, each)
    return metrics
