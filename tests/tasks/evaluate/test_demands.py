"""What the gate demands in addition to the gain: slices with margins of their own, budgets, and fewer errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit import learners
from refit.config import CostParams, GateParams
from refit.errors import UserError
from refit.evaluation import holdout, prediction_cost, slices
from refit.evaluation.evidence import evidence
from refit.evaluation.scored import Scored
from refit.files import artifacts
from refit.gate.comparison import Sample
from refit.gate.evidence import Evidence
from refit.gate.promotion import decide
from refit.metrics.clusters import Clusters
from refit.problems import problem_of
from refit.problems.binary import Binary
from refit.reports.model_card import verdict_charts
from refit.runtime.context import Context
from refit.schemas.evaluation import Evaluation
from refit.schemas.incumbent import Incumbent, TrainedModel

Evaluate = Callable[..., dict[str, Any]]
CARD = artifacts.MODEL_CARD
GATE = {"min_rows": 1000}


@pytest.fixture
def challenged(small_project: Any) -> Any:
    """A weak champion, and a better candidate."""
    small_project.train("noise", "echo")
    small_project.make_champion("3")
    small_project.train()
    return small_project


def test_each_value_of_a_column_is_judged_against_the_champion_on_its_own_rows(
    evaluated: Evaluate, challenged: Any
) -> None:
    decision = evaluated(evaluate__gate={**GATE, "slices": {"colour": 0.03}})["decision"]
    assert decision["promote"], decision["reasons"]
    assert {each["against"] for each in decision["slices"]} == {"colour=red", "colour=green", "colour=blue"}
    assert any("colour=rare" in note for note in decision["notes"])
    rows = pq.read_table(challenged.path("reports/predictions.parquet"))
    table = pq.read_table(challenged.path(artifacts.TABLE), filters=[("window", "=", "test")])
    red = table["colour"].to_numpy() == "red"
    scores = [
        problem_of("binary").score("roc_auc", rows["label"].to_numpy()[red], rows[w].to_numpy()[red])
        for w in ("candidate", "champion")
    ]
    found = next(each for each in decision["slices"] if each["against"] == "colour=red")
    assert found["estimate"] == pytest.approx(scores[0] - scores[1], abs=1e-9)


def test_a_value_that_must_be_judged_and_is_too_small_or_unknown_is_refused(
    evaluated: Evaluate, challenged: Any
) -> None:
    def reasons(*keys: str) -> str:
        decision = evaluated(evaluate__gate={**GATE, "slices": dict.fromkeys(keys, 0.02)})["decision"]
        assert not decision["promote"]
        return " ".join(decision["reasons"])

    assert re.search(r"where colour=rare could not be measured: it has \d+ test rows", reasons("colour", "colour=rare"))
    assert "no test row has colour 'redd'; did you mean 'red'?" in reasons("colour=redd")
    assert "no test row has hour '7'; there are below" in reasons("hour=7")


def test_a_slice_that_is_no_column_names_the_nearest_whichever_version_is_champion(evaluated: Evaluate) -> None:
    for key in ("colours", "colours=red"):
        with pytest.raises(UserError, match=r"evaluate.gate.slices: .*'colours'; did you mean 'colour'"):
            evaluated(evaluate__gate={**GATE, "slices": {key: 0.02}})


def gathered(context: Context, candidate: np.ndarray, champion: np.ndarray, **gate: Any) -> tuple[Evidence, GateParams]:
    """What a replay does: evidence from predictions alone, with no file written."""
    table = pq.read_table(context.path(artifacts.TABLE), filters=[("window", "=", "test")])
    params = GateParams(**GATE, **gate)
    test = holdout.holdout(table, context.params.project.zone, params.cluster, Binary())
    seen = datetime.fromisoformat("2024-02-01T00:00:00+00:00")
    p = {"candidate": candidate, "champion": champion, "baseline": np.full(test.rows, 0.4)}
    known = evidence(
        test,
        Scored(p, {}, {}),
        {"roc_auc": 0.7},
        candidate=TrainedModel(model_digest="new", seen_until=seen),
        test_start=datetime.fromisoformat("2024-03-01T00:00:00+00:00"),
        incumbent=Incumbent(model="small", version="3", model_digest="old", seen_until=seen),
        gate=params,
    )
    return known, params


def test_a_candidate_that_fails_on_one_value_is_refused_for_it_however_good_it_is_elsewhere(small_project: Any) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE), filters=[("window", "=", "test")])
    random, labels = np.random.default_rng(0), table["label"].to_numpy()
    champion = 1 / (1 + np.exp(-(labels + random.normal(0, 1.2, len(labels)))))
    candidate = np.where(table["colour"].to_numpy() == "blue", 1 - champion, 0.8 * champion + 0.2 * labels)
    known, policy = gathered(small_project.context, candidate, champion, max_loss=0.2, slices={"colour": 0.02})
    decision = decide(known, policy)
    assert [each.against for each in decision.slices if not each.passed] == ["colour=blue"]
    assert len(decision.reasons) == 1
    assert "where colour=blue" in decision.reasons[0]
    assert decide(*gathered(small_project.context, candidate, champion, max_loss=0.2)).promote


def test_a_margin_of_its_own_stands_in_place_of_its_columns(small_project: Any) -> None:
    rows = len(pq.read_table(small_project.path(artifacts.TABLE), filters=[("window", "=", "test")]))
    p = np.random.default_rng(0).random(rows)
    known, policy = gathered(small_project.context, p, p, slices={"colour": 0.02, "colour=red": 0.5})
    margins = sorted((each.against, each.must_exceed) for each in decide(known, policy).slices)
    assert margins == [("colour=blue", -0.02), ("colour=green", -0.02), ("colour=red", -0.5)]


def test_a_slice_in_too_few_clusters_is_too_small(small_project: Any) -> None:
    rows = len(pq.read_table(small_project.path(artifacts.TABLE), filters=[("window", "=", "test")]))
    p = np.random.default_rng(0).random(rows)
    known, policy = gathered(small_project.context, p, p, slices={"colour=red": 0.02}, min_clusters=30)
    assert "clusters, 30 are needed" in " ".join(decide(known, policy).reasons)


def test_numbers_are_cut_in_the_bands_of_the_report(evaluated: Evaluate, challenged: Any) -> None:
    found = evaluated(evaluate__gate={**GATE, "slices": {"hour": 0.05}})
    bands = [f"hour={part['value']}" for part in found["slices"] if part["by"] == "hour"]
    assert [each["against"] for each in found["decision"]["slices"]] == bands


def test_numbers_that_differ_in_their_last_digits_are_parts_of_their_own() -> None:
    shops, shares, halves = [1000001.0, 1000002.0, None], [0.1234567, 0.1234568, -0.5], [0.1, 20240101.0, 2.0]
    days = [20240101 + day for day in range(40)]
    table = pa.table({"shop": shops, "share": shares, "half": pa.array(halves, pa.float32())})
    names = {name: list(dict(slices.parts(table, name, params_key="test"))) for name in table.column_names}
    assert names == {
        "shop": ["1000001", "1000002", "missing"],
        "share": ["-0.5", "0.1234567", "0.1234568"],
        "half": ["0.1", "2", "20240100"],  # as the nearest float32
    }
    bands = dict(slices.parts(pa.table({"day": days}), "day", params_key="test"))
    first, second, third = "2.024011e+07", "2.024012e+07", "2.024013e+07"
    assert list(bands) == [f"below {first}", f"{first} to {second}", f"{second} to {third}", f"from {third}"]
    assert sum(map(len, bands.values())) == 40


def test_the_gate_judges_each_of_three_shops_with_codes_of_seven_digits() -> None:
    random, rows, problem = np.random.default_rng(0), 1800, problem_of("regression")
    shop = np.tile([1000001.0, 1000002.0, 1000003.0], rows // 3)
    label = random.normal(0, 4, rows)
    champion, good = label + random.normal(0, 1, rows), label + random.normal(0, 0.2, rows)
    candidate = np.where(shop == 1000001, label + random.normal(0, 1.6, rows), good)  # far worse for one shop
    days = np.repeat(np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]"), rows // 30)
    test = holdout.Holdout(
        pa.table({"shop": shop}), label, days, Sample(label, Clusters.by_day(days), problem), problem
    )
    gate = GateParams(metric="mae", max_loss=0.05, slices={"shop": 0.05})
    found = slices.gate_slices("shop", test, Scored({"candidate": candidate, "champion": champion}, {}, {}), gate)
    assert {each.name: each.gain.lower(0.04) > -0.05 for each in found} == {
        "shop=1000001": False,
        "shop=1000002": True,
        "shop=1000003": True,
    }


def test_all_values_of_a_column_are_judged_not_only_those_that_the_report_shows() -> None:
    names = [f"v{i:02d}" for i in range(40)]
    table = pa.table({"many": names * 3})
    assert {name for name, _ in slices.parts(table, "many", params_key="test")} == set(names)
    shown = dict(slices.parts(table, "many", params_key="test", most=12))
    assert list(shown)[-1] == "28 others"
    assert sorted(np.concatenate(list(shown.values())).tolist()) == list(range(120))


@pytest.mark.slow
def test_the_card_and_the_picture_show_each_slice_against_its_margin(drawn: Evaluate, challenged: Any) -> None:
    gate = {**GATE, "slices": {"colour": 0.03}}
    found = drawn(evaluate__gate=gate)
    page = challenged.path(CARD).read_text()
    assert "slice by slice" in page
    for each in found["decision"]["slices"]:
        assert f'<th scope="row">{each["against"]}</th>' in page
        assert f"{each['lower']:+.4f}" in page
    assert "and on each slice for a loss of less than the slice&#39;s own margin" in page
    with_slices, plain = (
        verdict_charts.gate.draw(Evaluation.from_json(content, "evaluation.json"))
        for content in (found, drawn(evaluate__gate=GATE))
    )
    last = with_slices.axes[-1]
    assert len(with_slices.axes) == len(plain.axes) + 1
    assert last.get_title() == "against the champion on slices: 3 of 3 judged are above their margins"
    assert {label.get_text() for label in last.get_yticklabels()} == {
        each["against"] for each in found["decision"]["slices"]
    }


def test_error_reduction_is_told_everywhere_where_there_is_a_champion(evaluated: Evaluate, challenged: Any) -> None:
    found = evaluated(evaluate__gate={**GATE, "floors": {"error_reduction": 0.0}})
    ours, theirs = (found["metrics"][who]["roc_auc"]["value"] for who in ("candidate", "champion"))
    reduction = found["error_reduction"]
    assert reduction["value"] == pytest.approx(1 - (1 - ours) / (1 - theirs), abs=1e-9)
    assert reduction["lower"] < reduction["value"] < reduction["upper"]
    assert found["decision"]["promote"]
    assert found["decision"]["error_reduction"] == reduction
    flat = artifacts.read_json(challenged.path(artifacts.METRICS))
    assert flat["error_reduction"] == reduction["value"]
    assert (
        f"Of what the champion lacks to a perfect ROC AUC, it makes up {reduction['value']:+.1%}"
        in challenged.path(CARD).read_text()
    )
    refused = evaluated(evaluate__gate={**GATE, "floors": {"error_reduction": 0.99}})["decision"]
    assert not refused["promote"]
    assert "error reduction" in " ".join(refused["reasons"])


def test_without_a_champion_there_are_no_errors_to_reduce(evaluated: Evaluate, small_project: Any) -> None:
    found = evaluated(evaluate__gate={**GATE, "floors": {"error_reduction": 0.5}})
    assert found["decision"]["promote"]
    assert found["error_reduction"] is None
    assert "error_reduction" not in artifacts.read_json(small_project.path(artifacts.METRICS))


@pytest.mark.slow
def test_costs_are_always_told_and_limit_where_a_ceiling_asks(evaluated: Evaluate, small_project: Any) -> None:
    price = {"cpu_hour": 100.0, "currency": "EUR"}
    found = evaluated(cost=price)
    cost = found["timings"]["cost"]
    assert cost["per_1000"] == pytest.approx(cost["cpu_seconds_per_1000"] / 36, rel=0.01)
    assert cost["training"] == pytest.approx(1.5 / 36, rel=0.01)  # 1.5 seconds, as training.json has it
    assert "At 100 EUR for a CPU hour" in small_project.path(CARD).read_text()
    assert not any("cost" in check["name"] for check in found["decision"]["checks"])
    refused = evaluated(cost=price, evaluate__gate={**GATE, "ceilings": {"cost_per_1000": 1e-9}})["decision"]
    assert not refused["promote"]
    assert "cost of 1,000 predictions" in " ".join(refused["reasons"])
    assert evaluated(cost=price, evaluate__gate={**GATE, "ceilings": {"cost_per_1000": 10.0}})["decision"]["promote"]


def test_a_price_moves_the_cost_and_nothing_of_the_decision(evaluated: Evaluate) -> None:
    cheap, dear = evaluated(), evaluated(cost={"cpu_hour": 1000.0})
    assert dear["timings"]["cost"]["training"] == pytest.approx(20_000 * cheap["timings"]["cost"]["training"], rel=0.01)
    assert cheap["decision"] == dear["decision"]


def test_a_cost_counts_the_cpu_and_not_the_waiting(small_project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE)).slice(0, 30)
    learner = learners.load(small_project.path(artifacts.CANDIDATE))
    ticks = iter(range(100))
    asked = []
    monkeypatch.setattr(learner, "predict", lambda rows: asked.append(rows.num_rows))
    monkeypatch.setattr(prediction_cost.time, "process_time", lambda: float(next(ticks)))
    takes = prediction_cost.serving(learner, table, prediction_cost.GLANCE)
    assert set(asked) == {1, 1000}
    assert takes.cpu_seconds_per_1000 == 1.0
    assert prediction_cost.cost(1.0, 2.0, CostParams(cpu_hour=3.6)).per_1000 == 0.001


def test_the_size_of_the_model_is_that_of_its_folder_and_has_a_ceiling(evaluated: Evaluate, small_project: Any) -> None:
    files = [path for path in small_project.path(artifacts.CANDIDATE).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    found = evaluated(evaluate__gate={**GATE, "ceilings": {"model_mb": size / 2}})
    assert found["candidate"]["model_mb"] == pytest.approx(size, abs=0.0005)
    assert not found["decision"]["promote"]
    assert "model size in MB" in " ".join(found["decision"]["reasons"])
    assert evaluated(evaluate__gate={**GATE, "ceilings": {"model_mb": size * 2}})["decision"]["promote"]
