"""Values and charts of the model card on learners: scores by fold, searches for arguments, learning curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from refit.problems import metric_named
from refit.reports.model_card import card_charts as charts
from refit.reports.svg_charts import Plane, number, roomy, short, ticks

Report = dict[str, Any]
STATES = {"complete": "finished", "pruned": "given up after some folds", "failed": "failed"}


def tried(learners: Sequence[Mapping[str, Any]], metric: str) -> list[Report]:
    """A table row for each learner, with its scores by fold, their mean and deviation if there are folds."""
    scores = [score for each in learners if each["kind"] != "baseline" for score in _scores(each, metric)]
    span = roomy(scores) if scores else None
    return [{**learner, "by_fold": _folds(learner, metric, span)} for learner in learners]


def _scores(learner: Mapping[str, Any], metric: str) -> list[float]:
    scores = [fold.get(metric) for fold in learner.get("folds") or ()]
    return [score for score in scores if score is not None]


def _folds(learner: Mapping[str, Any], metric: str, span: tuple[float, float] | None) -> Report | None:
    """Scores by fold; the chart is empty for a naive guess, which is far from all other scores."""
    if len(scores := _scores(learner, metric)) < 2:
        return None
    chart = _dots(scores, span) if span and learner["kind"] != "baseline" else Markup("")
    return {"count": len(scores), "deviation": statistics.stdev(scores), "chart": chart}


def _dots(scores: Sequence[float], span: tuple[float, float]) -> Markup:
    plane = Plane(span, (0, 1), width=220, height=18, left=4, right=4, top=0, bottom=0)
    dots = (Markup('<circle class="dot fold" cx="{}" cy="9" r="3.5"/>').format(short(plane.x(each))) for each in scores)
    mean = Markup('<path class="stop" d="M{} 2v14"/>').format(short(plane.x(statistics.fmean(scores))))
    return plane.svg("the score on each fold, and their mean", *dots, mean)


def searches(learners: Sequence[Mapping[str, Any]], metric: str) -> Iterator[Report]:
    """The search for the arguments of each tuned learner, and its result."""
    for learner in learners:
        if not (tuning := learner.get("tuning")):
            continue
        trials = tuning["trials"]
        best = trials[tuning["best"]]
        counts = {words: sum(trial["state"] == state for trial in trials) for state, words in STATES.items()}
        shares = tuning["importance"]
        yield {
            "name": learner["name"],
            "trials": len(trials),
            "states": ", ".join(f"{count} {words}" for words, count in counts.items() if count),
            "best": tuning["best"],
            "value": best["value"],
            "seconds": sum(trial["seconds"] for trial in trials),
            "arguments": [
                {
                    "name": name,
                    "value": f"{value:.4g}" if isinstance(value, float) else str(value),
                    "share": shares.get(name),
                    "chart": charts.bar({"value": shares.get(name), "lower": None}, 0.0, 1.0),
                }
                for name, value in sorted(best["params"].items(), key=lambda pair: -shares.get(pair[0], 0.0))
            ],
            "chart": _history(trials, higher_is_better=metric_named(metric).higher_is_better),
        }


def _history(trials: Sequence[Mapping[str, Any]], *, higher_is_better: bool) -> Markup:
    """Every finished trial, and the best score so far."""
    finished = [(index, trial["value"]) for index, trial in enumerate(trials) if trial["value"] is not None]
    plane = Plane((0, max(len(trials) - 1, 1)), roomy([value for _, value in finished]), width=330, height=200, left=52)
    best, so_far = finished[0][1], [(finished[0][0], finished[0][1])]
    for index, value in finished:
        better = max(best, value) if higher_is_better else min(best, value)
        so_far += [(index, best), (index, better)]
        best = better
    so_far.append((len(trials) - 1, best))
    marks = {tick: number(tick) for tick in ticks(*plane.x_range, wanted=4) if tick == int(tick)}
    parts = plane.dots(finished, "baseline", 2.5), plane.line(so_far, "candidate")
    return plane.svg("score of each trial, and the best so far", plane.axes("trial", "", marks), *parts)


def learning(learners: Sequence[Mapping[str, Any]]) -> Iterator[Report]:
    """Curves of training and validation, by iterations and by rows."""
    for learner in learners:
        if len(learner["curve"]) > 1:
            chart = charts.learning(learner["curve"], "iteration", "iterations", learner["iterations"])
            yield {"title": f"{learner['name']}: as it learns", "chart": chart}
    for learner in learners:
        if len(learner["size_curve"]) > 1:
            chart = charts.learning(learner["size_curve"], "rows", "training rows")
            yield {"title": f"{learner['name']}: with more rows", "chart": chart}
