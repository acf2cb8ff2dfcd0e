"""Values of the model card on learners: deviations over folds, and results of searches for arguments."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refit.reports.drawing import Report
from refit.reports.model_card.learner_charts import fold_scores

STATES = {"complete": "finished", "pruned": "given up after some folds", "failed": "failed"}


def tried(learners: Sequence[Mapping[str, Any]], metric: str) -> list[Report]:
    """A table row for each learner, with the number and the deviation of its scores by fold if there are any."""
    return [{**learner, "by_fold": _folds(fold_scores(learner, metric))} for learner in learners]


def _folds(scores: Sequence[float]) -> Report | None:
    return {"count": len(scores), "deviation": statistics.stdev(scores)} if len(scores) > 1 else None


def searches(learners: Sequence[Mapping[str, Any]]) -> Iterator[Report]:
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
                }
                for name, value in sorted(best["params"].items(), key=lambda pair: -shares.get(pair[0], 0.0))
            ],
        }
