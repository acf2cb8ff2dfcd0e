"""What the simulations of the gate share: a policy, the decision on a drawn pair of models, and lines of tables."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from refit.config import GateParams
from refit.gate.comparison import Sample
from refit.gate.evidence import Evidence, GateOpponent
from refit.gate.promotion import decide
from refit.metrics.clusters import Estimate
from refit.schemas.gate_decision import GateCheck

STEPS = 30  # retrainings in a row
ALPHA, NOISE, WORSE = 0.05, 0.8, 1.1
OWN = 0.5  # what each model of a project misjudges on its own, apart from what they misjudge alike
MARGIN = 0.01  # max_loss of the power curves
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = GateParams(alpha=ALPHA, max_loss=MARGIN, min_rows=100, min_gain_over_baseline=0.0)


def promoted(
    policy: GateParams,
    sample: Sample,
    against_champion: Estimate,
    against_anchor: Estimate | None = None,
    looks: int = 0,
) -> bool:
    known = Evidence(
        candidate="candidate",
        seen_until=NOW,
        test_start=NOW,
        rows=len(sample.labels),
        labels=GateCheck(name="labels", passed=True, sentence="they differ"),
        clusters=sample.clusters.effective,
        metrics={policy.metric: 0.7},
        over_baseline=Estimate(0.2, 0.01, 30.0),
        champion=GateOpponent("1", "champion", NOW, against_champion),
        anchor=None if against_anchor is None else GateOpponent("0", "anchor", NOW, against_anchor),
        looks=looks,
    )
    return decide(known, policy).promote


def share(count: int, runs: int) -> str:
    """A share with the 95 % error of so many runs; where nothing happened, what it is below (rule of three)."""
    if count in (0, runs):
        return f"{count} of {runs:,} ({'<' if not count else '>'} {abs(bool(count) - 3 / runs):.1%})"
    rate = count / runs
    return f"{rate:.1%} ± {1.96 * math.sqrt(rate * (1 - rate) / runs):.1%}"


def table(*heads: str) -> None:
    print(f"\n| {' | '.join(heads)} |\n| {' | '.join('---' for _ in heads)} |", flush=True)


def line(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
