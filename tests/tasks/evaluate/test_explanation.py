"""How predictions follow features, on the model card, in the pictures and in the tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from refit.files import artifacts
from refit.reports.drawing import styled
from refit.reports.model_card import feature_charts
from refit.reports.model_card.card_explanation import shown
from refit.reports.svg import to_svg
from refit.schemas.evaluation import Evaluation, Explained

Evaluate = Callable[..., dict[str, Any]]


@pytest.mark.slow
def test_the_features_that_matter_most_are_drawn_and_told(drawn: Evaluate, small_project: Any) -> None:
    found = drawn(evaluate__explain={"rows": 100, "features": 2})["explained"]
    assert found["rows"] == 100
    assert found["shap"]["method"] == "linear"
    assert found["shap"]["features"][0]["name"] == "strength"
    assert [len(each["values"]) for each in found["shap"]["points"]] == [100, 100]
    card = small_project.path(artifacts.MODEL_CARD).read_text()
    assert "computed exactly, from its coefficients" in card
    assert all(level in card for level in ("low value", "middle value", "high value"))
    assert small_project.path(artifacts.REPORTS / "figures/shap.svg").is_file()
    names = [each["name"] for each in found["partial_dependence"]]
    assert names[0] == "strength"
    assert len(names) == 2
    mean = found["partial_dependence"][0]["mean"]
    assert mean == sorted(mean)
    assert small_project.path(artifacts.REPORTS / "figures/partial_dependence.svg").is_file()
    table = small_project.path(artifacts.REPORTS / "plots/partial_dependence.csv").read_text().splitlines()
    assert len(table) == 1 + sum(len(each["values"]) for each in found["partial_dependence"])
    assert "How its predictions follow them" in card


def test_no_rows_to_explain_leave_everything_else_as_it_is(evaluated: Evaluate, small_project: Any) -> None:
    told, silent = evaluated(), evaluated(evaluate__explain={"rows": 0})
    assert silent["explained"]["partial_dependence"] == []
    for part in ("decision", "metrics", "importance", "slices"):
        assert silent[part] == told[part], part
    assert "How its predictions follow them" not in small_project.path(artifacts.MODEL_CARD).read_text()


@pytest.mark.parametrize("classes", [[], ["a", "b", "c", "d", "e"]])
def test_categories_are_drawn_as_they_are_spelt_and_of_many_classes_the_likeliest(classes: list[str]) -> None:
    shares = [0.5, 0.1, 0.2, 0.15, 0.05]
    mean: list[Any] = [shares, shares] if classes else [0.2, 0.3]
    content = {"name": "price", "kind": "category", "values": ["$5_{", "<b>$"], "shares": [0.6, 0.4], "mean": mean}
    explained = Explained.model_validate_json(
        json.dumps({"rows": 9, "classes": classes, "shap": None, "partial_dependence": [content]})
    )
    (feature,) = explained.partial_dependence
    evaluation = Evaluation.model_construct(task="multiclass" if classes else "binary", explained=explained)
    with styled():
        svg = to_svg(feature_charts.partial_dependence.draw(evaluation), "partial", "")
    lines = [name for name, _ in feature_charts.lines_of(explained, feature)]
    assert lines == ([classes[place] for place in (0, 2, 3, 1)] if classes else [""])
    assert all(f">{name}</text>" in svg for name in lines if name)
    assert shown(evaluation).more_classes == (1 if classes else 0)
    assert ">&lt;b&gt;$</text>" in svg
    assert ">$5_{</text>" in svg
