"""Draws what an evaluation found, from one mapping and in one style: PNG for MLflow and people, CSV for `dvc plots`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from registry.promotion import METRIC_WORDS
from tasks.artifacts import atomic

FIGURES, PLOTS = "figures", "plots"

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e4e8ec"
COLOURS = {"candidate": "#0f6e84", "champion": "#c8772a", "baseline": "#8a94a0", "anchor": "#7a5ea8"}
GOOD, BAD = "#2e7d4f", "#b3402f"
MOST_BARS = 25

Report = dict[str, Any]


def draw(reports: Path, evaluation: Report) -> None:
    """Write `figures/*.png` and `plots/*.csv`, replacing those of an earlier evaluation."""
    write_tables(reports / PLOTS, evaluation)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context

    for old in (reports / FIGURES).glob("*.png"):
        old.unlink()
    with rc_context(STYLE):
        for name, figure in FIGURE.items():
            if (drawn := figure(evaluation)) is not None:
                _save(drawn, reports / FIGURES / f"{name}.png")


STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 4.4),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.9,
    "legend.frameon": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "savefig.facecolor": "white",
}


def write_tables(folder: Path, evaluation: Report) -> None:
    """The CSV files that `dvc.yaml` lists under plots."""
    curves = evaluation["curves"]
    _csv(folder / "roc.csv", ("model", "false_positive_rate", "true_positive_rate"), _lines(curves["roc"]))
    _csv(folder / "precision_recall.csv", ("model", "recall", "precision"), _lines(curves["precision_recall"]))
    bins = evaluation["calibration"]["bins"]
    rows: Iterable[Sequence[Any]] = ((b["predicted"], b["observed"]["value"], b["rows"]) for b in bins)
    _csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)
    matrix = evaluation["confusion"]
    calls = [(a, c) for a in ("negative", "positive") for c in ("negative", "positive")]
    rows = ((a, c, matrix[f"{'true' if a == c else 'false'}_{c}"]) for a, c in calls)
    _csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)
    rows = ((f["name"], f["group"], f["value"]) for f in evaluation["importance"]["features"])
    _csv(folder / "importance.csv", ("feature", "view", "loss"), rows)
    rows = (
        (learner["name"], point["iteration"], part, point[part])
        for learner in evaluation["learners"]
        for point in learner["curve"]
        for part in ("training", "validation")
    )
    _csv(folder / "learning.csv", ("learner", "iteration", "window", "score"), rows)
    rows = (
        (learner["name"], point["rows"], part, point[part])
        for learner in evaluation["learners"]
        for point in learner["size_curve"]
        for part in ("training", "validation")
    )
    _csv(folder / "learning_by_rows.csv", ("learner", "rows", "window", "score"), rows)
    models = list(evaluation["metrics"])
    rows = ((d["day"], model, d[model], d["rows"]) for d in evaluation["daily"] for model in models)
    _csv(folder / "daily.csv", ("day", "model", "score", "rows"), rows)


def _lines(by_model: dict[str, list[tuple[float, float]]]) -> Iterable[Sequence[Any]]:
    return ((model, x, y) for model, points in by_model.items() for x, y in points)


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _roc(evaluation: Report) -> Any:
    figure, axes = _axes("Positives found against false alarms (ROC)", size=(5.2, 5.0))
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1, label="chance")
    _models(axes, evaluation, "roc", "roc_auc")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    axes.legend(loc="lower right")
    return figure


def _precision_recall(evaluation: Report) -> Any:
    figure, axes = _axes("Precision at each recall")
    rate = evaluation["calibration"]["observed"]
    axes.axhline(rate, color=QUIET, linestyle=":", linewidth=1, label=f"chance {rate:.3f}")
    _models(axes, evaluation, "precision_recall", "average_precision")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="upper right")
    return figure


def _models(axes: Any, evaluation: Report, curve: str, metric: str) -> None:
    for name, points in reversed(evaluation["curves"][curve].items()):  # the candidate last, on top
        value = evaluation["metrics"][name][metric]["value"]
        label = name if value is None else f"{name} {value:.3f}"
        axes.plot(*zip(*points, strict=True), color=COLOURS[name], label=label)


def _calibration(evaluation: Report) -> Any:
    figure, axes = _axes("What was predicted, and what came true", size=(5.2, 5.0))
    bins = evaluation["calibration"]["bins"]
    predicted = [b["predicted"] for b in bins]
    observed = [b["observed"]["value"] for b in bins]
    lower = [_or(b["observed"]["lower"], b["observed"]["value"]) for b in bins]
    upper = [_or(b["observed"]["upper"], b["observed"]["value"]) for b in bins]
    top = min(1.0, 1.08 * max(*predicted, *upper))
    axes.plot([0, top], [0, top], color=QUIET, linestyle=":", linewidth=1, label="perfect")
    axes.vlines(predicted, lower, upper, color=COLOURS["candidate"], linewidth=1.4, alpha=0.55)
    axes.plot(
        predicted, observed, "o-", color=COLOURS["candidate"], markersize=4.5, label="candidate, tenths of the rows"
    )
    axes.set(xlabel="mean prediction", ylabel="observed rate", xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.legend(loc="upper left")
    return figure


def _confusion(evaluation: Report) -> Any:
    matrix = evaluation["confusion"]
    cells = [
        [matrix["true_negative"], matrix["false_positive"]],
        [matrix["false_negative"], matrix["true_positive"]],
    ]
    total = sum(map(sum, cells))
    figure, axes = _axes(f"Calls at threshold {matrix['threshold']:.3f}", size=(5.0, 4.4))
    shares = [[count / max(sum(row), 1) for count in row] for row in cells]
    axes.imshow(shares, cmap=_tint(COLOURS["candidate"]), vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(cells):
        for j, count in enumerate(row):
            ink = "white" if shares[i][j] > 0.55 else INK
            text = f"{count:,}\n{shares[i][j]:.0%} of the row"
            axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=11)
    axes.set_xticks([0, 1], ["called negative", "called positive"])
    axes.set_yticks([0, 1], ["negative", "positive"])
    axes.set_xlabel(f"{total:,} test rows")
    axes.grid(visible=False)
    return figure


def _importance(evaluation: Report) -> Any:
    features = evaluation["importance"]["features"]
    return _bars(features, "What the model leans on", evaluation) if features else None


def _importance_by_view(evaluation: Report) -> Any:
    groups = evaluation["importance"]["groups"]
    return _bars(groups, "What the model leans on, by view", evaluation) if len(groups) > 1 else None


def _bars(entries: list[Report], title: str, evaluation: Report) -> Any:
    shown = [entry for entry in entries if entry["value"] is not None][:MOST_BARS][::-1]
    figure, axes = _axes(title, size=(6.8, 1.4 + 0.24 * max(len(shown), 3)))
    places = range(len(shown))
    axes.barh(places, [entry["value"] for entry in shown], color=COLOURS["candidate"], height=0.7, alpha=0.85)
    known = [(place, entry) for place, entry in zip(places, shown, strict=True) if entry["lower"] is not None]
    axes.hlines([p for p, _ in known], [e["lower"] for _, e in known], [e["upper"] for _, e in known], color=INK, lw=1)
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_yticks(places, [entry["name"] for entry in shown], color=INK)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel(
        f"loss in {METRIC_WORDS[evaluation['metric']]} when shuffled, {evaluation['importance']['rows']:,} rows"
    )
    return figure


def _learning_curves(evaluation: Report) -> Any:
    return _learning(evaluation, "curve", "iteration", "How the learners learn", "iterations")


def _learning_by_rows(evaluation: Report) -> Any:
    return _learning(evaluation, "size_curve", "rows", "Would more data help?", "training rows")


def _learning(evaluation: Report, curve: str, x: str, title: str, label: str) -> Any:
    learners = [learner for learner in evaluation["learners"] if len(learner[curve]) > 1]
    if not learners:
        return None
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(learners), figsize=(max(5.2, 3.9 * len(learners)), 3.8), sharey=True, squeeze=False
    )
    for ax, learner in zip(axes[0], learners, strict=True):
        points = learner[curve]
        for part, colour in (("training", QUIET), ("validation", COLOURS["candidate"])):
            marker = "o" if len(points) < 12 else None
            ax.plot([p[x] for p in points], [p[part] for p in points], color=colour, label=part, marker=marker, ms=4)
        if curve == "curve" and learner["iterations"]:
            ax.axvline(learner["iterations"], color=QUIET, linestyle=":", linewidth=1)
        ax.set_title(learner["name"], fontsize=10)
        ax.set_xlabel(label)
    axes[0][0].set_ylabel(METRIC_WORDS[evaluation["learning_metric"]])
    axes[0][-1].legend(loc="best")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return figure


def _daily(evaluation: Report) -> Any:
    days = evaluation["daily"]
    figure, axes = _axes(f"{METRIC_WORDS[evaluation['metric']]} day by day", size=(8.2, 3.6))
    for name in ("baseline", "anchor", "champion", "candidate"):
        if any(day.get(name) is not None for day in days):
            values = [float("nan") if day[name] is None else day[name] for day in days]
            axes.plot(range(len(days)), values, color=COLOURS[name], label=name, marker="o", ms=3.2, lw=1.5)
    step = max(1, len(days) // 10)
    axes.set_xticks(range(0, len(days), step), [day["day"][5:] for day in days[::step]])
    if axes.lines:
        axes.legend(loc="best", ncols=4)
    return figure


def _scores(evaluation: Report) -> Any:
    scores = evaluation["curves"]["scores"]
    figure, axes = _axes("Which probabilities each class was given")
    for name, colour in (("negative", COLOURS["baseline"]), ("positive", COLOURS["candidate"])):
        total = max(sum(scores[name]), 1)
        shares = [count / total for count in scores[name]]
        axes.stairs(shares, scores["edges"], color=colour, fill=True, alpha=0.35)
        axes.stairs(shares, scores["edges"], color=colour, linewidth=1.6, label=f"{name}, {total:,} rows")
    axes.axvline(evaluation["confusion"]["threshold"], color=QUIET, linestyle=":", linewidth=1, label="threshold")
    axes.set(xlabel="predicted probability", ylabel="share of the class", xlim=(0, 1))
    axes.legend(loc="upper right")
    return figure


def _gate(evaluation: Report) -> Any:
    """Each gain with its bounds, beside the line that its lower bound has to cross."""
    decision = evaluation["decision"]
    compared = [each for each in decision["compared"] if each["estimate"] is not None]
    if not compared:
        return None
    import matplotlib.pyplot as plt

    slices = sorted(
        (each for each in decision["slices"] if each["estimate"] is not None),
        key=lambda each: (each["passed"], each["lower"] - each["must_exceed"]),
    )
    heights = [1.15] * len(compared) + ([0.55 + 0.25 * len(slices[:MOST_BARS])] if slices else [])
    size = (7.2, 1.0 + sum(heights))
    figure, rows = plt.subplots(len(heights), 1, figsize=size, squeeze=False, height_ratios=heights)
    if slices:
        _gated(rows[-1, 0], slices)
    for ax, each in zip(rows[: len(compared), 0], compared, strict=True):
        colour = GOOD if each["passed"] else BAD
        ax.hlines(0, each["lower"], each["upper"], color=colour, linewidth=5, alpha=0.35)
        ax.plot(each["lower"], 0, "|", color=colour, ms=18, mew=2.5)
        ax.plot(each["estimate"], 0, "o", color=colour, ms=8)
        ax.axvline(each["must_exceed"], color=INK, linestyle="--", linewidth=1.3)
        ax.axvline(0, color=GRID, linewidth=1.5, zorder=0)
        ends = [0.0, each["must_exceed"], each["lower"], each["upper"]]
        room = 0.12 * max(max(ends) - min(ends), 1e-6)
        ax.set(ylim=(-1, 1), yticks=[], xlim=(min(ends) - room, max(ends) + room))
        ax.text(each["must_exceed"], 0.95, f" {each['must_exceed']:+.4f}", va="top", fontsize=8.5, color=INK)
        version = f" (version {each['version']})" if each["version"] else ""
        verdict = "above the margin" if each["passed"] else "not shown to be above the margin"
        ax.set_title(f"against the {each['against']}{version}: {verdict}", fontsize=9.5, color=colour, pad=4)
        ax.spines["left"].set_visible(False)
        ax.grid(visible=False)
    rows[-1, 0].set_xlabel(
        f"gain in {METRIC_WORDS[decision['metric']]}; {decision['confidence']:.0%} one-sided bounds; dashed: margin"
    )
    promoted = "promote" if decision["promote"] else "refuse"
    figure.suptitle(f"The gate: {promoted}", x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return figure


def _gated(axes: Any, slices: list[Report]) -> None:
    """The slices one below another, those that fail or come nearest to their margin first."""
    shown = slices[:MOST_BARS]
    colours = [GOOD if each["passed"] else BAD for each in shown]
    places = range(len(shown))
    lower = [each["lower"] for each in shown]
    axes.hlines(places, lower, [each["upper"] for each in shown], color=colours, linewidth=4, alpha=0.35)
    axes.scatter(lower, places, color=colours, marker="|", s=60, linewidth=2)
    axes.scatter([each["estimate"] for each in shown], places, color=colours, s=22, zorder=3)
    margins = [each["must_exceed"] for each in shown]
    axes.vlines(margins, [p - 0.42 for p in places], [p + 0.42 for p in places], color=INK, linestyle="--", linewidth=1)
    axes.axvline(0, color=GRID, linewidth=1.5, zorder=0)
    axes.set_yticks(places, [each["against"] for each in shown], color=INK, fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    passed, more = sum(each["passed"] for each in slices), len(slices) - len(shown)
    title = f"against the champion on slices: {passed} of {len(slices)} judged are above their margins"
    axes.set_title(
        title + (f" ({more} not drawn)" if more else ""),
        fontsize=9.5,
        color=GOOD if passed == len(slices) else BAD,
        pad=4,
    )
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)


FIGURE: dict[str, Callable[[Report], Any]] = {
    "gate": _gate,
    "roc": _roc,
    "precision_recall": _precision_recall,
    "calibration": _calibration,
    "confusion": _confusion,
    "importance": _importance,
    "importance_by_view": _importance_by_view,
    "learning_curves": _learning_curves,
    "learning_by_rows": _learning_by_rows,
    "daily": _daily,
    "scores": _scores,
}


def _axes(title: str, size: tuple[float, float] = (6.4, 4.4)) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=size)
    axes.set_title(title)
    return figure, axes


def _tint(colour: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("tint", ["white", colour])


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    try:
        with atomic(path) as scratch:
            figure.savefig(scratch, format="png", metadata={"Software": None})  # no version: equal bytes on a rerun
    finally:
        plt.close(figure)
