"""What every learner keeps, whoever wrote it: run by our tests over our families, and by `refit check-learner`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refit.learners import Spec, make
from refit.learners.conformance.rules import RULES, Rule
from refit.learners.conformance.subject import Broken, NotAsked, Subject, load_afresh

__all__ = ["RULES", "Broken", "Finding", "NotAsked", "Rule", "Subject", "check", "load_afresh"]


@dataclass(frozen=True)
class Finding:
    """How one rule fared: `passed`, `failed`, or `skipped`, and in words why."""

    rule: str
    outcome: str
    said: str


def check(spec: Spec) -> Iterator[Finding]:
    """How each rule fares on a learner, one by one; a rule that is broken keeps no other from being tried.

    Raises:
        UserError: there is no such learner.
    """
    make(spec, where="check-learner")
    subject = Subject(spec)
    for each in RULES:
        try:
            each.keep(subject)
        except NotAsked as why:
            yield Finding(each.name, "skipped", str(why))
        except Broken as broken:
            yield Finding(each.name, "failed", str(broken))
        except Exception as error:  # whatever a stranger's code raises, the other rules are still tried
            yield Finding(each.name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
        else:
            yield Finding(each.name, "passed", each.promise)
