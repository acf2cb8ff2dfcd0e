"""The parts of an evaluation report that are specific to a task, one module per task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from refit.reports.drawing import Chart
from refit.schemas.evaluation import Evaluation, Facts

__all__ = ["View", "view_of"]


@dataclass(frozen=True)
class View:
    """How the predictions of a task are reported, in the template `model_card_<task>.html.j2`.

    The defaults report what every problem has: metrics, gains and slices.
    """

    tables: Callable[[Path, Evaluation], None] = lambda folder, evaluation: None  # CSV for `dvc plots`
    charts: tuple[Chart, ...] = ()
    tiles: tuple[str, ...] = ()  # metrics at the top of the model card, in addition to the gate's
    summary: Callable[[Evaluation], Iterator[str]] = lambda evaluation: iter(())  # what the candidate can do
    words: Callable[[Evaluation], str] = lambda evaluation: ""  # introduction of the section
    slice_heads: tuple[str, ...] = ()  # columns of the table of slices
    slice_cells: Callable[[Facts], tuple[str, ...]] = lambda facts: ()  # cells of a slice
    label_head: str = "label"  # column for labels in the table of windows
    label_cell: Callable[[Mapping[str, JsonValue]], str] = lambda labels: "–"  # what its problem says of its labels
    values: Callable[[Evaluation], Mapping[str, Any]] = lambda evaluation: {}  # more that its template needs
    largest: Callable[[Evaluation], list[int]] = lambda evaluation: []  # classes in tables and charts, by index


def view_of(task: str) -> View:
    """The view of a task; the default one for kinds that others have added."""
    if not (Path(__file__).parent / f"{task}.py").is_file():
        return View()
    view: View = import_module(f"refit.reports.model_card.by_task.{task}").VIEW
    return view
