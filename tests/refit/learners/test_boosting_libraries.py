"""LightGBM and XGBoost: their own categories, gaps and formats; what the contract does not say of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.learners import Spec, load, make
from refit.learners.lightgbm_boosting import LightGBM
from refit.runtime.provenance import requirements

LIBRARIES = ["lightgbm.LGBMClassifier", "xgboost.XGBClassifier"]
both = pytest.mark.parametrize("kind", LIBRARIES)


@both
def test_more_threads_change_no_bit(kind: str) -> None:
    random = np.random.default_rng(0)
    rows = pa.table({f"n{n}": random.normal(size=5000) for n in range(10)})
    label = (rows["n0"].to_numpy() + random.normal(size=5000) > 0).astype(np.int64)
    digests = set()
    for threads in (1, 2):
        learner = make(Spec("it", kind, tuple(rows.column_names), params={"n_jobs": threads, "n_estimators": 20}))
        learner.fit(rows, label)
        digests.add(learner.digest())
    assert len(digests) == 1


@both
def test_a_category_is_split_on_as_a_set_and_not_by_the_order_of_its_names(kind: str) -> None:
    """Every other category of twelve: one split tells them apart, which no order of codes would allow."""
    names = [f"c{n:02d}" for n in range(12)]
    rows = pa.table({"name": names * 100})
    label = (np.arange(1200) % 2).astype(np.int64)
    params = {"n_estimators": 1, "max_depth": 1, "learning_rate": 1.0}
    if kind.startswith("lightgbm"):
        params |= {"cat_smooth": 0.0, "min_data_per_group": 1, "cat_l2": 0.0}
    learner = make(Spec("it", kind, ("name",), frozenset({"name"}), params))
    learner.fit(rows, label)
    assert ((learner.predict(rows) > 0.5) == label).all()


@both
def test_a_gap_is_learned_from(kind: str) -> None:
    value = np.random.default_rng(0).normal(size=600)
    gone = np.arange(600) % 3 == 0
    rows = pa.table({"value": pa.array(value, mask=gone)})
    learner = make(Spec("it", kind, ("value",), params={"n_estimators": 10}))
    learner.fit(rows, gone.astype(np.int64))
    assert ((learner.predict(rows) > 0.5) == gone).all()


def test_they_are_stored_as_text_that_other_tools_read(
    tmp_path: Path, train_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    for kind in LIBRARIES:
        learner = make(spec_of(kind, n_estimators=5))
        learner.fit(train_rows.table, train_rows.label)
        (folder := tmp_path / kind).mkdir()
        learner.save(folder)
    assert (tmp_path / LIBRARIES[0] / "model.txt").read_text().startswith("tree\n")
    assert json.loads((tmp_path / LIBRARIES[1] / "trees.json").read_text())["version"]


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("lightgbm.LGBMClassifier", {"num_leafs": 3}, "has no argument 'num_leafs'; did you mean 'num_leaf'?"),
        ("xgboost.XGBClassifier", {"max_dept": 3}, "has no argument 'max_dept'; did you mean 'max_depth'?"),
        ("lightgbm.LGBMClassifier", {"random_state": 3}, "random_state is not set here, it is train.seed"),
        ("xgboost.XGBClassifier", {"early_stopping_rounds": 3}, "the validation window chooses the number"),
        ("xgboost.XGBClassifier", {"n_estimators": 0}, "n_estimators is a whole number from 1 on; found 0"),
        ("xgboost.XGBClassifier", {"objective": "rank:ndcg"}, "objective is not set here"),
        ("lightgbm.LGBMClassifier", {"num_trees": 0.5}, "n_estimators is a whole number from 1 on; found 0.5"),
        ("lightgbm.LGBMClassifier", {"metrics": "auc"}, "metrics is not set here, it is train.early_stopping_metric"),
        ("lightgbm.LGBMClassifier", {"loss": "binary"}, "objective is not set here"),
        (
            "lightgbm.LGBMClassifier",
            {"num_trees": 300, "n_estimators": 300},
            "num_trees and n_estimators are one argument; keep one",
        ),
        ("xgboost.XGBClasifier", {}, "is unknown; did you mean 'xgboost.XGBClassifier'?"),
        ("lightgbm.LGBMRegressor", {}, "is for regression; train.task is 'binary': use lightgbm.LGBMClassifier"),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(
    kind: str, params: dict[str, Any], said: str, spec_of: Callable[..., Spec]
) -> None:
    with pytest.raises(UserError) as caught:
        make(spec_of(kind, **params), where="params.yaml: train.learners[0]")
    assert said in str(caught.value)
    assert "params.yaml: train.learners[0]." in str(caught.value)


@both
def test_a_bad_value_is_told_in_the_words_of_the_library(
    kind: str, train_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    learner = make(spec_of(kind, learning_rate=-1.0))
    with pytest.raises(UserError, match=r"could not be fitted: .*learning_rate.*; change its params") as caught:
        learner.fit(train_rows.table, train_rows.label)
    assert "\n" not in str(caught.value)


@both
def test_a_library_that_is_not_installed_is_named_with_the_command(
    kind: str, spec_of: Callable[..., Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind.split(".")[0], None)
    with pytest.raises(UserError, match=r"is not installed; .* uv pip install -c constraints.txt -e '.\[boosting\]'"):
        make(spec_of(kind))


@pytest.mark.parametrize(
    ("kind", "name"), [("lightgbm.LGBMClassifier", "boosting_type"), ("xgboost.XGBClassifier", "booster")]
)
def test_trees_that_are_dropped_later_are_fitted_whole(
    kind: str, name: str, train_rows: Any, seen_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    learner = make(spec_of(kind, n_estimators=8, **{name: "dart"}))
    report = learner.fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
    assert (report.iterations, report.curve) == (None, ())


@pytest.mark.parametrize("name", ["n_estimators", "num_iterations", "max_iter"])
def test_trees_that_are_dropped_later_are_as_many_as_any_name_of_their_number_says(
    name: str, train_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    learner: Any = make(spec_of("lightgbm.LGBMClassifier", boost="dart", min_data_in_leaf=5, **{name: 103}))
    learner.fit(train_rows.table, train_rows.label)
    assert learner._booster.num_trees() == 103


def test_rows_of_the_validation_count_as_those_of_the_fit_by_any_name(
    train_rows: Any, seen_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    curves = [
        make(spec_of("lightgbm.LGBMClassifier", n_estimators=5, **{name: True}))
        .fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
        .curve
        for name in ("is_unbalance", "unbalance")
    ]
    assert curves[0] == curves[1]


def test_a_stored_model_is_read_though_its_library_has_lost_an_argument(
    train_rows: Any, spec_of: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make(spec_of("lightgbm.LGBMClassifier", n_estimators=5, min_data_in_leaf=5))
    learner.fit(train_rows.table, train_rows.label)
    learner.save(tmp_path)
    monkeypatch.setattr(LightGBM, "_argument_names", lambda _: {"n_estimators"})
    with pytest.raises(UserError, match="no argument 'min_data_in_leaf'"):
        make(learner.spec)
    assert load(tmp_path).digest() == learner.digest()


def test_a_stored_model_names_the_library_it_needs() -> None:
    assert any(name.startswith("lightgbm==") for name in requirements("lightgbm.LGBMClassifier"))
    assert any(name.startswith("xgboost") for name in requirements("xgboost.XGBClassifier"))
    assert not any(name.startswith("skops") for name in requirements("xgboost.XGBClassifier"))
