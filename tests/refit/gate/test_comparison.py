"""The paired comparison is exact against brute force, and its error rates are what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from quick import quick
from sklearn import metrics as reference

from refit.gate.comparison import Sample, error_reduction, gain, leave_out, single
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife
from refit.problems import kind_of, metric_named, problem_of

REFERENCE: dict[str, Callable[..., Any]] = {
    "roc_auc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "log_loss": reference.log_loss,
    "brier": reference.brier_score_loss,
}
TASKS = ("binary", "multiclass", "regression")
METRICS: list[str] = ["roc_auc", "average_precision", "log_loss", "brier"]


def rows(seed: int, count: int = 400, clusters: int = 9, decimals: int = 2) -> tuple[Sample, np.ndarray, np.ndarray]:
    """Rows with many tied scores, in clusters of unequal size and shuffled order."""
    random = np.random.default_rng(seed)
    truth = random.random(count)
    labels = (random.random(count) < truth).astype(np.int64)
    keys = np.minimum(random.geometric(0.25, count), clusters)
    scores = [np.clip(truth + random.normal(0, s, count), 0.01, 0.99).round(decimals) for s in (0.2, 0.3)]
    return Sample(labels, Clusters.of(keys)), scores[0], scores[1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(5))
def test_every_value_left_out_equals_the_metric_computed_again_without_that_cluster(metric: str, seed: int) -> None:
    sample, scores, _ = rows(seed)
    left = leave_out(metric, sample, scores)
    assert left.value == pytest.approx(REFERENCE[metric](sample.labels, scores), abs=1e-12)
    for cluster in range(sample.clusters.count):
        kept = sample.clusters.codes != cluster
        assert left.without[cluster] == pytest.approx(REFERENCE[metric](sample.labels[kept], scores[kept]), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_standard_error_is_the_textbook_jackknife_of_the_paired_difference(metric: str) -> None:
    sample, ours, theirs = rows(7)
    sign = 1 if metric_named(metric).higher_is_better else -1
    score = REFERENCE[metric]

    def difference(kept: np.ndarray) -> float:
        return sign * float(score(sample.labels[kept], ours[kept]) - score(sample.labels[kept], theirs[kept]))

    count = sample.clusters.count
    full = difference(np.full(len(ours), True))
    without = np.array([difference(sample.clusters.codes != cluster) for cluster in range(count)])
    found = gain(metric, sample, ours, theirs)
    assert found.value == pytest.approx(full, abs=1e-12)
    assert found.standard_error == pytest.approx(
        math.sqrt((count - 1) / count * ((without - full) ** 2).sum()), abs=1e-12
    )


@pytest.mark.parametrize("metric", METRICS)
def test_error_reduction_is_the_share_of_the_opponents_distance_from_perfect_with_its_textbook_jackknife(
    metric: str,
) -> None:
    sample, ours, theirs = rows(7)

    def reduction(kept: np.ndarray) -> float:
        values = [float(REFERENCE[metric](sample.labels[kept], scores[kept])) for scores in (ours, theirs)]
        mine, other = (1 - value if metric_named(metric).higher_is_better else value for value in values)
        return 1 - mine / other

    count = sample.clusters.count
    full = reduction(np.full(len(ours), True))
    without = np.array([reduction(sample.clusters.codes != cluster) for cluster in range(count)])
    found = error_reduction(metric, sample, ours, theirs)
    assert found.value == pytest.approx(full, abs=1e-12)
    assert found.standard_error == pytest.approx(
        math.sqrt((count - 1) / count * ((without - full) ** 2).sum()), abs=1e-12
    )
    assert (found.value > 0) == (gain(metric, sample, ours, theirs).value > 0)


def test_of_a_perfect_opponent_no_error_can_be_taken_away(recwarn: pytest.WarningsRecorder) -> None:
    sample, scores, _ = rows(2)
    perfect = sample.labels.astype(float)
    assert not error_reduction("roc_auc", sample, scores, perfect).finite
    assert error_reduction("roc_auc", sample, perfect, scores).value == 1.0
    assert error_reduction("brier", sample, scores, scores) == Estimate(0.0, 0.0, sample.clusters.effective)
    assert not recwarn.list


@pytest.mark.parametrize("metric", METRICS)
def test_some_of_the_rows_are_a_sample_with_the_clusters_that_they_fall_in(metric: str) -> None:
    sample, scores, _ = rows(8)
    chosen = sample.clusters.codes % 3 != 1
    names = np.array(list("abcdefghi"))[sample.clusters.codes]
    part = sample.only(chosen)
    assert part.clusters.count == len(set(names[chosen])) < sample.clusters.count
    apart = Sample(sample.labels[chosen], Clusters.of(names[chosen]))
    assert single(metric, part, scores[chosen]) == single(metric, apart, scores[chosen])


def test_some_of_the_rows_are_judged_by_the_same_task_and_none_of_them_in_no_cluster() -> None:
    sample, (ours, theirs) = several("regression")
    assert gain("mae", sample.only(np.arange(50)), ours[:50], theirs[:50]).finite
    assert sample.only(np.arange(0)).clusters.count == 0


@pytest.mark.parametrize("metric", METRICS)
def test_a_gain_is_positive_when_the_candidate_is_better_whatever_the_metric(metric: str) -> None:
    sample, better, worse = rows(3, count=4000)
    assert gain(metric, sample, better, worse).value > 0
    assert gain(metric, sample, worse, better).value == -gain(metric, sample, better, worse).value


@pytest.mark.parametrize("metric", METRICS)
def test_equal_scores_differ_by_exactly_nothing(metric: str) -> None:
    sample, scores, _ = rows(4)
    assert gain(metric, sample, scores, scores) == Estimate(0.0, 0.0, sample.clusters.effective)


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_rows_changes_nothing_but_the_last_bits(metric: str) -> None:
    sample, ours, theirs = rows(5)
    order = np.random.default_rng(0).permutation(len(ours))
    shuffled = Sample(sample.labels[order], Clusters(sample.clusters.codes[order], sample.clusters.count))
    one, other = gain(metric, sample, ours, theirs), gain(metric, shuffled, ours[order], theirs[order])
    assert (one.value, one.standard_error) == pytest.approx((other.value, other.standard_error), abs=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_what_cannot_be_measured_is_not_finite_and_raises_nothing(metric: str) -> None:
    sample, scores, _ = rows(6)
    broken = scores.copy()
    broken[3] = np.nan
    assert not single(metric, sample, broken).finite
    assert single(metric, sample, broken).clusters == sample.clusters.effective
    alone = Sample(sample.labels, Clusters.of(np.zeros(len(scores))))
    assert not single(metric, alone, scores).finite
    assert math.isnan(single(metric, alone, scores).lower(0.05))
    if metric in ("roc_auc", "average_precision"):
        assert not single(metric, Sample(np.zeros_like(sample.labels), sample.clusters), scores).finite


def test_one_cluster_with_all_the_positives_makes_the_auc_unmeasurable_not_certain() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0])
    sample = Sample(labels, Clusters.of(["a", "a", "b", "b", "c", "c"]))
    assert not single("roc_auc", sample, np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.4])).finite


def test_a_dominating_cluster_counts_for_little_more_than_one() -> None:
    keys = ["big"] * 970 + [f"small-{index}" for index in range(30)]
    assert Clusters.of(keys).count == 31
    assert Clusters.of(keys).effective < 1.1


def test_missing_keys_are_one_cluster_and_not_thousands() -> None:
    assert Clusters.of(np.array([None, None, "a", np.nan, "a"], dtype=object)).count <= 3
    assert Clusters.of(np.array(["NaT", "NaT", "2013-01-01"], dtype="datetime64[D]")).count == 2


@pytest.mark.parametrize("metric", quick(METRICS))
def test_rows_as_clusters_agree_with_the_theory_of_independent_rows(metric: str) -> None:
    random = np.random.default_rng(11)
    truth = random.random(3000)
    sample = Sample((random.random(3000) < truth).astype(np.int64), Clusters.rows(3000))
    found = single(metric, sample, truth)
    if metric == "brier":
        losses = (truth - sample.labels) ** 2
        assert found.standard_error == pytest.approx(losses.std(ddof=1) / math.sqrt(3000), rel=1e-3)
    resampled = []
    for _ in range(200):
        drawn = random.integers(0, 3000, 3000)
        resampled.append(REFERENCE[metric](sample.labels[drawn], truth[drawn]))
    assert found.standard_error == pytest.approx(np.std(resampled), rel=0.2)


def several(task: str, seed: int = 0, count: int = 240) -> tuple[Sample, list[np.ndarray]]:
    """Rows of a task, in clusters of unequal size, with the predictions of two models."""
    random = np.random.default_rng(seed)
    clusters = Clusters.of(np.minimum(random.geometric(0.25, count), 7))
    if task == "regression":
        truth = random.normal(1000, 5, count)
        return Sample(truth, clusters, problem_of("regression")), [truth + random.normal(1, s, count) for s in (2, 3)]
    if task == "multiclass":
        truth = random.integers(0, 4, count)
        logits = [2 * np.eye(4)[truth] + random.normal(0, s, (count, 4)) for s in (1, 1.5)]
        exp = [np.exp(each.round(1)) for each in logits]
        return Sample(truth, clusters, problem_of("multiclass")), [
            each / each.sum(axis=1, keepdims=True) for each in exp
        ]
    sample, ours, theirs = rows(seed, count)
    return sample, [ours, theirs]


@pytest.mark.parametrize(
    ("task", "metric"),
    [(task, name) for task in TASKS for name in kind_of(task).metric_names() if name != "calibration_error"],
)
def test_leaving_a_cluster_out_is_computing_the_metric_again_without_its_rows(task: Any, metric: str) -> None:
    sample, (ours, _) = several(task)
    left = leave_out(metric, sample, ours, 0.4)
    form = problem_of(task).formula(metric)
    assert left.value == pytest.approx(form.value(sample.labels, ours, 0.4), rel=1e-10)
    for cluster in range(sample.clusters.count):
        kept = sample.clusters.codes != cluster
        assert left.without[cluster] == pytest.approx(form.value(sample.labels[kept], ours[kept], 0.4), rel=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_a_better_model_of_any_task_gains_and_reduces_errors_by_each_of_its_metrics(task: Any) -> None:
    sample, (better, worse) = several(task, count=9600)
    for metric in kind_of(task).metric_names(comparable=True):
        assert gain(metric, sample, better, worse).lower(0.05) > 0, metric
        assert 0 < error_reduction(metric, sample, better, worse).value < 1, metric


def test_a_metric_of_another_task_is_named_with_those_that_would_do() -> None:
    sample, (ours, theirs) = several("regression")
    with pytest.raises(ValueError, match="'roc_auc' is not for task 'regression'; its metrics are mae, rmse"):
        gain("roc_auc", sample, ours, theirs)
    with pytest.raises(ValueError, match="unknown; known are roc_auc, average_precision"):
        gain("auc", sample, ours, theirs)


def test_predictions_of_other_rows_than_the_labels_are_refused() -> None:
    sample, (ours, _) = several("regression")
    with pytest.raises(ValueError, match="239 scores for 240 labels"):
        single("mae", sample, ours[1:])


def test_predictions_are_judged_in_double_precision_and_at_a_half_where_no_threshold_is_given() -> None:
    sample, scores, _ = rows(9)
    for metric in ("brier", "log_loss", "f1"):
        halves = leave_out(metric, sample, scores.astype(np.float32))
        whole = leave_out(metric, sample, scores.astype(np.float32).astype(np.float64), 0.5)
        assert (halves.value, halves.without.tolist()) == (whole.value, whole.without.tolist())


def test_where_a_label_is_zero_a_share_of_it_is_not_measured_and_nothing_is_raised() -> None:
    sample, (ours, theirs) = several("regression")
    sample.labels[3] = 0.0
    assert not gain("mape", sample, ours, theirs).finite


def test_an_endless_value_has_no_standard_error_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    found = jackknife(LeftOut(np.inf, np.full(3, np.inf), 3.0))
    assert np.isnan(found.standard_error)
    assert not recwarn.list
