"""The commands on a model card make the same candidate again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from refit.reports.model_card.about import About, commands


def test_the_commands_on_a_card_name_the_environment_that_the_candidate_was_made_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = cast(About, SimpleNamespace(commit="abc123"))
    assert commands(known, "2024-01-01", {}) == "git checkout abc123\nrefit run --as-of 2024-01-01"
    monkeypatch.setenv("REFIT_ENV", "staging")
    assert commands(known, "2024-01-01", {"train.seed": 1}) == (
        "git checkout abc123\nrefit --env staging run --as-of 2024-01-01 --set train.seed=1"
    )
