"""What estimates and their clusters are made of, in numbers small enough to be reckoned by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refit.gate.comparison import Sample, leave_out
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife, leave_out_mean, sums_without
from refit.problems import problem_of

STUDENT = 1.8331129326536335  # the 95 % quantile of Student's t with 9 degrees of freedom


def test_bounds_are_students_t_with_one_degree_less_than_clusters() -> None:
    estimate = Estimate(1.0, 0.5, 10.0)
    assert estimate.lower(0.05) == pytest.approx(1 - 0.5 * STUDENT)
    assert estimate.upper(0.05) == pytest.approx(1 + 0.5 * STUDENT)
    assert estimate.interval(0.9) == (pytest.approx(1 - 0.5 * STUDENT), pytest.approx(1 + 0.5 * STUDENT))


@pytest.mark.parametrize(
    ("estimate", "finite"),
    [
        (Estimate(0.0, 0.0, 1.5), True),
        (Estimate(0.0, 0.0, 1.0), False),
        (Estimate(math.inf, 0.0, 9.0), False),
        (Estimate(0.0, math.nan, 9.0), False),
    ],
)
def test_an_estimate_is_finite_with_a_value_an_error_and_more_than_one_cluster(
    estimate: Estimate, finite: bool
) -> None:
    assert estimate.finite is finite
    assert math.isfinite(estimate.lower(0.05)) is finite
    assert math.isfinite(estimate.upper(0.05)) is finite


def test_clusters_count_by_their_sizes() -> None:
    assert Clusters.of(["a", "a", "a", "b"]).effective == 1.6
    assert Clusters.rows(5).effective == 5.0
    assert Clusters.rows(3).codes.tolist() == [0, 1, 2]
    assert (Clusters.rows(3).count, Clusters.rows(3).codes.dtype) == (3, np.int64)
    assert Clusters.rows(0).effective == 0.0


def test_a_missing_number_among_texts_is_missing_and_no_text() -> None:
    clusters = Clusters.of(["a", math.nan, "nan", math.nan])
    assert (clusters.codes.tolist(), clusters.count) == ([0, 2, 1, 2], 3)


def test_clusters_are_pooled_only_where_there_are_more_than_asked_for() -> None:
    clusters = Clusters.of(["a", "b", "c", "d", "e"])
    assert clusters.pooled(5) is clusters
    pooled = clusters.pooled(4)
    assert (pooled.codes.tolist(), pooled.count) == ([0, 1, 2, 3, 0], 4)


def test_sums_and_means_without_each_cluster() -> None:
    clusters = Clusters.of(["a", "b", "b"])
    whole, without = sums_without([np.array([1.0, 2.0, 3.0]), np.ones(3)], clusters)
    assert whole.tolist() == [6.0, 3.0]
    assert without.tolist() == [[5.0, 1.0], [2.0, 1.0]]
    left = leave_out_mean(np.array([1.0, 2.0, 3.0]), clusters)
    assert (left.value, left.without.tolist(), left.clusters) == (2.0, [2.5, 1.0], clusters.effective)
    alone = leave_out_mean(np.array([1.0, 3.0]), Clusters.of(["a", "a"]))
    assert alone.value == 2.0
    assert np.isnan(alone.without).all()


def test_the_jackknife_needs_two_clusters() -> None:
    assert jackknife(LeftOut(2.0, np.array([1.0, 3.0]), 2.0)) == Estimate(2.0, 1.0, 2.0)
    assert jackknife(LeftOut(2.0, np.array([1.0, 2.0, 4.0]), 3.0)).standard_error == pytest.approx(math.sqrt(10 / 3))
    one = jackknife(LeftOut(2.0, np.array([1.0]), 1.0))
    assert (one.value, one.clusters) == (2.0, 1.0)
    assert math.isnan(one.standard_error)


def test_some_rows_of_a_sample_fall_into_their_own_clusters() -> None:
    sample = Sample(np.array([0.5, 1.5, 2.5, 3.5]), Clusters.of(["a", "b", "c", "c"]), problem_of("regression"))
    some = sample.only(np.array([1, 3]))
    assert (some.labels.tolist(), some.problem.task) == ([1.5, 3.5], "regression")
    assert (some.clusters.codes.tolist(), some.clusters.count) == ([0, 1], 2)
    assert some.clusters.codes.dtype == np.int64
    none = sample.only(np.array([], dtype=np.int64))
    assert (len(none.labels), none.clusters.count) == (0, 0)


def test_predictions_that_are_not_of_these_rows_or_not_finite_are_not_measured() -> None:
    sample = Sample(np.array([0, 1, 1]), Clusters.of(["a", "b", "b"]))
    with pytest.raises(ValueError, match="2 scores for 3 labels"):
        leave_out("brier", sample, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"metric 'bier' is unknown; known are .*brier"):
        leave_out("bier", sample, [0.1, 0.2, 0.3])
    left = leave_out("brier", sample, [0.1, math.nan, 0.3])
    assert math.isnan(left.value)
    assert (len(left.without), np.isnan(left.without).all(), left.clusters) == (2, True, sample.clusters.effective)
    threshold = [leave_out("accuracy", sample, [0.2, 0.4, 0.9], threshold).value for threshold in (0.5, 0.3)]
    assert threshold == [pytest.approx(2 / 3), 1.0]
