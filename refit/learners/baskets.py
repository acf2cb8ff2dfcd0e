"""Association rules by FP-growth: what belongs into a basket is what the rules add that apply to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from refit.errors import RefitError, UserError
from refit.extras import install_extra
from refit.files.artifacts import digest, write_manifest
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    cannot_resume,
    check_labels,
    describe,
)
from refit.learners.networks.params import Closed, checked
from refit.problems.association import TOP, Association, first_absent, left_out, most_frequent
from refit.runtime.context import Progress, silent
from refit.schemas.association_rules import AssociationRule, AssociationRules
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

RULES = "rules.json"


class FPGrowthParams(Closed):
    """Arguments of kind `fp_growth`."""

    min_support: float = Field(0.006, gt=0, le=1, description="share of the baskets with all items of a set")
    min_confidence: float = Field(0.25, gt=0, le=1, description="of a rule")
    max_items: int | None = Field(None, ge=2, description="of a set; null: any number")


class FPGrowth:
    """Mines frequent sets of items, and recommends by the mean confidence of the rules that apply to a basket.

    A rule has one or more items, and adds one. Where fewer than five items are added, the most frequent ones follow.
    Source: Han, Pei and Yin (2000), "Mining Frequent Patterns without Candidate Generation", as mlxtend has it.
    """

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        arguments = checked(FPGrowthParams, "fp_growth", spec.params, where)
        try:
            import mlxtend  # noqa: F401
        except ImportError:
            raise UserError(
                f"learner 'fp_growth' needs a package that is not installed: {install_extra('baskets')} ({where}.kind)"
            ) from None
        self._configure(spec)
        self._arguments = arguments

    def _configure(self, spec: Spec) -> None:
        self.spec = spec
        self.threshold = 0.5
        self.rules: tuple[AssociationRule, ...] = ()
        self._shares: dict[str, float] = {}

    @property
    def declaration(self) -> Declaration:
        return Declaration(("association",), labels=False, safe_format="json")

    @property
    def _problem(self) -> Association:
        problem = self.spec.problem
        assert isinstance(problem, Association)
        return problem

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        baskets = self._problem.baskets(train.select(list(self.spec.features)))
        if not any(len(basket) > 1 for basket in baskets):
            raise UserError(
                f"learner {self.spec.name!r}: none of {len(baskets):,} baskets has two items; check "
                "train.problem.separator"
            )
        self._shares = most_frequent(baskets)
        self.rules = tuple(self._mined(baskets))
        self._index()
        said = () if self.rules else ("no rule is that frequent and sure: it recommends the most frequent items",)
        return FitReport(warnings=said)

    def _mined(self, baskets: Sequence[Sequence[str]]) -> Iterator[AssociationRule]:
        """The rules, the surest first."""
        import pandas as pd

        with warnings.catch_warnings():  # importing it makes Python show all deprecations of all libraries from then on
            from mlxtend.frequent_patterns import association_rules, fpgrowth

        # A set is no more frequent than each of its items: a table of all items would be mostly of rare ones.
        items = sorted(item for item, share in self._shares.items() if share >= self._arguments.min_support)
        if len(items) < 2:
            return
        index = {item: number for number, item in enumerate(items)}
        has = np.zeros((len(baskets), len(items)), dtype=np.bool_)
        for row, basket in enumerate(baskets):
            has[row, [index[item] for item in basket if item in index]] = True
        frequent = fpgrowth(
            pd.DataFrame(has, columns=items),
            min_support=self._arguments.min_support,
            use_colnames=True,
            max_len=self._arguments.max_items,
        )
        if frequent.empty or frequent["itemsets"].map(len).max() < 2:
            return
        table = association_rules(frequent, metric="confidence", min_threshold=self._arguments.min_confidence)
        rules = [
            AssociationRule(tuple(sorted(items)), next(iter(adds)), float(support), float(confidence), float(lift))
            for items, adds, support, confidence, lift in table[
                ["antecedents", "consequents", "support", "confidence", "lift"]
            ].itertuples(index=False)
            if len(adds) == 1
        ]
        yield from sorted(rules, key=lambda rule: (-rule.confidence, -rule.support, rule.items, rule.adds))

    def _index(self) -> None:
        self._by_first: dict[str, list[AssociationRule]] = {}
        for rule in self.rules:
            self._by_first.setdefault(rule.items[0], []).append(rule)
        self._popular = list(self._shares)

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise cannot_resume(self.spec)

    def _applying(self, basket: Sequence[str]) -> list[AssociationRule]:
        has = set(basket)
        return [rule for item in basket for rule in self._by_first.get(item, ()) if has.issuperset(rule.items)]

    def recommended(self, basket: Sequence[str]) -> list[str]:
        """The items that would be added to a basket, the likeliest first."""
        sure: dict[str, list[float]] = {}
        for rule in self._applying(basket):
            if rule.adds not in basket:
                sure.setdefault(rule.adds, []).append(rule.confidence)
        means = {item: sum(values) / len(values) for item, values in sure.items()}
        chosen = sorted(means, key=lambda item: (-means[item], item))[:TOP]
        return first_absent(self._popular, basket, chosen)

    def recommendations(self, table: pa.Table) -> list[str]:
        """The recommended items of each row, as a text."""
        problem = self._problem
        return [
            problem.separator.join(self.recommended(basket))
            for basket in problem.baskets(table.select(list(self.spec.features)))
        ]

    def predict(self, table: pa.Table) -> Floats:
        if not self._shares:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        result = np.zeros(self._problem.shape(table.num_rows))
        for row, basket in enumerate(self._problem.baskets(table.select(list(self.spec.features)))):
            if len(basket) > 1:
                item, rest = left_out(basket)
                result[row, :2] = item in self.recommended(rest), 1
            applying = self._applying(basket)
            confirmed = sum(rule.adds in basket for rule in applying)
            result[row, 2:] = len(applying), confirmed, sum(self._shares[rule.adds] for rule in applying)
        return result

    def save(self, folder: Path) -> None:
        AssociationRules(shares=tuple(self._shares.items()), rules=self.rules).write(folder / RULES)
        describe(self).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> FPGrowth:
        learner = cls.__new__(cls)  # `__init__` would need the package that mines
        learner._configure(spec)
        learner.threshold = description.threshold
        stored = AssociationRules.read(folder / RULES)
        learner._shares, learner.rules = dict(stored.shares), stored.rules
        learner._index()
        return learner

    def unsafe_reason(self) -> str | None:
        return None

    def digest(self) -> str:
        rules = [[*rule.items, rule.adds, rule.confidence.hex(), rule.support.hex()] for rule in self.rules]
        shares = [[item, share.hex()] for item, share in self._shares.items()]
        return digest({"kind": self.spec.kind, "features": list(self.spec.features), "rules": rules, "shares": shares})
