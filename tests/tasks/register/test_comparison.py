"""Two versions side by side: what the gate measured between them, and what they were made from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refit.cli.comparison import print_comparison
from refit.errors import UserError
from refit.files.artifacts import EVALUATION
from refit.models import comparison
from refit.models.comparison import compared
from refit.reports import comparison_page
from refit.schemas.evaluation import Evaluation
from refit.schemas.incumbent import Incumbent
from refit.schemas.measured import Measured
from registry.versions import Version


def test_versions_that_the_gate_compared_show_its_gain_whichever_is_named_first(
    project: Any, decision: dict[str, Any]
) -> None:
    between = {"against": "champion", "version": "1", "estimate": 0.01, "lower": -0.002, "upper": 0.022}
    decision["compared"] = [{**between, "must_exceed": -0.005, "passed": True}]
    first = Version("toy", "1", None, "2024-03-04T00:00:00Z", {})
    second = Version("toy", "2", None, "2024-03-05T00:00:00Z", {"refit.decision": json.dumps(decision)})
    project.judged()
    champion = Incumbent(model="toy", version="1", model_digest="c0ffee", seen_until=None)
    gain = Measured(value=0.03, lower=-0.01, upper=0.07)
    evaluation = Evaluation.read(project.folder / EVALUATION).model_copy(
        update={"incumbent": champion, "gains": {"champion": {"roc_auc": gain}}}
    )
    gains, gate, judged = comparison._judged((first, second), (None, evaluation))
    assert (gains, judged) == ({"roc_auc": gain}, "2")
    assert gate is not None
    assert gate.estimate == 0.01
    back, same_gate, judged = comparison._judged((second, first), (evaluation, None))
    assert (back, judged) == ({"roc_auc": Measured(value=-0.03, lower=-0.07, upper=0.01)}, "2")
    assert same_gate == gate
    assert comparison._judged((second, second), (None, None)) == ({}, None, None), "the gate compared it with another"


@pytest.mark.slow
def test_what_differs_is_named_with_both_values_and_what_is_lost_is_said(
    project: Any, same_process: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    project.registered(0)
    project.registered(1)
    between = compared(project.context, "1", "2")
    assert between.of[0].aliases != between.of[1].aliases
    assert between.of[0].snapshot == between.of[1].snapshot
    assert between.features == ()
    assert between.shared_features
    assert between.notes == ()
    page = comparison_page.render(between)
    assert "Version 1 and version 2" in page
    right = tuple(Measured(value=value, lower=None, upper=None) for value in (0.8, 0.9))
    alike = between.model_copy(
        update={"same_test": True, "gains": {}, "metrics": {"accuracy": right, "accuracy_at_half": right}}
    )
    assert "accuracy at each version&#39;s threshold" in comparison_page.render(alike)
    assert comparison_page.gain(alike, "accuracy") == "", "each at a threshold of its own"
    assert comparison_page.gain(alike, "accuracy_at_half") == "+0.1000"
    for stored in project.folder.rglob("evaluation/evaluation.json"):
        stored.unlink()
    apart = between.model_copy(update={"same_test": False})
    rows = [f"{of.test_rows:,} rows from" for of in between.of]
    for shown, gains, which in (
        (apart, {"roc_auc": right[0]}, "the gain in the last column"),
        (apart, {}, "No number"),
    ):
        other = shown.model_copy(update={"gains": gains, "gate": None, "judged": "2" if gains else None})
        above = comparison_page.render(other).partition("<table>")[0]
        assert "The columns are not comparable: version 1 was measured on" in above
        assert all(each in above for each in (*rows, which))
    print_comparison(apart)
    printed = capsys.readouterr().out
    assert printed.index("not comparable") < printed.index("roc_auc")
    assert "Both were measured on the same test rows: " in comparison_page.render(alike).partition("<table>")[0]
    lost = compared(project.context, "1", "2")
    assert any("evaluation.json" in note for note in lost.notes)
    assert lost.metrics["roc_auc"][0] is not None, "it is a tag of the version"
    same = compared(project.context, "1", "1")
    assert same.params == ()
    assert same.same_test
    with pytest.raises(UserError, match="has no version '9'"):
        compared(project.context, "1", "9")
