"""What readers of a decision should know about the candidate and its test rows."""

from __future__ import annotations

from collections.abc import Iterator

from refit.evaluation.holdout import Holdout
from refit.learners import Learner
from refit.schemas.training import Training


def remarks(learner: Learner, training: Training, test: Holdout) -> Iterator[str]:
    """Yield what is unusual: rows or classes that were not learned, a candidate of many models, or the naive one."""
    if (trained := training.rows).left_out:
        every = trained.train + trained.left_out
        yield f"trained on {trained.train:,} of {every:,} rows of the training window, drawn by key (train.max_rows)"
    if training.chosen.models:
        yield training.chosen.models.sentence
    if learner.spec.kind == "baseline":
        yield "no learner did better on validation than the naive baseline: the candidate is the baseline itself"
    learned = learner.spec.classes
    rows = {
        name: int((test.labels == code).sum()) for code, name in enumerate(test.problem.classes) if name not in learned
    }
    if unseen := ", ".join(f"{name!r} ({count:,} rows)" for name, count in rows.items() if count):
        yield f"the candidate has not learned all classes of the test rows and is wrong about {unseen}"
