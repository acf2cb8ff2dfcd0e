"""Report on several classes: confusion matrix, each class by itself, and calibration of the predicted class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.calibration_bins import calibration
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.reports.drawing import COLOURS, INK, QUIET, new_axes, tint, write_csv
from refit.reports.model_card import card_charts as charts
from refit.reports.model_card.by_task import Report, View

Floats = NDArray[np.float64]

MOST_SHOWN = 25  # classes in a figure or a table, the largest ones


def measured(test: Holdout, scored: Scored, confidence: float) -> Report:
    candidate = scored.p["candidate"]
    predicted = candidate.argmax(axis=1)
    sure = candidate.max(axis=1)
    classes = len(test.target.classes)
    matrix = np.bincount(test.labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return {
        "classes": list(by_class(test, predicted, confidence)),
        "confusion": {"names": list(test.target.classes), "rows": matrix.tolist()},
        "calibration": calibration(test.sample, sure, predicted == test.labels, confidence),
    }


def facts(labels: NDArray[Any], p: Floats) -> Report:
    right = p.argmax(axis=1) == labels
    return {"classes": len(np.unique(labels)), "right": tidy(right.mean()), "predicted": tidy(p.max(axis=1).mean())}


def by_class(test: Holdout, predicted: NDArray[np.int64], confidence: float) -> Iterator[dict[str, Any]]:
    """Precision, recall and F1 of each class, with clustered intervals of the first two."""
    for code, name in enumerate(test.target.classes):
        is_it, is_called = test.labels == code, predicted == code
        total = int(is_it.sum() + is_called.sum())
        yield {
            "name": name,
            "rows": int(is_it.sum()),
            "called": int(is_called.sum()),
            "precision": _share(test, is_it, is_called, confidence),
            "recall": _share(test, is_called, is_it, confidence),
            "f1": tidy(2 * int((is_it & is_called).sum()) / total) if total else None,
        }


def _share(
    test: Holdout, hit: NDArray[np.bool_], among: NDArray[np.bool_], confidence: float
) -> dict[str, float | None] | None:
    """The share of hits among some rows; None if there are no such rows."""
    if not among.any():
        return None
    estimate = jackknife(leave_out_mean(hit[among].astype(np.float64), test.sample.only(among).clusters))
    return with_interval(estimate, confidence, 0.0, 1.0)


def tables(folder: Path, evaluation: Report) -> None:
    names, counts = evaluation["confusion"]["names"], evaluation["confusion"]["rows"]
    rows: Iterable[Sequence[Any]] = (
        (actual, predicted, counts[i][j]) for i, actual in enumerate(names) for j, predicted in enumerate(names)
    )
    write_csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)
    rows = (
        (each["name"], *(each[part] and each[part]["value"] for part in ("precision", "recall")), each["f1"])
        for each in evaluation["classes"]
    )
    write_csv(folder / "classes.csv", ("class", "precision", "recall", "f1"), rows)
    rows = ((b["predicted"], b["observed"]["value"], b["rows"]) for b in evaluation["calibration"]["bins"])
    write_csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)


def largest(evaluation: Report) -> list[int]:
    """Indices of the classes that are shown, in their original order."""
    rows = [each["rows"] for each in evaluation["classes"]]
    return sorted(sorted(range(len(rows)), key=lambda index: -rows[index])[:MOST_SHOWN])


def _confusion(evaluation: Report) -> Any:
    shown, names = largest(evaluation), evaluation["confusion"]["names"]
    counts = np.array(evaluation["confusion"]["rows"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.4, 1.8 + 0.42 * len(shown))
    figure, axes = new_axes("Who is taken for whom", size=(side + 0.6, side))
    axes.imshow(shares[np.ix_(shown, shown)], cmap=tint(COLOURS["candidate"]), vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(shown):
        for j, column in enumerate(shown):
            if counts[row, column]:
                ink = "white" if shares[row, column] > 0.55 else INK
                axes.text(j, i, f"{counts[row, column]:,}", ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(len(shown)), [names[index] for index in shown], rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(shown)), [names[index] for index in shown], fontsize=8)
    axes.set(xlabel="called", ylabel="was")
    axes.grid(visible=False)
    return figure


def _classes(evaluation: Report) -> Any:
    shown = [evaluation["classes"][index] for index in largest(evaluation)][::-1]
    figure, axes = new_axes("F1 of each class", size=(6.4, 1.4 + 0.26 * max(len(shown), 3)))
    axes.barh(range(len(shown)), [each["f1"] or 0.0 for each in shown], color=COLOURS["candidate"], height=0.7)
    axes.set_yticks(range(len(shown)), [each["name"] for each in shown])
    axes.set(xlim=(0, 1), xlabel="F1")
    axes.grid(visible=False, axis="y")
    return figure


def _calibration(evaluation: Report) -> Any:
    figure, axes = new_axes("How sure a call was, and how often it was right", size=(5.2, 5.0))
    bins = evaluation["calibration"]["bins"]
    ranged = [b for b in bins if b["observed"]["lower"] is not None]
    lower, upper = ([b["observed"][end] for b in ranged] for end in ("lower", "upper"))
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1, label="perfect")
    axes.vlines([b["predicted"] for b in ranged], lower, upper, color=COLOURS["candidate"], linewidth=1.4, alpha=0.55)
    line = [b["predicted"] for b in bins], [b["observed"]["value"] for b in bins]
    axes.plot(*line, "o-", color=COLOURS["candidate"], markersize=4.5, label="candidate, tenths of the rows")
    axes.set(xlabel="probability of the called class", ylabel="share of right calls", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="upper left")
    return figure


def summary(evaluation: Report) -> Iterator[str]:
    ours, naive = evaluation["metrics"]["candidate"], evaluation["metrics"]["baseline"]
    right, always = ours["accuracy"], naive["accuracy"]["value"]
    if right["value"] is not None:
        span = "" if right["lower"] is None else f" (between {right['lower']:.1%} and {right['upper']:.1%})"
        yield f"It calls {right['value']:.1%} of the rows rightly{span}; always the most frequent class, {always:.1%}."
    scored = [each for each in evaluation["classes"] if each["f1"] is not None]
    if scored:
        worst = min(scored, key=lambda each: each["f1"])
        yield f"It does worst on {worst['name']!r}: F1 {worst['f1']:.2f} of {worst['rows']:,} rows."


def words(evaluation: Report) -> str:
    report = evaluation["calibration"]
    bins = [each for each in report["bins"] if each["observed"]["lower"] is not None]
    off = [each for each in bins if not each["observed"]["lower"] <= each["predicted"] <= each["observed"]["upper"]]
    return (
        f"It gave what it called a probability of {report['predicted']:.1%} on the whole, and was right "
        f"{report['observed']:.1%} of the time; {len(off) or 'none'} of {len(bins)} bins lie off the diagonal by more "
        "than their interval."
    )


def drawn(evaluation: Report) -> dict[str, Any]:
    return {"reliability": charts.reliability(evaluation["calibration"]["bins"]), "shown": largest(evaluation)}


def format_classes(window: Report) -> str:
    """The number of classes in a window, and the largest one."""
    classes = window["classes"]
    if not isinstance(classes, dict):
        return f"{classes}"
    top = max(classes, key=lambda name: classes[name], default=None)
    return f"{len(classes)}" + (f", most {top} ({classes[top]:,})" if top is not None else "")


NUMBERS = """{% set shown = charts.shown %}
<h3>Each class by itself</h3>
<div class="scroll"><table>
<thead><tr><th>class</th><th class="n">rows</th><th class="n">called</th><th class="n">precision</th>
<th class="n">recall</th><th class="n">F1</th></tr></thead><tbody>
{% for place in shown %}{% set each = evaluation.classes[place] %}<tr><th scope="row">{{ each.name }}</th>
<td class="n">{{ each.rows | count }}</td><td class="n">{{ each.called | count }}</td>
<td class="n">{{ cell(each.precision, 3) }}</td><td class="n">{{ cell(each.recall, 3) }}</td>
<td class="n">{{ each.f1 | fixed(3) }}</td></tr>
{% endfor %}</tbody></table></div>
<h3>Who is taken for whom</h3>
<div class="scroll"><table class="confusion">
<thead><tr><th>was \\ called</th>{% for place in shown %}<th class="n">{{ evaluation.confusion.names[place] }}</th>
{% endfor %}</tr></thead><tbody>
{% for row in shown %}<tr><th scope="row">{{ evaluation.confusion.names[row] }}</th>
{% for column in shown %}<td>{{ evaluation.confusion.rows[row][column] | count }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if shown | length < evaluation.classes | length %}<p class="quiet">The {{ shown | length }} largest of
{{ evaluation.classes | length }} classes.</p>{% endif %}
"""

SECTION = """<section id="calibration">
<h2>Can its probabilities be taken at their word?</h2>
<p class="lede">{{ words.view }}</p>
<figure>{{ charts.reliability }}<figcaption>Rows in tenths by the probability of the called class; dotted: a perfect
forecaster</figcaption></figure>
</section>
"""

VIEW = View(
    measured=measured,
    facts=facts,
    tables=tables,
    figures={"confusion": _confusion, "classes": _classes, "calibration": _calibration},
    tiles=("log_loss", "accuracy", "f1_macro"),
    summary=summary,
    words=words,
    charts=drawn,
    lede="A row is called the class with the highest probability.",
    numbers=NUMBERS,
    section=SECTION,
    link=("calibration", "Calibration"),
    slice_heads=("called rightly", "sure by"),
    slice_cells=lambda part: (f"{part['right']:.1%}", f"{part['predicted']:.1%}"),
    label_head="classes",
    label_cell=format_classes,
)
