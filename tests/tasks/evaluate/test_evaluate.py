"""The stage `evaluate`: the same rows for all, a decision with reasons, and reports that say the same each time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit import learners
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.learners import Spec, make
from refit.models import incumbent
from refit.problems import problem_of
from refit.reports.model_card.verdict_charts import daily
from refit.schemas.evaluation import Evaluation
from refit.schemas.feature_definitions import Definitions
from tasks import evaluate, featurize

Evaluate = Callable[..., dict[str, Any]]
CARD, FIGURES = artifacts.MODEL_CARD, artifacts.REPORTS / "figures"


def test_a_first_candidate_that_beats_the_baseline_is_promoted(evaluated: Evaluate) -> None:
    found = evaluated()
    assert found["decision"]["promote"], found["decision"]["reasons"]
    assert found["decision"]["difference"]["against"] == "baseline"
    assert set(found["metrics"]) == {"candidate", "baseline"}


def test_metrics_are_those_of_the_stored_predictions(evaluated: Evaluate, small_project: Any) -> None:
    found = evaluated()
    rows = pq.read_table(small_project.path("reports/predictions.parquet"))
    scores = problem_of("binary").scores(rows["label"].to_numpy(), rows["candidate"].to_numpy(), 0.4)
    for name, value in scores.items():
        shown = found["metrics"]["candidate"][name]
        assert shown["value"] == pytest.approx(value, abs=1e-9)
        assert shown["lower"] <= value <= shown["upper"]
    assert rows["baseline"].unique().to_pylist() == [pytest.approx(0.4, abs=0.1)]
    assert rows["champion"].null_count == len(rows) == found["test"]["rows"]


def test_a_candidate_that_is_the_baseline_itself_is_refused_and_said_to_be_so(
    evaluated: Evaluate, small_project: Any
) -> None:
    naive = make(Spec("base_rate", "baseline", features=("noise",)))
    naive.fit(pa.table({"noise": [0.0, 1.0]}), np.array([0, 1]))
    small_project.store(naive, 0.5)
    decision = evaluated()["decision"]
    assert not decision["promote"]
    assert "the candidate is the baseline itself" in decision["notes"][0]


def test_a_champion_is_judged_on_the_same_rows(evaluated: Evaluate, small_project: Any) -> None:
    small_project.train("noise", "echo")
    small_project.make_champion("3")
    small_project.train()
    found = evaluated()
    decision = found["decision"]
    assert decision["promote"], decision["reasons"]
    assert decision["difference"]["against"] == "champion"
    assert decision["difference"]["version"] == "3"
    rows = pq.read_table(small_project.path("reports/predictions.parquet"))
    both = [
        problem_of("binary").score("roc_auc", rows["label"].to_numpy(), rows[name].to_numpy())
        for name in ("candidate", "champion")
    ]
    assert decision["difference"]["estimate"] == pytest.approx(both[0] - both[1], abs=1e-9)


def test_a_worse_candidate_is_refused_with_the_reason(evaluated: Evaluate, small_project: Any) -> None:
    small_project.make_champion("3")
    small_project.train("noise", "echo")
    decision = evaluated()["decision"]
    assert not decision["promote"]
    assert any("against the champion (version 3)" in reason for reason in decision["reasons"])


def test_the_champion_is_not_promoted_over_itself(evaluated: Evaluate, small_project: Any) -> None:
    small_project.make_champion("3")
    assert "identical" in " ".join(evaluated()["decision"]["reasons"])


def test_a_champion_that_has_seen_the_test_window_makes_the_gate_refuse(
    evaluated: Evaluate, small_project: Any
) -> None:
    small_project.train("noise", "echo")
    small_project.make_champion("3", seen_until="2024-03-05T00:00:00Z")
    small_project.train()
    assert "has already seen the test window" in " ".join(evaluated()["decision"]["reasons"])


@pytest.mark.parametrize(
    ("split", "was", "now"),
    [
        ("0.2 of the rows, seed 0", ", key 'colour' of rows", ", key 'id' of rows"),
        ("as column part says", " of rows (part: lower(half))", " of rows (part: upper(half))"),
    ],
    ids=["another key", "other SQL"],
)
def test_a_champion_that_a_rule_of_the_same_name_split_otherwise_may_have_seen_test_rows(
    split: str, was: str, now: str, evaluated: Evaluate, small_project: Any
) -> None:
    """ "0.2 of the rows" are other rows by a customer than by an order, and a column may be computed otherwise."""

    def described(sql: str) -> dict[str, Any]:
        content: dict[str, Any] = artifacts.read_json(small_project.path(artifacts.FEATURE_SET)) | {"split": split}
        content["definitions"]["sources"]["rows"]["columns"]["part"] = f"{sql}(half)"
        return content

    artifacts.write_json(small_project.path(artifacts.FEATURE_SET), described("upper"))
    small_project.train("noise", "echo")
    small_project.make_champion("3", split=split)
    small_project.train()
    assert "may have seen" not in " ".join(evaluated()["decision"]["reasons"])
    stored = small_project.path("registered/3/features.json")
    artifacts.write_json(stored, described("lower") | ({"key": "colour"} if "rows" in split else {}))
    stored.with_name("manifest.json").unlink()
    artifacts.write_manifest(stored.parent)
    assert evaluated()["decision"]["reasons"][0] == (
        f"the champion (version 3) may have seen test rows: it was split by {split}{was}, the test is {split}{now}"
    )


def test_the_anchor_is_judged_too_unless_it_is_the_champion(evaluated: Evaluate, small_project: Any) -> None:
    anchor = {"version": "1", "model_digest": "older", "seen_until": "2024-03-01T00:00:00Z"}
    small_project.train("echo")
    small_project.make_champion("1")
    small_project.train("noise", "echo")
    small_project.make_champion("3", anchor=anchor)
    small_project.train()
    assert [each["against"] for each in evaluated()["decision"]["compared"]] == ["champion", "anchor", "baseline"]
    small_project.charge["anchor"] = {**anchor, "version": "3"}
    artifacts.write_json(small_project.path(artifacts.COMPARAND), small_project.charge)
    assert [each["against"] for each in evaluated()["decision"]["compared"]] == ["champion", "baseline"]


def test_a_champion_with_other_features_is_scored_by_its_own(
    evaluated: Evaluate, small_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features come back in another order of rows, and still each row gets its own."""
    champion = small_project.train("noise", "echo")
    small_project.make_champion("3")
    folder = small_project.path("registered/3")
    stored = artifacts.read_json(folder / "features.json")
    artifacts.write_json(
        folder / "features.json",
        {**stored, "definitions_digest": "of old", "definitions": {**stored["definitions"], "sources": {}}},
    )
    artifacts.write_manifest(folder)
    small_project.train("strength")
    table = pq.read_table(small_project.path(artifacts.TABLE), filters=[("window", "=", "test")])
    expected = champion.predict(table)
    asked = []

    def rows_for(context: Any, definitions: Definitions, window: str, find: object) -> pa.Table:
        asked.append((definitions.sources, window))
        return table.take(np.random.default_rng(0).permutation(len(table)))

    monkeypatch.setattr(featurize, "rows_for", rows_for)
    evaluated()
    assert asked == [({}, "test")]
    found = pq.read_table(small_project.path("reports/predictions.parquet"))
    assert found["id"].to_pylist() == table["id"].to_pylist()
    assert np.array_equal(found["champion"].to_numpy(), expected)


