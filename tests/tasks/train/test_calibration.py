"""Calibrated probabilities come true on rows that the calibration was not learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit import learners
from refit.config import parse
from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json, write_manifest
from refit.learners import Spec, make
from refit.problems import problem_of
from tasks.train.calibration_and_threshold import finish_from, pooled
from tasks.train.folds import Development, LabelledRows, development
from tests.tasks.train.test_folds import RAW, cut, folds


def skewed(found: Development, seed: int = 0) -> list[Any]:
    """Predictions that rank well and are far too sure of themselves."""
    x = found.whole.rows["x"].to_numpy()
    return [1 / (1 + np.exp(-6 * x[fold.scored] - 2)) for fold in found.folds]


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_calibrated_probabilities_come_true_on_rows_that_the_curve_was_not_learned_from(kind: str) -> None:
    found = cut(4000, **folds(folds=5))
    params = parse({**RAW, "train": {**RAW["train"], **folds(folds=5), "calibration": kind}})
    raw = skewed(found)
    finish, each = finish_from(found, raw, params)
    before, after = (
        problem_of("binary").score("calibration_error", found.whole.label, pooled(found, p)) for p in (raw, each)
    )
    assert before > 0.15
    assert after < 0.03
    assert finish.calibration is not None
    for p, calibrated, fold in zip(raw, each, found.folds, strict=True):
        assert calibrated.tolist() != finish.calibrated(p).tolist()  # without this very fold
        order = problem_of("binary").score("roc_auc", found.whole.label[fold.scored], calibrated)
        assert order == pytest.approx(
            problem_of("binary").score("roc_auc", found.whole.label[fold.scored], p), abs=0.01
        )


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_classes_that_a_learner_is_too_sure_of_come_true_once_calibrated(kind: str, tmp_path: Any) -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=(3000, 3))
    shares = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    label = (random.random(3000)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    time = np.datetime64("2024-01-01", "us") + np.arange(3000).astype("timedelta64[m]")
    rows = pa.table({"event_time": time} | {f"x{place}": x[:, place] for place in range(3)})
    train = {**RAW["train"], "task": "multiclass", "metric": "log_loss", **folds(folds=5), "calibration": kind}
    params = parse({**RAW, "train": train})
    whole = LabelledRows(rows, label)
    found = development(whole.recent(3000), whole.at(np.arange(0)), params, problem_of("multiclass", ("a", "b", "c")))
    sure = shares**4 / (shares**4).sum(axis=1, keepdims=True)
    raw = [sure[fold.scored] for fold in found.folds]
    finish, each = finish_from(found, raw, params)
    before, after = (
        {
            name: problem_of("multiclass").score(name, label, pooled(found, p))
            for name in ("calibration_error", "log_loss")
        }
        for p in (raw, each)
    )
    assert before["calibration_error"] > 0.2
    assert after["calibration_error"] < 0.03
    assert after["log_loss"] < before["log_loss"] - 0.3
    assert not np.array_equal(each[0], finish.calibrated(raw[0]))  # without this very fold
    assert not problem_of("multiclass", ("a", "b", "c")).check_predictions(finish.calibrated(sure), 3000)
    if kind == "sigmoid":
        assert finish.calibrated(sure).argmax(axis=1).tolist() == sure.argmax(axis=1).tolist()
    spec = Spec("tree", "sklearn.tree.DecisionTreeClassifier", ("x0",), task="multiclass", classes=("a", "b", "c"))
    inner = make(replace(spec, params={"max_depth": 3}))
    inner.fit(rows, label)
    learner = finish.on(inner)
    (tmp_path / "m").mkdir()
    learner.save(tmp_path / "m")
    again = learners.load(tmp_path / "m")
    assert again.digest() == learner.digest() != inner.digest()
    assert again.predict(rows).tolist() == finish.calibrated(inner.predict(rows)).tolist()


def test_numbers_are_not_calibrated() -> None:
    train = {**RAW["train"], "task": "regression", "metric": "mae", "calibration": "sigmoid"}
    with pytest.raises(UserError, match=r"train\.calibration is for tasks 'binary' and 'multiclass'"):
        parse({**RAW, "train": train})


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_a_calibrated_learner_is_stored_and_loaded_as_it_is(kind: str, tmp_path: Any) -> None:
    found = cut(600, **folds(folds=3))
    params = parse({**RAW, "train": {**RAW["train"], "calibration": kind, "threshold": {"by": "cost"}}})
    finish, _ = finish_from(found, skewed(found), params)
    inner = make(Spec("tree", "sklearn.tree.DecisionTreeClassifier", ("x",), params={"max_depth": 5}))
    inner.fit(found.whole.rows, found.whole.label)
    raw, plain = inner.predict(found.whole.rows), inner.digest()
    learner = finish.on(inner)
    assert learner.predict(found.whole.rows).tolist() == finish.calibrated(raw).tolist()
    (tmp_path / "m").mkdir()
    learner.save(tmp_path / "m")
    again = learners.load(tmp_path / "m")
    assert again.predict(found.whole.rows).tolist() == learner.predict(found.whole.rows).tolist()
    assert (again.digest(), again.threshold) == (learner.digest(), finish.threshold)
    assert learner.digest() != plain
    described = read_json(tmp_path / "m/model.json")
    described["calibration"]["kind"] = "spline"
    write_json(tmp_path / "m/model.json", described)
    write_manifest(tmp_path / "m")
    with pytest.raises(RefitError, match=r"model\.json is damaged or was changed"):
        learners.load(tmp_path / "m")
