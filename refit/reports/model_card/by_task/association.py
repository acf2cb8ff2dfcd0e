"""Report on association rules: each on its training baskets and on the test baskets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refit.evaluation.details.association import AssociationDetails, RuleFigures, TestedRule
from refit.reports.drawing import COLOURS, HALF, QUIET, chart, dots, new_figure, write_csv
from refit.reports.model_card.by_task import View
from refit.schemas.evaluation import Evaluation

SHOWN = 100  # rules in the card; rules.csv has all
FIGURES = ("support", "confidence", "lift")


def details(evaluation: Evaluation) -> AssociationDetails:
    return evaluation.details.of_kind(AssociationDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    rules = details(evaluation).rules
    heads = [f"{name}_{where}" for where in ("training", "test") for name in FIGURES]
    rows = (
        (" + ".join(rule.items), rule.adds, rule.baskets, *_values(rule.training), *_values(rule.test))
        for rule in rules
    )
    write_csv(folder / "rules.csv", ("items", "adds", "test_baskets", *heads), rows)


def _values(figures: RuleFigures) -> tuple[float | None, ...]:
    return tuple(getattr(figures, name) for name in FIGURES)


@chart("rules", "Each dot is a rule: below the line it is right less often on the test baskets than in training.")
def rule_confidence(evaluation: Evaluation) -> Any:
    points = [(rule.training.confidence, rule.test.confidence) for rule in details(evaluation).rules]
    if not any(None not in point for point in points):
        return None
    figure, axes = new_figure("How often a rule is right", (HALF, 3.3))
    axes.plot((0, 1), (0, 1), color=QUIET, linestyle=":", linewidth=1)
    dots(axes, points, COLOURS["candidate"], 4, alpha=0.6)
    axes.set(xlabel="confidence, training baskets", ylabel="confidence, test baskets", xlim=(0, 1), ylim=(0, 1))
    return figure


def shown(evaluation: Evaluation) -> list[tuple[TestedRule, dict[str, int]]]:
    """The rules of the card, each with its rank by every figure that they can be ordered by, best first."""
    rules = details(evaluation).rules[:SHOWN]
    ranks: list[dict[str, int]] = [{"surplus": rank} for rank in range(len(rules))]
    for rank, index in enumerate(_descending([rule.baskets for rule in rules])):
        ranks[index]["baskets"] = rank
    for where in ("training", "test"):
        for name in FIGURES:
            values = [getattr(getattr(rule, where), name) for rule in rules]
            for rank, index in enumerate(_descending(values)):
                ranks[index][f"{where}-{name}"] = rank
    return list(zip(rules, ranks, strict=True))


def _descending(values: Sequence[float | None]) -> list[int]:
    """The indices of values, the highest first and what is not defined last."""
    return sorted(range(len(values)), key=lambda index: (values[index] is None, -(values[index] or 0.0)))


def summary(evaluation: Evaluation) -> Iterator[str]:
    count = details(evaluation).rule_count
    ours = evaluation.metrics["candidate"]
    if count and (sure := ours["rule_confidence"].value) is not None:
        lift = ours["rule_lift"].value
        more = "" if lift is None else f", {lift:.2f} times as often as if items were independent"
        yield f"Its {count:,} rules are right in {sure:.1%} of the test baskets that they apply to{more}."


VIEW = View(
    tables=tables,
    charts=(rule_confidence,),
    tiles=("hit_rate", "rule_confidence", "rule_lift"),
    summary=summary,
    values=lambda evaluation: {"shown_rules": shown(evaluation)},
)
