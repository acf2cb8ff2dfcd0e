"""The parts of an evaluation report that are specific to a task, one module per task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.reports.drawing import Chart

__all__ = ["Report", "View", "view_of"]

Report = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """How the predictions of a task are reported, in the template `model_card_<task>.html.j2`.

    All functions take the stored evaluation.
    """

    tables: Callable[[Path, Report], None]  # CSV for `dvc plots`
    charts: tuple[Chart, ...]
    tiles: tuple[str, ...]  # metrics at the top of the model card, in addition to the gate's
    summary: Callable[[Report], Iterator[str]]  # sentences on what the candidate can do
    words: Callable[[Report], str]  # introduction of the section
    slice_heads: tuple[str, ...]  # columns of the table of slices
    slice_cells: Callable[[Report], tuple[str, ...]]  # cells of a slice, from its facts
    label_head: str  # column for labels in the table of windows
    label_cell: Callable[[Report], str]  # its cell for a window or the test rows
    largest: Callable[[Report], list[int]] = lambda evaluation: []  # classes in tables and charts, by index


def view_of(task: str) -> View:
    """The view of a task; a general one for kinds of problems that others have added."""
    has_own = (Path(__file__).parent / f"{task}.py").is_file()
    view: View = import_module(f"refit.reports.model_card.by_task.{task if has_own else 'generic'}").VIEW
    return view
