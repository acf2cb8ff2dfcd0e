"""Adapts a learner's spec to predict a quantile instead of the mean, for kinds that support it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.networks.architectures import ARCHITECTURES

# By library and class: the argument for the level, and the other arguments that quantile regression needs.
ARGUMENTS: Mapping[tuple[str, str], tuple[str, Mapping[str, object]]] = {
    ("sklearn", "HistGradientBoostingRegressor"): ("quantile", {"loss": "quantile"}),
    ("sklearn", "GradientBoostingRegressor"): ("alpha", {"loss": "quantile"}),
    ("sklearn", "QuantileRegressor"): ("quantile", {}),
    ("lightgbm", "LGBMRegressor"): ("alpha", {"objective": "quantile"}),
    ("xgboost", "XGBRegressor"): ("quantile_alpha", {"objective": "reg:quantileerror"}),
}
BY_SPEC = (
    "baseline",
    *ARCHITECTURES,
    "transformer",
    "torch_tabular",
)  # built-in kinds that read the level from the spec
AROUND = ("per_group", "relative")  # around a learner that can; a quantile of changes is the change to a quantile


def quantile_of(spec: Spec, level: float, *, where: str = "params.yaml: train.learners") -> Spec:
    """The same learner, predicting a quantile and scored by its pinball loss.

    Raises:
        UserError: this kind does not support quantiles.

    >>> quantile_of(Spec("it", "xgboost.XGBRegressor", ("x",), task="regression"), 0.05).params
    {'objective': 'reg:quantileerror', 'quantile_alpha': 0.05}
    """
    adapted = replace(spec, quantile=level, metric="pinball", early_stopping_metric="")
    if spec.kind in BY_SPEC:
        return adapted
    if spec.kind in AROUND and "kind" in spec.params:
        inner = replace(spec, kind=str(spec.params["kind"]), params=spec.params.get("params", {}))
        adapted_inner = quantile_of(inner, level, where=f"{where}.params")
        return replace(adapted, params={**spec.params, "params": adapted_inner.params})
    path = spec.kind.replace(":", ".").split(".")
    if (path[0], path[-1]) not in ARGUMENTS or spec.source:
        supported = ", ".join([*(name for _, name in ARGUMENTS), *BY_SPEC])
        raise UserError(
            f"learner {spec.kind!r} cannot be asked for a quantile; {supported} can, and {' and '.join(AROUND)} around "
            f"one: enable those alone, or set train.intervals.by: residuals ({where}.kind)"
        )
    argument, others = ARGUMENTS[path[0], path[-1]]
    return replace(adapted, params={**spec.params, **others, argument: level})
