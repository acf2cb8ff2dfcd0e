"""Measures how often the gate errs, and what it can see; simulated models through the real code fill docs/gate.md.

    python benchmarks/gate_error_rates.py [--runs 2000] [--seed 0] [--plot docs/gate_power.png]

Each run draws a test window: days that share luck, misjudged together by each model in its own way.
`refit.gate.comparison` measures the models, `refit.evaluation.evidence` gathers and `refit.gate.promotion` decides.
Every share stands with the 95 % error of the simulation itself.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _gate_runs import ALPHA, MARGIN, NOISE, NOW, OPEN, OWN, STEPS, WORSE, line, promoted, share, table
from _lasting_luck import far_apart, lasting_luck, looks, short_windows
from _simulated_pairs import COMMON, Drawn, Window, draw, quality_of, spread_of, true_loss
from numpy.typing import NDArray

from refit.config import GateParams
from refit.evaluation.evidence import evidence
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.gate.comparison import gain
from refit.gate.evidence import Evidence
from refit.gate.promotion import decide
from refit.metrics.clusters import Clusters
from refit.problems import metric_named
from refit.schemas.incumbent import Incumbent, TrainedModel


def error_rates(runs: int, seed: int) -> None:
    """Equal models under superiority, ones worse by just the margin under non-inferiority: each promotion is wrong."""
    metrics_ = ("roc_auc", "average_precision", "log_loss", "brier")
    others: tuple[tuple[str, str], ...] = (
        ("regression", "mae"),
        ("regression", "rmse"),
        ("multiclass", "log_loss"),
        ("multiclass", "f1_macro"),
    )
    cases: list[tuple[Any, str, Window]] = [
        *(("superiority", metric, Window()) for metric in metrics_),
        *(("non_inferiority", metric, Window()) for metric in metrics_),
        ("superiority", "roc_auc", Window(days=20)),
        ("superiority", "roc_auc", Window(days=90)),
        ("superiority", "roc_auc", Window(uneven=True)),
        ("superiority", "roc_auc", Window(cluster="row")),
        ("superiority", "roc_auc", Window(alike=2.0)),
        ("superiority", "roc_auc", Window(alike=2.0, cluster="row")),
        ("superiority", "brier", Window(alike=2.0)),
        ("superiority", "brier", Window(alike=2.0, cluster="row")),
        *((mode, metric, Window(task=task)) for mode in ("superiority", "non_inferiority") for task, metric in others),
    ]
    table(
        "mode",
        "task",
        "metric",
        "days x rows",
        "days are",
        "clusters",
        "margin",
        "wrongly promoted",
        "by the estimate alone",
    )
    for mode, metric, window in cases:
        superior = mode == "superiority"
        margin = 0.0 if superior else true_loss(metric, WORSE, NOISE, window.task)
        policy = OPEN.model_copy(update={"mode": mode, "metric": metric, "max_loss": margin, "cluster": window.cluster})
        random, wrong, positive = np.random.default_rng(seed), 0, 0
        for _ in range(runs):
            drawn = draw(random, window, NOISE if superior else WORSE, NOISE)
            found = gain(metric, drawn.sample, *drawn.scores)
            positive += found.value > -margin
            wrong += promoted(policy, drawn.sample, found)
        kind = "alike" if window.alike < 1 else "strongly alike"
        line(
            mode,
            window.task,
            metric_named(metric).words,
            window,
            kind,
            window.cluster,
            f"{margin:.4f}",
            share(wrong, runs),
            f"{positive / runs:.0%}",
        )


def power(runs: int, seed: int) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """How often a candidate of a known true gain is promoted, in both modes, on a month and on a quarter."""
    points: dict[tuple[str, int], list[tuple[float, float]]] = {}
    modes: tuple[Any, ...] = ("non_inferiority", "superiority")
    lengths = (30, 90)
    table("true gain in ROC AUC", *(f"{mode}, {days} days" for mode in modes for days in lengths))
    start = quality_of(OWN)
    for true in (-0.02, -0.015, -0.01, -0.005, 0.0, 0.005, 0.01, 0.015):
        counts = dict.fromkeys([(mode, days) for mode in modes for days in lengths], 0)
        for days in lengths:
            random, window = np.random.default_rng(seed), Window(days=days, rows=150)
            for _ in range(runs):
                drawn = draw(random, window, spread_of(start + true), OWN, common=COMMON)
                found = gain("roc_auc", drawn.sample, *drawn.scores)
                for mode in modes:
                    counts[mode, days] += promoted(OPEN.model_copy(update={"mode": mode}), drawn.sample, found)
        line(f"{true:+.3f}", *(share(count, runs) for count in counts.values()))
        for key, count in counts.items():
            points.setdefault(key, []).append((true, count / runs))
    return points


CHAIN = OPEN.model_copy(update={"max_loss": 0.02})
CANDIDATES: Mapping[str, Any] = {
    "each worse by 0 to 0.008": lambda random: -random.uniform(0, 0.008),
    "around 0.001 worse, spread 0.004": lambda random: random.normal(-0.001, 0.004),
}


def retrainings(chains: int, seed: int) -> None:
    """How far, in true ROC AUC, a champion sinks below the anchor in 30 retrainings, each judged on its own window."""
    heads = ("promotions of 30", "mean", "95th percentile", "worst", "below by more than max_loss")
    table("candidates against the champion", "anchor rule", *heads)
    for name, change in CANDIDATES.items():
        for anchored in (True, False):
            ends = [_chain(np.random.default_rng([seed, chain]), change, anchored) for chain in range(chains)]
            lost = np.array([end[0] for end in ends])
            error = 1.96 * lost.std() / math.sqrt(chains)
            line(
                name,
                "yes" if anchored else "no",
                f"{np.mean([end[1] for end in ends]):.1f}",
                f"{lost.mean():.4f} ± {error:.4f}",
                f"{np.quantile(lost, 0.95):.4f}",
                f"{lost.max():.4f}",
                share(int((lost > CHAIN.max_loss).sum()), chains),
            )


def _chain(random: np.random.Generator, change: Any, anchored: bool) -> tuple[float, int]:
    """What the last champion has lost against the anchor, and how many candidates were promoted."""
    anchor = champion = quality_of(OWN)
    count = 0
    for _ in range(STEPS):
        candidate = min(champion + change(random), quality_of(0.0))
        spreads = [spread_of(quality) for quality in (candidate, champion, anchor)]
        drawn = draw(random, Window(rows=150), *spreads, common=COMMON)
        ours, theirs, first = drawn.scores
        against_champion = gain("roc_auc", drawn.sample, ours, theirs if count else first)
        against_anchor = gain("roc_auc", drawn.sample, ours, first) if anchored and count else None
        if promoted(CHAIN, drawn.sample, against_champion, against_anchor):
            champion, count = candidate, count + 1
    return anchor - champion, count


def known_of(drawn: Drawn, part: NDArray[np.str_], gate: GateParams) -> Evidence:
    """The evidence as a run gathers it from predictions, with a column `part` to slice by."""
    ours, theirs = drawn.scores
    labels = drawn.sample.labels
    test = Holdout(pa.table({"part": part}), labels, drawn.days.astype("datetime64[D]"), drawn.sample)
    return evidence(
        test,
        Scored({"candidate": ours, "champion": theirs, "baseline": np.full(len(labels), labels.mean())}, {}, {}),
        {gate.metric: 0.7},
        candidate=TrainedModel(model_digest="new", seen_until=NOW),
        test_start=NOW,
        incumbent=Incumbent(model="drawn", version="1", model_digest="old", seen_until=NOW),
        gate=gate,
    )


def slices(runs: int, seed: int) -> None:
    """A candidate that is better on most rows, and on one part worse by its margin, or by more."""
    margin, window = 0.04, Window(rows=120)
    table("the slice has", "true loss there", "margin", "promoted without slices", "promoted with the slice")
    for of_part in (40, 8):
        part = np.where(np.arange(window.days * window.rows) % window.rows < of_part, "a", "b")
        for times in (1.0, 1.5, 2.0):
            worse = spread_of(quality_of(OWN) - margin * times)
            gate = GateParams(max_loss=0.03, min_gain_over_baseline=0.0, slices={"part=a": margin})
            random, with_slice, without = np.random.default_rng(seed), 0, 0
            for _ in range(runs):
                drawn = draw(random, window, np.where(part == "a", worse, 0.0), OWN, common=COMMON)
                known = known_of(drawn, part, gate)
                with_slice += decide(known, gate).promote
                without += decide(known, gate.model_copy(update={"slices": {}})).promote
            line(
                f"{window.days} x {of_part} of {window} rows",
                f"{margin * times:.2f}",
                f"{margin:.2f}",
                share(without, runs),
                share(with_slice, runs),
            )


def tiny(runs: int, seed: int) -> None:
    """Tests too small to tell anything, of a candidate that is far better: the gate's defaults refuse them all."""
    cases: dict[str, tuple[Window, dict[str, Any]]] = {
        "30 x 100 rows: enough": (Window(rows=100), {}),
        "300 rows (2,000 are needed)": (Window(rows=10), {}),
        "10 days (20 are needed)": (Window(days=10, rows=300), {}),
        "30 days, one of them with half of the rows": (Window(rows=100), {"heavy": True}),
        "a slice with 150 rows (200 are needed)": (Window(rows=100), {"part": 5}),
    }
    table("the test has", "promoted")
    for name, (window, how) in cases.items():
        random, count = np.random.default_rng(seed), 0
        gate = GateParams(slices={"part=a": 0.5} if "part" in how else {})
        for _ in range(runs):
            drawn = draw(random, window, 0.0, OWN, common=COMMON)
            if "heavy" in how:
                drawn = replace(drawn, sample=replace(drawn.sample, clusters=Clusters.of(np.maximum(drawn.days, 14))))
            part = np.where(np.arange(len(drawn.days)) % window.rows < how.get("part", 0), "a", "b")
            count += decide(known_of(drawn, part, gate), gate).promote
        line(name, share(count, runs))


