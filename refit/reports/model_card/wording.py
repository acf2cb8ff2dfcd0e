"""Explains an evaluation in sentences, for readers who know the problem but not the statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from refit.plain_text import number, signed
from refit.problems import metric_named
from refit.reports.model_card.by_task import view_of
from refit.reports.templates import money
from refit.schemas.evaluation import EvaluatedRows, Evaluation
from refit.schemas.feature_table import FeatureTable, LabelCounts
from refit.schemas.gate_decision import Decision, GainComparison
from refit.schemas.measured import Measured


@dataclass(frozen=True)
class Words:
    """Every sentence of the model card that depends on the numbers."""

    about: str
    verdict: str
    summary: tuple[str, ...]
    gate: str
    budgets: str
    clustered: str
    view: str
    labels: str
    assumptions: tuple[str, ...]
    giveaways: tuple[str, ...]


def words_of(evaluation: Evaluation, features: FeatureTable, zone: ZoneInfo) -> Words:
    """The sentences of a candidate's model card, with days in the project's zone."""
    return Words(
        about=features.definitions.feature_set.description,
        verdict=verdict(evaluation),
        summary=tuple(summary(evaluation)),
        gate=gate(evaluation.decision),
        budgets=budgets(evaluation),
        clustered=clustered(evaluation.test),
        view=view_of(evaluation.task).words(evaluation),
        labels=labels(features.labels),
        assumptions=tuple(assumptions(evaluation, zone)),
        giveaways=tuple(map(str, features.giveaways)),
    )


def verdict(evaluation: Evaluation) -> str:
    champion = evaluation.incumbent.version
    if evaluation.decision.promote:
        return (
            f"It may be promoted in place of version {champion}."
            if champion
            else "It may be promoted, as the first champion."
        )
    return f"Version {champion} stays champion." if champion else "It may not be promoted, and there is no champion."


def summary(evaluation: Evaluation) -> Iterator[str]:
    """The reasons for the verdict: what the candidate can do, how it compares, and why it was refused."""
    decision = evaluation.decision
    metric = metric_named(decision.metric).words
    yield from view_of(evaluation.task).summary(evaluation)
    for each in decision.compared:
        if each.against == "champion":
            yield from _against(each, metric)
    if (reduction := evaluation.error_reduction) and reduction.value is not None:
        yield _reduced(reduction, metric)
    if not decision.promote:
        yield f"What stopped it: {'; '.join(decision.reasons)}."


def _against(each: GainComparison, metric: str) -> Iterator[str]:
    gain, lower, upper = each.estimate, each.lower, each.upper
    if gain is None or lower is None or upper is None:
        return
    if lower > 0:
        yield f"It beats the champion by {number(gain)} {metric}, and by {number(lower)} at the least."
    elif upper < 0:
        yield f"It is worse than the champion by {number(-gain)} {metric}."
    else:
        between = f"{signed(lower)} and {signed(upper)}"
        yield f"No difference to the champion in {metric} is shown: it lies between {between}."


def _reduced(reduction: Measured, metric: str) -> str:
    share = f"{reduction.value:+.1%}{reduction.between('{:+.1%}'.format)}"
    return f"Of what the champion lacks to a perfect {metric}, it makes up {share}."


def budgets(evaluation: Evaluation) -> str:
    """The cost of predictions and training, and the size of the model."""
    cost, size = evaluation.timings.cost, evaluation.candidate.model_mb
    return (
        f"Its folder holds {size:,.3f} MB. At {cost.cpu_hour:g} {cost.currency} for a CPU hour, 1,000 "
        f"predictions cost {money(cost.per_1000)} {cost.currency} ({cost.cpu_seconds_per_1000 * 1000:,.1f} ms "
        f"of CPU) and the training {money(cost.training)} {cost.currency}."
    )


def gate(decision: Decision) -> str:
    """The requirement of the gate."""
    metric, sure, policy = metric_named(decision.metric).words, f"{100 * decision.confidence:.5g}%", decision.policy
    if decision.incumbent.version is None:
        demand = f"a gain in {metric} of more than {policy.min_gain_over_baseline:g} over the naive baseline"
    elif decision.mode == "superiority":
        demand = f"a gain in {metric} of more than {policy.min_gain:g} over the champion (superiority)"
    else:
        demand = f"a loss in {metric} of less than {policy.max_loss:g} against the champion (non-inferiority)"
    slices = ", and on each slice for a loss of less than the slice's own margin" if decision.slices else ""
    return (
        f"It asks for {demand}{slices}, shown with {sure} confidence on the same rows. The lower end of each interval "
        "below has to lie right of the dashed line."
    )


def clustered(test: EvaluatedRows) -> str:
    """How rows were clustered, as the end of a sentence about intervals."""
    if test.cluster == "row":
        return ", rows taken as independent"
    if test.clusters < 2:
        return f"; there are none, as all rows share one {test.cluster}"
    return f" that allow for rows of one {test.cluster} being alike ({test.clusters} clusters)"


def labels(counts: LabelCounts) -> str:
    """The status of the labels in the windows."""
    never = f"{counts.no_label:,} that never get one"
    corrected = ""
    if counts.contradicting:
        corrected = f" {counts.contradicting:,} were corrected: each counts as known when the next window opened."
    if not counts.unlabelled:
        counted = f"Labels: {counts.known:,} known, {counts.pending:,} not yet known at that time"
        return f"{counted}, {never} (they are not learned from).{corrected}"
    return (
        f"Labels: {counts.known:,} known, {counts.pending:,} not yet known at that time, {never}. "
        f"{counts.unlabelled:,} rows without a label, of training and validation, are there for learners that use them."
        f"{corrected}"
    )


def assumptions(evaluation: Evaluation, zone: ZoneInfo) -> Iterator[str]:
    """The assumptions behind the numbers."""
    test, candidate = evaluation.test, evaluation.candidate
    if test.cluster == "row":
        yield "Rows are taken as independent, as the params say; if they are not, the intervals are too narrow."
    else:
        independent = f"rows of two {test.cluster}s are taken as independent of each other"
        if test.cluster == "day":
            independent = "gains allow for luck that lasts over days, other intervals take days as independent"
        yield f"Rows of one {test.cluster} may be alike; {independent}."
    if rule := candidate.split:
        how = "as a column says" if rule.startswith("as column") else "by chance"
        yield f"The test rows were kept apart {how} ({rule}): the intervals are for rows like these, not later ones."
    else:
        yield "The test window is one stretch of time: the intervals cover luck within it, not seasons to come."
        if last := candidate.seen_until:
            yield (
                f"The model was made from data up to {last.astimezone(zone):%Y-%m-%d}, before the test window; "
                "it is not fitted again on that window before it is promoted."
            )
    yield "Importance tells what this model uses, not what causes the outcome."
    if looks := evaluation.decision.looks:
        yield f"This test window has judged {looks} other candidate{'s' if looks > 1 else ''} before."
