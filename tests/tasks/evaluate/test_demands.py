"""What the gate demands besides the gain: that a model keeps within its budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks import artifacts, learners
from tasks.evaluate import budgets
from tasks.params import CostParams

Evaluate = Callable[..., dict[str, Any]]
CARD = artifacts.MODEL_CARD
GATE = {"min_rows": 1000}


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
    monkeypatch.setattr(budgets.time, "process_time", lambda: float(next(ticks)))
    found = budgets.cost(learner, table, CostParams(cpu_hour=3.6), training_seconds=0.0)
    assert set(asked) == {1000}
    assert (found["cpu_seconds_per_1000"], found["per_1000"]) == (1.0, 0.001)


def test_the_size_of_the_model_is_that_of_its_folder_and_has_a_ceiling(evaluated: Evaluate, small_project: Any) -> None:
    files = [path for path in small_project.path(artifacts.CANDIDATE).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    found = evaluated(evaluate__gate={**GATE, "ceilings": {"model_mb": size / 2}})
    assert found["candidate"]["model_mb"] == pytest.approx(size, abs=0.0005)
    assert not found["decision"]["promote"]
    assert "model size in MB" in " ".join(found["decision"]["reasons"])
    assert evaluated(evaluate__gate={**GATE, "ceilings": {"model_mb": size * 2}})["decision"]["promote"]
