"""Association: what each rule says on its training baskets, and what of it is true on the test baskets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy
from refit.evaluation.scored import Scored
from refit.schemas.artifact import Part
from refit.schemas.association_rules import AssociationRule
from refit.schemas.evaluation import Details

if TYPE_CHECKING:
    from refit.problems.association import Association

__all__ = ["AssociationDetails", "RuleFigures", "TestedRule"]

MOST = 500  # rules that are reported


class RuleFigures(Part):
    """How often a rule applies, and how often it is right."""

    support: float | None  # share of the baskets with all items of the rule
    confidence: float | None  # share of the baskets with its items that have the added one too; None if there is none
    lift: float | None  # the confidence, as a multiple of the added item's share of the baskets


class TestedRule(Part):
    """A rule on the baskets that it was mined from, and on others."""

    items: tuple[str, ...]
    adds: str
    baskets: int  # of the test window with the rule's items
    training: RuleFigures
    test: RuleFigures


class AssociationDetails(Details):
    """What is measured of association rules."""

    model_config = ConfigDict(extra="forbid")

    baskets: int  # of the test window
    rule_count: int  # of the model; `rules` are at most `MOST` of them
    rules: tuple[TestedRule, ...]  # those that most training baskets follow beyond chance first


def details(test: Holdout, scored: Scored, confidence: float) -> AssociationDetails:
    learner = scored.candidate
    rules: Sequence[AssociationRule] = getattr(learner, "rules", ())
    if learner is None or not rules:
        return AssociationDetails(baskets=test.rows, rule_count=0, rules=())
    problem = cast("Association", test.problem)
    chosen = sorted(rules, key=lambda rule: (-_beyond_chance(rule), rule.items, rule.adds))[:MOST]
    items = {item for rule in chosen for item in (*rule.items, rule.adds)}
    has = _baskets_by_item(problem.baskets(test.table.select(list(learner.spec.features))), items)

    def on_test(rule: AssociationRule) -> TestedRule:
        applies = reduce(np.logical_and, (has[item] for item in rule.items))
        added = has[rule.adds]
        both, count = int((applies & added).sum()), int(applies.sum())
        sure, share = both / count if count else None, float(added.mean())
        figures = RuleFigures(
            support=tidy(both / max(test.rows, 1)),
            confidence=None if sure is None else tidy(sure),
            lift=None if sure is None or not share else tidy(sure / share),
        )
        training = RuleFigures(support=tidy(rule.support), confidence=tidy(rule.confidence), lift=tidy(rule.lift))
        return TestedRule(items=rule.items, adds=rule.adds, baskets=count, training=training, test=figures)

    return AssociationDetails(baskets=test.rows, rule_count=len(rules), rules=tuple(map(on_test, chosen)))


def _beyond_chance(rule: AssociationRule) -> float:
    """The share of the training baskets that follow a rule beyond what independent items would.

    Rules are chosen by training baskets alone, so that their figures on test baskets are no better than they are.
    Source: Piatetsky-Shapiro (1991), "Discovery, Analysis, and Presentation of Strong Rules" (leverage).
    """
    return rule.support * (1 - 1 / rule.lift) if rule.lift else 0.0


def _baskets_by_item(baskets: Sequence[Sequence[str]], items: Iterable[str]) -> dict[str, NDArray[np.bool_]]:
    """(baskets,) for each of the items whether a basket has it."""
    has = {item: np.zeros(len(baskets), dtype=np.bool_) for item in items}
    for row, basket in enumerate(baskets):
        for item in basket:
            if item in has:
                has[item][row] = True
    return has


MEASURES = Measures(details)
