"""Measures how fast the drift watch answers changes of concept, and what the policy `performance` is worth with it.

    python benchmarks/concept_changes.py [--streams 10] [--seed 0] [--quiet 30]

SEA (Street and Kim 2001): x1 + x2 <= theta for three numbers from 0 to 10, with 10 % of the labels turned; theta is 8,
9, 7 and 9.5. RBF: Gaussian clusters around 30 centres in 8 dimensions, each with a class; after each change, a third of
the centres has another class. There are 90 rows a day, and a change every 30 weeks. Each week a tree is fitted to 8
weeks and judged on 5, then fitted to both and judged on the 3 after them: its backtest. The watch is the code of
production with its default params, without a schedule. The gate is left out: each training replaces the champion.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.drift import performance
from refit.drift.measures import ScoredRows
from refit.drift.performance import Backtest
from refit.drift.retrain_decision import DriftEvidence, decide
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, PerformanceVerdict
from tasks.drift.watch import SHOWN

DAILY, TRAIN, VALIDATION, TEST = 90, 8, 5, 3
WEEKLY, BACKTEST = 7 * DAILY, VALIDATION + TEST
HISTORY, STRETCH, CHANGES, QUIET = TRAIN + BACKTEST, 30, 3, 13  # weeks; weeks between changes; changes; quiet weeks
START = date(2024, 1, 1)
THETAS = (8.0, 9.0, 7.0, 9.5)
CENTRES, DIMENSIONS = 30, 8
DRIFT = DriftParams(retrain_every_days=None)
POLICY = DecisionPolicy.of(DRIFT, EvaluateParams())


@dataclass(eq=False)
class Stream:
    """Rows by week, and the models fitted to them."""

    kind: str
    weeks: int
    changes: bool
    seed: int

    def concept(self, week: int) -> int:
        """How many changes lie before a week."""
        return min(CHANGES, max(0, (week - HISTORY) // STRETCH)) if self.changes else 0

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(self.seed)
        concept = np.repeat([self.concept(week) for week in range(self.weeks)], WEEKLY)
        if self.kind == "SEA":
            x = random.uniform(0, 10, (len(concept), 3))
            label = x[:, 0] + x[:, 1] <= np.array(THETAS)[concept]
            return x, np.where(random.random(len(label)) < 0.1, ~label, label).astype(float)
        centres = random.uniform(0, 1, (CENTRES, DIMENSIONS))
        classes = np.tile(random.permutation(np.arange(CENTRES) % 2), (CHANGES + 1, 1))
        for change in range(1, CHANGES + 1):
            turned = random.choice(CENTRES, CENTRES // 3, replace=False)
            classes[change:, turned] = 1 - classes[change:, turned]
        centre = random.integers(0, CENTRES, len(concept))
        x = centres[centre] + random.normal(0, 0.12, (len(concept), DIMENSIONS))
        return x, classes[concept, centre].astype(float)

    def between(self, first: int, end: int) -> slice:
        return slice(first * WEEKLY, end * WEEKLY)

    def scored(self, model: DecisionTreeClassifier, first: int, end: int) -> ScoredRows:
        x, label = self.rows
        part = self.between(first, end)
        days = np.datetime64(START) + np.arange(part.start, part.stop) // DAILY
        return ScoredRows(days, model.predict_proba(x[part])[:, 1], label[part])

    @cache  # noqa: B019
    def fit(self, week: int) -> tuple[DecisionTreeClassifier, ScoredRows]:
        """The model that a training before `week` gives, and its backtest."""
        x, label = self.rows
        validated, tested = week - BACKTEST, week - TEST
        first, final = (
            DecisionTreeClassifier(max_leaf_nodes=64, min_samples_leaf=15, random_state=0) for _ in range(2)
        )
        for model, end in ((first, validated), (final, tested)):
            part = self.between(week - HISTORY, end)
            model.fit(x[part], label[part])
        parts = self.scored(first, validated, tested), self.scored(final, tested, week)
        days, predictions, labels = (
            np.concatenate([getattr(each, name) for each in parts]) for name in ("days", "predictions", "labels")
        )
        return final, ScoredRows(days, predictions, labels)

    @cache  # noqa: B019
    def backtest(self, week: int) -> Backtest:
        return performance.backtest(self.fit(week)[1], POLICY)

    @cache  # noqa: B019
    def verdict(self, champion: int, week: int) -> PerformanceVerdict:
        observed = self.scored(self.fit(champion)[0], week, week + 1)
        return performance.judge_window(self.backtest(champion), observed, self.window(week), POLICY)

    def window(self, week: int) -> DayWindow:
        first = START + timedelta(weeks=week)
        return DayWindow(first=first, end=first + timedelta(weeks=1))


@dataclass(frozen=True)
class Outcome:
    """The result of a policy on a stream."""

    accuracy: float
    trained: tuple[int, ...]  # the weeks before which it trained, after the first


def run(stream: Stream, policy: str) -> Outcome:
    champion, hits = HISTORY, []
    trained: list[int] = []
    losses: list[date] = []
    for week in range(HISTORY, stream.weeks):
        if week > HISTORY and (
            policy == "always" or (policy == "performance" and asks(stream, champion, week, trained, losses))
        ):
            champion = week
            trained.append(week)
        scored = stream.scored(stream.fit(champion)[0], week, week + 1)
        hits.append(float(np.mean((scored.predictions >= 0.5) == scored.labels)))
    return Outcome(float(np.mean(hits)), tuple(trained))


def asks(stream: Stream, champion: int, week: int, trained: list[int], losses: list[date]) -> bool:
    """Whether the watch asks for a retraining before a week."""
    reference, shown = stream.backtest(champion), range(max(champion, week - SHOWN), week)
    windows = tuple(stream.window(each) for each in shown)
    judged = tuple(stream.verdict(champion, each) for each in shown)
    evidence = DriftEvidence(
        as_of=_moment(week),
        trained_as_of=_moment(champion),
        new_labelled=(week - champion) * WEEKLY,
        windows=windows,
        performance=judged,
        lasting=performance.lasting_loss(reference, judged, POLICY, windows),
        changed=max(losses, default=None),
        learned_from=START + timedelta(weeks=champion - HISTORY),
        retrained=tuple(map(_moment, trained)),
    )
    decision = decide(evidence, DRIFT)
    if decision.since:
        losses.append(decision.since)
    return decision.verdict == "retrain"


def _moment(week: int) -> datetime:
    return datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(weeks=week)


def delays(outcome: Outcome) -> Iterator[int]:
    """How many weeks after each change the first training came; of none, as many as lie between two changes."""
    bounds = [HISTORY + STRETCH * change for change in range(1, CHANGES + 2)]
    for change, end in pairwise(bounds):
        yield next((week - change for week in outcome.trained if change < week <= end), STRETCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--quiet", type=int, default=30, help="streams without a change")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began, seeds = time.perf_counter(), range(arguments.seed, arguments.seed + arguments.streams)
    print("| stream | policy | accuracy | below `always` | trainings | of `always` | changes answered within 2 weeks |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in ("SEA", "RBF"):
        streams = [Stream(kind, HISTORY + STRETCH * (CHANGES + 1), changes=True, seed=seed) for seed in seeds]
        results = {policy: [run(each, policy) for each in streams] for policy in ("always", "performance", "never")}
        best = np.array([each.accuracy for each in results["always"]])
        most = sum(len(each.trained) + 1 for each in results["always"])
        for policy, outcomes in results.items():
            accuracy = np.array([each.accuracy for each in outcomes])
            after = [delay for each in outcomes for delay in delays(each)]
            count = sum(len(each.trained) + 1 for each in outcomes)
            answered = f"{sum(delay <= 2 for delay in after)} of {len(after)}" if policy == "performance" else ""
            print(
                f"| {kind} | `{policy}` | {accuracy.mean():.4f} | {100 * (best - accuracy).mean():.2f} points "
                f"| {count / len(outcomes):.1f} | {count / most:.0%} | {answered} |",
                flush=True,
            )
    print("\n| quiet stream | streams | trainings in 90 days | most in one |")
    print("| --- | --- | --- | --- |")
    for kind in ("SEA", "RBF"):
        quiet = (Stream(kind, HISTORY + QUIET + 1, changes=False, seed=1000 + i) for i in range(arguments.quiet))
        counts = np.array([len(run(each, "performance").trained) for each in quiet])
        print(f"| {kind} | {len(counts)} | {counts.mean() * 90 / (7 * QUIET):.2f} | {counts.max()} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
