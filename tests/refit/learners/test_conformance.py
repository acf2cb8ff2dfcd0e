"""Each rule of the contract is broken by what breaks it; the learner of CONTRIBUTING.md keeps them all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refit.learners import Spec, own
from refit.learners.conformance import RULES, Broken, Subject, check, load_in_fresh_process
from refit.learners.conformance.sample import CATEGORICAL, FEATURES

KIND = "my_learner.py:ShareOf"


@pytest.fixture(scope="module")
def example(root: Path) -> str:
    """The file that CONTRIBUTING.md tells people to write."""
    block = re.search(r"```python\n(.*?)```", (root / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block
    return "\n".join(line.removeprefix("   ") for line in block[1].splitlines()) + "\n"


@pytest.fixture(scope="module")
def subject_of(example: str) -> Callable[..., Subject]:
    """The example under the rules, with some of its text changed."""

    def make_subject(*changes: tuple[str, str]) -> Subject:
        source = example
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        params = {"column": "place"}
        return Subject(Spec("it", KIND, FEATURES, CATEGORICAL, params, trusted_types=(KIND,), source=source))

    return make_subject


def keep(name: str, subject: Subject) -> None:
    next(rule for rule in RULES if rule.name == name).keep(subject)


def test_the_example_keeps_every_rule(subject_of: Callable[..., Subject]) -> None:
    found = list(check(subject_of().spec))
    assert [each.rule for each in found] == [rule.name for rule in RULES]
    assert [each.said for each in found if each.outcome == "failed"] == []
    skipped = ["it has no iterations to find", "it declares no use of rows without a label"]
    assert [each.said for each in found if each.outcome == "skipped"] == skipped


SHARE = "self.shares.get(name, self.everyone)"
CLOCK = "    digest = lambda self: str(__import__('time').time_ns())\n"
FLAWS = [
    ("declares what it can do", 'tasks=("binary",)', 'tasks=("regression",)', "declares tasks regression"),
    ("declares what it can do", ', safe_format="json"', "", "declares no safe_format"),
    ("predictions fit the task", SHARE, f"1 + {SHARE}", "probabilities lie in 0 to 1"),
    ("predictions fit the task", SHARE, f"[{SHARE}]", r"shape \(150, 1\); .* shape \(150,\) was expected"),
    ("predictions follow their rows", "return np.array(", "return np.sort(", "another order"),
    ("predictions follow their rows", SHARE, f"{SHARE} / len(table)", "alone has another prediction"),
    ("the same rows and seed give the same model", "    def save", f"{CLOCK}    def save", "another digest"),
    ("the same rows and seed give the same model", SHARE, "np.random.random()", "predicts otherwise"),
    (
        "other rows give another digest",
        "    def save",
        "    def digest(self):\n        return ''\n\n    def save",
        "same",
    ),
    ("it has a safe format", ', safe_format="json"', "", "never be the candidate"),
    ("an unseen category is a missing one", SHARE, "self.shares.get(name, 0.1 if name else 0.2)", "must mean nothing"),
    ("an unseen category is a missing one", SHARE, "self.shares[name]", "failed.*KeyError.*line 23 of my_learner.py"),
    ("gaps are predicted or refused by name", SHARE, "self.shares.get(name, float('nan'))", "no finite prediction"),
]


@pytest.mark.parametrize(("rule", "old", "new", "said"), FLAWS)
def test_what_breaks_a_rule_is_told(
    subject_of: Callable[..., Subject], rule: str, old: str, new: str, said: str
) -> None:
    with pytest.raises(Broken, match=said):
        keep(rule, subject_of((old, new)))


def test_a_fresh_process_finds_what_this_one_cannot(subject_of: Callable[..., Subject]) -> None:
    hashed = subject_of(("label.mean()", "(abs(hash('x')) / 2**64)"))
    forgetful = subject_of(("dumps([self.everyone", "dumps([0.5"))
    load_in_fresh_process([hashed, forgetful])
    with pytest.raises(Broken, match="fits another model"):
        keep("another process fits the same model", hashed)
    with pytest.raises(Broken, match="predicts otherwise"):
        keep("stored it is the same in a fresh process", forgetful)


def test_a_pickle_is_not_read(subject_of: Callable[..., Subject]) -> None:
    """Even where the class asks for it: the file names a function to be called."""
    written, read = (
        "write_text(json.dumps([self.everyone, self.shares]))",
        'json.loads((folder / "shares.json").read_text())',
    )
    evil = subject_of(
        (written, "write_bytes(b'cos\\ngetcwd\\n(tR.')"),
        (read, "__import__('pickle').loads((folder / 'shares.json').read_bytes())"),
    )
    with pytest.raises(Broken, match=r"cannot load it: .*a pickle was read"):
        keep("stored it is the same in a fresh process", evil)


WITHOUT = [
    ("a missing column is named", "by place", "rows without strength are predicted"),
    ("one class cannot be learned from", "check_labels", "labels of one class is accepted"),
    ("one row is learned from or refused", "check_labels", "one row was learned from"),
    ("no rows cannot be learned from", "check_labels", "no rows to learn from"),
    ("what was stored is read only if unchanged", "check_manifest", "a surplus file is loaded"),
    ("nothing is predicted before a fit", "before", "predicts without having been fitted"),
    ("other columns and their order change nothing", "by place", "take features by name"),
    ("a column of another type is named", "_rows", "place as double is predicted|ends in"),
    ("nothing that it was given is changed", "labels", "labels it learned from were changed"),
    ("it goes on where it says so", "resume", "two steps more|is accepted"),
]


@pytest.mark.parametrize(("rule", "without", "said"), WITHOUT)
def test_each_guard_of_ours_is_what_keeps_its_rule(
    subject_of: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, rule: str, without: str, said: str
) -> None:
    subject = subject_of()
    if without == "_rows":
        monkeypatch.setattr(own.OwnLearner, "_rows", lambda self, table: table)
    elif without == "check_labels":
        monkeypatch.setattr(own, "check_labels", lambda *given: None)
    elif without == "check_manifest":
        monkeypatch.setattr("refit.learners.check_manifest", lambda folder: None)
    elif without == "before":
        monkeypatch.setattr(own.OwnLearner, "predict", lambda self, table: np.zeros(len(table)))
    elif without == "by place":
        found: Any = subject.fitted
        monkeypatch.setattr(found, "predict", lambda table: np.full(len(table), float(len(table.column_names))))
    elif without == "labels":
        monkeypatch.setattr(own.OwnLearner, "fit", lambda self, train, label, **more: label.fill(0))
        monkeypatch.setattr(own.OwnLearner, "predict", lambda self, table: np.zeros(len(table)))
    else:
        monkeypatch.setattr(own.OwnLearner, "resume", lambda self, before, *given, **more: None)
    with pytest.raises(Broken, match=said):
        keep(rule, subject)
