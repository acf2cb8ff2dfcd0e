"""The names of naive opponents that `evaluate.baselines` may have."""

from __future__ import annotations

from collections.abc import Sequence

from refit.config import Params, nearest
from refit.errors import UserError
from refit.problems import kind_of

BEST_FEATURE = "best_feature"


def check_baselines(params: Params, features: Sequence[str]) -> None:
    """Check the names of `evaluate.baselines`.

    Raises:
        UserError: there is neither such an opponent nor such a feature.
    """
    offered = names_of(params)
    for name in params.evaluate.baselines or ():
        if not offered:
            raise UserError(
                f"params.yaml: evaluate.baselines: task {params.train.task!r} has a single naive opponent; leave it out"
            )
        if name not in (*offered, *features):
            near = nearest(name, [*offered, *features])
            raise UserError(
                f"params.yaml: evaluate.baselines: {name!r} is neither a feature nor one of {', '.join(offered)}{near}"
            )


def names_of(params: Params) -> tuple[str, ...]:
    """The naive opponents of a project, without its features; empty if its kind of problem has only one."""
    if forecast := params.forecast:
        newest = ("season_before", "last_value") if forecast.season > 1 else ("last_value",)
        return (*newest, *forecast.calendar_seasons, "moving_average", "drift")
    kind = kind_of(params.train.task)
    if kind.probabilities:
        return ("base_rate", BEST_FEATURE)
    return ("mean", "median") if kind.intervals else ()
