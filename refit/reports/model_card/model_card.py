"""Writes the model card: one self-contained HTML file with the verdict first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from refit.files.artifacts import MODEL_CARD, atomic
from refit.metrics import Metric
from refit.problems import kind_of, metric_named
from refit.reports import templates
from refit.reports.drawing import DrawnChart
from refit.reports.model_card import card_explanation, card_learners, card_opponents, card_stream
from refit.reports.model_card.about import CHOSEN, About, about, commands, entries, hyperparameters
from refit.reports.model_card.by_task import view_of
from refit.reports.model_card.wording import words_of
from refit.reports.templates import count, fixed, money
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.evaluation import Evaluation
from refit.schemas.feature_table import FeatureTable
from refit.schemas.measured import Measured
from refit.schemas.snapshot import stand_in_notice
from refit.schemas.training import Training

MOST_FEATURES = 20
MOST_MODELS = 50  # of a candidate that is many
MODELS = ("candidate", "champion", "anchor", "baseline")

Charts = Mapping[str, Sequence[DrawnChart]]


@dataclass(frozen=True)
class Headline:
    """A number at the top of the page."""

    name: str
    value: str
    note: str


def write(context: Context, evaluation: Evaluation, features: FeatureTable, training: Training, charts: Charts) -> None:
    """Write `reports/model_card.html`, which loads nothing, with every value escaped."""
    text = render(about(context), evaluation, features, training, charts)
    with atomic(context.path(MODEL_CARD)) as scratch:
        scratch.write_text(text, encoding="utf-8")


def render(known: About, evaluation: Evaluation, features: FeatureTable, training: Training, charts: Charts) -> str:
    """Render the page; `charts` are those of each section."""
    models = [model for model in MODELS if model in evaluation.metrics]
    folds = card_learners.folds(evaluation.learners, training.metric)
    enough = sum(part.enough for part in evaluation.slices)
    return templates.render(
        [f"model_card_{evaluation.task}.html.j2", "model_card.html.j2"],
        name=known.name,
        zone=known.zone,
        about=list(entries(known, evaluation, training)),
        links=known.stated.links,
        uncommitted=known.uncommitted,
        prices=known.prices,
        threshold_chosen=CHOSEN[known.prices.by],
        commands=commands(known, utc_text(evaluation.as_of), evaluation.overrides),
        hyperparameters=hyperparameters(training),
        view=view_of(evaluation.task),
        evaluation=evaluation,
        details=evaluation.details,
        as_of=utc_text(evaluation.as_of),
        stand_in=stand_in_notice(", ".join(evaluation.stand_in)) if evaluation.stand_in else "",
        candidate=evaluation.candidate,
        test=evaluation.test,
        days=[entry.day for entry in evaluation.daily],
        decision=evaluation.decision,
        words=words_of(evaluation, features, known.zone),
        tiles=list(_tiles(evaluation)),
        gated=[each for each in evaluation.decision.slices if each.estimate is not None],
        confidence=f"{evaluation.confidence:.0%}",
        models=models,
        measured=evaluation.metrics,
        gains={other: evaluation.gains[other] for other in models if other in evaluation.gains},
        metrics=[_labelled(metric_named(each), evaluation) for each in evaluation.metrics["candidate"]],
        metric_word=metric_named(evaluation.metric).words,
        opponents=evaluation.opponents,
        opponents_on_parts=list(card_opponents.on_parts(evaluation)),
        slices=[(by, list(parts)) for by, parts in groupby(evaluation.slices, lambda part: part.by)],
        slice_count=enough,
        slice_misses=round((1 - evaluation.confidence) * enough, 1),
        problem=kind_of(evaluation.task),
        naive=training.baseline,
        importance=evaluation.importance,
        most_features=MOST_FEATURES,
        feature_counts=Counter(feature.group for feature in evaluation.importance.features),
        descriptions=_descriptions(features),
        explained=card_explanation.shown(evaluation),
        stream=card_stream.shown(evaluation.prequential),
        folds=folds,
        fold_count=max((each.count for each in folds.values()), default=0),
        searches=list(card_learners.searches(evaluation.learners)),
        group_models=training.chosen.models,
        most_models=MOST_MODELS,
        learning_metric=training.metric,
        learning_word=metric_named(training.metric).words,
        refit_rows=training.refit_rows,
        windows=dict(features.windows),
        identity=_identity(evaluation, training, features),
        charts=defaultdict(list, charts),
        **view_of(evaluation.task).values(evaluation),
    )


def _labelled(metric: Metric, evaluation: Evaluation) -> Metric:
    """The metric with words that name the threshold, where accuracy depends on each model's own."""
    if metric.name == "accuracy" and (threshold := evaluation.candidate.threshold) is not None:
        return replace(metric, words=f"accuracy at each model's threshold (the candidate's: {fixed(threshold, 3)})")
    return replace(metric, words=f"{metric.words}, in %") if metric.percent else metric


def _tiles(evaluation: Evaluation) -> Iterator[Headline]:
    timings, test, view = evaluation.timings, evaluation.test, view_of(evaluation.task)
    against = "champion" if "champion" in evaluation.metrics else "baseline"
    ours, others = evaluation.metrics["candidate"], evaluation.metrics[against]
    for name in dict.fromkeys((evaluation.metric, *view.tiles)):
        note = f"{_span(ours[name])} · {against} {fixed(others[name].value, 3)}"
        yield Headline(metric_named(name).words, fixed(ours[name].value, 3), note)
    labels = f"{view.label_head}: {view.label_cell(test.facts.to_json())}"
    yield Headline(
        "test rows", count(test.rows), f"{'on one day' if test.days == 1 else f'over {test.days} days'}; {labels}"
    )
    latency, cost = timings.latency_ms, timings.cost
    many = f"{count(timings.rows_per_second)} rows/s at once"
    million = f"{money(1000 * cost.per_1000)} {cost.currency} a million"
    yield Headline("one prediction", f"{latency.p50:.1f} ms", f"99 % within {latency.p99:.1f} ms · {many} · {million}")


def _descriptions(features: FeatureTable) -> dict[str, str]:
    described = features.definitions.feature_set.described()
    return {
        name: feature.description + (f" ({feature.unit})" if feature.unit else "")
        for name, feature in described.items()
    }


def _identity(evaluation: Evaluation, training: Training, features: FeatureTable) -> list[tuple[str, str]]:
    return [
        ("candidate", training.inputs),
        ("model digest", training.model_digest),
        ("snapshot", evaluation.snapshot),
        ("feature definitions", features.definitions_digest),
        ("seed", str(training.seed)),
    ]


def _span(measured: Measured) -> str:
    return "no interval" if measured.lower is None else f"{fixed(measured.lower, 3)} to {fixed(measured.upper, 3)}"
