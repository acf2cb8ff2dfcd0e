"""How many trees and epochs a learner keeps is decided by a proper score, whatever metric models are compared by."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.learners import Labels, Spec, make
from refit.problems import problem_of

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
FEATURES = ("speed", "torque", "wear", "heat")


def machines(rows: int, seed: int) -> tuple[pa.Table, Labels]:
    """Machines of which about 3 in 100 fail, each for one of several reasons."""
    draw = np.random.default_rng(seed)
    torque, wear, heat = draw.normal(40, 10, rows), draw.uniform(0, 250, rows), draw.normal(10, 1, rows)
    speed = 1300 + 180 * np.abs(draw.standard_normal(rows)) + 5 * (40 - torque)
    fails = (wear * torque > 12_000) | ((heat < 8.6) & (speed < 1380)) | ((wear > 240) & (draw.random(rows) < 0.3))
    columns = dict(zip(FEATURES, (speed, torque, wear, heat), strict=True))
    return pa.table(columns), (fails | (draw.random(rows) < 0.002)).astype(np.int64)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (BOOSTING, {"max_iter": 60}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 60}),
        ("xgboost.XGBClassifier", {"n_estimators": 60}),
        ("torch_tabular", {"max_epochs": 6}),
    ],
)
@pytest.mark.parametrize(("metric", "by"), [("roc_auc", "log_loss"), ("brier", "brier")])
def test_iterations_are_those_with_the_best_proper_score_on_validation_rows(
    kind: str, params: dict[str, object], metric: str, by: str
) -> None:
    rows, validation = machines(1500, 0), machines(500, 1)
    learner = make(Spec("it", kind, FEATURES, params=params, metric=metric))
    report = learner.fit(*rows, validation=validation)
    best = min(report.curve, key=lambda point: (point.validation, point.iteration))
    assert (report.iterations, learner.spec.stopping_metric.name) == (best.iteration, by)
    score = problem_of("binary").score(by, validation[1], learner.predict(validation[0]))
    assert score == pytest.approx(best.validation, rel=1e-4)


def test_params_can_choose_iterations_by_the_metric_of_the_comparison() -> None:
    rows, validation = machines(1500, 0), machines(500, 1)
    spec = Spec("it", BOOSTING, FEATURES, params={"max_iter": 60}, early_stopping_metric="roc_auc")
    report = make(spec).fit(*rows, validation=validation)
    assert report.iterations == max(report.curve, key=lambda point: (point.validation, -point.iteration)).iteration


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 5}),
        ("lightgbm.LGBMRegressor", {"n_estimators": 5}),
        ("xgboost.XGBRegressor", {"n_estimators": 5}),
        ("mlp", {"epochs": 2}),
    ],
)
def test_a_metric_that_is_not_finite_on_validation_rows_chooses_no_iterations(
    kind: str, params: dict[str, object]
) -> None:
    """All of them are infinite, and the first would be taken for the best."""
    (rows, _), (validation, _) = machines(300, 0), machines(100, 1)
    label, unseen = (table["heat"].to_numpy() + table["wear"].to_numpy() for table in (rows, validation))
    unseen[7] = 0.0
    spec = Spec("it", kind, FEATURES, params=params, metric="mae", task="regression", early_stopping_metric="mape")
    with pytest.raises(UserError, match=r"train.early_stopping_metric: mape is no finite .*; a label is 0") as raised:
        make(spec).fit(rows, label, validation=(validation, unseen))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (BOOSTING, {"max_iter": 60, "class_weight": "balanced"}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 60, "class_weight": "balanced"}),
        ("xgboost.XGBClassifier", {"n_estimators": 60, "scale_pos_weight": 30}),
        ("mlp", {"epochs": 6, "class_weights": "balanced"}),
    ],
)
def test_validation_rows_count_as_much_as_the_rows_of_a_weighted_fit(kind: str, params: dict[str, object]) -> None:
    rows, validation = machines(1500, 0), machines(500, 1)
    learner = make(Spec("it", kind, FEATURES, params=params, metric="roc_auc"))
    report = learner.fit(*rows, validation=validation)
    best = min(report.curve, key=lambda point: (point.validation, point.iteration))
    share, label = rows[1].mean(), validation[1]
    ones = 30.0 if "scale_pos_weight" in params else (1 - share) / share
    weights = np.where(label == 1, ones, 1.0)
    p = np.clip(learner.predict(validation[0]), 1e-15, 1 - 1e-15)
    losses = -np.where(label == 1, np.log(p), np.log1p(-p))
    assert (losses * weights).sum() / weights.sum() == pytest.approx(best.validation, rel=1e-4)


@pytest.mark.slow
def test_on_a_rare_class_a_proper_score_chooses_better_iterations_than_ranks_do() -> None:
    rows, validation, test = (machines(count, seed) for seed, count in enumerate((4000, 1500, 4000)))
    scores = {}
    for by in ("roc_auc", "log_loss"):
        learner = make(Spec("it", BOOSTING, FEATURES, params={"max_iter": 100}, early_stopping_metric=by))
        learner.fit(*rows, validation=validation)
        scores[by] = problem_of("binary").scores(test[1], learner.predict(test[0]))
    assert scores["log_loss"]["log_loss"] < scores["roc_auc"]["log_loss"]
    assert scores["log_loss"]["calibration_error"] < scores["roc_auc"]["calibration_error"]
    assert scores["log_loss"]["average_precision"] > scores["roc_auc"]["average_precision"] - 0.01
