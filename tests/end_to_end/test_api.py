"""Refit's functions for notebooks, used as a notebook would: a script that imports `refit` alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import refit
from refit import api
from refit.errors import UserError


def test_importing_refit_imports_no_heavy_library(root: Path) -> None:
    code = (
        "import refit, sys; print(sorted({'prefect', 'mlflow', 'pandas', 'numpy', 'dvc', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_each_function_is_one_of_the_package(project: Path) -> None:
    assert {getattr(refit, name) for name in refit._API} <= {getattr(api, name) for name in api.__all__}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        refit.trian  # noqa: B018


@pytest.mark.slow
def test_a_notebook_runs_shows_scores_compares_and_explains(project: Path) -> None:
    summary = refit.run(project)
    assert {each.state for each in summary.stages.values()} == {"unchanged"}
    assert "version 1 is champion" in repr(summary)
    assert summary._repr_html_().startswith("<pre>")
    status = refit.status(project)
    assert (status.value, bool(status)) == ({}, False)
    assert repr(status).splitlines()[0] == "ingest     up to date"
    assert {"run", "score", "show", "load"} <= {*dir(refit)}, "what a notebook completes"
    champion = refit.show(project)
    assert champion.version == "1"
    assert "version 1" in champion._repr_html_()
    assert [entry.action for entry in refit.history(project)] == ["promote"]
    report = refit.score("2024-10", project)
    assert Path(report.out).is_file()
    assert f"{report.rows.scored:,}" in repr(report)
    comparison = refit.compare("1", "1", project)
    assert comparison.same_test
    assert comparison.metrics["roc_auc"][0] == comparison.metrics["roc_auc"][1]
    assert "roc_auc" in repr(comparison)
    decision = refit.check_drift(project)
    assert (decision.verdict, decision.version) == ("ok", "1")
    with pytest.raises(UserError, match="has no version '9'"):
        refit.compare("1", "9", project)


@pytest.mark.slow
def test_the_notebook_of_the_docs_runs_and_every_cell_shows_its_result(
    project: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell as Jupyter runs it: its statements, then the value of its last line, which shows itself."""
    notebook = json.loads((root / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(project)
    names: dict[str, Any] = {}
    shown = []
    for cell in (each for each in notebook["cells"] if each["cell_type"] == "code"):
        assert cell["outputs"] == [], "outputs are not stored: they would name a machine"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    pages = [each._repr_html_() for each in shown if hasattr(each, "_repr_html_")]
    assert len(pages) == 8
    assert all(page.startswith("<pre>") and len(page) > 60 for page in pages)
    assert "version 1 is champion" in pages[0]


def test_there_are_ten_functions_for_notebooks_and_each_says_what_it_does() -> None:
    assert len(refit.__all__) == 10
    assert all(getattr(refit, name).__doc__ for name in refit.__all__)


def test_texts_of_data_are_escaped_in_a_notebook() -> None:
    assert api.Result(None, "<script>alert(1)</script>")._repr_html_() == (
        "<pre>&lt;script&gt;alert(1)&lt;/script&gt;</pre>"
    )
