"""Writes the model card: one self-contained HTML file with the verdict first."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from refit.files.artifacts import MODEL_CARD, atomic
from refit.problems import metric_named
from refit.reports import templates
from refit.reports.drawing import DrawnChart, Report
from refit.reports.model_card import card_explanation, card_learners
from refit.reports.model_card.by_task import view_of
from refit.reports.model_card.wording import words_of
from refit.reports.templates import count, fixed, money
from refit.runtime.context import Context
from refit.schemas.feature_table import FeatureTable
from refit.schemas.training import Training

MOST_FEATURES = 20

Charts = Mapping[str, Sequence[DrawnChart]]


def write(context: Context, evaluation: Report, features: FeatureTable, training: Training, charts: Charts) -> None:
    """Write `reports/model_card.html`, without scripts or external links, with every value escaped."""
    text = render(context.params.project.name, evaluation, features, training, charts)
    with atomic(context.path(MODEL_CARD)) as scratch:
        scratch.write_text(text, encoding="utf-8")


def render(name: str, evaluation: Report, features: FeatureTable, training: Training, charts: Charts) -> str:
    """Render the page; `charts` are those of each section."""
    metric = evaluation["metric"]
    view = view_of(evaluation["task"])
    models = [model for model in ("candidate", "champion", "anchor", "baseline") if model in evaluation["metrics"]]
    slices = _slices(evaluation)
    return templates.render(
        [f"model_card_{evaluation['task']}.html.j2", "model_card.html.j2"],
        name=name,
        view=view,
        evaluation=evaluation,
        as_of=evaluation["as_of"],
        stand_in=", ".join(evaluation["stand_in"]),
        settings=[f"{key}={json.dumps(value)}" for key, value in evaluation["overrides"].items()],
        candidate=evaluation["candidate"],
        test=evaluation["test"],
        days=[entry["day"] for entry in evaluation["daily"]],
        decision=evaluation["decision"],
        words=words_of(evaluation, features),
        tiles=_tiles(evaluation),
        gated=[each for each in evaluation["decision"]["slices"] if each["estimate"] is not None],
        confidence=f"{evaluation['confidence']:.0%}",
        models=models,
        measured=evaluation["metrics"],
        gains={other: evaluation["gains"][other] for other in models if other in evaluation["gains"]},
        metrics=[
            {
                "name": each,
                "label": metric_named(each).words,
                "better": "↑" if metric_named(each).higher_is_better else "↓",
            }
            for each in evaluation["metrics"]["candidate"]
        ],
        metric=metric,
        metric_word=metric_named(metric).words,
        slices=slices,
        slice_count=sum(part["enough"] for group in slices for part in group["parts"]),
        slice_misses=round((1 - evaluation["confidence"]) * sum(p["enough"] for g in slices for p in g["parts"]), 1),
        importance=_importance(evaluation["importance"], _descriptions(features)),
        explained=card_explanation.shown(evaluation),
        learners=(tried := card_learners.tried(evaluation["learners"], training.metric)),
        fold_count=max((each["by_fold"]["count"] for each in tried if each["by_fold"]), default=0),
        searches=list(card_learners.searches(evaluation["learners"])),
        learning_metric=training.metric,
        learning_word=metric_named(training.metric).words,
        refit_rows=training.refit_rows,
        windows=[{"name": name, **window.to_json()} for name, window in features.windows],
        identity=_identity(evaluation, training, features),
        charts=defaultdict(list, charts),
    )


def _tiles(evaluation: Report) -> list[Report]:
    ours, timings, test = evaluation["metrics"]["candidate"], evaluation["timings"], evaluation["test"]
    metric, view = evaluation["metric"], view_of(evaluation["task"])
    against = "champion" if "champion" in evaluation["metrics"] else "baseline"
    others = evaluation["metrics"][against]
    shown = dict.fromkeys((metric, *view.tiles))
    tiles = [
        {
            "name": metric_named(name).words,
            "value": fixed(ours[name]["value"], 3),
            "note": f"{_span(ours[name], 3)} · {against} {fixed(others[name]['value'], 3)}",
        }
        for name in shown
    ]
    tiles.append(
        {
            "name": "test rows",
            "value": count(test["rows"]),
            "note": f"over {test['days']} days; {view.label_head}: {view.label_cell(test)}",
        }
    )
    latency, cost = timings["latency_ms"], timings["cost"]
    many = f"{count(timings['rows_per_second'])} rows/s at once"
    million = f"{money(1000 * cost['per_1000'])} {cost['currency']} a million"
    tiles.append(
        {
            "name": "one prediction",
            "value": f"{latency['p50']:.1f} ms",
            "note": f"99 % within {latency['p99']:.1f} ms · {many} · {million}",
        }
    )
    return tiles


def _slices(evaluation: Report) -> list[Report]:
    groups: dict[str, list[Report]] = {}
    for part in evaluation["slices"]:
        groups.setdefault(part["by"], []).append(part)
    return [{"by": by, "parts": parts} for by, parts in groups.items()]


def _importance(importance: Report, descriptions: Mapping[str, str]) -> Report:
    features = [{**entry, "description": descriptions.get(entry["name"], "")} for entry in importance["features"]]
    counts = Counter(entry["group"] for entry in features)
    return {
        "rows": importance["rows"],
        "groups": [{**entry, "count": counts.get(entry["name"], 1)} for entry in importance["groups"]],
        "first": features[:MOST_FEATURES],
        "rest": features[MOST_FEATURES:],
    }


def _descriptions(features: FeatureTable) -> dict[str, str]:
    described = features.definitions.feature_set.described()
    return {
        name: feature.description + (f" ({feature.unit})" if feature.unit else "")
        for name, feature in described.items()
    }


def _identity(evaluation: Report, training: Training, features: FeatureTable) -> list[tuple[str, str]]:
    return [
        ("model digest", training.model_digest),
        ("made from", training.inputs),
        ("snapshot", evaluation["snapshot"]),
        ("feature definitions", features.definitions_digest),
        ("seed", str(training.seed)),
    ]


def _span(entry: Mapping[str, float | None], digits: int) -> str:
    if entry["lower"] is None:
        return "no interval"
    return f"{fixed(entry['lower'], digits)} to {fixed(entry['upper'], digits)}"
