"""`refit run --judge-only`: what it says where there is nothing to judge."""

from __future__ import annotations

from pathlib import Path

from commands import refit_in
from driving import copy_project

from registry.ledger import Entry, Ledger
from registry.store import locate


def test_a_candidate_that_is_champion_is_not_judged_against_the_models_before_it(
    finished: Path, tmp_path: Path
) -> None:
    done = refit_in(copy_project(finished, tmp_path / "demo"), "run", "--judge-only")
    assert done.returncode == 0, done.stderr
    assert "nothing would change: this candidate is version 1, the champion" in done.stdout
    assert "would be promoted" not in done.stdout
    assert "nothing was registered" in done.stdout


def test_a_promotion_that_was_cut_off_is_left_to_a_run_that_may_promote(finished: Path, tmp_path: Path) -> None:
    project = copy_project(finished, tmp_path / "demo")
    ledger = Ledger.of(locate(project, None, {}))
    cut_off = Entry("k", "2024-01-01T00:00:00Z", "ann", "run", "promote", "demo", "1", "2", ("better",))
    ledger.begin(cut_off)
    done = refit_in(project, "run", "--judge-only")
    assert done.returncode == 0, done.stderr
    assert ledger.pending("demo") == cut_off
