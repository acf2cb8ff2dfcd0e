"""A run that ends before `register`: it says what the gate would decide, and the team's registry stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from flows.run_options import RunOptions
from flows.session import session
from refit.config import STAGES
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD, TRAINING
from refit.models import incumbent
from refit.runtime.registry_store import store_of
from refit.schemas.evaluation import Evaluation
from refit.schemas.gate_decision import Decision
from refit.schemas.training import Training
from tasks.stages import run_in

if TYPE_CHECKING:
    from tasks.register import Prospects

JUDGED = STAGES[: STAGES.index("register")]


@dataclass(frozen=True)
class Judgement:
    """The gate's decision on a candidate, the champion's version if that is this candidate, and what people decide."""

    decision: Decision
    champion: str | None
    prospects: Prospects
    registry: str  # as it may be printed

    @property
    def objections(self) -> tuple[str, ...]:
        """What stands against a promotion to which the gate says yes."""
        return self.prospects.objections if self.decision.promote and not self.champion else ()

    @property
    def would_be_promoted(self) -> bool:
        """Whether a run that may promote would make the candidate champion, without a person."""
        return self.decision.promote and not (self.champion or self.objections or self.prospects.waits)

    def to_json(self) -> dict[str, JsonValue]:
        """Return what `refit run --judge-only --json` prints."""
        return {
            "would_be_promoted": self.would_be_promoted,
            "champion": self.champion,
            "waits": self.decision.promote and not self.champion and self.prospects.waits,
            "objections": [*self.objections],
            "registry": self.registry,
            "decision": self.decision.to_json(),
        }


def judge(project: Path, options: RunOptions) -> Judgement:
    """Run all stages but `register`, and return the gate's decision on the candidate.

    Nothing is registered and no alias moves, not even to finish a promotion that was cut off.

    Raises:
        UserError: the settings are invalid.
        RefitError: a stage failed, or another run holds the project.
    """
    from tasks.register import prospects

    with session(project, options, may_promote=False) as run:
        for stage in JUDGED:
            run_in(run, stage)
        context = run.context()
        champion = incumbent.champion_that_is_candidate(context)
        registry = store_of(project, context.params).shown
        return Judgement(Decision.read(project / DECISION), champion, prospects(context), registry)


def lines(project: Path, judgement: Judgement) -> list[str]:
    """Return what was judged, in plain lines."""
    decision, prospects = judgement.decision, judgement.prospects
    evaluation = Evaluation.read(project / EVALUATION)
    metrics = evaluation.metrics["candidate"]
    training = Training.read(project / TRAINING)
    scores = {each.name: each.validation.get(training.metric) for each in training.learners}
    validation = scores.get(training.learner)
    if judgement.champion:  # its decision is that of then, against the champion of then
        first = f"nothing would change: this candidate is version {judgement.champion}, the champion. The gate decided:"
    else:
        baseline = f"the baseline alone: no champion in {judgement.registry}"
        against = decision.incumbent if decision.incumbent.version else baseline
        promoted = "would wait for a person's approval" if prospects.waits else "would be promoted"
        if judgement.objections:
            promoted = "would not be promoted, although the gate says yes"
        first = f"{promoted if decision.promote else 'would be refused'}, against {against}"
    return [
        first,
        *(f"  {objection}" for objection in judgement.objections),
        *(f"  {reason}" for reason in decision.reasons),
        *([] if validation is None else [f"{f'validation {training.metric}':<20} {validation:.4g}"]),
        *(f"{name:<20} {measured.value:.4g}" for name, measured in metrics.items() if measured.value is not None),
        f"card                 {MODEL_CARD}",
        "nothing was registered, and the gate does not count this look at the test window: choose among changes by the "
        "validation score",
    ]
