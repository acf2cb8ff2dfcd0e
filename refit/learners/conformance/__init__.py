"""Conformance checks for learners: run by the tests over the built-in families, and by `refit check-learner`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refit.errors import message_of
from refit.learners import Spec, make
from refit.learners.conformance.rules import RULES, Rule
from refit.learners.conformance.subject import Broken, NotApplicable, Subject, load_in_fresh_process

__all__ = ["RULES", "Broken", "NotApplicable", "Rule", "RuleOutcome", "Subject", "check", "load_in_fresh_process"]


@dataclass(frozen=True)
class RuleOutcome:
    """The outcome of one rule, `passed`, `failed` or `skipped`, with the reason as a sentence."""

    rule: str
    outcome: str
    said: str


def check(spec: Spec) -> Iterator[RuleOutcome]:
    """Check a learner against each rule in turn; a broken rule does not stop the others.

    Raises:
        UserError: there is no such learner.
    """
    make(spec, where="check-learner")
    subject = Subject(spec)
    for each in RULES:
        try:
            each.keep(subject)
        except NotApplicable as why:
            yield RuleOutcome(each.name, "skipped", str(why))
        except Broken as broken:
            yield RuleOutcome(each.name, "failed", str(broken))
        except Exception as error:  # third-party code may raise anything; the other rules are still checked
            yield RuleOutcome(each.name, "failed", f"{type(error).__name__}: {message_of(error)}")
        else:
            yield RuleOutcome(each.name, "passed", each.promise)
