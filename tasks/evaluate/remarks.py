"""What readers of a decision should know about the candidate and its test rows."""

from __future__ import annotations

from collections.abc import Iterator

from refit.evaluation.holdout import Holdout
from refit.learners import Learner


def remarks(learner: Learner, test: Holdout) -> Iterator[str]:
    """Yield warnings: the candidate is the naive baseline, or has not been trained on a class of the test rows."""
    if learner.spec.kind == "baseline":
        yield "no learner did better on validation than the naive baseline: the candidate is the baseline itself"
    learned = learner.spec.classes
    rows = {
        name: int((test.labels == code).sum()) for code, name in enumerate(test.problem.classes) if name not in learned
    }
    if unseen := ", ".join(f"{name!r} ({count:,} rows)" for name, count in rows.items() if count):
        yield f"the candidate has not learned all classes of the test rows and is wrong about {unseen}"
