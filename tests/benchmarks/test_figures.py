"""README and docs quote the figures that the reference project reaches, as a command wrote them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def figures(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "docs/figures.json").read_text(encoding="utf-8"))["flights"]
    return found


def shown(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def cells(path: Path, start: str) -> list[str]:
    """The figures of the one row of a table that begins so."""
    (row,) = [line for line in path.read_text(encoding="utf-8").splitlines() if start in line]
    return re.findall(r"(?<![0-9])\.[0-9]{3}", row)


@pytest.mark.parametrize(
    ("file", "row"),
    [("README.md", "**`refit run --as-of ...`**"), ("docs/flights.md", "through `refit run --as-of ...`")],
)
def test_the_table_of_the_reference_project_says_what_a_run_reaches(
    root: Path, figures: dict[str, Any], file: str, row: str
) -> None:
    assert cells(root / file, row) == [shown(each["roc_auc"]) for each in figures.values()]


def test_the_dates_of_the_readme_are_those_that_were_run(root: Path, figures: dict[str, Any]) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert "| `--as-of` | " + " | ".join(figures) + " |" in text
    months = ["July", "October", "December"]
    assert "| test month | " + " | ".join(months) + " |" in text
    assert [each["test"] for each in figures.values()] == ["2013-07", "2013-10", "2013-12"]


@pytest.mark.slow
def test_a_run_reaches_the_figures_that_were_written(root: Path, figures: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, root / "benchmarks/figures.py"], cwd=root, capture_output=True, text=True, check=True
    )
    for as_of, each in figures.items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {as_of} |")]
        *_, reached, written, _ = line.split("|")
        assert float(reached) == pytest.approx(each["roc_auc"], abs=0.0015)
        assert float(written) == each["roc_auc"]
