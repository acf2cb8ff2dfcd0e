"""A tiny pretrained transformer, and learners that start from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_transformer import write_folder

from refit.learners import Spec
from refit.learners.contract import Start

VECTORISER = {"kind": "sklearn.feature_extraction.text.TfidfVectorizer", "params": {}, "components": 50}  # not used
QUICK: dict[str, Any] = {"epochs": 4, "dropout": 0.0, "learning_rate": 3e-3, "head_learning_rate": 0.03}


def spec_of(folder: Path | None, **params: Any) -> Spec:
    """A classifier of remarks."""
    return Spec(
        "it",
        "transformer",
        ("remark", "colour"),
        frozenset({"colour"}),
        {**QUICK, **params},
        metric="accuracy",
        text=("remark",),
        vectoriser=VECTORISER,
        start=folder and Start(folder, "pretrained tiny", "0" * 64, pretrained=True),
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
    return write_folder(tmp_path_factory.mktemp("pretrained") / "tiny")


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """A folder of the test's own, in which anything may be broken."""
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
    return lambda *args, **named: write_folder(tmp_path / "own", *args, **named)
