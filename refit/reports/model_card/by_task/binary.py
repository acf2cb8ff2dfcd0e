"""Report on binary probabilities: ROC, precision and recall, calibration, and classes at the threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation import curves
from refit.evaluation.calibration_bins import calibration
from refit.evaluation.holdout import Holdout, tidy
from refit.evaluation.scored import Scored
from refit.reports.drawing import COLOURS, INK, QUIET, new_axes, tint, write_csv
from refit.reports.html_theme import count, percent
from refit.reports.model_card import card_charts as charts
from refit.reports.model_card.by_task import Report, View

Floats = NDArray[np.float64]


def measured(test: Holdout, scored: Scored, confidence: float) -> Report:
    candidate, threshold = scored.p["candidate"], scored.thresholds["candidate"]
    shown = {name: p for name, p in scored.p.items() if name in ("candidate", "champion")}
    return {
        "calibration": calibration(test.sample, candidate, test.labels, confidence),
        "confusion": confusion(test, candidate, threshold),
        "curves": {
            "roc": {name: curves.roc(test.labels, p) for name, p in shown.items()},
            "precision_recall": {name: curves.precision_recall(test.labels, p) for name, p in shown.items()},
            "scores": curves.histogram(test.labels, candidate),
        },
    }


def facts(labels: NDArray[Any], p: Floats) -> Report:
    return {"positive": int(labels.sum()), "rate": tidy(labels.mean()), "predicted": tidy(p.mean())}


def confusion(test: Holdout, p: Floats, threshold: float) -> dict[str, float]:
    """The confusion matrix, with rows classified as 1 at or above the threshold."""
    predicted, positive = p >= threshold, test.labels == 1
    return {
        "threshold": threshold,
        "true_positive": int((predicted & positive).sum()),
        "false_positive": int((predicted & ~positive).sum()),
        "false_negative": int((~predicted & positive).sum()),
        "true_negative": int((~predicted & ~positive).sum()),
    }


def tables(folder: Path, evaluation: Report) -> None:
    curves = evaluation["curves"]
    write_csv(folder / "roc.csv", ("model", "false_positive_rate", "true_positive_rate"), _lines(curves["roc"]))
    write_csv(folder / "precision_recall.csv", ("model", "recall", "precision"), _lines(curves["precision_recall"]))
    bins = evaluation["calibration"]["bins"]
    rows: Iterable[Sequence[Any]] = ((b["predicted"], b["observed"]["value"], b["rows"]) for b in bins)
    write_csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)
    matrix = evaluation["confusion"]
    calls = [(a, c) for a in ("negative", "positive") for c in ("negative", "positive")]
    rows = ((a, c, matrix[f"{'true' if a == c else 'false'}_{c}"]) for a, c in calls)
    write_csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)


def _lines(by_model: dict[str, list[tuple[float, float]]]) -> Iterable[Sequence[Any]]:
    return ((model, x, y) for model, points in by_model.items() for x, y in points)


def _roc(evaluation: Report) -> Any:
    figure, axes = new_axes("Positives found against false alarms (ROC)", size=(5.2, 5.0))
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1, label="chance")
    _models(axes, evaluation, "roc", "roc_auc")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    axes.legend(loc="lower right")
    return figure


def _precision_recall(evaluation: Report) -> Any:
    figure, axes = new_axes("Precision at each recall")
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
    figure, axes = new_axes("What was predicted, and what came true", size=(5.2, 5.0))
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
    figure, axes = new_axes(f"Calls at threshold {matrix['threshold']:.3f}", size=(5.0, 4.4))
    shares = [[count / max(sum(row), 1) for count in row] for row in cells]
    axes.imshow(shares, cmap=tint(COLOURS["candidate"]), vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(cells):
        for j, rows in enumerate(row):
            ink = "white" if shares[i][j] > 0.55 else INK
            text = f"{rows:,}\n{shares[i][j]:.0%} of the row"
            axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=11)
    axes.set_xticks([0, 1], ["called negative", "called positive"])
    axes.set_yticks([0, 1], ["negative", "positive"])
    axes.set_xlabel(f"{total:,} test rows")
    axes.grid(visible=False)
    return figure


def _scores(evaluation: Report) -> Any:
    scores = evaluation["curves"]["scores"]
    figure, axes = new_axes("Which probabilities each class was given")
    for name, colour in (("negative", COLOURS["baseline"]), ("positive", COLOURS["candidate"])):
        total = max(sum(scores[name]), 1)
        shares = [count / total for count in scores[name]]
        axes.stairs(shares, scores["edges"], color=colour, fill=True, alpha=0.35)
        axes.stairs(shares, scores["edges"], color=colour, linewidth=1.6, label=f"{name}, {total:,} rows")
    axes.axvline(evaluation["confusion"]["threshold"], color=QUIET, linestyle=":", linewidth=1, label="threshold")
    axes.set(xlabel="predicted probability", ylabel="share of the class", xlim=(0, 1))
    axes.legend(loc="upper right")
    return figure


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def summary(evaluation: Report) -> Iterator[str]:
    ours = evaluation["metrics"]["candidate"]
    if (auc := ours["roc_auc"])["value"] is not None:
        yield (
            f"Given one row that came true and one that did not, it ranks them rightly {_times(auc)}; "
            "a coin does so 50 times."
        )
    if (loss := ours["log_loss"]["value"]) and (naive := evaluation["metrics"]["baseline"]["log_loss"]["value"]):
        change = 1 - loss / naive
        side = "less" if change > 0 else "more"
        yield f"Its probabilities cost {abs(change):.1%} {side} log loss than the base rate alone."


def _times(auc: Report) -> str:
    times = f"{100 * auc['value']:.1f} times in 100"
    return times if auc["lower"] is None else f"{times} (between {100 * auc['lower']:.1f} and {100 * auc['upper']:.1f})"


def words(evaluation: Report) -> str:
    """Whether predicted and observed rates agree, overall and bin by bin."""
    report = evaluation["calibration"]
    predicted, observed = report["predicted"], report["observed"]
    bins = [each for each in report["bins"] if each["observed"]["lower"] is not None]
    off = [each for each in bins if not each["observed"]["lower"] <= each["predicted"] <= each["observed"]["upper"]]
    error = evaluation["metrics"]["candidate"]["calibration_error"]["value"]
    gap = predicted - observed
    if abs(gap) < 0.005:
        overall = f"On the whole it predicted {predicted:.1%}, and {observed:.1%} came true"
    else:
        side = "more" if gap > 0 else "less"
        overall = f"On the whole it predicted {predicted:.1%}, which is {side} than the {observed:.1%} that came true"
    where = f"{len(off) or 'none'} of {len(bins)} bins lie off the diagonal by more than their interval"
    return f"{overall}; the mean distance is {error:.1%}, and {where}."


def drawn(evaluation: Report) -> dict[str, Any]:
    lines = evaluation["curves"]
    return {
        "roc": charts.roc(lines["roc"]),
        "precision_recall": charts.precision_recall(lines["precision_recall"], evaluation["calibration"]["observed"]),
        "reliability": charts.reliability(evaluation["calibration"]["bins"]),
        "histogram": charts.histogram(lines["scores"], evaluation["confusion"]["threshold"]),
    }


LEDE = """Calls such as accuracy and F1 count a row as positive from {{ candidate.threshold | fixed(3) }} on, which gave
the best F1 on validation rows; accuracy pays for it (the champion has its own threshold, the baseline always calls the
majority)."""

NUMBERS = """<div class="pair">
<figure>{{ charts.roc }}<figcaption>ROC. {% for model in evaluation.curves.roc %}{{ swatch(model) }}{% endfor %};
dotted: chance</figcaption></figure>
<figure>{{ charts.precision_recall }}<figcaption>Precision at each recall; dotted: the base rate
{{ evaluation.calibration.observed | fixed(3) }}</figcaption></figure>
</div>
{% set confusion = evaluation.confusion %}
<h3>Calls from {{ candidate.threshold | fixed(3) }} on</h3>
<table class="confusion"><thead><tr><th></th><th class="n">called negative</th><th class="n">called positive</th></tr>
</thead><tbody>
<tr><th scope="row">was negative</th><td>{{ confusion.true_negative | count }}</td>
<td>{{ confusion.false_positive | count }}</td></tr>
<tr><th scope="row">was positive</th><td>{{ confusion.false_negative | count }}</td>
<td>{{ confusion.true_positive | count }}</td></tr></tbody></table>
"""

SECTION = """<section id="calibration">
<h2>Can its probabilities be taken at their word?</h2>
<p class="lede">{{ words.view }}</p>
<div class="pair">
<figure>{{ charts.reliability }}<figcaption>Rows in tenths by prediction; dotted: a perfect forecaster
</figcaption></figure>
<figure>{{ charts.histogram }}<figcaption>Predictions given to {{ swatch("baseline", "negative rows") }}
{{ swatch("candidate", "positive rows") }}; dotted: the threshold</figcaption></figure>
</div>
</section>
"""

VIEW = View(
    measured=measured,
    facts=facts,
    tables=tables,
    figures={
        "roc": _roc,
        "precision_recall": _precision_recall,
        "calibration": _calibration,
        "confusion": _confusion,
        "scores": _scores,
    },
    tiles=("roc_auc", "log_loss", "calibration_error"),
    summary=summary,
    words=words,
    charts=drawn,
    lede=LEDE,
    numbers=NUMBERS,
    section=SECTION,
    link=("calibration", "Calibration"),
    slice_heads=("came true", "predicted"),
    slice_cells=lambda part: (percent(part["rate"]), percent(part["predicted"])),
    label_head="positive",
    label_cell=lambda window: count(window["positive"]),
)
