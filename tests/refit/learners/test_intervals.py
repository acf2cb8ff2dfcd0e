"""Intervals hold the share of labels that they are asked for, and a model keeps them as it keeps its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit import learners
from refit.config.train import IntervalParams
from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json, write_manifest
from refit.learners import Spec, make
from refit.learners.intervals import STORED_SCORES, Margin, conformal_quantile, fit_intervals, groups_in, score, widen
from refit.learners.prediction_intervals import IntervalLearner

NOWHERE = np.full(0, "")


def alike(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and labels about them with long tails."""
    random = np.random.default_rng(seed)
    predicted = random.normal(0, 3, count)
    return predicted, predicted + random.standard_t(3, count)


def band(predicted: np.ndarray) -> np.ndarray:
    return np.column_stack([predicted, predicted])


def held(found: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean((found[:, 0] <= labels) & (labels <= found[:, 1])))


def test_an_interval_holds_its_share_of_new_rows_on_average_even_where_few_rows_taught_it() -> None:
    """With the rank of n rows instead of n + 1, 20 of them would hold 85.7 %."""
    shares = []
    for seed in range(600):
        predicted, labels = alike(120, seed)
        margins = fit_intervals(band(predicted[:20]), labels[:20], NOWHERE, IntervalParams())
        new = widen(band(predicted[20:]), margins.margins(np.full(100, "")))
        shares.append(held(new, labels[20:]))
    assert np.mean(shares) == pytest.approx(19 / 21, abs=0.01)


@pytest.mark.parametrize("level", [0.6, 0.9, 0.99])
def test_the_share_of_new_rows_within_is_the_level(level: float) -> None:
    predicted, labels = alike(12_000)
    found = fit_intervals(band(predicted[:4000]), labels[:4000], NOWHERE, IntervalParams(level=level))
    assert held(widen(band(predicted[4000:]), found.margins(np.full(8000, ""))), labels[4000:]) == pytest.approx(
        level, abs=0.02
    )
    other = found.margins(np.full(1, ""), 0.8)[0]  # by the scores that were kept
    assert other == pytest.approx(conformal_quantile(score(band(predicted[:4000]), labels[:4000]), 0.8), rel=0.05)


def test_each_value_of_a_column_has_its_own_margin_and_one_with_few_rows_the_common_one() -> None:
    predicted, labels = alike(3040)
    groups = np.array(["near"] * 1500 + ["far"] * 1500 + ["rare"] * 40)
    labels[1500:] += 4 * (labels - predicted)[1500:]
    found = fit_intervals(band(predicted), labels, groups, IntervalParams(within="horizon"))
    assert set(found.groups) == {"near", "far"}
    near, far, rare, new = found.margins(np.array(["near", "far", "rare", "never seen"]))
    assert 3 * near < far
    assert rare == new == found.common.value
    for name, width in (("near", near), ("far", far)):
        rows = groups == name
        assert held(widen(band(predicted[rows]), np.full(1500, width)), labels[rows]) == pytest.approx(0.9, abs=0.01)


def test_too_few_rows_for_a_level_are_one_clear_line() -> None:
    predicted, labels = alike(60)
    with pytest.raises(UserError, match=r"level 0.99 needs 99 rows that no fit has seen, there are 60; take a lower"):
        fit_intervals(band(predicted), labels, NOWHERE, IntervalParams(level=0.99))


def test_a_grouping_takes_any_kind_of_column_and_names_one_that_is_not_there() -> None:
    horizon = pa.chunked_array([[1, None], [7]])
    table = pa.table({"horizon": horizon, "number": horizon.cast("float64"), "half": [0.5, 1, 2], "empty": pa.nulls(3)})
    assert groups_in(table, "horizon").tolist() == groups_in(table, "number").tolist() == ["1", "missing", "7"]
    assert groups_in(table, "half").tolist() == ["0.5", "1", "2"]
    assert groups_in(table, "empty").tolist() == ["missing"] * 3
    texts = pa.table({"text": ["None", None, "missing"], "number": [1.0, float("nan"), None]})
    assert groups_in(texts, "text").tolist() == ["None", "missing", "'missing'"], "three groups"
    assert groups_in(texts, "number").tolist() == ["1", "missing", "missing"]
    with pytest.raises(UserError, match=r"train.intervals.within: no column 'horizont'; did you mean 'horizon'\?"):
        groups_in(table, "horizont")


