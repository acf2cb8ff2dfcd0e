"""Charts of the model card on a stream: what was predicted before it was learned, and when drift was detected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refit.reports.drawing import BAD, COLOURS, FULL, chart, legend, new_grid, write_csv
from refit.schemas.evaluation import Evaluation
from refit.schemas.online_state import Alarm
from refit.schemas.prequential_report import PrequentialPoint

WORDS = {
    "prequential": "learns on",
    "candidate": "candidate",
    "champion": "champion",
    "no_change": "no change",
}
STYLES = {"prequential": ("candidate", "-"), "candidate": ("candidate", "--"), "champion": ("champion", "--")}
STYLES |= {"no_change": ("baseline", "-")}


@chart("stream", "Each training step, predicted before it was learned; dotted: alarms of the drift detectors.")
def stream(evaluation: Evaluation) -> Any:
    report = evaluation.prequential
    if report is None or not report.learned_points:
        return None
    last = report.learned_points[-1].time
    alarms = [each for each in report.alarms if last is None or each.time is None or each.time <= last]
    return _curves("What it predicted before it learned it", report.learned_points, alarms, report.measure)


@chart("stream", "The test rows: learning on, each label once it is known; candidate and champion learn no more.")
def stream_test(evaluation: Evaluation) -> Any:
    report = evaluation.prequential
    if report is None or not report.test_points:
        return None
    first = report.test_points[0].time
    alarms = [each for each in report.alarms if first is not None and each.time is not None and each.time > first]
    return _curves("The test rows, step by step", report.test_points, alarms, report.measure)


def _curves(title: str, points: Sequence[PrequentialPoint], alarms: Sequence[Alarm], measure: str) -> Any:
    figure, panels = new_grid(title, (FULL, 3.4), columns=2)
    times = [point.time for point in points]
    xs: list[Any] = [point.step for point in points] if None in times else list(times)
    for axes, part in zip(panels[0], ("rolling", "cumulative"), strict=True):
        for name in (each for each in WORDS if each in points[0].rolling):
            role, line = STYLES[name]
            ys = [getattr(point, part).get(name, math.nan) for point in points]
            axes.plot(xs, ys, color=COLOURS[role], linestyle=line, label=WORDS[name])
        for alarm in alarms:
            axes.axvline(alarm.step if None in times else alarm.time, color=BAD, linestyle=":", linewidth=0.8)
        axes.set(ylabel=f"{measure}, {'newest steps' if part == 'rolling' else 'all steps so far'}")
        axes.set_xlabel("step" if None in times else "time")
        axes.tick_params(axis="x", labelrotation=30, labelsize=7)
    legend(panels[0][0])
    return figure


def tables(folder: Path, evaluation: Evaluation) -> None:
    """Write `stream.csv`, if there is a stream."""
    if (report := evaluation.prequential) is None:
        return
    parts = (("learned", report.learned_points), ("test", report.test_points))
    rows = (
        (part, point.step, name, point.rolling[name], point.cumulative[name])
        for part, points in parts
        for point in points
        for name in point.rolling
    )
    write_csv(folder / "stream.csv", ("part", "step", "model", "rolling", "cumulative"), rows)


CHARTS = (stream, stream_test)
