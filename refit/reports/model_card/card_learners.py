"""Values of the model card on learners: deviations over folds, and results of searches for arguments."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refit.reports.model_card.learner_charts import fold_scores
from refit.schemas.training import LearnerReport, TrialReport

ENDS = ("finished", "given up after some folds", "given up after some epochs", "failed")


@dataclass(frozen=True)
class Folds:
    """The number and the standard deviation of a learner's scores by fold."""

    count: int
    deviation: float


@dataclass(frozen=True)
class ShownArgument:
    """An argument of the best trial, and its share of how good a trial is; None if it is not known."""

    name: str
    value: str
    share: float | None


@dataclass(frozen=True)
class ShownSearch:
    """The search for the arguments of a learner, and its result."""

    name: str
    trials: int
    states: str
    best: int
    value: float | None
    seconds: float
    arguments: tuple[ShownArgument, ...]


def folds(learners: Sequence[LearnerReport], metric: str) -> dict[str, Folds]:
    """By learner; only those that have more than one fold."""
    scores = {learner.name: fold_scores(learner, metric) for learner in learners}
    return {name: Folds(len(each), statistics.stdev(each)) for name, each in scores.items() if len(each) > 1}


def searches(learners: Sequence[LearnerReport]) -> Iterator[ShownSearch]:
    """The search of each tuned learner."""
    for learner in learners:
        if tuning := learner.tuning:
            shares = tuning.importance
            yield ShownSearch(
                name=learner.name,
                trials=len(tuning.trials),
                states=_states(tuning.trials),
                best=tuning.best,
                value=(best := tuning.trials[tuning.best]).value,
                seconds=tuning.work_seconds,
                arguments=tuple(
                    ShownArgument(name, f"{value:.4g}" if isinstance(value, float) else str(value), shares.get(name))
                    for name, value in sorted(best.params.items(), key=lambda pair: -shares.get(pair[0], 0.0))
                ),
            )


def _states(trials: Sequence[TrialReport]) -> str:
    counts = Counter(trial.end for trial in trials)
    return ", ".join(f"{counts[end]} {end}" for end in ENDS if counts[end])
