"""Finds a learning rate for a configured network by a range test on the training window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.config import Params, nearest
from refit.errors import UserError
from refit.files.artifacts import FEATURE_SET, REPORTS, atomic
from refit.learners import make
from refit.reports.drawing import COLOURS, FULL, INK, drawn, new_figure, styled
from refit.reports.svg import standalone
from refit.runtime.context import Context
from refit.schemas.feature_table import FeatureTable
from tasks.train import labelled_rows
from tasks.train.specs import specs_of
from tasks.train.start import parent_of, start_of

if TYPE_CHECKING:
    from refit.learners.networks.network import Network

__all__ = ["RangeTest", "check", "run"]


@dataclass(frozen=True)
class RangeTest:
    """The smoothed loss of a learner at growing learning rates, and the rate that follows from it."""

    learner: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chart: Path

    @property
    def lowest(self) -> float:
        """The rate at the lowest loss, beyond which it grows."""
        return self.rates[int(np.argmin(self.losses))]

    @property
    def suggestion(self) -> float:
        """A tenth of that, to one digit: still falling, and with room before it diverges.

        >>> RangeTest("it", (0.01, 0.123, 1.0), (3.0, 1.0, 9.0), Path("it.svg")).suggestion
        0.01
        """
        return float(f"{self.lowest / 10:.0e}")


def check(params: Params, name: str, *, lowest: float, highest: float, steps: int) -> None:
    """Raise UserError if there is no such learner or the bounds are not in order."""
    if not 0 < lowest < highest or steps < 10:
        raise UserError(
            f"0 < --lowest < --highest and --steps of at least 10 are needed; found {lowest}, {highest}, {steps}"
        )
    if name not in (enabled := [learner.name for learner in params.train.learners if learner.enabled]):
        raise UserError(
            f"no learner {name!r} is enabled in train.learners{nearest(name, enabled)}; enabled: {', '.join(enabled)}"
        )


def run(context: Context, name: str, *, lowest: float, highest: float, steps: int) -> RangeTest:
    """Test one learner and draw the loss against the rate into `reports/lr_find_NAME.svg`.

    Raises:
        UserError: there is no such learner, it is no network, or the bounds are not in order.
        RefitError: there is no feature table yet.
    """
    check(context.params, name, lowest=lowest, highest=highest, steps=steps)
    features = FeatureTable.read(context.path(FEATURE_SET))
    learner = _network(context, features, name)
    train = labelled_rows(context, features, learner.spec.problem).named("train")
    rates = np.geomspace(lowest, highest, steps).tolist()
    context.progress(f"learning rates of {name}, {steps} steps")
    unlabelled = None if learner.declaration.unlabelled == "ignored" else train.unlabelled
    losses = learner.range_test(train.rows, train.label, rates, unlabelled)
    if len(losses) < 2:
        raise UserError(f"learner {name!r}: the loss diverges at once, at a learning rate of {lowest}; lower --lowest")
    result = RangeTest(name, tuple(rates[: len(losses)]), losses, REPORTS / f"lr_find_{name}.svg")
    with styled():
        on_page = drawn(_figure(result), f"lr_find_{name}", f"The loss of {name} at growing learning rates.")
    with atomic(context.path(result.chart)) as scratch:
        scratch.write_text(standalone(on_page.svg), encoding="utf-8")
    return result


def _network(context: Context, features: FeatureTable, name: str) -> Network:
    start = parent_of(context, start_of(context), features)
    specs = {spec.name: spec for spec in specs_of(context.params, features, context.project, start)}
    learner: Any = make(replace(specs[name], average=1))
    if not hasattr(learner, "range_test"):
        raise UserError(f"learner {name!r} is a {specs[name].kind}, and no network whose learning rate could be found")
    network: Network = learner
    return network


def _figure(result: RangeTest) -> Any:
    figure, axes = new_figure(f"Learning rate of {result.learner}", (FULL, 3.2))
    axes.plot(result.rates, result.losses, color=COLOURS["candidate"])
    axes.axvline(result.suggestion, color=INK, linewidth=1, linestyle=":")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the default is a formula, which charts do not have
    axes.annotate(f" {result.suggestion:g}", (result.suggestion, max(result.losses)), color=INK)
    return figure
