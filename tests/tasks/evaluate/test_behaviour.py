"""Behavioural tests: what a candidate must do is measured on the test rows, shown, and refused by the gate."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config import parse
from refit.config.behaviour import DirectionTest, ExampleRow, ExamplesTest, FairnessTest, InvarianceTest
from refit.errors import UserError
from refit.evaluation.behaviour import JudgedModel, direction, invariance, judged
from refit.evaluation.behaviour.sampled_rows import SampledRows
from refit.evaluation.holdout import Holdout
from refit.files import artifacts
from refit.gate.comparison import Sample
from refit.metrics.clusters import Clusters
from refit.problems import problem_of
from refit.problems.contract import Problem
from refit.schemas.behaviour import BehaviourResult
from tasks import train

Evaluate = Callable[..., dict[str, Any]]
RISES = {"kind": "direction", "name": "stronger is likelier", "column": "strength", "add": 0.5, "prediction": "rises"}
CASE = {"kind": "invariance", "name": "case of colours", "column": "colour", "change": "upper", "within": 0.2}
EVEN = {"kind": "fairness", "name": "colours alike", "column": "colour", "metric": "roc_auc", "within": 0.2}


def subject(predict: Callable[[pa.Table], Any], test: Holdout, folder: Path = Path()) -> JudgedModel:
    return JudgedModel(predict, test.problem, ("size", "name"), predict(test.table), 0.5, "id", folder, 0.95, 0)


def holdout(rows: dict[str, Any], labels: Any, problem: Problem) -> Holdout:
    table = pa.table({"id": [f"r{place}" for place in range(len(labels))], **rows})
    y = np.asarray(labels)
    return Holdout(table, y, np.array([]), Sample(y, Clusters.rows(len(y)), problem), problem)


def by_size(table: pa.Table) -> Any:
    return np.clip(np.nan_to_num(table["size"].to_numpy()), 0, 1)


def result_of(test: Any, data: Holdout, predict: Any = by_size, folder: Path = Path()) -> BehaviourResult:
    (found,) = judged([test], subject(predict, data, folder), data)
    return found


def two_groups(rows: int = 2000, gap: float = 0.0) -> Holdout:
    """Predictions are as good for `a` as for `b`, unless there is a gap: then some labels of `b` are turned."""
    random = np.random.default_rng(0)
    size, name = random.random(rows), np.array(["a", "b"])[np.arange(rows) % 2]
    labels = (size > 0.5).astype(np.int64)
    turned = (name == "b") & (random.random(rows) < gap)
    return holdout({"size": size, "name": name}, np.where(turned, 1 - labels, labels), problem_of("binary"))


def test_a_candidate_that_behaves_is_promoted_and_its_card_says_so(evaluated: Evaluate, small_project: Any) -> None:
    found = evaluated(evaluate__behaviour=[RISES, EVEN])
    assert found["decision"]["promote"], found["decision"]["reasons"]
    assert [each["passed"] for each in found["behaviour"]] == [True, True]
    assert found["behaviour"][0]["share"] == 1.0
    assert {check["name"] for check in found["decision"]["checks"]} >= {f"behaviour: {RISES['name']}"}
    assert "stronger is likelier" in small_project.path(artifacts.MODEL_CARD).read_text()


def test_a_candidate_that_does_not_behave_is_refused_with_the_reason(evaluated: Evaluate) -> None:
    found = evaluated(evaluate__behaviour=[{**RISES, "prediction": "falls"}])
    assert not found["decision"]["promote"]
    (reason,) = found["decision"]["reasons"]
    assert reason.startswith("stronger is likelier: with strength raised by 0.5, 0.0% of 1,800 predictions move downw")
    assert len(found["behaviour"][0]["worst"]) == 3


def test_without_tests_the_evaluation_has_no_word_of_them(evaluated: Evaluate) -> None:
    assert "behaviour" not in evaluated()


def test_a_change_of_case_moves_a_prediction_only_as_far_as_allowed(evaluated: Evaluate) -> None:
    (wide,) = evaluated(evaluate__behaviour=[{**CASE, "within": 1.0}])["behaviour"]
    assert wide["passed"]
    (narrow,) = evaluated(evaluate__behaviour=[{**CASE, "within": 0.0}])["behaviour"]
    assert not narrow["passed"], "an unknown colour is another category to this learner"
    assert narrow["share"] < 1


def test_values_of_other_rows_move_nothing_that_does_not_use_them() -> None:
    data = two_groups()
    wanted = InvarianceTest(kind="invariance", name="size alone", column="name", change="shuffle", within=0.0)
    assert result_of(wanted, data).passed
    assert not result_of(wanted.model_copy(update={"column": "size"}), data).passed


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.5])
@pytest.mark.parametrize(
    "wanted",
    [
        InvarianceTest(kind="invariance", name="n", column="name", change="upper", within=0.5),
        DirectionTest(kind="direction", name="n", column="size", add=0.1, prediction="rises"),
        ExamplesTest(kind="examples", name="n", rows=(ExampleRow(given={"size": 0.9, "name": "A"}, expected=0),)),
        ExamplesTest(kind="examples", name="n", rows=(ExampleRow(given={"size": 0.9, "name": "A"}, at_least=0.9),)),
    ],
)
def test_a_model_that_predicts_no_probability_fails_the_test(wanted: Any, wrong: float) -> None:
    data = two_groups(40)

    def predict(table: pa.Table) -> Any:
        unchanged = table.num_rows == 40 and table.select(["size", "name"]).equals(data.table.select(["size", "name"]))
        return by_size(table) if unchanged else np.full(table.num_rows, wrong)

    found = result_of(wanted, data, predict)
    assert not found.passed
    assert found.sentence.startswith("the model predicts ")


def test_rows_that_a_change_leaves_as_they_are_do_not_count_as_stable() -> None:
    names = ["a"] * 5 + [None] * 45 + ["B"] * 50
    data = holdout({"size": [0.0] * 100, "name": names}, [0, 1] * 50, problem_of("binary"))

    def moves(table: pa.Table) -> Any:
        return np.array([1.0 if name == "A" else 0.0 for name in table["name"].to_pylist()])

    wanted = InvarianceTest(kind="invariance", name="case", column="name", change="upper", within=0.1, share=0.9)
    found = result_of(wanted, data, moves)
    assert (found.passed, found.rows, found.share, len(found.worst)) == (False, 5, 0.0, 3)
    assert "0.0% of 5 predictions" in found.sentence


@pytest.mark.parametrize("change", ["upper", "typo", "shuffle"])
def test_a_change_that_changes_no_row_proves_nothing(change: Any) -> None:
    none = pa.array([None] * 4, pa.string())
    data = holdout({"size": [0.1, 0.2, 0.3, 0.4], "name": none}, [0, 1, 0, 1], problem_of("binary"))
    found = result_of(InvarianceTest(kind="invariance", name="n", column="name", change=change, within=0.0), data)
    assert not found.passed
    assert "so nothing was tested" in found.sentence


def test_a_typo_swaps_two_letters_and_is_the_same_each_time() -> None:
    column = pa.chunked_array([["carrier", "aa", None, "A1"]])
    once, again = (invariance.changed(column, "typo", 3).to_pylist() for _ in range(2))
    assert once == again
    assert once[0] != "carrier"
    assert sorted(once[0]) == sorted("carrier")
    assert once[1:] == ["aa", None, "A1"], "no two different letters lie next to each other"


def test_a_share_of_the_rows_and_the_mean_have_to_move_the_right_way() -> None:
    data = two_groups(100)

    def odd(table: pa.Table) -> Any:
        return np.where(np.arange(table.num_rows) < 10, 1 - by_size(table), by_size(table))

    wanted = DirectionTest(kind="direction", name="size", column="size", add=0.01, prediction="rises", share=0.9)
    found = result_of(wanted, data, odd)
    assert found.passed
    assert found.share == 0.9
    assert not result_of(wanted.model_copy(update={"share": 0.91}), data, odd).passed
    few_but_far = DirectionTest(kind="direction", name="size", column="size", add=0.01, prediction="rises", share=0.0)

    def far(table: pa.Table) -> Any:
        raised = (table["size"].to_numpy() - data.table["size"].to_numpy()).max() > 0
        return np.where(np.arange(table.num_rows) < 10, 0.0 if raised else 1.0, by_size(table))

    assert not result_of(few_but_far, data, far).passed, "the mean falls, whatever the share"


@pytest.mark.parametrize("kept", [93, 68])  # 1 - 7 / 100 is less than .93 in floating point
def test_a_model_that_keeps_a_share_exactly_passes_its_test(kept: int) -> None:
    assert 1 - (100 - kept) / 100 < kept / 100
    data = holdout({"size": np.arange(100.0), "name": ["a"] * 100}, [0, 1] * 50, problem_of("binary"))

    def predict(table: pa.Table) -> Any:
        late = np.arange(100) >= kept
        named = np.where(np.array(table["name"].to_pylist()) == "A", np.where(late, 0.1, 0.5), 0.5)
        return np.where(table["size"].to_numpy() % 1 > 0, np.where(late, 0.6, 0.2), named)

    share = kept / 100
    same = InvarianceTest(kind="invariance", name="n", column="name", change="upper", within=0.1, share=share)
    falls = DirectionTest(kind="direction", name="n", column="size", add=0.5, prediction="falls", share=share)
    rows = tuple(ExampleRow(given={"size": row}, expected=int(row < kept)) for row in range(100))
    known = ExamplesTest(kind="examples", name="n", rows=rows, share=share)
    assert result_of(same, data, predict).passed
    assert result_of(falls, data, predict).passed
    assert result_of(known, data, lambda table: np.ones(table.num_rows)).passed
    stricter = share + 0.01
    assert not result_of(same.model_copy(update={"share": stricter}), data, predict).passed
    assert not result_of(falls.model_copy(update={"share": stricter}), data, predict).passed


def test_the_probability_of_a_named_class_is_watched() -> None:
    problem = problem_of("multiclass", ("ant", "bee"))
    table = pa.table({"id": ["1", "2"], "size": [0.2, 0.4]})

    def predict(rows: pa.Table) -> Any:
        return np.column_stack([1 - by_size(rows), by_size(rows)])

    sample = SampledRows(table, predict(table), table["id"], predict, 0)
    test = {"kind": "direction", "name": "n", "column": "size", "add": 0.1, "prediction": "rises"}
    assert direction.judged(DirectionTest.model_validate({**test, "class": "bee"}), sample, problem).passed
    assert not direction.judged(DirectionTest.model_validate({**test, "class": "ant"}), sample, problem).passed
    unknown = direction.judged(DirectionTest.model_validate({**test, "class": "cow"}), sample, problem)
    assert (unknown.passed, unknown.sentence) == (False, "no row is of class 'cow'; there are ant, bee")


def test_whole_numbers_may_be_raised_by_a_part_of_one() -> None:
    data = holdout({"size": pa.array([0, 1, 2]), "name": ["a", "b", "c"]}, [0, 0, 1], problem_of("binary"))

    def predict(table: pa.Table) -> Any:
        return table["size"].to_numpy() / 10

    wanted = DirectionTest(kind="direction", name="size", column="size", add=0.5, prediction="rises")
    assert result_of(wanted, data, predict).passed


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"expected": 1}, ""),
        ({"expected": 0}, "row 1 (1 at 0.9, not 0)"),
        ({"at_least": 0.9}, ""),
        ({"at_least": 0.95}, "row 1 (0.9, at least 0.95 is expected)"),
        ({"at_most": 0.5}, "row 1 (0.9, at most 0.5 is expected)"),
    ],
)
def test_a_row_written_by_hand_has_an_answer(row: dict[str, Any], wrong: str) -> None:
    wanted = ExamplesTest(kind="examples", name="big", rows=(ExampleRow(given={"size": 0.9}, **row),))
    found = result_of(wanted, two_groups())
    assert found.passed == (not wrong)
    assert found.worst == ((wrong,) if wrong else ())


def test_rows_may_be_in_a_file_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("size,name,expected\n0.9,a,1\n0.1,,0\n,b,0\n")
    wanted = ExamplesTest(kind="examples", name="known", file="known.csv")
    found = result_of(wanted, two_groups(), folder=tmp_path)
    assert (found.passed, found.rows) == (True, 3)


def test_a_file_of_examples_may_be_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("size,name,expected\r\n0.9,größe,TRUE\r\n0.1,,1.0\r\n", encoding="utf-8-sig")
    found = result_of(ExamplesTest(kind="examples", name="known", file="known.csv"), two_groups(), folder=tmp_path)
    assert (found.passed, found.rows, found.worst) == (False, 2, ("row 2 (0 at 0.1, not 1.0)",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise,expected\n1,1\n", "no column 'sise'; did you mean 'size'"),
        ("size,expected\nbig,1\n", "feature 'size' is of type double, and big is not"),
        ("size,name\n1,a\n", "row 1: .*has no answer"),
        ("size,at_least\n1,much\n", "row 1: could not convert string to float: 'much'"),
        ("size,expected\n", "it has no row"),
        ("size,name,expected\n1,größe,1\n", "it is not encoded in UTF-8; save it as CSV UTF-8"),
        (f"size,expected\n{'1' * 200_000},1\n", "it is no CSV file: field larger than field limit"),
        ("size,expected\n1,inf\n", "row 1: expected: a class is 0 or 1 .or true, false., found 'inf'"),
        ("size,expected\n1,0.9\n", "row 1: expected: a class is 0 or 1 .*found '0.9'; at_least and at_most bound"),
        ("size,expected\n1,2\n", "row 1: expected: a class is 0 or 1 .*found '2'"),
        (None, "no such file"),
    ],
)
def test_a_wrong_file_is_an_error_in_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "known.csv").write_text(text, encoding="latin-1")
    csv.field_size_limit(131_072)  # of a new process; reading a source raises it
    with pytest.raises(UserError, match=message) as told:
        result_of(ExamplesTest(kind="examples", name="known", file="known.csv"), two_groups(), folder=tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "true_positive_rate", "positive_rate", "brier"])
def test_groups_that_are_alike_pass_by_the_interval(metric: str) -> None:
    found = result_of(FairnessTest(kind="fairness", name="f", column="name", metric=metric, within=0.15), two_groups())
    assert found.passed, found.sentence
    assert [each.group for each in found.groups] == ["a", "b"]


def test_a_gap_is_judged_by_the_worse_end_of_its_interval_unless_params_say_otherwise() -> None:
    data = two_groups(400, gap=0.06)
    wanted = FairnessTest(kind="fairness", name="f", column="name", metric="accuracy", within=0.07)
    found = result_of(wanted, data)
    (gap,) = [each.gap for each in found.groups if each.group == "b"]
    assert gap.value is not None
    assert gap.lower is not None
    assert gap.lower < -0.07 < gap.value < 0
    assert not found.passed
    assert result_of(wanted.model_copy(update={"rule": "estimate"}), data).passed
    assert not result_of(wanted.model_copy(update={"rule": "estimate", "within": 0.02}), data).passed


def test_a_gap_is_the_difference_of_the_two_metrics() -> None:
    data = two_groups(gap=0.3)
    found = result_of(FairnessTest(kind="fairness", name="f", column="name", metric="accuracy", within=0.5), data)
    right = (by_size(data.table) >= 0.5) == (data.labels == 1)
    a = data.table["name"].to_numpy() == "a"
    assert found.groups[1].gap.value == pytest.approx(right[~a].mean() - right[a].mean())
    error = np.sqrt(right[a].var(ddof=1) / a.sum() + right[~a].var(ddof=1) / (~a).sum())
    assert found.groups[1].gap.lower == pytest.approx(found.groups[1].gap.value - 1.97 * error, rel=0.05)


def test_groups_that_are_too_small_are_named_and_two_are_needed() -> None:
    data = holdout(
        {"size": np.linspace(0, 1, 250), "name": ["a"] * 200 + ["b"] * 50}, [0, 1] * 125, problem_of("binary")
    )
    found = result_of(FairnessTest(kind="fairness", name="f", column="name", metric="accuracy", within=0.5), data)
    assert (found.passed, found.not_judged) == (False, ("b (50 rows)",))
    assert "two are needed" in found.sentence


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({**RISES, "column": "colour"}, "'colour' is not a number"),
        ({**RISES, "column": "strenght"}, "no column 'strenght'; did you mean 'strength'"),
        ({**CASE, "column": "strength"}, "'strength' is not a category or a text"),
        ({**EVEN, "column": "coluor"}, "no column 'coluor'; did you mean 'colour'"),
    ],
)
def test_a_column_that_cannot_be_tested_so_is_an_error(evaluated: Evaluate, test: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluated(evaluate__behaviour=[test])


def examples(expected: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "examples", "name": "n", "rows": [{"given": {"x": 1}, "expected": expected, **more}]}


def raw(task: str, tests: list[Any]) -> dict[str, Any]:
    source = {"kind": "files", "path": "*.csv", "columns": {"id": "text", "x": "number"}, "key": ["id"]}
    label = {} if task == "clustering" else {"column": "x"}
    return {
        "project": {"name": "demo"},
        "ingest": {"sources": {"rows": source}},
        "featurize": {"label": {"source": "rows", **label}},
        "train": {"task": task, "learners": [{"name": "base", "kind": "baseline"}]},
        "evaluate": {"behaviour": tests, "gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.0}},
    }


@pytest.mark.parametrize(
    ("task", "test", "message"),
    [
        ("clustering", RISES, "task 'clustering' predicts neither classes nor numbers"),
        ("multiclass", RISES, r"behaviour\[0\]\.class: task 'multiclass' has several classes: name the one"),
        ("binary", {**RISES, "class": "a"}, r"behaviour\[0\]\.class: task 'binary' has none: leave it out"),
        (
            "regression",
            {**EVEN, "metric": "mea"},
            r"behaviour\[0\]\.metric: 'mea' is none of mae, .*did you mean 'mae'",
        ),
        ("binary", {"kind": "examples", "name": "n"}, "needs either rows or a file"),
        ("binary", {"kind": "examples", "name": "n", "rows": [{"given": {"x": 1}}]}, "has no answer"),
        ("binary", examples(0.9), r"rows\[0\]\.expected: a class is 0 or 1 .or true, false., found 0.9; at_least"),
        ("binary", examples("yes"), r"expected: a class is 0 or 1 .*, found 'yes'"),
        (
            "regression",
            examples(5, at_least=3.0),
            r"\.expected: task 'regression' predicts a number, found 5; at_least",
        ),
        ("binary", {**CASE, "change": "case"}, "change"),
        ("binary", {**CASE, "kind": "sameness"}, "sameness"),
    ],
)
def test_params_of_tests_are_checked(task: str, test: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(raw(task, [test]))


def test_a_wrong_file_of_examples_stops_before_anything_is_fitted(small_project: Any) -> None:
    small_project.path("known.csv").write_text("strength,expected\n1,0.9\n")
    context = small_project.with_params(evaluate__behaviour=[{"kind": "examples", "name": "n", "file": "known.csv"}])
    with pytest.raises(UserError, match=r"file known.csv, row 1: expected: a class is 0 or 1"):
        train.run(context)


def test_two_tests_of_one_name_are_an_error() -> None:
    with pytest.raises(UserError, match=r"behaviour\[1\]\.name: another test is called 'case of colours' too"):
        parse(raw("binary", [CASE, CASE]))


def test_numbers_have_a_mean_error_of_each_group() -> None:
    labels = np.concatenate([np.linspace(0, 1, 200), np.linspace(0, 1, 200)])
    rows = {"size": labels + np.repeat([0.0, 0.3], 200), "name": ["a"] * 200 + ["b"] * 200}
    data = holdout(rows, labels, problem_of("regression"))

    def predict(table: pa.Table) -> Any:
        return table["size"].to_numpy()

    wanted = FairnessTest(kind="fairness", name="f", column="name", metric="mean_error", within=0.2)
    found = result_of(wanted, data, predict)
    assert not found.passed
    assert found.groups[1].gap.value == pytest.approx(0.3)
