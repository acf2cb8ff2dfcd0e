"""What a label and a prediction are, by task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from refit.errors import RefitError
from refit.problems import kind_of, kinds, problem_of
from refit.problems.binary import Binary
from refit.problems.contract import Problem, aligned, as_column, of_column
from refit.problems.multiclass import Multiclass
from refit.problems.regression import Regression

PETS = Multiclass(("cat", "dog", "fish"))
COLUMNS = {
    "binary": (Binary(), pa.chunked_array([[0, 1, 1]]), [0, 1, 1]),
    "multiclass": (PETS, pa.chunked_array([["dog", "cat", "dog"]]), [1, 0, 1]),
    "regression": (Regression(), pa.chunked_array([[2.5, -1.0, 4.0]]), [2.5, -1.0, 4.0]),
}
OPTIONS = {"reinforcement": {"environment": "CartPole-v1", "time_limit": 50}}


@pytest.mark.parametrize("task", COLUMNS)
def test_a_label_column_is_read_and_told_again_as_it_was(task: str) -> None:
    target, column, labels = COLUMNS[task]
    assert target.labels(column).tolist() == labels
    assert target.to_column(target.labels(column)).to_pylist() == column.to_pylist()
    assert target.invalid_labels(target.labels(column)) == ""
    gone = pa.chunked_array([[None], *column.chunks], column.type)
    np.testing.assert_array_equal(target.labels_or_nan(gone), [np.nan, *labels])


def test_a_class_that_is_not_known_has_no_code_and_is_said_to_be_odd() -> None:
    labels = PETS.labels(pa.chunked_array([["dog", "bird"]]))
    assert labels.tolist() == [1, -1]
    assert PETS.invalid_labels(labels) == "1 label is none of cat, dog, fish"


@pytest.mark.parametrize(
    ("target", "wrong", "said"),
    [
        (Binary(), np.array([0.5, 1.5]), "1 values of 2 that are no probability"),
        (Binary(), np.array([[0.5, 0.5], [1.0, 0.0]]), r"shape \(2, 2\) for 2 rows; \(2,\) was expected"),
        (PETS, np.array([[0.2, 0.3, 0.5], [0.5, 0.5, 0.5]]), "1 values of 2 that are no probabilities"),
        (PETS, np.array([[0.2, 0.3, 0.5], [np.nan, 0.5, 0.5]]), "1 values of 2 that are no probabilities"),
        (Regression(), np.array([1.0, np.inf]), "1 values of 2 that are no finite number"),
    ],
)
def test_a_prediction_that_the_task_does_not_have_is_told(target: Problem, wrong: np.ndarray, said: str) -> None:
    import re

    assert re.search(said, target.check_predictions(wrong, 2))


@pytest.mark.parametrize("task", COLUMNS)
def test_labels_that_are_all_alike_are_told_and_others_are_not(task: str) -> None:
    target, column, _ = COLUMNS[task]
    labels = target.labels(column)
    assert target.constant_labels(labels) == ""
    assert "all 2 rows are" in target.constant_labels(labels[[1, 1]])
    assert target.has_variation(labels)[0]
    assert not target.has_variation(labels[[1, 1]])[0]


def test_the_naive_guess_is_the_rate_the_shares_the_mean_or_for_absolute_errors_the_median() -> None:
    assert Binary().naive(np.array([0, 1, 1, 1]), "log_loss") == {"rate": 0.75}
    shares = PETS.naive(np.array([0, 1, 1, 1]), "log_loss")
    assert shares == {"shares": {"cat": 0.25, "dog": 0.75, "fish": 0.0}}
    assert PETS.guess(shares, 2).tolist() == [[0.25, 0.75, 0.0]] * 2
    assert Regression().naive(np.array([1.0, 2.0, 9.0]), "rmse") == {"value": 4.0}
    assert Regression().naive(np.array([1.0, 2.0, 9.0]), "mae") == {"value": 2.0}


def test_models_with_other_classes_are_compared_on_all_of_them() -> None:
    ours = aligned(np.array([[0.25, 0.75]]), ("cat", "dog"), ("ant", "cat", "dog"))
    theirs = aligned(np.array([[0.5, 0.5]]), ("ant", "dog"), ("ant", "cat", "dog"))
    assert (ours.tolist(), theirs.tolist()) == ([[0.0, 0.25, 0.75]], [[0.5, 0.0, 0.5]])


@pytest.mark.parametrize("predicted", [np.array([0.1, 0.9]), np.array([[0.25, 0.75], [1.0, 0.0]]), np.empty((0, 3))])
def test_predictions_come_back_from_a_table_bit_by_bit(predicted: np.ndarray, tmp_path: object) -> None:
    import pyarrow.parquet as pq

    path = f"{tmp_path}/p.parquet"
    pq.write_table(pa.table({"p": as_column(predicted)}), path)
    back = of_column(pq.read_table(path)["p"])
    assert back.shape == predicted.shape
    np.testing.assert_array_equal(back, predicted)


def test_a_row_is_called_the_likeliest_class() -> None:
    assert PETS.predicted_values(np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])).to_pylist() == ["fish", "cat"]
    assert problem_of("regression").predicted_values(np.array([1.5])).to_pylist() == [1.5]


FEATURES = pa.table({"x": [2.5, -1.0, None, 4.0], "y": [7, 8, 8, 9], "v": [[0.0, 1.0], [1.0, 1.0], None, [3.0, 0.0]]})
EPISODES = FEATURES.append_column("seed", pa.array([1, 2, 3, 4]))
BASKETS = pa.table({"items": ["milk,bread", "bread", None, "milk,tea,rice"]})
NO_LABELS = pa.chunked_array([[0, 0, 0, 0]])


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_keeps_the_contract(kind: str) -> None:
    if kind == "reinforcement":
        pytest.importorskip("gymnasium", reason="needs the extra [rl]")
    problem = problem_of(kind, PETS.classes if kind == "multiclass" else (), OPTIONS.get(kind))
    learns_labels = problem.labelled and not problem.optional_label
    column = COLUMNS[problem.task][1] if learns_labels else NO_LABELS
    features = pa.table({"x": column}) if learns_labels else EPISODES if kind == "reinforcement" else FEATURES
    features = BASKETS if kind == "association" else features
    labels = problem.labels(column)
    assert problem.name == kind
    assert problem.default_metric in problem.metric_names(comparable=True)
    naive = json.loads(json.dumps(problem.naive(labels, problem.default_metric, features)))
    guess = problem.guess_for(features, naive)
    assert problem.check_predictions(guess, len(column)) == ""
    np.testing.assert_array_equal(of_column(as_column(guess)), guess)
    for name, value in problem.scores(labels, guess).items():
        low, high = problem.metric(name).span
        assert np.isnan(value) or low <= value <= high, name
    values = problem.predicted_values(guess)
    assert len(values) == len(column)
    assert values.null_count == 0
    with duckdb.connect() as connection:
        connection.register("predictions", pa.table({"p": as_column(guess)}))
        in_sql = connection.sql(f"select {problem.predicted_value_sql('p')} from predictions").fetchall()
    assert [value for (value,) in in_sql] == values.to_pylist()
    if problem.parts:
        assert problem.explained_part in problem.parts
        assert problem.output(guess).shape == (len(column),)
        assert problem.check_predictions(np.full_like(guess, np.nan), len(column)) != ""
    assert set(problem.describe_labels(column)) <= {"positive", "classes", "mean", "std"}


ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "place",
    [
        "refit/problems/NAME.py",
        "refit/evaluation/details/NAME.py",
        "refit/reports/model_card/by_task/NAME.py",
        "refit/reports/templates/model_card_NAME.html.j2",
    ],
)
def test_what_a_kind_adds_lies_where_contributing_says(place: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert place in text or place.removesuffix("NAME.py") in text
    own = {name for name in kinds() if kind_of(name).__module__ == f"refit.problems.{name}"}
    if place.startswith("refit/problems"):
        assert own == set(kinds())
        assert all((ROOT / place.replace("NAME", name)).is_file() for name in own)
        return
    before, after = place.split("NAME")
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / before).parent.glob("*")}
    named = {path[len(before) : -len(after)] for path in there if path.startswith(before) and path.endswith(after)}
    assert named - {"__init__", ""} <= own, "it belongs to no kind of problem"


def test_a_metric_has_the_same_words_and_direction_in_every_kind() -> None:
    named: dict[str, set[tuple[str, bool, bool]]] = {}
    for kind in kinds():
        for each in problem_of(kind).metrics:
            named.setdefault(each.name, set()).add((each.words, each.higher_is_better, each.in_label_units))
    assert [name for name, meanings in named.items() if len(meanings) > 1] == []


@pytest.mark.parametrize(
    ("problem", "stored"),
    [
        (Binary(), {"rate": "often"}),
        (PETS, {"shares": {"cat": None}}),
        (Regression(), {"mean": 4.0}),
    ],
)
def test_a_damaged_naive_guess_is_an_error_in_a_line(problem: Problem, stored: dict[str, Any]) -> None:
    with pytest.raises(RefitError, match=r"the stored naive guess is damaged .*; train again"):
        problem.guess(stored, 3)
