"""How predictions follow features, on the model card, in the pictures and in the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks import artifacts

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
