"""A candidate has to beat the naive opponent that was best on the validation rows; the reports show all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from refit.config import GateParams
from refit.errors import UserError
from refit.evaluation.evidence import evidence
from refit.evaluation.holdout import Holdout
from refit.evaluation.opponents import Opponents, opponents
from refit.evaluation.scored import Scored
from refit.files import artifacts
from refit.gate.comparison import Sample
from refit.gate.evidence import Evidence
from refit.gate.promotion import decide
from refit.metrics.clusters import Clusters
from refit.models.run_content import of_evaluation
from refit.problems import problem_of
from refit.schemas.incumbent import Incumbent, TrainedModel
from refit.schemas.training import Training
from tasks.evaluate.naive_opponents import by_part, remarks

Evaluate = Callable[..., dict[str, Any]]


def test_each_opponent_is_reported_and_the_gate_compares_with_the_best_on_validation(
    evaluated: Evaluate, small_project: Any
) -> None:
    found = evaluated()
    base, single = found["opponents"]
    assert (base["name"], base["best"], single["name"], single["best"]) == ("base_rate", False, "best_feature", True)
    assert single["words"] == "best single feature (strength)"
    assert base["score"]["value"] == 0.5
    assert 0.7 < single["score"]["value"] < found["metrics"]["candidate"]["roc_auc"]["value"]
    compared = found["decision"]["naive"]
    assert compared["against"] == single["words"]
    assert compared["estimate"] == pytest.approx(single["gain"]["value"])
    assert compared["must_exceed"] == -0.005
    assert single["words"] in small_project.path(artifacts.MODEL_CARD).read_text()


def test_predictions_and_metrics_of_each_opponent_are_written_for_mlflow_and_for_whoever_looks_closer(
    evaluated: Evaluate, small_project: Any
) -> None:
    for each in evaluated()["opponents"]:
        rows = pq.read_table(small_project.path(artifacts.JUDGED_ROWS), columns=["label", f"opponent_{each['name']}"])
        assert problem_of("binary").score("roc_auc", *(column.to_numpy() for column in rows.columns)) == pytest.approx(
            each["score"]["value"]
        )
        logged = of_evaluation(small_project.context, Training.read(small_project.path(artifacts.TRAINING))).metrics
        shown = {name: value for name, value, _ in logged}
        assert shown[f"test/opponent_{each['name']}_roc_auc"] == each["score"]["value"]
        assert shown[f"test/gain_over_opponent_{each['name']}"] == each["gain"]["value"]


def test_a_candidate_that_does_worse_than_a_single_feature_is_refused(evaluated: Evaluate, small_project: Any) -> None:
    small_project.train("noise", "echo")
    found = evaluated()
    assert not found["decision"]["promote"]
    assert any("against the best single feature (strength)" in reason for reason in found["decision"]["reasons"])
    assert any(
        "has to do better than the best single feature (strength) on the test rows" in reason
        for reason in found["decision"]["reasons"]
    )


def test_params_may_name_the_opponents(evaluated: Evaluate) -> None:
    found = evaluated(evaluate__baselines=["echo"])
    assert [each["name"] for each in found["opponents"]] == ["base_rate", "echo"]
    assert found["opponents"][1]["words"] == "feature echo"


def test_without_further_opponents_the_decision_is_what_it_was(evaluated: Evaluate) -> None:
    alone = evaluated(evaluate__baselines=[])
    assert [each["name"] for each in alone["opponents"]] == ["base_rate"]
    assert "naive" not in alone["decision"]
    assert evaluated()["decision"]["compared"][0] == alone["decision"]["compared"][0]


def test_an_unknown_opponent_is_an_error_that_names_the_nearest(evaluated: Evaluate) -> None:
    with pytest.raises(UserError, match=r"evaluate\.baselines: 'stength' is neither.*did you mean 'strength'"):
        evaluated(evaluate__baselines=["stength"])


def test_the_test_rows_do_not_choose_the_opponent(evaluated: Evaluate, small_project: Any) -> None:
    """In the test window `noise` gives the label away, in validation it does not: `strength` stays the opponent."""
    table = pq.read_table(small_project.path(artifacts.TABLE))
    given = pc.if_else(
        pc.equal(table["window"], "test"), table["label"].cast(pa.float64()), table["noise"].cast(pa.float64())
    )
    small_project.write_table(table.set_column(table.column_names.index("noise"), "noise", given))
    small_project.train()
    assert evaluated()["opponents"][1]["words"] == "best single feature (strength)"


def test_parts_of_the_test_rows_on_which_an_opponent_does_better_are_named(
    evaluated: Evaluate, small_project: Any
) -> None:
    """For red rows the candidate knows nothing: `strength` says the opposite there in the test window."""
    table = pq.read_table(small_project.path(artifacts.TABLE))
    turned = pc.and_(pc.equal(table["window"], "test"), pc.equal(table["colour"], "red"))
    strength = pc.if_else(turned, pc.negate(table["strength"]), table["strength"])
    small_project.write_table(table.set_column(table.column_names.index("strength"), "strength", strength))
    found = evaluated(evaluate__slices=["colour"])
    red = next(each for each in found["opponents_on_parts"] if each["value"] == "red")
    assert red["by"] == "colour"
    assert red["scores"]["candidate"] < red["scores"]["base_rate"] == 0.5
    (note,) = [each for each in found["decision"]["notes"] if "naive opponent does better" in each]
    assert "at colour red: the base rate 0.5, the candidate 0." in note


def forecasts(days: int = 400) -> tuple[pa.Table, Any]:
    """One step ahead the last value is best, nine steps ahead the season before."""
    random = np.random.default_rng(0)
    horizon, value = np.tile([1, 9], days), random.normal(100, 10, 2 * days)
    near, far = value + random.normal(0, 1, 2 * days), value + random.normal(0, 5, 2 * days)
    is_near = horizon == 1
    columns = {
        "horizon": horizon,
        "seasonal_naive": np.where(is_near, far, near),
        "naive: last_value": np.where(is_near, near, far),
    }
    return pa.table(columns), value


def test_each_horizon_has_its_own_best_opponent_and_the_gate_refuses_a_loss_against_it() -> None:
    problem, (table, value) = problem_of("forecast"), forecasts()
    held_out = np.arange(len(value)) >= len(value) // 2
    every = opponents(
        problem, table, value, held_out, features=["horizon"], metric="mae", baseline_metric="mae", named=None
    )
    assert {horizon: each.name for horizon, each in every.on_horizons.items()} == {
        "1": "last_value",
        "9": "season_before",
    }
    sample = Sample(value, Clusters.rows(len(value)), problem)
    test = Holdout(table, value, np.array([]), sample, problem)
    error = np.where(table["horizon"].to_numpy() == 1, 4.0, 0.1)  # worse than the last value one step ahead
    gate = GateParams(metric="mae", max_loss=1.0, min_gain_over_baseline=0.0, min_rows=10, slices={"horizon": 0.5})
    p = {"candidate": value + error, "baseline": problem.guess_for(table, every.every[0].naive)}
    found = _evidence(test, p, every, gate)
    verdict = decide(found, gate)
    (reason,) = verdict.reasons
    assert "against the last value where horizon=1, at least" in reason
    assert "more than -0.5000 is needed" in reason
    assert [check.passed for check in verdict.checks if check.name.startswith("naive")] == [False, True]
    assert not [note for note in verdict.notes if "not asked" in note]
    whole = GateParams(metric="mae", max_loss=1.0, min_gain_over_baseline=0.0, min_rows=10)
    assert decide(replace(found, naive_slices=()), whole).promote, "as a whole it is better than each of them"


def test_no_horizon_is_put_in_a_band_with_others_however_many_there_are() -> None:
    problem, (table, value) = problem_of("forecast"), forecasts(days=12_000)
    ahead = np.where(table["horizon"].to_numpy() == 1, 1, 2 + np.arange(len(value)) // 2 % 23)
    table = table.set_column(0, "horizon", pa.array(ahead.astype(float)))
    held_out = np.arange(len(value)) >= len(value) // 2
    every = opponents(
        problem, table, value, held_out, features=["horizon"], metric="mae", baseline_metric="mae", named=None
    )
    sample = Sample(value, Clusters.of(np.arange(len(value)) // 240), problem)
    test = Holdout(table, value, np.array([]), sample, problem)
    p = {"candidate": value + np.where(ahead == 1, 4.0, 0.1), "baseline": value + 9.0, "champion": value + 0.1}
    for key in ("horizon", "horizon=1"):
        gate = GateParams(metric="mae", max_loss=1.0, slices={key: 0.5})
        found = _evidence(test, p, every, gate)
        failed = [each.name for each in found.naive_slices if not each.gain.lower(0.04) > -0.5 and not each.problem]
        assert failed == ["last value where horizon=1"]
        assert len(found.naive_slices) == len(found.slices) == (24 if key == "horizon" else 1)
        assert [each.name for each in found.slices if each.gain.value < -0.5] == ["horizon=1"]
    shown = by_part(test, Scored(p, {}, {}, opponents=every), {}, ["horizon"], "mae")
    assert [each.value for each in shown] == [str(each) for each in range(1, 25)]


def test_the_median_is_an_opponent_of_its_own_where_the_baseline_predicts_the_mean() -> None:
    """Trained by squared errors the baseline predicts the mean; the gate judges absolute errors."""
    problem, value = problem_of("regression"), np.random.default_rng(0).lognormal(0, 2, 1_000)
    table, held_out = pa.table({"width": np.ones(1_000)}), np.arange(1_000) >= 500
    fitted = partial(opponents, problem, table, value, held_out, features=["width"], metric="mae", named=None)
    assert fitted(baseline_metric="mae").further is None
    every = fitted(baseline_metric="rmse")
    assert every.further is not None
    assert every.further.name == "median"
    p = {"candidate": np.full(1_000, 2 * np.median(value)), "baseline": np.full(1_000, value.mean())}
    sample = Sample(value, Clusters.rows(len(value)), problem)
    gate = GateParams(metric="mae", max_loss=10.0, min_gain_over_baseline=0.0, min_rows=10)
    verdict = decide(_evidence(Holdout(table, value, np.array([]), sample, problem), p, every, gate), gate)
    assert not verdict.promote
    assert any("has to do better than the median" in reason for reason in verdict.reasons)


def _evidence(test: Holdout, p: dict[str, Any], every: Opponents, gate: GateParams) -> Evidence:
    return evidence(
        test,
        Scored(p, {}, {}, opponents=every),
        {"mae": 1.0},
        candidate=TrainedModel(model_digest="c0ffee", seen_until=datetime(2024, 1, 1, tzinfo=UTC)),
        test_start=datetime(2024, 1, 1, tzinfo=UTC),
        incumbent=Incumbent(model="demo", version=None, model_digest=None, seen_until=None, anchor=None, looks=0),
        gate=gate,
    )


def test_accuracy_is_reported_at_the_threshold_and_at_one_half_with_their_names(
    evaluated: Evaluate, small_project: Any
) -> None:
    found = evaluated()["metrics"]["candidate"]
    rows = pq.read_table(small_project.path("reports/predictions.parquet"))
    label, predicted = rows["label"].to_numpy() == 1, rows["candidate"].to_numpy()
    assert found["accuracy"]["value"] == pytest.approx(np.mean((predicted >= 0.4) == label))
    assert found["accuracy_at_half"]["value"] == pytest.approx(np.mean((predicted >= 0.5) == label))
    card = small_project.path(artifacts.MODEL_CARD).read_text()
    assert "accuracy at each model&#39;s threshold (the candidate&#39;s: 0.400)" in card
    assert "accuracy at .5" in card


def test_shares_by_a_feature_are_those_of_its_bin_drawn_towards_all_rows() -> None:
    problem = problem_of("binary")
    rows = pa.table({"kind": ["a"] * 40 + ["b"] * 40 + [None] * 20})
    labels = np.array([1] * 40 + [0] * 60)
    naive = problem.by_feature(rows, "kind", labels, "log_loss")
    assert naive is not None
    asked = pa.table({"kind": ["a", "b", None, "new"]})
    assert problem.guess_for(asked, naive).tolist() == pytest.approx([42 / 45, 2 / 45, 2 / 25, 2 / 25])


@pytest.mark.parametrize("column", [[1.0] * 30, [[1.0, 2.0]] * 30, ["same"] * 30])
def test_a_feature_with_nothing_to_tell_apart_is_no_opponent(column: list[Any]) -> None:
    labels = np.arange(30) % 2
    assert problem_of("binary").by_feature(pa.table({"x": column}), "x", labels, "log_loss") is None


def test_of_several_classes_each_has_its_share_by_the_feature() -> None:
    problem = problem_of("multiclass", ("ant", "bee", "cat"))
    rows = pa.table({"size": [1.0] * 30 + [5.0] * 30 + [9.0] * 30})
    labels = np.repeat([0, 1, 2], 30)
    naive = problem.by_feature(rows, "size", labels, "log_loss")
    assert naive is not None
    predicted = problem.guess_for(pa.table({"size": [1.0, 5.0, 9.0, None]}), naive)
    assert predicted.argmax(axis=1).tolist()[:3] == [0, 1, 2]
    assert predicted.sum(axis=1) == pytest.approx(1)
    assert predicted[3] == pytest.approx([1 / 3] * 3)


def test_a_value_of_many_rows_is_a_bin_of_its_own() -> None:
    """Of an amount that is 0 for all rows of one class, 0 and the least amount above it are not one guess."""
    problem = problem_of("binary")
    paid = np.concatenate([np.zeros(65), np.linspace(0.01, 50, 35)])
    labels = (paid > 0).astype(int)
    naive = problem.by_feature(pa.table({"paid": paid}), "paid", labels, "roc_auc")
    assert naive is not None
    nothing, least = problem.guess_for(pa.table({"paid": [0.0, 0.01]}), naive)
    assert nothing == pytest.approx(5 * 0.35 / 70)
    assert least > 0.6


def test_a_note_says_how_many_rows_the_opponents_were_given_if_not_all() -> None:
    (note,) = remarks((), Opponents(read=(77_000, 300_000)), "rmse")
    assert "77,000 of 300,000 rows" in note
    assert list(remarks((), Opponents(read=(300, 300)), "rmse")) == []
