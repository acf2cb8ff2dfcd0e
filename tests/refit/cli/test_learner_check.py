"""`refit check-learner`: a table of rules for people, JSON for machines, and a status for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refit.cli import learner_check
from refit.cli.main import app
from refit.errors import UserError
from refit.learners.conformance import RuleOutcome

FLAWED = """
import numpy as np
class Flawed:
    def __init__(self, spec):
        self.spec = spec
    def fit(self, train, label, **more):
        self.mean = np.random.random()
    def predict(self, table):
        return np.full(len(table), self.mean)
    def save(self, folder):
        (folder / "mean.txt").write_text(self.mean.hex())
    @classmethod
    def load(cls, folder, spec):
        learner = cls(spec)
        learner.mean = float.fromhex((folder / "mean.txt").read_text())
        return learner
"""


def test_broken_rules_are_told_by_sentence_and_status(tmp_path: Path) -> None:
    (tmp_path / "flawed.py").write_text(FLAWED)
    done = CliRunner().invoke(app, ["check-learner", "flawed.py:Flawed", "--project", str(tmp_path), "--json"])
    assert done.exit_code == 1
    rules = {rule["rule"]: rule for rule in json.loads(done.stdout.splitlines()[-1])["rules"]}
    failed = {name for name, rule in rules.items() if rule["outcome"] == "failed"}
    assert failed == {
        "declares what it can do",
        "it has a safe format",
        "the same rows and seed give the same model",
        "another process fits the same model",
    }
    assert rules["the same rows and seed give the same model"]["said"].endswith(
        "take every random number from spec.seed"
    )


def test_people_get_a_line_for_each_rule_and_what_is_left_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    found = [RuleOutcome("one", "passed", "It does."), RuleOutcome("two", "skipped", "it has none")]
    learner_check.print_findings("mine.py:Mine", found)
    told = " ".join(capsys.readouterr().out.split())
    assert "passed one It does. skipped two it has none mine.py:Mine: 1 of 1 rules kept" in told
    assert "registry.trusted_types: ['mine.py:Mine']" in told
    learner_check.print_findings("mine.py:Mine", [*found, RuleOutcome("three", "failed", "It does not.")])
    assert "1 of 2 rules kept" in (told := capsys.readouterr().out)
    assert "trusted_types" not in told


def test_what_cannot_be_checked_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such task, .* known; did you mean 'binary'\?"):
        learner_check.run_checks(tmp_path, "baseline", {}, "binry")
    with pytest.raises(UserError, match="learner 'base' is unknown"):
        learner_check.run_checks(tmp_path, "base", {}, "binary")