@pytest.mark.parametrize("how", ["rows are missing", "a source is gone"])
def test_a_champion_whose_features_cannot_be_computed_makes_the_gate_refuse_and_the_stage_go_on(
    evaluated: Evaluate, small_project: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    small_project.make_champion("3")
    small_project.train("strength")
    folder = small_project.path("registered/3")
    stored = artifacts.read_json(folder / "features.json")
    artifacts.write_json(folder / "features.json", {**stored, "definitions_digest": "of old"})
    artifacts.write_manifest(folder)
    table = pq.read_table(small_project.path(artifacts.TABLE), filters=[("window", "=", "test")])

    def rows_for(*arguments: Any) -> pa.Table:
        if how == "a source is gone":
            raise UserError("source 'weather' is unknown")
        return table.slice(7)

    monkeypatch.setattr(featurize, "rows_for", rows_for)
    found = evaluated()
    reasons = " ".join(found["decision"]["reasons"])
    assert not found["decision"]["promote"]
    assert "against the champion (version 3) could not be measured: its features cannot be computed" in reasons
    assert ("7 of 1,800 test rows" if how == "rows are missing" else "'weather' is unknown") in reasons
    assert "champion" not in found["metrics"]


def test_a_registry_that_disagrees_with_the_comparand_stops_the_stage(
    evaluated: Evaluate, small_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(context: Any) -> None:
        raise RefitError("comparand.json names no champion, the registry version 2")

    monkeypatch.setattr(incumbent, "check", disagree)
    with pytest.raises(RefitError, match="the registry version 2"):
        evaluated()
    assert not small_project.path(artifacts.DECISION).exists()


def test_a_changed_candidate_is_refused(evaluated: Evaluate, small_project: Any) -> None:
    path = small_project.path(artifacts.CANDIDATE / "model.json")
    path.write_text(path.read_text().replace("0.4", "0.1"))
    with pytest.raises(RefitError, match="differs from its manifest"):
        evaluated()


def test_a_candidate_that_training_json_does_not_tell_of_is_refused(evaluated: Evaluate, small_project: Any) -> None:
    path = small_project.path(artifacts.TRAINING)
    artifacts.write_json(path, {**artifacts.read_json(path), "model_digest": "0" * 64})
    with pytest.raises(RefitError, match="run `refit stage train` again"):
        evaluated()


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1])
def test_a_model_that_predicts_no_probability_is_never_judged(
    evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    load = learners.load

    def broken(*arguments: Any, **named: Any) -> Any:
        learner = load(*arguments, **named)
        learner.predict = lambda table: np.full(table.num_rows, value)  # type: ignore[method-assign]
        return learner

    monkeypatch.setattr(learners, "load", broken)
    with pytest.raises(RefitError, match="the candidate predicts 1,800 values of 1,800 that are no probability"):
        evaluated()


@pytest.mark.ci
def test_a_test_window_with_one_class_is_refused_and_reported_not_crashed(drawn: Evaluate, small_project: Any) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE))
    labels = np.where(table["window"].to_numpy() == "test", 0, table["label"].to_numpy())
    place = table.column_names.index("label")
    small_project.write_table(table.set_column(place, "label", pa.array(labels)))
    found = drawn()
    reasons = " ".join(found["decision"]["reasons"])
    assert not found["decision"]["promote"]
    assert "both are needed" in reasons
    assert "ROC AUC on the test window is not a number" in reasons
    assert "not defined" in small_project.path(CARD).read_text()


