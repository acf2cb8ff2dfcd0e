"""Charts of the model card on learners: scores by fold, searches for arguments, learning curves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from refit.problems import metric_named
from refit.reports.drawing import (
    COLOURS,
    FULL,
    INK,
    QUIET,
    chart,
    dots,
    legend,
    list_down,
    new_figure,
    new_grid,
    short_name,
    write_csv,
)
from refit.schemas.evaluation import Evaluation
from refit.schemas.training import LearnerReport, TrialReport

Curve = Sequence[tuple[int, float, float]]  # x, the training and the validation score

PARTS = ("training", "validation")
COLUMNS = 3
MOST_ARGUMENTS = 6
FEW = 12  # points that are marked


def fold_scores(learner: LearnerReport, metric: str) -> list[float]:
    """The score on each fold of cross-validation; empty without folds."""
    return [score for fold in learner.folds if (score := fold.get(metric)) is not None]


@chart("learners", "The score of each learner on each fold; the line is the mean.")
def folds(evaluation: Evaluation) -> Any:
    metric = evaluation.learning_metric
    scores = {
        each.name: of_folds
        for each in evaluation.learners
        if each.kind != "baseline" and len(of_folds := fold_scores(each, metric)) > 1  # naive guesses are far off
    }
    if not scores:
        return None
    figure, axes = new_figure("The score on each fold", (FULL, 1.0 + 0.26 * len(scores)))
    for row, of_folds in enumerate(scores.values()):
        dots(axes, [(score, row) for score in of_folds], COLOURS["candidate"], 6, alpha=0.5)
        axes.vlines(statistics.fmean(of_folds), row - 0.35, row + 0.35, color=INK, linewidth=2)
    list_down(axes, [short_name(name, 40) for name in scores])
    axes.set_xlabel(metric_named(metric).words)
    return figure


@chart("learners", "Each trial of a search with the best so far, and the share of each argument in how good it is.")
def tuning(evaluation: Evaluation) -> Any:
    tuned = [(learner.name, learner.tuning) for learner in evaluation.learners if learner.tuning]
    if not tuned:
        return None
    size = (FULL, 0.5 + 2.6 * len(tuned))
    figure, axes = new_grid("The search for arguments", size, rows=len(tuned), columns=2, width_ratios=(3, 2))
    for (name, report), (left, right) in zip(tuned, axes, strict=True):
        _history(left, name, report.trials, evaluation.learning_metric)
        _shares(right, report.importance)
    return figure


def _history(axes: Any, name: str, trials: Sequence[TrialReport], metric: str) -> None:
    shown = [(n, trial.value) for n, trial in enumerate(trials) if trial.value is not None]
    given_up = {n: trial.end for n, trial in enumerate(trials) if trial.state == "pruned"}
    numbers, values = [n for n, _ in shown], [value for _, value in shown]
    so_far = list(accumulate(values, max if metric_named(metric).higher_is_better else min))
    axes.step(numbers, so_far, where="post", color=COLOURS["candidate"], label="best so far")
    axes.plot(numbers, values, "o", color=COLOURS["baseline"], markersize=4, label="trial")
    if given_up:  # at the bottom: a score of some folds or epochs is not comparable to one of all
        foot = {"transform": axes.get_xaxis_transform(), "color": QUIET, "markersize": 5}
        axes.plot(list(given_up), [0.03] * len(given_up), "x", label=next(iter(given_up.values())), **foot)
    title = f"{short_name(name, 30)}: {len(trials)} trials"
    axes.set_title(title, pad=18)  # above the legend
    axes.set(xlabel="trial", ylabel=metric_named(metric).words)
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend(axes)


def _shares(axes: Any, importance: Mapping[str, float]) -> None:
    shown = sorted(importance.items(), key=lambda pair: -pair[1])[:MOST_ARGUMENTS]
    axes.set_title("What mattered", pad=18)
    if not shown:
        axes.axis("off")
        axes.text(0, 0.9, "too few trials to tell", transform=axes.transAxes, color=QUIET, va="top")
        return
    axes.barh(range(len(shown)), [share for _, share in shown], color=COLOURS["candidate"], height=0.66, alpha=0.8)
    list_down(axes, [short_name(name, 24) for name, _ in shown])
    axes.set(xlabel="share of how good a trial is", xlim=(0, 1))


@chart("learners", "Training and validation rows as a learner learns; dotted: the iterations that were chosen.")
def learning_curves(evaluation: Evaluation) -> Any:
    curves = {each.name: by_iteration(each) for each in evaluation.learners}
    chosen = {each.name: each.iterations for each in evaluation.learners}
    measured = next(
        (each.curve_metric for each in evaluation.learners if each.curve_metric), evaluation.learning_metric
    )
    return _learning(curves, chosen, "How the learners learn", "iterations", measured)


@chart("learners", "Training and validation rows by the number of training rows.")
def learning_by_rows(evaluation: Evaluation) -> Any:
    curves = {each.name: by_size(each) for each in evaluation.learners}
    return _learning(curves, {}, "Would more data help?", "training rows", evaluation.learning_metric)


def by_iteration(learner: LearnerReport) -> Curve:
    """Its scores after each number of iterations."""
    return [(each.iteration, each.training, each.validation) for each in learner.curve]


def by_size(learner: LearnerReport) -> Curve:
    """Its scores by the number of training rows."""
    return [(each.rows, each.training, each.validation) for each in learner.size_curve]


def _learning(
    by_learner: Mapping[str, Curve], marked: Mapping[str, int | None], title: str, label: str, metric: str
) -> Any:
    curves = {name: curve for name, curve in by_learner.items() if len(curve) > 1}
    if not curves:
        return None
    rows, columns = math.ceil(len(curves) / COLUMNS), min(COLUMNS, len(curves))
    size = (FULL * max(columns, 1.5) / COLUMNS, 0.6 + 2.5 * rows)
    figure, axes = new_grid(title, size, rows=rows, columns=columns, sharey=True)
    for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        x, *lines = zip(*curve, strict=True)
        for part, colour, line in zip(PARTS, (COLOURS["baseline"], COLOURS["candidate"]), lines, strict=True):
            ax.plot(x, line, color=colour, label=f"{part} rows")
            if len(curve) < FEW:
                dots(ax, zip(x, line, strict=True), colour, 4)
        if marked.get(name):
            ax.axvline(marked[name], color=QUIET, linestyle=":", linewidth=1)
        ax.set(title=short_name(name, 30), xlabel=label)
        ax.locator_params(axis="x", nbins=4)
    for ax in axes[:, 0]:
        ax.set_ylabel(metric_named(metric).words)
    for ax in list(axes.flat)[len(curves) :]:
        ax.axis("off")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def tables(folder: Path, evaluation: Evaluation) -> None:
    """Write `learning.csv` and `learning_by_rows.csv`."""
    for name, curve_of, x in (("learning", by_iteration, "iteration"), ("learning_by_rows", by_size, "rows")):
        rows: Iterable[tuple[Any, ...]] = (
            (learner.name, at, part, score)
            for learner in evaluation.learners
            for at, *scores in curve_of(learner)
            for part, score in zip(PARTS, scores, strict=True)
        )
        write_csv(folder / f"{name}.csv", ("learner", x, "window", "score"), rows)


CHARTS = (folds, tuning, learning_curves, learning_by_rows)
