"""Draws the results of an evaluation in one style: PNG for MLflow and people, CSV for `dvc plots`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from refit.problems import metric_named
from refit.reports.drawing import BAD, COLOURS, GOOD, GRID, INK, QUIET, STYLE, new_axes, save, write_csv
from refit.reports.model_card import explanation_plots
from refit.reports.model_card.by_task import view_of
from refit.reports.model_card.tuning_plot import tuning

FIGURES, PLOTS = "figures", "plots"

MOST_BARS = 25

Report = dict[str, Any]


def draw(reports: Path, evaluation: Report) -> None:
    """Write `figures/*.png` and `plots/*.csv`, replacing the files of an earlier evaluation."""
    for old in (reports / PLOTS).glob("*.csv"):
        old.unlink()
    write_tables(reports / PLOTS, evaluation)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context

    for old in (reports / FIGURES).glob("*.png"):
        old.unlink()
    with rc_context(STYLE):
        for name, figure in figures(evaluation["task"]).items():
            if (drawn := figure(evaluation)) is not None:
                save(drawn, reports / FIGURES / f"{name}.png")


def write_tables(folder: Path, evaluation: Report) -> None:
    """The CSV files that `dvc.yaml` lists under plots."""
    view_of(evaluation["task"]).tables(folder, evaluation)
    rows: Iterable[Sequence[Any]] = ((f["name"], f["group"], f["value"]) for f in evaluation["importance"]["features"])
    write_csv(folder / "importance.csv", ("feature", "view", "loss"), rows)
    rows = (
        (learner["name"], point["iteration"], part, point[part])
        for learner in evaluation["learners"]
        for point in learner["curve"]
        for part in ("training", "validation")
    )
    write_csv(folder / "learning.csv", ("learner", "iteration", "window", "score"), rows)
    rows = (
        (learner["name"], point["rows"], part, point[part])
        for learner in evaluation["learners"]
        for point in learner["size_curve"]
        for part in ("training", "validation")
    )
    write_csv(folder / "learning_by_rows.csv", ("learner", "rows", "window", "score"), rows)
    models = list(evaluation["metrics"])
    rows = ((d["day"], model, d[model], d["rows"]) for d in evaluation["daily"] for model in models)
    write_csv(folder / "daily.csv", ("day", "model", "score", "rows"), rows)
    explanation_plots.tables(folder, evaluation)


def _importance(evaluation: Report) -> Any:
    features = evaluation["importance"]["features"]
    return _bars(features, "What the model leans on", evaluation) if features else None


def _importance_by_view(evaluation: Report) -> Any:
    groups = evaluation["importance"]["groups"]
    return _bars(groups, "What the model leans on, by view", evaluation) if len(groups) > 1 else None


def _bars(entries: list[Report], title: str, evaluation: Report) -> Any:
    shown = [entry for entry in entries if entry["value"] is not None][:MOST_BARS][::-1]
    figure, axes = new_axes(title, size=(6.8, 1.4 + 0.24 * max(len(shown), 3)))
    positions = range(len(shown))
    axes.barh(positions, [entry["value"] for entry in shown], color=COLOURS["candidate"], height=0.7, alpha=0.85)
    bars = [(index, entry) for index, entry in zip(positions, shown, strict=True) if entry["lower"] is not None]
    axes.hlines([p for p, _ in bars], [e["lower"] for _, e in bars], [e["upper"] for _, e in bars], color=INK, lw=1)
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_yticks(positions, [entry["name"] for entry in shown], color=INK)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel(
        f"loss in {metric_named(evaluation['metric']).words} when shuffled, {evaluation['importance']['rows']:,} rows"
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
    axes[0][0].set_ylabel(metric_named(evaluation["learning_metric"]).words)
    axes[0][-1].legend(loc="best")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return figure


def _daily(evaluation: Report) -> Any:
    days = evaluation["daily"]
    figure, axes = new_axes(f"{metric_named(evaluation['metric']).words} day by day", size=(8.2, 3.6))
    for name in ("baseline", "anchor", "champion", "candidate"):
        if any(day.get(name) is not None for day in days):
            values = [float("nan") if day[name] is None else day[name] for day in days]
            axes.plot(range(len(days)), values, color=COLOURS[name], label=name, marker="o", ms=3.2, lw=1.5)
    step = max(1, len(days) // 10)
    axes.set_xticks(range(0, len(days), step), [day["day"][5:] for day in days[::step]])
    if axes.lines:
        axes.legend(loc="best", ncols=4)
    return figure


def _gate(evaluation: Report) -> Any:
    """Each gain with its bounds, and the margin that its lower bound has to exceed."""
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
        f"gain in {metric_named(decision['metric']).words}; {decision['confidence']:.0%} one-sided bounds; "
        "dashed: margin"
    )
    promoted = "promote" if decision["promote"] else "refuse"
    figure.suptitle(f"The gate: {promoted}", x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return figure


def _gated(axes: Any, slices: list[Report]) -> None:
    """The slices one below another, failing ones and those nearest to their margin first."""
    shown = slices[:MOST_BARS]
    colours = [GOOD if each["passed"] else BAD for each in shown]
    rows = range(len(shown))
    lower = [each["lower"] for each in shown]
    axes.hlines(rows, lower, [each["upper"] for each in shown], color=colours, linewidth=4, alpha=0.35)
    axes.scatter(lower, rows, color=colours, marker="|", s=60, linewidth=2)
    axes.scatter([each["estimate"] for each in shown], rows, color=colours, s=22, zorder=3)
    margins = [each["must_exceed"] for each in shown]
    axes.vlines(margins, [p - 0.42 for p in rows], [p + 0.42 for p in rows], color=INK, linestyle="--", linewidth=1)
    axes.axvline(0, color=GRID, linewidth=1.5, zorder=0)
    axes.set_yticks(rows, [each["against"] for each in shown], color=INK, fontsize=8)
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


def figures(task: str) -> dict[str, Callable[[Report], Any]]:
    """The figures for a task, by name; a function returns None if there is nothing to draw."""
    return {
        "gate": _gate,
        **view_of(task).figures,
        "importance": _importance,
        "importance_by_view": _importance_by_view,
        "shap": explanation_plots.shap,
        "partial_dependence": explanation_plots.partial,
        "learning_curves": _learning_curves,
        "learning_by_rows": _learning_by_rows,
        "tuning": tuning,
        "daily": _daily,
    }
