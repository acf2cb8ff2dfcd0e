"""The report of a kind of problem that has no part of its own: metrics, gains and slices, as every problem has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refit.reports.model_card.by_task import Report, View


def _nothing(*_: Any) -> Report:
    return {}


def _no_tables(folder: Path, evaluation: Report) -> None:
    """There is nothing but what every problem has."""


def _no_sentences(evaluation: Report) -> Iterator[str]:
    return iter(())


VIEW = View(
    tables=_no_tables,
    charts=(),
    tiles=(),
    summary=_no_sentences,
    words=lambda evaluation: "",
    slice_heads=(),
    slice_cells=lambda part: (),
    label_head="label",
    label_cell=lambda window: "–",
)
