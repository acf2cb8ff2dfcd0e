"""Measures how often the gate errs: simulated pairs of models through the real code; prints the table of docs/gate.md.

    python benchmarks/gate_error_rates.py [--runs 2000] [--seed 0]

Each run draws a test window (days that share luck, misjudged together by each model in its own way), lets
`registry.comparison` measure the pair and `registry.promotion` decide. `superiority` is given two equal models,
`non_inferiority` a candidate worse by exactly the margin: each promotion is an error. Beside them stands what happens
where the estimate alone decides.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from registry.comparison import Clusters, Estimate, Metric, Sample, gain
from registry.promotion import Evidence, Opponent, Policy, decide

ALPHA, NOISE, WORSE = 0.05, 0.8, 1.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """One way to judge: what is compared, over how many days of how many rows, in which clusters."""

    mode: str
    metric: Metric
    days: int = 30
    rows: int = 60
    uneven: bool = False  # days of very different size
    cluster: str = "day"


CASES = (
    *(Case("superiority", metric) for metric in ("roc_auc", "average_precision", "log_loss", "brier")),
    *(Case("non_inferiority", metric) for metric in ("roc_auc", "average_precision", "log_loss", "brier")),
    Case("superiority", "roc_auc", days=20),
    Case("superiority", "roc_auc", days=90),
    Case("superiority", "roc_auc", uneven=True),
    Case("superiority", "roc_auc", cluster="row"),
)


def pair(random: np.random.Generator, case: Case, days: int, noise: float) -> tuple[Sample, np.ndarray, np.ndarray]:
    """Labels and two models' predictions; the models are exchangeable where `noise` is that of the second."""
    sizes = (
        random.permutation(np.linspace(0.2, 1.8, days) * case.rows).astype(int) if case.uneven else [case.rows] * days
    )
    day = np.repeat(np.arange(days), sizes)
    truth = random.normal(size=len(day)) + random.normal(0, 0.6, days)[day]
    labels = (random.random(len(day)) < 1 / (1 + np.exp(1.2 - 1.3 * truth))).astype(np.int64)
    scores = []
    for spread in (noise, NOISE):
        judged = truth + random.normal(0, spread, len(day)) + random.normal(0, 0.6 * spread, days)[day]
        scores.append(1 / (1 + np.exp(-judged)))
    return Sample(labels, Clusters.rows(len(day)) if case.cluster == "row" else Clusters.of(day)), scores[0], scores[1]


def true_loss(case: Case, seed: int) -> float:
    """What the worse model loses, measured on 600,000 rows."""
    sample, ours, theirs = pair(np.random.default_rng(seed), case, 10_000, WORSE)
    return -gain(case.metric, sample, ours, theirs).value


def measure(case: Case, runs: int, seed: int) -> tuple[float, float, float]:
    """Share of runs that promote, share with a positive mean gain, and the margin."""
    superiority = case.mode == "superiority"
    margin = 0.0 if superiority else true_loss(case, seed + 1)
    policy = Policy(
        mode="superiority" if superiority else "non_inferiority",
        metric=case.metric,
        alpha=ALPHA,
        max_loss=margin,
        min_gain_over_baseline=0.0,
        min_rows=100,
        cluster=case.cluster,
    )
    random, promoted, positive = np.random.default_rng(seed), 0, 0
    for _ in range(runs):
        sample, ours, theirs = pair(random, case, case.days, NOISE if superiority else WORSE)
        found = gain(case.metric, sample, ours, theirs)
        positive += found.value > -margin
        promoted += decide(_evidence(case, sample, found), policy).promote
    return promoted / runs, positive / runs, margin


def _evidence(case: Case, sample: Sample, found: Estimate) -> Evidence:
    return Evidence(
        candidate="candidate",
        seen_until=NOW,
        test_start=NOW,
        rows=len(sample.labels),
        positive=int(sample.labels.sum()),
        clusters=sample.clusters.effective,
        metrics={case.metric: 0.7},
        over_baseline=Estimate(0.2, 0.01, 30.0),
        champion=Opponent("1", "champion", NOW, found),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    print(f"wrongly promoted, of {arguments.runs:,} simulated candidates for each line; alpha {ALPHA:.0%}")
    print("| mode | metric | days x rows | clusters | margin | by the gate | if the estimate decided |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        gate, mean, margin = measure(case, arguments.runs, arguments.seed)
        spread = 1.96 * math.sqrt(gate * (1 - gate) / arguments.runs)
        size = f"{case.days} x {case.rows}{' (uneven)' if case.uneven else ''}"
        print(
            f"| {case.mode} | {case.metric} | {size} | {case.cluster} | {margin:.4f} "
            f"| {gate:.1%} ± {spread:.1%} | {mean:.0%} |",
            flush=True,
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
