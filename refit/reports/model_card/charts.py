"""The charts of a model card: each is drawn once, for the card, MLflow and DVC alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from refit.files.artifacts import atomic
from refit.reports.drawing import Chart, DrawnChart, drawn, styled, write_csv
from refit.reports.model_card import feature_charts, interval_charts, learner_charts, stream_charts, verdict_charts
from refit.reports.model_card.by_task import view_of
from refit.reports.svg import standalone
from refit.schemas.evaluation import Evaluation

FIGURES, PLOTS = "figures", "plots"


def charts_of(task: str) -> tuple[Chart, ...]:
    """All charts of a task, in the order of the card."""
    return (
        *verdict_charts.CHARTS,
        *view_of(task).charts,
        *interval_charts.CHARTS,
        *stream_charts.CHARTS,
        *feature_charts.CHARTS,
        *learner_charts.CHARTS,
    )


def draw(reports: Path, evaluation: Evaluation, more: Sequence[Chart] = ()) -> dict[str, list[DrawnChart]]:
    """Write `figures/*.svg` and `plots/*.csv`, replacing the files of an earlier evaluation.

    Returns the same charts for the card, by section.

    Args:
        more: charts of what the evaluation does not hold, such as images.
    """
    for old in (*(reports / PLOTS).glob("*.csv"), *(reports / FIGURES).glob("*.*")):
        old.unlink()
    write_tables(reports / PLOTS, evaluation)
    by_section: dict[str, list[DrawnChart]] = defaultdict(list)
    with styled():
        for chart in (*charts_of(evaluation.task), *more):
            if (figure := chart.draw(evaluation)) is None:
                continue
            on_page = drawn(figure, chart.name, chart.description)
            with atomic(reports / FIGURES / f"{chart.name}.svg") as scratch:
                scratch.write_text(standalone(on_page.svg), encoding="utf-8")
            by_section[chart.section].append(on_page)
    return by_section


def write_tables(folder: Path, evaluation: Evaluation) -> None:
    """Write the CSV files that `dvc.yaml` lists under plots."""
    view_of(evaluation.task).tables(folder, evaluation)
    interval_charts.tables(folder, evaluation)
    stream_charts.tables(folder, evaluation)
    feature_charts.tables(folder, evaluation)
    learner_charts.tables(folder, evaluation)
    rows = ((day.day, model, day.scores[model], day.rows) for day in evaluation.daily for model in evaluation.metrics)
    write_csv(folder / "daily.csv", ("day", "model", "score", "rows"), rows)
