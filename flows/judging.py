"""A run that ends before `register`: it says what the gate would decide, and the team's registry stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.run_options import RunOptions
from flows.session import session
from refit.config import STAGES
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD
from refit.models import incumbent
from refit.schemas.evaluation import Evaluation
from refit.schemas.gate_decision import Decision
from tasks.stages import run_in

JUDGED = STAGES[: STAGES.index("register")]


@dataclass(frozen=True)
class Judgement:
    """The gate's decision on a candidate, and the champion's version if the champion is this candidate."""

    decision: Decision
    champion: str | None
    approval: str = "none"  # whether a person approves promotions, as `register.approval` says


def judge(project: Path, options: RunOptions) -> Judgement:
    """Run all stages but `register`, and return the gate's decision on the candidate. Nothing is registered.

    Raises:
        UserError: the settings are invalid.
        RefitError: a stage failed, or another run holds the project.
    """
    with session(project, options) as run:
        for stage in JUDGED:
            run_in(run, stage)
        context = run.context()
        champion = incumbent.champion_that_is_candidate(context)
    return Judgement(Decision.read(project / DECISION), champion, context.params.register_.approval)


def lines(project: Path, judgement: Judgement) -> list[str]:
    """Return what was judged, in plain lines."""
    decision = judgement.decision
    evaluation = Evaluation.read(project / EVALUATION)
    metrics = evaluation.metrics["candidate"]
    if judgement.champion:  # its decision is that of then, against the champion of then
        first = f"nothing would change: this candidate is version {judgement.champion}, the champion. The gate decided:"
    else:
        against = decision.incumbent if decision.incumbent.version else "the baseline alone, since there is no champion"
        promoted = "would be promoted" if judgement.approval == "none" else "would wait for a person's approval"
        first = f"{promoted if decision.promote else 'would be refused'}, against {against}"
    return [
        first,
        *(f"  {reason}" for reason in decision.reasons),
        *(f"{name:<20} {measured.value:.4g}" for name, measured in metrics.items() if measured.value is not None),
        f"card                 {MODEL_CARD}",
        "nothing was registered",
    ]