def plot(path: Path, points: Mapping[tuple[str, int], Sequence[tuple[float, float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    colours = {"non_inferiority": "#0f6e84", "superiority": "#c8772a"}
    for (mode, days), curve in points.items():
        style = {"color": colours[mode], "linestyle": "-" if days == 30 else "--"}
        axes.plot(*zip(*curve, strict=True), marker="o", markersize=3.5, label=f"{mode}, {days} days", **style)
    axes.axhline(ALPHA, color="#6b7785", linewidth=0.8, linestyle=":")
    axes.axvline(-MARGIN, color="#6b7785", linewidth=0.8, linestyle=":")
    axes.annotate(f" max_loss {MARGIN:g}", (-MARGIN, 0.3), fontsize=8, ha="right", rotation=90, va="center")
    axes.set(xlabel="true gain in ROC AUC", ylabel="promoted", ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", fontsize=8.5, facecolor="white", edgecolor="none", framealpha=1)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="draw the power curves into this file")
    arguments = parser.parse_args()
    runs, seed = arguments.runs, arguments.seed
    for title, seconds in _parts(runs, seed, arguments.plot):
        print(f"\n{title}: {seconds:.0f} s", flush=True)


def _parts(runs: int, seed: int, picture: Path | None) -> Iterator[tuple[str, float]]:
    began = time.perf_counter()
    error_rates(runs, seed)
    yield "error rates", time.perf_counter() - began
    short_windows(runs, seed)
    yield "short windows", time.perf_counter() - began
    lasting_luck(max(runs // 2, 2), seed)
    yield "lasting luck", time.perf_counter() - began
    far_apart(max(runs // 2, 2), seed)
    yield "steps of a day, a week, a month", time.perf_counter() - began
    looks(max(runs // 10, 2), seed)
    yield "looks", time.perf_counter() - began
    points = power(max(runs // 8, 1), seed)
    yield "power", time.perf_counter() - began
    if picture:
        plot(picture, points)
    retrainings(max(runs // 20, 2), seed)
    yield "retrainings", time.perf_counter() - began
    slices(max(runs // 2, 1), seed)
    yield "slices", time.perf_counter() - began
    tiny(max(runs // 10, 1), seed)
    yield "tiny tests", time.perf_counter() - began


if __name__ == "__main__":
    main()
