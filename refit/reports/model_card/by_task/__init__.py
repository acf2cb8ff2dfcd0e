"""What an evaluation tells of one task alone, beside what it tells of every task: a module for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from refit.evaluation.holdout import Holdout
    from refit.evaluation.scored import Scored

__all__ = ["Report", "View", "view_of"]

Report = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """How the predictions of a task are told of. Every function but the first two takes the evaluation as written."""

    measured: Callable[[Holdout, Scored, float], Report]  # its own parts of `evaluation.json`
    facts: Callable[[NDArray[Any], Floats], Report]  # of labels and predictions: of the test rows, or of a slice
    tables: Callable[[Path, Report], None]  # CSV for `dvc plots`
    figures: Mapping[str, Callable[[Report], Any]]  # PNG, by file name; a figure of nothing is None
    tiles: tuple[str, ...]  # metrics that the model card opens with, besides the gate's
    summary: Callable[[Report], Iterator[str]]  # what the candidate can do, in sentences
    words: Callable[[Report], str]  # the lede of the section
    charts: Callable[[Report], dict[str, Any]]  # what the page's parts below name
    lede: str  # of the page's numbers
    numbers: str  # the page's part below the table of numbers
    section: str  # a section of its own
    link: tuple[str, str]  # to that section: its id and name
    slice_heads: tuple[str, ...]  # columns of the table of slices
    slice_cells: Callable[[Report], tuple[str, ...]]  # and those of a slice, from its facts
    label_head: str  # what the table of windows tells of their labels
    label_cell: Callable[[Report], str]  # the same of a window, or of the test rows


def view_of(task: str) -> View:
    """The view of a task."""
    view: View = import_module(f"refit.reports.model_card.by_task.{task}").VIEW
    return view
