"""An evaluation is an object in the code, and one flat mapping in its file."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from refit.errors import RefitError
from refit.evaluation.details.binary import BinaryDetails, BinaryFacts
from refit.evaluation.details.multiclass import MulticlassDetails
from refit.schemas.evaluation import DailyScores, EvaluatedSlice, Evaluation
from refit.schemas.interval_report import IntervalReport
from refit.schemas.measured import Measured

OLDER = Path(__file__).parents[2] / "upgrades/project-0.1.tar.xz"
GAIN = {"value": 0.1, "lower": 0.0, "upper": 0.2}


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    """A whole `evaluation.json`, with a slice."""
    with tarfile.open(OLDER) as archive:
        file = archive.extractfile("shop/reports/evaluation.json")
        assert file is not None
        content: dict[str, Any] = json.load(file)
    facts = {"positive": 3, "rate": 0.3, "predicted": 0.4}
    part = {"by": "channel", "value": "web", "rows": 10, "enough": True, "problem": "", "roc_auc": GAIN, "gain": None}
    return {**content, "slices": [{**part, **facts}]}


def test_what_is_flat_in_the_file_has_its_own_objects_in_the_code(stored: dict[str, Any]) -> None:
    evaluation = Evaluation.from_json(stored, "evaluation.json")
    assert evaluation.to_json() == stored
    assert evaluation.test.rows == stored["test"]["rows"]
    assert evaluation.test.facts.to_json()["positive"] == stored["test"]["positive"]
    (part,) = evaluation.slices
    assert part.score == Measured.model_validate(GAIN)
    assert part.facts.to_json() == {"positive": 3, "rate": 0.3, "predicted": 0.4}
    assert evaluation.daily[0].scores["candidate"] == stored["daily"][0]["candidate"]
    assert set(evaluation.details.to_json()) == {"calibration", "confusion", "curves"}


def test_facts_of_a_kind_of_problem_lie_between_the_other_fields() -> None:
    facts = BinaryFacts(positive=1, rate=0.5, predicted=0.4)
    part = EvaluatedSlice(by="a", value="b", rows=2, facts=facts, enough=False, problem="small", score=None, gain=None)
    assert part.to_json()["positive"] == 1
    assert DailyScores(day="2024-01-01", rows=3, scores={"candidate": None}).to_json() == {
        "day": "2024-01-01",
        "rows": 3,
        "candidate": None,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slices": [5]}, "slices.0: Input should be an object"),
        ({"slices": [{"by": "channel"}]}, "slices.0.value: Field required"),
        ({"daily": [[]]}, "daily.0: Input should be an object"),
        (
            {"daily": [{"day": "2024-01-01", "rows": 1, "candidate": "good"}]},
            "daily.0.scores.candidate: Input should be",
        ),
        ({"test": None}, "test: Input should be an object"),
        ({"metrics": {"candidate": {"roc_auc": 0.5}}}, "metrics.candidate.roc_auc: Input should be an object"),
        ({"decision": {}}, "decision.promote: Field required"),
    ],
    ids=["no slice", "half a slice", "no day", "no score", "no test", "no interval", "no decision"],
)
def test_what_is_damaged_inside_is_named(stored: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(RefitError) as refused:
        Evaluation.from_json({**stored, **change}, "evaluation.json")
    assert words in str(refused.value)
    assert "`refit run` evaluates again" in str(refused.value)


def test_a_part_of_one_kind_of_problem_is_read_as_what_it_is_or_refused(stored: dict[str, Any]) -> None:
    assert Evaluation.from_json(stored, "evaluation.json").detail("intervals", IntervalReport) is None
    scores = {"coverage": GAIN, "width": GAIN, "winkler": GAIN, "pinball": {"0.05": 1.5}}
    report = {"level": 0.9, "by": "residuals", "within": None, "rate": None, "rows": 4, "plain": None, "groups": []}
    whole = {**stored, "intervals": {**scores, **report, "stretch": []}}
    evaluation = Evaluation.from_json(whole, "evaluation.json")
    assert evaluation.to_json() == whole
    read = evaluation.detail("intervals", IntervalReport)
    assert read is not None
    assert read.coverage.value == 0.1
    broken = Evaluation.from_json({**stored, "intervals": {"level": 0.9}}, "evaluation.json")
    with pytest.raises(RefitError, match=r"intervals are damaged or were changed .*; `refit run` evaluates again"):
        broken.detail("intervals", IntervalReport)


def test_details_read_from_a_file_become_those_of_their_kind_or_are_refused(stored: dict[str, Any]) -> None:
    evaluation = Evaluation.from_json(stored, "evaluation.json")
    details = evaluation.details.of_kind(BinaryDetails)
    assert details.to_json() == {name: stored[name] for name in ("calibration", "confusion", "curves")}
    assert details.of_kind(BinaryDetails) is details
    assert sum(map(sum, details.confusion.cells)) == stored["test"]["rows"]
    with pytest.raises(RefitError, match=r"details are damaged or were changed .*; `refit run` evaluates again"):
        evaluation.details.of_kind(MulticlassDetails)