def rows(count: int = 4000, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Labels that spread the more the larger x is."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 4, count)
    table = pa.table({"x": x, "site": np.array(["a", "b"])[random.integers(0, 2, count)]})
    return table, 3 * x + random.normal(size=count) * (0.2 + x)


def fitted(asked: IntervalParams, kind: str = "sklearn.linear_model.Ridge", **params: Any) -> IntervalLearner:
    """A learner with intervals, fitted on one half of some rows and its margins learned from the other."""
    table, labels = rows()
    first, last = slice(0, 2000), slice(2000, None)
    inner = make(Spec("it", kind, ("x",), params=params, metric="mae", task="regression"))
    inner.fit(table.slice(0, 2000), labels[first])
    unseen = table.slice(2000)
    found = fit_intervals(band(inner.predict(unseen)), labels[last], groups_in(unseen, asked.within), asked)
    return IntervalLearner(inner, found)


def test_predictions_stay_what_they_were_and_stored_intervals_are_the_same_again(tmp_path: Path) -> None:
    learner, (table, _) = fitted(IntervalParams(within="site", adaptive=True)), rows(300, seed=1)
    assert learner.predict(table).tolist() == learner.inner.predict(table).tolist()
    learner.save(tmp_path)
    again = learners.load(tmp_path)
    assert isinstance(again, IntervalLearner)
    for level in (None, 0.5):
        assert again.interval(table, level).tolist() == learner.interval(table, level).tolist()
    assert again.digest() == learner.digest() != learner.inner.digest()
    assert again.intervals == learner.intervals
    assert learner.unsafe_reason() is None
    assert learner.interval(table.slice(0, 0)).shape == (0, 2)
    with pytest.raises(UserError, match="'it' has intervals; fit a new one"):
        again.fit(table, np.zeros(300))


def test_a_model_stored_while_missing_values_were_named_none_keeps_its_intervals_and_its_digest(tmp_path: Path) -> None:
    learner, (table, _) = fitted(IntervalParams(within="site")), rows(300, seed=1)
    margin = Margin(value=77.0, rows=99, scores=(77.0,))
    groups = {**learner.intervals.groups, "None": margin}
    before = learner.intervals.model_copy(update={"missing": "None", "groups": groups})
    learner = IntervalLearner(learner.inner, before)
    learner.save(tmp_path)
    described = read_json(tmp_path / "model.json")["intervals"]
    assert set(described) == {"level", "by", "within", "rate", "common", "groups"}, "as it was written then"
    again = learners.load(tmp_path)
    assert isinstance(again, IntervalLearner)
    assert again.digest() == learner.digest()
    unknown = table.set_column(table.column_names.index("site"), "site", pa.nulls(300, table["site"].type))
    assert again.interval(unknown)[0, 1] - again.predict(unknown)[0] == pytest.approx(77.0)


def test_models_with_other_margins_have_other_digests() -> None:
    asked = [IntervalParams(), IntervalParams(level=0.8), IntervalParams(within="site"), IntervalParams(adaptive=True)]
    assert len({fitted(each).digest() for each in asked}) == 4


def test_models_with_other_ends_have_other_digests() -> None:
    learner, other = (fitted(IntervalParams(), alpha=alpha) for alpha in (1.0, 500.0))
    digests = {
        IntervalLearner(learner.inner, learner.intervals, (learner.inner, high)).digest() for high in (learner, other)
    }
    assert len(digests) == 2


def test_a_changed_description_is_refused(tmp_path: Path) -> None:
    fitted(IntervalParams()).save(tmp_path)
    described = read_json(tmp_path / "model.json")
    described["intervals"]["by"] = "guesses"
    write_json(tmp_path / "model.json", described)
    with pytest.raises(RefitError, match="differs from its manifest"):
        learners.load(tmp_path)
    write_manifest(tmp_path)
    with pytest.raises(RefitError, match=r"model\.json is damaged or was changed"):
        learners.load(tmp_path)


def test_a_model_stays_small_however_many_rows_taught_it() -> None:
    predicted, labels = alike(50_000)
    found = fit_intervals(band(predicted), labels, NOWHERE, IntervalParams(adaptive=True))
    assert found.common.rows == 50_000
    assert found.common.scores == tuple(np.abs(labels - predicted)[-STORED_SCORES:])
