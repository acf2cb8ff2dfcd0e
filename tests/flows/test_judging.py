"""`refit run --judge-only`: what it says where there is nothing to judge."""

from __future__ import annotations

from pathlib import Path

from commands import refit_in
from driving import copy_project


def test_a_candidate_that_is_champion_is_not_judged_against_the_models_before_it(
    finished: Path, tmp_path: Path
) -> None:
    done = refit_in(copy_project(finished, tmp_path / "demo"), "run", "--judge-only")
    assert done.returncode == 0, done.stderr
    assert "nothing would change: this candidate is version 1, the champion" in done.stdout
    assert "would be promoted" not in done.stdout
    assert "nothing was registered" in done.stdout
