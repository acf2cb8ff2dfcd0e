"""Report on policies: their returns in the same episodes, as distributions and pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refit.evaluation.details.reinforcement import ReinforcementDetails, ReinforcementFacts
from refit.reports.drawing import COLOURS, HALF, QUIET, chart, dots, legend, new_figure, roomy, write_csv
from refit.reports.model_card.by_task import View
from refit.schemas.evaluation import Evaluation, Facts

WORDS = {"candidate": "candidate", "champion": "champion", "anchor": "anchor", "baseline": "opponent"}


def _details(evaluation: Evaluation) -> ReinforcementDetails:
    return evaluation.details.of_kind(ReinforcementDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    returns = _details(evaluation).returns
    write_csv(folder / "returns.csv", tuple(returns), zip(*returns.values(), strict=True))


@chart("numbers", "The share of test episodes that earned a return or less; farther right is better.")
def returns(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("What the test episodes earned", (HALF, 4.1))
    for name, values in _details(evaluation).returns.items():
        if name in COLOURS:
            earned = np.sort(np.array(values, dtype=np.float64))
            shares = np.arange(1, len(earned) + 1) / len(earned)
            axes.step(earned, shares, where="post", color=COLOURS[name], label=WORDS[name])
    axes.set(xlabel="return", ylabel="share of episodes")
    legend(axes)
    return figure


@chart("numbers", "Each test episode, played by both; above the dotted line the candidate earned more.")
def paired_returns(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("The same episodes, played by both", (HALF, 4.1))
    earned = _details(evaluation).returns
    ends = roomy(value for values in earned.values() for value in values if value is not None)
    axes.plot(ends, ends, color=QUIET, linestyle=":", linewidth=1)
    for name in ("baseline", "champion"):
        if name in earned:
            dots(axes, zip(earned[name], earned["candidate"], strict=True), COLOURS[name], 3, alpha=0.45)
            axes.plot([], [], "o", color=COLOURS[name], markersize=3, label=f"against the {WORDS[name]}")
    axes.set(xlabel="return of the other", ylabel="return of the candidate")
    legend(axes)
    return figure


def summary(evaluation: Evaluation) -> Iterator[str]:
    ours = evaluation.metrics["candidate"]["mean_return"]
    if ours.value is not None:
        yield f"It earns {ours.value:.4g}{ours.between('{:.4g}'.format)} in an episode, on average."
    for name, pairs in _details(evaluation).paired.items():
        yield (
            f"In the same episodes it earned more than the {WORDS.get(name, name)} in {pairs.more:,}, as much in "
            f"{pairs.same:,}, and less in {pairs.less:,}."
        )


def words(evaluation: Evaluation) -> str:
    spread = _details(evaluation).quantiles["candidate"]
    return f"90 % of its test episodes earned between {spread['0.05']:.4g} and {spread['0.95']:.4g}."


def slice_cells(facts: Facts) -> tuple[str, str]:
    numbers = facts.of_kind(ReinforcementFacts)
    return f"{numbers.mean:.4g}", f"{numbers.lowest:.4g}"


VIEW = View(
    tables=tables,
    charts=(returns, paired_returns),
    tiles=("mean_return", "return_spread"),
    summary=summary,
    words=words,
    slice_heads=("mean return", "lowest return"),
    slice_cells=slice_cells,
)
