"""Recursive forecasting: predicts one step at a time, from observed steps and its own earlier forecasts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from refit.config import ForecastParams, nearest
from refit.config.forecasting import HORIZON, HOURS
from refit.errors import UserError
from refit.learners.contract import Floats, Labels, Spec
from refit.learners.meta_learner import MetaLearner, numbers, replaced

if TYPE_CHECKING:
    import pyarrow as pa


class Recursive(MetaLearner):
    """Fits the next step to the newest steps, and feeds its own forecasts back until it reaches the horizon.

    The direct strategy, any other learner with the horizon as a feature, is fitted to every horizon. This one is fitted
    only to rows of horizon 1. Its errors accumulate over the steps, but few rows are enough for many horizons.

    `lags` is the name of the `Lag` features that hold the newest steps (`count` for `count_1h`, `count_2h`, ...),
    without a gap. `cycles` are features of the target that increase by 1 with each step and restart at 0, with their
    lengths, such as `{hour: 24}`; for the steps before the target they are counted back. It uses no other feature,
    because a feature that describes the target does not describe the steps before it.

    Source: Taieb, Bontempi, Atiya, Sorjamaa (2012), "A review and comparison of strategies for multi-step ahead time
    series forecasting", section 3.
    """

    arguments: ClassVar[Mapping[str, object]] = {"lags": None, "cycles": {}}

    def _check(self) -> None:
        features = self.spec.features
        if HORIZON not in features:
            raise UserError(f"learner 'recursive' is for train.task 'forecast': there is no feature {HORIZON!r}")
        self._lags = self._newest(str(self.settings["lags"]))
        for name in self.settings["cycles"]:
            if name not in features:
                raise UserError(f"{self._where}.params.cycles: no feature {name!r}{nearest(name, features)}")

    def _newest(self, name: str) -> tuple[str, ...]:
        """The lags from the newest step back, up to the first gap."""
        lag = re.compile(rf"{re.escape(name)}_(\d+)(mo|[mhdwy])")
        matches = [m for each in self.spec.features if (m := lag.fullmatch(each))]
        # Only lags in the shortest unit count as steps: next to sold_1h, sold_1d is not a lag of one step.
        unit = min((m[2] for m in matches), key=HOURS.__getitem__, default="")
        by_step = {int(m[1]): m[0] for m in matches if m[2] == unit}
        step = min(by_step, default=0)
        lags: list[str] = []
        while step and (next_one := by_step.get(step * (len(lags) + 1))):
            lags.append(next_one)
        if not lags:
            hint = nearest(name, {each.rpartition("_")[0] for each in self.spec.features})
            raise UserError(
                f"learner 'recursive' needs the name of Lag features as `lags`; found {name!r}{hint} "
                f"({self._where}.params)"
            )
        return tuple(lags)

    def _seen(self) -> tuple[str, ...]:
        wanted = {*self._lags, *self.settings["cycles"]}
        return tuple(name for name in self.spec.features if name in wanted)

    def _learned(self, table: pa.Table, label: Labels) -> tuple[pa.Table, Labels]:
        for name, length in self.settings["cycles"].items():
            if ((values := numbers(table, name)) < 0).any() or (values >= length).any():
                raise UserError(
                    f"learner {self.spec.name!r}: cycle {name!r} counts from 0 to {length - 1}, and the feature is "
                    f"from {np.nanmin(values):g} to {np.nanmax(values):g} ({self._where}.params.cycles)"
                )
        first = numbers(table, HORIZON) == 1
        if not first.any() and table.num_rows:
            raise UserError(
                f"learner {self.spec.name!r} is fitted to forecasts of the next step, and there are none; "
                "put 1 among the horizons"
            )
        return table.filter(first), label[first]

    def predict(self, table: pa.Table) -> Floats:
        horizon = numbers(table, HORIZON)
        newest = np.column_stack([numbers(table, name) for name in self._lags])  # (rows, lags), the newest first
        forecasts = np.full(table.num_rows, np.nan)
        for step in range(1, int(horizon.max(initial=0)) + 1):
            rows = np.flatnonzero(horizon >= step)
            forecasts[rows] = self.inner.predict(self._at(table.take(rows), newest[rows], horizon[rows] - step))
            newest[rows] = np.column_stack([forecasts[rows], newest[rows, :-1]])
        return forecasts

    def _at(self, table: pa.Table, newest: Floats, left: Floats) -> pa.Table:
        """The rows as they were `left` steps before their target."""
        lags = {name: newest[:, index] for index, name in enumerate(self._lags)}
        cycles = {name: (numbers(table, name) - left) % length for name, length in self.settings["cycles"].items()}
        return replaced(table, lags | cycles)


def unfit(spec: Spec, forecast: ForecastParams | None) -> str:
    """The reason why a recursive learner does not fit the configured forecasts; empty if it does."""
    if forecast is None:
        return "learner 'recursive' is for train.task 'forecast'"
    if (first := f"{spec.params.get('lags')}_{forecast.step}") not in spec.features:
        return (
            f"learner 'recursive' goes on step by step ({forecast.step}), and there is no feature {first!r}"
            f"{nearest(first, spec.features)}; `lags` is the name of Lag features from one step before on"
        )
    if forecast.horizons[0] != 1:
        return "learner 'recursive' is fitted to forecasts of the next step; put 1 among the horizons"
    return ""