def test_an_empty_test_window_is_an_error(evaluated: Evaluate, small_project: Any) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE), filters=[("window", "!=", "test")])
    small_project.write_table(table)
    with pytest.raises(RefitError, match="the test window holds no labelled row"):
        evaluated()


def test_a_torn_table_is_an_error_in_one_line(evaluated: Evaluate, small_project: Any) -> None:
    path = small_project.path(artifacts.TABLE)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RefitError, match=r"table\.parquet has changed: .* delete it"):
        evaluated()


def test_one_day_of_tests_gives_no_interval_and_no_promotion(evaluated: Evaluate, small_project: Any) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE))
    day = table["event_time"].to_numpy().astype("datetime64[D]").astype("datetime64[us]")
    moved = np.where(table["window"].to_numpy() == "test", np.datetime64("2024-03-01", "us"), day)
    place = table.column_names.index("event_time")
    small_project.write_table(table.set_column(place, "event_time", pa.array(moved)))
    found = evaluated()
    assert found["metrics"]["candidate"]["roc_auc"]["lower"] is None
    assert not found["decision"]["promote"]
    assert "1.0 clusters by day" in " ".join(found["decision"]["reasons"])
    assert "on one day; " in small_project.path(CARD).read_text()
    assert daily.draw(Evaluation.read(small_project.path(artifacts.EVALUATION))) is None


def test_days_are_those_of_the_projects_clocks(evaluated: Evaluate) -> None:
    assert evaluated()["daily"][0]["day"] == "2024-03-01"
    assert evaluated(project__timezone="America/New_York")["daily"][0]["day"] == "2024-02-29"


def test_clusters_can_be_rows_or_a_column(evaluated: Evaluate) -> None:
    found = evaluated(evaluate__gate={"cluster": "row", "min_rows": 1000})
    assert found["test"]["clusters"] == 1800
    assert any("taken as independent" in note for note in found["decision"]["notes"])
    assert evaluated(evaluate__gate={"cluster": "colour", "min_rows": 1000})["test"]["clusters"] == 4


