"""Bad params: every problem named at once, with what would be right."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from refit.config import Params, override, parse
from refit.config.section import expected
from refit.errors import UserError
from refit.files.yaml_files import read_yaml
from refit.runtime import run_file

GOOD: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "raw/*.csv", "columns": {"id": "text"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "late"}},
    "train": {"learners": [{"name": "boosting", "kind": "sklearn.ensemble.HistGradientBoostingClassifier"}]},
}


def refusal(**changes: Any) -> str:
    raw = override(copy.deepcopy(GOOD), {path.replace("__", "."): value for path, value in changes.items()})
    with pytest.raises(UserError) as caught:
        parse(raw)
    return str(caught.value)


def test_the_reference_params_are_valid(root: Path) -> None:
    assert parse(read_yaml(root / "params.yaml")).project.name == "flight_delays"


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    assert refusal(train__sed=1) == "params.yaml: train.sed: unknown key; did you mean 'seed'?"


def test_an_unknown_key_inside_a_list_is_located() -> None:
    message = refusal(train__learners=[{"name": "a", "kind": "b", "parms": {}}])
    assert message == "params.yaml: train.learners[0].parms: unknown key; did you mean 'params'?"


def test_an_unknown_section_names_the_nearest_known_one() -> None:
    assert "trian: unknown key; did you mean 'train'?" in refusal(trian__seed=1)


def test_all_problems_are_reported_together() -> None:
    message = refusal(train__seed="3", featurize__windows={"test": 0}, evaluate__gate={"alpha": 2})
    assert "3 problems" in message
    for path in ("train.seed", "featurize.windows.test", "evaluate.gate.alpha"):
        assert path in message


def test_a_number_given_as_text_is_refused() -> None:
    assert "train.seed" in refusal(train__seed="3")


def test_not_a_number_is_refused_where_it_stands() -> None:
    assert refusal(evaluate__gate={"max_loss": float("nan")}) == (
        "params.yaml: evaluate.gate.max_loss: nan is not a finite number"
    )


def test_a_slice_of_the_gate_needs_a_column_and_a_margin_that_is_no_gain() -> None:
    assert "evaluate.gate.slices.origin: " in refusal(evaluate__gate={"slices": {"origin": -0.01}})
    assert "evaluate.gate.slices.=UA: " in refusal(evaluate__gate={"slices": {"=UA": 0.01}})
    assert "evaluate.gate.slices.carrier=: " in refusal(evaluate__gate={"slices": {"carrier=": 0.01}})


def test_a_cpu_hour_has_a_price_and_a_currency() -> None:
    assert "cost.cpu_hour" in refusal(cost__cpu_hour=0)
    assert "cost.currency" in refusal(cost__currency="dollars")
    assert refusal(cost__cpu_hours=1) == "params.yaml: cost.cpu_hours: unknown key; did you mean 'cpu_hour'?"


def test_two_learners_of_one_name_are_refused() -> None:
    twice = [{"name": "a", "kind": "baseline"}, {"name": "a", "kind": "baseline"}]
    assert "learner names must differ" in refusal(train__learners=twice)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {seed: 1}\ntrain: {seed: 2}\n", "line 2: key 'train' is given twice"),
        ("train: !!python/object:os.system {}\n", "no tags"),
        ("train: [1, 2\n", "not valid YAML"),
        ("a: 1\nregistry: {tracking_uri: sqlite:///../a.db}\n", 'line 2: DVC, .* write "sqlite:///../a.db"$'),
        ("train: {learners: [{kind: net.py:Wide}]}\n", 'line 1: DVC, .* write "net.py:Wide"$'),
        ("train: {a:1}\n", 'DVC, .* write "a:1"$'),
        ("- a\n- b\n", "a mapping of sections was expected"),
        ("", "params.yaml is empty: a mapping of sections was expected"),
        ("word\n", "holds a text, a mapping of sections was expected"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        read_yaml(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["a: sqlite:///../a.db", 'a: {b: "x:y"}', "a: {b: 'x:y', c: 1}", "a: [b, c: d]"])
def test_a_colon_that_dvc_reads_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    assert read_yaml(tmp_path / "params.yaml") == YAML(typ="safe").load(text)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"project: {name: caf\xe9}\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_yaml(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refit init"):
        read_yaml(tmp_path / "params.yaml")


def test_a_date_stays_the_text_it_is(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("as_of: 2013-08-03\n")
    assert read_yaml(tmp_path / "run.yaml") == {"as_of": "2013-08-03"}


def test_an_override_reaches_into_lists_by_position_and_by_name() -> None:
    raw = {"train": {"learners": [{"name": "a", "enabled": True}, {"name": "b", "enabled": True}]}}
    changed = override(raw, {"train.learners.1.enabled": False, "train.learners.a.enabled": False})
    assert [learner["enabled"] for learner in changed["train"]["learners"]] == [False, False]
    assert raw["train"]["learners"][0]["enabled"] is True


@pytest.mark.parametrize("path", ["train.learners.5.enabled", "train.learners.c.enabled"])
def test_an_override_of_a_list_item_that_is_not_there_says_what_is(path: str) -> None:
    with pytest.raises(UserError, match="a, b"):
        override({"train": {"learners": [{"name": "a"}, {"name": "b"}]}}, {path: False})


def test_more_breached_windows_than_are_looked_at_can_never_be_and_are_refused() -> None:
    message = refusal(drift={"windows": 2, "breached": 3})
    assert message == "params.yaml: drift: breached is 3 of 2 windows; at most 2 is possible"


def test_fewer_rows_than_a_classifier_can_tell_apart_are_refused() -> None:
    message = refusal(drift={"multivariate_rows": 1})
    assert message == "params.yaml: drift: multivariate_rows is 1; at least 30 tell anything, 0 asks nothing"


def judged(task: str, **gate: Any) -> dict[str, Any]:
    return GOOD | {"train": GOOD["train"] | {"task": task}, "evaluate": {"gate": gate}}


def test_the_metric_follows_from_the_task_and_the_gates_from_that() -> None:
    for task, metric in {"binary": "roc_auc", "multiclass": "log_loss"}.items():
        found = parse(judged(task))
        assert (found.train.metric, found.evaluate.gate.metric) == (metric, metric)
    without = judged("multiclass")
    for evaluate in ({}, {"cross_validation": {"folds": 3}}):
        found = parse({**without, "evaluate": evaluate})
        assert found.evaluate.gate.metric == "log_loss", "where nothing is said of the gate too"
    del without["evaluate"]
    assert parse(without).evaluate.gate.metric == "log_loss"
    raw = judged("regression", max_loss=1.0, min_gain_over_baseline=0.0)
    assert parse(raw).evaluate.gate.metric == "mae"
    assert parse(override(raw, {"train.metric": "r2"})).evaluate.gate.metric == "r2"


def test_a_metric_of_another_task_or_misspelt_is_told_with_those_that_would_do() -> None:
    with pytest.raises(
        UserError, match=r"train.metric: models of task 'binary' are not compared by 'rmse'; they are roc_auc, "
    ):
        parse(override(judged("binary"), {"train.metric": "rmse"}))
    with pytest.raises(UserError, match=r"train.metric: models of task 'binary' are not compared by 'accuracy'"):
        parse(override(judged("binary"), {"train.metric": "accuracy"}))
    with pytest.raises(UserError, match=r"gate.metric: .* compared by 'logloss'; did you mean 'log_loss'"):
        parse(judged("multiclass", metric="logloss"))
    with pytest.raises(
        UserError, match=r"gate.floors.f1: is no metric of task 'multiclass' where higher is better; they"
    ):
        parse(judged("multiclass", floors={"f1": 0.5}))
    with pytest.raises(UserError, match=r"gate.ceilings.accuracy: is no metric of task 'binary' where lower is better"):
        parse(judged("binary", ceilings={"accuracy": 0.5}))


def test_a_margin_in_the_labels_own_units_has_no_default() -> None:
    with pytest.raises(UserError) as told:
        parse(judged("regression"))
    assert "evaluate.gate.max_loss: is missing; mae has the label's units" in str(told.value)
    assert "evaluate.gate.min_gain_over_baseline: is missing" in str(told.value)
    assert parse(judged("regression", metric="r2")).evaluate.gate.max_loss == 0.005


FORECAST = {"of": "rows", "series": {"shop": "text"}, "step": "2h", "horizons": [1, 5], "season": 3}


def forecasts(**changes: Any) -> dict[str, Any]:
    return {
        "ingest.sources.ahead": {"kind": "forecasts", "forecast": FORECAST} | changes,
        "train": {"task": "forecast", "learners": GOOD["train"]["learners"]},
        "evaluate.gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.0},
    }


def test_forecasts_are_a_query_that_the_params_make() -> None:
    params = parse(override(copy.deepcopy(GOOD), forecasts()))
    source = params.ingest.sources["ahead"]
    assert (source.kind, source.key) == ("query", ("shop", "forecast_time", "horizon"))
    assert (params.task, params.forecast_source, params.train.metric) == ("regression", "ahead", "mae")
    assert params.forecast is not None
    assert (params.forecast.lead_hours, params.forecast.steps(3)) == (10.0, "6h")
    assert parse(params.model_dump(mode="json", by_alias=True)) == params, "what is dumped can be read again"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"forecast": FORECAST | {"step": "2 hours"}}, "forecast.step: expected a step such as 15m"),
        ({"forecast": FORECAST | {"horizons": [5, 1]}}, "horizons must ascend; write [1, 5]"),
        ({"forecast": FORECAST | {"horizon": [1]}}, "forecast.horizon: unknown key; did you mean 'horizons'?"),
        ({"forecast": FORECAST | {"season": 0}}, "forecast.season"),
        ({"forecast": FORECAST | {"series": ["shop"]}}, "forecast.series"),
        ({"forecast": None}, "kind 'forecasts' needs `forecast`"),
        ({"query": "select 1"}, "makes query, columns, key, event_time itself: leave them out"),
    ],
)
def test_forecasts_that_cannot_be_made_are_told_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(override(copy.deepcopy(GOOD), forecasts(**changes)))
    assert said in str(caught.value)


def test_forecasts_are_never_learned_from_what_came_later() -> None:
    raw = override(copy.deepcopy(GOOD), forecasts())
    assert parse(raw).evaluate.cross_validation.kind == "time"
    for place in ("train", "evaluate"):
        with pytest.raises(UserError, match=rf"{place}.cross_validation.kind 'kfold' lets forecasts learn"):
            parse(override(raw, {f"{place}.cross_validation": {"kind": "kfold"}}))


def test_the_task_forecast_and_its_source_belong_together() -> None:
    assert "'forecast' and one source of kind 'forecasts' belong together" in refusal(
        train__task="forecast", evaluate__gate={"max_loss": 1.0, "min_gain_over_baseline": 0.0}
    )
    assert "such sources are ahead" in refusal(ingest__sources__ahead={"kind": "forecasts", "forecast": FORECAST})


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        ("binary", {}, "train: intervals are for numbers; the task is 'binary': leave them out"),
        ("multiclass", {}, "train: intervals are for numbers; the task is 'multiclass': leave them out"),
        (
            "regression",
            {"train.warm_start": "champion", "train.intervals.by": "quantiles"},
            "train: intervals by quant",
        ),
        (
            "regression",
            {"featurize.split": {}, "train.intervals.adaptive": True},
            "train.intervals.adaptive needs wind",
        ),
        ("regression", {"train.intervals.withn": "x"}, "train.intervals.withn: unknown key; did you mean 'within'"),
    ],
)
def test_intervals_that_cannot_be_are_one_clear_line(task: str, changes: dict[str, Any], said: str) -> None:
    raw = override(judged(task, max_loss=1.0, min_gain_over_baseline=0.0), {"train.intervals": {"level": 0.8}})
    with pytest.raises(UserError) as told:
        parse(override(raw, changes))
    assert str(told.value).startswith(f"params.yaml: {said}")
    assert len(str(told.value).splitlines()) == 1


def test_what_dvc_wants_written_is_told_at_once_with_its_default(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(GOOD | {"registry": {}}), encoding="utf-8")
    stages = {"one": {"params": ["project", "validate", {"run.yaml": ["as_of"]}]}, "two": {"params": ["train.seed"]}}
    stages["three"] = {"params": ["registry.trusted_types", "registry", "cost"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        run_file.check(tmp_path, run_file.RunFile())
    assert str(caught.value).splitlines() == [
        "params.yaml has 4 problems:",
        "  cost: is missing, and dvc.yaml depends on it; write `cost: {}`",
        "  registry.trusted_types: is missing, and dvc.yaml depends on it; write `trusted_types: []`",
        "  train.seed: is missing, and dvc.yaml depends on it; write `seed: 0`",
        "  validate: is missing, and dvc.yaml depends on it; write `validate: {}`",
    ]


def test_a_text_of_another_shape_is_told_by_an_example_and_no_pattern() -> None:
    with pytest.raises(UserError) as refused:
        parse(override(copy.deepcopy(GOOD), {"register.approval_within": "3m", "cost.currency": "euro"}))
    assert {each.strip() for each in refused.value.lines[1:]} == {
        "cost.currency: expected three capitals such as EUR; found 'euro'",
        "register.approval_within: expected hours or days, such as 12h or 7d; found '3m'",
    }


def patterns(node: Any) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from [value] if key == "pattern" else patterns(value)


def test_each_pattern_of_the_params_has_words() -> None:
    every = {each for each in patterns(Params.model_json_schema()) if isinstance(each, str)}
    every.remove(r"^.+\.py:\w+$")  # in the schema alone: a source's kind is refused in words of its own
    assert len(every) > 10
    assert [each for each in every if "a text of the pattern" in expected(each)] == []
