"""How predictions follow features, on the model card, in the pictures and in the tables."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib import rc_context

from refit.files import artifacts
from refit.reports.drawing import STYLE
from refit.reports.model_card import explanation_plots
from refit.reports.model_card.card_explanation import shown

Evaluate = Callable[..., dict[str, Any]]


def test_the_features_that_matter_most_are_drawn_and_told(drawn: Evaluate, small_project: Any) -> None:
    found = drawn(evaluate__explain={"rows": 100, "features": 2})["explained"]
    assert found["rows"] == 100
    assert found["shap"]["method"] == "linear"
    assert found["shap"]["features"][0]["name"] == "strength"
    assert [len(each["values"]) for each in found["shap"]["points"]] == [100, 100]
    card = small_project.path(artifacts.MODEL_CARD).read_text()
    assert "computed exactly, from its coefficients" in card
    assert card.count('class="swarm low"') >= 1
    assert small_project.path(artifacts.REPORTS / "figures/shap.png").is_file()
    names = [each["name"] for each in found["partial_dependence"]]
    assert names[0] == "strength"
    assert len(names) == 2
    mean = found["partial_dependence"][0]["mean"]
    assert mean == sorted(mean)
    assert small_project.path(artifacts.REPORTS / "figures/partial_dependence.png").is_file()
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
    feature = {"name": "price", "kind": "category", "values": ["$5_{", "<b>$"], "shares": [0.6, 0.4], "mean": mean}
    explained = {"rows": 9, "classes": classes, "shap": None, "partial_dependence": [feature]}
    evaluation = {"task": "multiclass" if classes else "binary", "explained": explained}
    with rc_context(STYLE):
        explanation_plots.partial(evaluation).savefig(io.BytesIO(), format="png")
    told = shown(evaluation)
    assert [name for _, name in told["classes"]] == [classes[place] for place in (0, 2, 3, 1)[: len(classes)]]
    assert told["more_classes"] == (1 if classes else 0)
    assert "&lt;b&gt;$" in told["partial"][0]["chart"]
