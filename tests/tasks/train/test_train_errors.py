"""What `train` cannot use is named before anything is fitted or written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from refit.errors import RefitError, UserError
from refit.files import artifacts
from tasks.train.trial import require_finite


def test_every_learner_is_checked_before_the_first_is_fitted(project: Any, learners: Any) -> None:
    wrong = [
        learners["logistic"],
        {"name": "off", "kind": "no.such.Thing", "enabled": False},
        {"name": "one", "kind": "sklearn.linear_model.Logistic"},
        {"name": "two", "kind": "sklearn.ensemble.RandomForestClassifier", "params": {"n_trees": 3}},
    ]
    said: list[str] = []
    with pytest.raises(UserError) as caught:
        project.run(said, train__learners=wrong)
    message = str(caught.value)
    assert "(params.yaml: train.learners[2].kind)" in message
    assert "has no argument 'n_trees'" in message
    assert "(params.yaml: train.learners[3].params.n_trees)" in message
    assert not any(note.startswith("fitting") for note in said)
    assert not project.models.exists()


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ({"slices": ["carriers"]}, "evaluate.slices: the features have no column 'carriers'"),
        ({"gate": {"cluster": "plane"}}, "evaluate.gate.cluster: the features have no column 'plane'"),
        ({"gate": {"slices": {"carriers=UA": 0.1}}}, "evaluate.gate.slices: the features have no column 'carriers'"),
    ],
)
def test_columns_that_the_evaluation_needs_are_checked_before_anything_is_fitted(
    project: Any, evaluate: dict[str, Any], said: str
) -> None:
    notes: list[str] = []
    with pytest.raises(UserError, match=f"^params.yaml: {said}"):
        project.run(notes, evaluate=evaluate)
    assert not any(note.startswith("fitting") for note in notes)


def relabelled(window: str, value: int) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        label = pc.if_else(pc.equal(table["window"], window), value, table["label"])
        return table.set_column(table.schema.get_field_index("label"), "label", label)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            relabelled("train", 0),
            "the label is constant in the train window: all 600 rows are 0; both classes are needed",
        ),
        (relabelled("validation", 1), "the label is constant in the validation window: all 150 rows are 1"),
        (lambda table: table.slice(590), "the train window has 10 rows, 20 are the fewest to learn from; widen"),
        (lambda table: table.slice(0, 600), "the validation window has 0 rows"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_the_users_mistake(
    project: Any, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    project.write(change(project.table))
    with pytest.raises(UserError) as caught:
        project.run()
    assert said in str(caught.value)
    assert not project.models.exists()


def test_a_changed_or_missing_table_is_refused(project: Any) -> None:
    content = bytearray((project.folder / artifacts.TABLE).read_bytes())
    content[100] ^= 1
    (project.folder / artifacts.TABLE).write_bytes(content)
    with pytest.raises(RefitError, match=r"table\.parquet has changed: recorded"):
        project.run()
    (project.folder / artifacts.TABLE).unlink()
    with pytest.raises(RefitError, match=r"table\.parquet is gone"):
        project.run()
    (project.folder / artifacts.FEATURE_SET).unlink()
    with pytest.raises(RefitError, match=r"features\.json does not exist yet"):
        project.run()


STRANGE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Lost(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict_proba(self, X):
        p = np.full((len(X), 2), 0.5)
        p[:3] = np.nan
        return p

class Broken(Lost):
    def fit(self, X, y):
        raise ValueError("this solver cannot do that\\nsecond line")

class Narrow(Lost):
    def predict_proba(self, X):
        return np.full((len(X), 1), 0.5)

class Flat(Lost):
    def predict_proba(self, X):
        return np.full(len(X), 0.5)

class Stepwise(Narrow):
    def __init__(self, n_estimators=3):
        self.n_estimators = n_estimators
    def staged_predict_proba(self, X):
        return [self.predict_proba(X)] * self.n_estimators
"""


def test_predictions_that_are_no_probabilities_and_fits_that_fail_name_the_learner(
    project: Any,
) -> None:
    (project.folder / "strange_learners.py").write_text(STRANGE)
    with pytest.raises(RefitError, match="learner 'lost' predicted 3 values of 150 that are no probability"):
        project.run(train__learners=[{"name": "lost", "kind": "strange_learners.py:Lost"}])
    with pytest.raises(UserError) as caught:
        project.run(train__learners=[{"name": "broken", "kind": "strange_learners.py:Broken"}])
    assert "learner 'broken' (strange_learners.py:Broken) could not be fitted: this solver cannot do that;" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert not project.candidate.exists()


@pytest.mark.parametrize(
    ("name", "shape"), [("Narrow", r"\(150, 1\)"), ("Flat", r"\(150,\)"), ("Stepwise", r"\(150, 1\)")]
)
def test_probabilities_that_are_not_two_columns_are_told_with_their_shape(project: Any, name: str, shape: str) -> None:
    (project.folder / "strange_learners.py").write_text(STRANGE)
    expected = (
        rf"learner 'it' \(strange_learners.py:{name}\): predict_proba gave an array of shape {shape}; two columns"
    )
    with pytest.raises(UserError, match=expected):
        project.run(train__learners=[{"name": "it", "kind": f"strange_learners.py:{name}"}])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("class Mine\n", "SyntaxError: expected ':'"),
        ("limit = undefined\n", "NameError: name 'undefined' is not defined"),
    ],
)
def test_a_learner_whose_file_is_there_and_broken_is_not_called_unknown(
    project: Any, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    (folder := project.folder / "installed").mkdir()
    (folder / "broken_learners.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    expected = f"module 'broken_learners' was found and cannot be imported: {why}"
    with pytest.raises(UserError) as caught:
        project.run(train__learners=[{"name": "it", "kind": "broken_learners.Mine"}])
    assert expected in str(caught.value)
    assert "train.learners[0].kind" in str(caught.value)
    (project.folder / "broken_here.py").write_text(text)
    with pytest.raises(
        UserError, match=r"learner 'broken_here.py:Mine'.* \(params.yaml: train.learners\[0\].kind\)$"
    ) as caught:
        project.run(train__learners=[{"name": "it", "kind": "broken_here.py:Mine"}])
    assert why.split(": ", 1)[1] in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("agreement", "known of 20 rows or more, and of at most 1000 columns"),
        ("excess_mass", "known of 1 to 50 columns that vary, none of them pictures"),
        ("mape", "a label is 0 there, and shares of it are endless"),
        ("roc_auc", "is no finite number on these rows: choose another metric"),
    ],
)
def test_a_metric_that_is_undefined_says_where_it_is_defined(metric: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        require_finite(metric, float("nan"))
