"""Draws a search for arguments: its trials and the importance of arguments."""

from __future__ import annotations

from typing import Any

from refit.problems import metric_named
from refit.reports.drawing import COLOURS, GRID, QUIET

Report = dict[str, Any]
MOST_ARGUMENTS = 6


def tuning(evaluation: Report) -> Any:
    """A row for each tuned learner: its trials with the best so far, and the share of each argument."""
    tuned = [learner for learner in evaluation["learners"] if learner.get("tuning")]
    if not tuned:
        return None
    import matplotlib.pyplot as plt

    size = (8.6, 2.9 * len(tuned))
    figure, axes = plt.subplots(len(tuned), 2, figsize=size, squeeze=False, width_ratios=(3, 2))
    metric = metric_named(evaluation["learning_metric"])
    for learner, (left, right) in zip(tuned, axes, strict=True):
        _history(left, learner, metric)
        _importance(right, learner["tuning"]["importance"])
    return figure


def _history(axes: Any, learner: Report, metric: Any) -> None:
    trials = learner["tuning"]["trials"]
    shown = [(n, trial["value"]) for n, trial in enumerate(trials) if trial["value"] is not None]
    given_up = [n for n, trial in enumerate(trials) if trial["state"] == "pruned"]
    best, so_far = None, []
    for _, value in shown:
        better = best is None or (value > best if metric.higher_is_better else value < best)
        best = value if better else best
        so_far.append(best)
    numbers = [n for n, _ in shown]
    axes.step(numbers, so_far, where="post", color=COLOURS["candidate"], label="best so far")
    axes.plot(numbers, [value for _, value in shown], "o", color=COLOURS["candidate"], markersize=4, label="trial")
    if given_up:  # at the bottom: a score of some folds is not comparable to one of all
        foot = {"transform": axes.get_xaxis_transform(), "color": QUIET, "markersize": 5}
        axes.plot(given_up, [0.03] * len(given_up), "x", label="given up after some folds", **foot)
    axes.set(title=f"{learner['name']}: {len(trials)} trials", xlabel="trial", ylabel=metric.words)
    axes.legend(loc="best", fontsize=8)


def _importance(axes: Any, importance: dict[str, float]) -> None:
    shown = sorted(importance.items(), key=lambda pair: pair[1])[-MOST_ARGUMENTS:]
    axes.set(title="What mattered")
    if not shown:
        axes.axis("off")
        axes.text(0, 0.9, "too few trials to tell", transform=axes.transAxes, color=QUIET, va="top")
        return
    axes.barh([name for name, _ in shown], [share for _, share in shown], color=COLOURS["candidate"])
    axes.set(xlabel="share of how good a trial is", xlim=(0, 1))
    axes.grid(axis="y", color=GRID, linewidth=0)
