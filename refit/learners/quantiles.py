"""How a learner is asked for a quantile of a number instead of its mean, where it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from refit.errors import UserError
from refit.learners.contract import Spec

# By library and class: the argument that takes the level, and what else it takes to be a quantile.
ARGUMENTS: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]] = {
    ("sklearn", "HistGradientBoostingRegressor"): ("quantile", {"loss": "quantile"}),
    ("sklearn", "GradientBoostingRegressor"): ("alpha", {"loss": "quantile"}),
    ("sklearn", "QuantileRegressor"): ("quantile", {}),
    ("lightgbm", "LGBMRegressor"): ("alpha", {"objective": "quantile"}),
    ("xgboost", "XGBRegressor"): ("quantile_alpha", {"objective": "reg:quantileerror"}),
}
BY_SPEC = ("baseline", "torch_tabular")  # ours, which take the level from the spec


def quantile_of(spec: Spec, level: float, *, where: str = "params.yaml: train.learners") -> Spec:
    """The same learner, asked for a quantile and judged by its pinball loss.

    Raises:
        UserError: it cannot be asked for one.

    >>> quantile_of(Spec("it", "xgboost.XGBRegressor", ("x",), task="regression"), 0.05).params
    {'objective': 'reg:quantileerror', 'quantile_alpha': 0.05}
    """
    asked = replace(spec, quantile=level, metric="pinball")
    if spec.kind in BY_SPEC:
        return asked
    if spec.kind == "relative" and "kind" in spec.params:  # quantiles of changes are changes to quantiles
        inner = replace(spec, kind=str(spec.params["kind"]), params=spec.params.get("params", {}))
        found = quantile_of(inner, level, where=f"{where}.params")
        return replace(asked, params={**spec.params, "params": found.params})
    path = spec.kind.replace(":", ".").split(".")
    if (path[0], path[-1]) not in ARGUMENTS or spec.source:
        known = ", ".join([*(name for _, name in ARGUMENTS), *BY_SPEC])
        raise UserError(
            f"learner {spec.kind!r} cannot be asked for a quantile; {known} can, and 'relative' around one: enable "
            f"those alone, or set train.intervals.by: residuals ({where}.kind)"
        )
    argument, others = ARGUMENTS[path[0], path[-1]]
    return replace(asked, params={**spec.params, **others, argument: level})