def test_a_cluster_or_slice_that_is_no_column_names_the_nearest(evaluated: Evaluate) -> None:
    with pytest.raises(UserError, match=r"evaluate.gate.cluster: no column 'color'; did you mean 'colour'"):
        evaluated(evaluate__gate={"cluster": "color"})
    with pytest.raises(UserError, match=r"evaluate.slices: .*'hours'; did you mean 'hour'"):
        evaluated(evaluate__slices=["hours"])


@pytest.mark.ci
def test_the_same_inputs_give_the_same_bytes_but_for_the_clock(drawn: Evaluate, small_project: Any) -> None:
    def outputs() -> dict[str, bytes]:
        drawn()
        root = small_project.path(artifacts.REPORTS)
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        timed = {"evaluation.json", "model_card.html"}
        assert timed < set(files)
        return {name: content for name, content in files.items() if name not in timed}

    first = outputs()
    shutil.rmtree(small_project.path(artifacts.REPORTS))
    assert outputs() == first
    assert {"decision.json", "metrics.json", "predictions.parquet", "figures/roc.svg", "plots/roc.csv"} <= set(first)


def test_only_the_timings_of_an_evaluation_differ(evaluated: Evaluate) -> None:
    first, second = evaluated(), evaluated()
    assert first.pop("timings").keys() == second.pop("timings").keys()
    assert first == second


def test_a_latency_ceiling_is_kept_where_one_is_set(evaluated: Evaluate) -> None:
    gate = {"min_rows": 1000, "ceilings": {"latency_ms": 1e-6}}
    assert any("latency in ms" in reason for reason in evaluated(evaluate__gate=gate)["decision"]["reasons"])
    gate["ceilings"] = {"latency_ms": 1e6}
    assert evaluated(evaluate__gate=gate)["decision"]["promote"]


def test_a_stage_cut_off_leaves_no_decision_of_an_earlier_candidate(
    evaluated: Evaluate, small_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated()
    assert small_project.path(artifacts.DECISION).exists()

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate.charts, "draw", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluated()
    assert not small_project.path(artifacts.DECISION).exists()
    assert not list(small_project.path(artifacts.REPORTS).rglob("*.partial"))


def test_permutation_finds_the_feature_that_matters_and_not_the_noise(evaluated: Evaluate) -> None:
    found = evaluated(evaluate__permutation_rows=1800)["importance"]
    losses = {entry["name"]: entry for entry in found["features"]}
    assert found["features"][0]["name"] == "strength"
    assert losses["strength"]["lower"] > 0.1
    assert losses["noise"]["lower"] < 0.002
    assert losses["strength"]["group"] == "past"
    groups = {entry["name"]: entry for entry in found["groups"]}
    assert groups["past"]["lower"] > 0.1
    assert set(groups) == {"past", "the row itself"}


def test_importance_of_a_feature_does_not_depend_on_which_others_there_are(
    evaluated: Evaluate, small_project: Any
) -> None:
    small_project.train("strength", "echo")
    few = {entry["name"]: entry["value"] for entry in evaluated()["importance"]["features"]}
    small_project.train("echo", "strength")
    turned = {entry["name"]: entry["value"] for entry in evaluated()["importance"]["features"]}
    assert turned == pytest.approx(few, abs=1e-3)


@pytest.mark.slow
def test_no_permutation_rows_measure_nothing_and_say_so(drawn: Evaluate, small_project: Any) -> None:
    assert drawn(evaluate__permutation_rows=0)["importance"]["features"] == []
    assert "Not measured" in small_project.path(CARD).read_text()
    assert not small_project.path(FIGURES / "importance.svg").exists()


def test_slices_cover_every_row_once_and_small_ones_are_said_to_be_small(evaluated: Evaluate) -> None:
    found = evaluated()
    for by in ("colour", "hour"):
        parts = [part for part in found["slices"] if part["by"] == by]
        assert sum(part["rows"] for part in parts) == found["test"]["rows"]
    rare = next(part for part in found["slices"] if part["value"] == "rare")
    assert not rare["enough"]
    assert rare["roc_auc"] is None
    bands = [part["value"] for part in found["slices"] if part["by"] == "hour"]
    assert len(bands) == 4
    assert bands[0].startswith("below ")


def test_a_feature_table_with_a_flipped_bit_is_not_judged_on(evaluated: Evaluate, small_project: Any) -> None:
    path = small_project.path(artifacts.TABLE)
    whole = path.read_bytes()
    for place in range(4, len(whole), len(whole) // 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(RefitError, match=r"table\.parquet has changed: recorded "):
            evaluated()
