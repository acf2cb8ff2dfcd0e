"""What an evaluation says of intervals: how many labels they held, how wide they were, for all rows and by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit.evaluation import interval_coverage
from refit.evaluation.details.regression import RegressionDetails
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Bands, Scored
from refit.gate.comparison import Sample
from refit.learners.intervals import Intervals, Margin
from refit.metrics.clusters import Clusters
from refit.plain_text import MISSING
from refit.problems import problem_of
from refit.reports.model_card import interval_charts
from refit.schemas.evaluation import Evaluation
from refit.schemas.interval_report import IntervalReport

MARGIN = Margin(value=1.645, rows=500, scores=(1.0, 2.0))


def judged(groups: list[str] | None = None, followed: bool = False) -> IntervalReport:
    """The report on 90 % intervals on normal labels; those of group 10 spread twice as much."""
    random, rows = np.random.default_rng(0), 6000
    group = np.resize(np.array(groups or [""]), rows)
    spread = np.where(group == "10", 2.0, 1.0)
    predicted = random.normal(0, 3, rows)
    labels = predicted + spread * random.normal(size=rows)
    times = np.datetime64("2024-01-01", "us") + np.arange(rows).astype("timedelta64[h]")
    test = Holdout(
        pa.table({"event_time": times}),
        labels,
        times.astype("datetime64[D]"),
        Sample(labels, Clusters.of(times.astype("datetime64[D]")), problem_of("regression")),
        problem_of("regression"),
    )
    plain = np.column_stack([predicted - 1.645, predicted + 1.645])
    wide = np.column_stack([predicted - 1.645 * spread, predicted + 1.645 * spread])
    known = Intervals(
        level=0.9,
        by="residuals",
        common=MARGIN,
        within="horizon" if groups else None,
        rate=0.02 if followed else None,
        missing=MISSING,
    )
    bands = Bands(known, group, plain, wide if followed else None)
    report = interval_coverage.interval_report(test, Scored({"candidate": predicted}, {}, {}, bands), 0.95)
    assert report is not None
    return report


def evaluation_of(intervals: IntervalReport | None) -> Evaluation:
    return Evaluation.model_construct(details=RegressionDetails.model_construct(intervals=intervals))


def test_coverage_width_and_scores_are_those_of_the_definition() -> None:
    found = judged().to_json()
    assert found["coverage"]["value"] == pytest.approx(0.9, abs=0.01)
    assert found["coverage"]["lower"] < found["coverage"]["value"] < found["coverage"]["upper"]
    assert found["width"]["value"] == pytest.approx(3.29)
    assert set(found["pinball"]) == {"0.05", "0.95"}
    assert found["winkler"]["value"] == pytest.approx(2 / 0.1 * sum(found["pinball"].values()))  # an identity
    assert found["winkler"]["value"] == pytest.approx(4.13, abs=0.1)  # of a normal label, 2 phi(1.645) / 0.05
    assert (found["groups"], found["plain"]) == ([], None)


def test_each_group_is_told_in_order_and_one_that_is_not_held_by_name() -> None:
    report = judged(["2", "1", "10"])
    groups = {each.value: each.coverage.value for each in report.groups}
    assert list(groups) == ["1", "2", "10"]
    assert groups["10"] < 0.65 < 0.88 < groups["1"]
    for each in report.groups:
        assert each.winkler.value == pytest.approx(20 * sum(each.pinball.values()))
    sentences = list(interval_coverage.sentences(report))
    assert sentences[-1] == "By horizon, 1 of 3 held less than that by more than their interval: 10."
    assert sentences[0].startswith("90 % intervals held 79.")
    assert "of 6,000 labels (between 7" in sentences[0]
    assert sentences[0].endswith("mean width 3.29.")


def test_what_following_the_labels_is_worth_is_reported_next_to_intervals_that_do_not() -> None:
    report = judged(["1", "10"], followed=True)
    assert report.plain.coverage.value < 0.77
    assert report.coverage.value == pytest.approx(0.9, abs=0.015)
    sentences = interval_coverage.sentences(report)
    assert any("as they were in training they would have held 7" in each for each in sentences)


def test_pictures_and_tables_show_groups_and_the_newest_rows(tmp_path: Path) -> None:
    report = judged(["1", "10"])
    evaluation = evaluation_of(report)
    assert len(report.stretch) == interval_coverage.STRETCH
    interval_charts.tables(tmp_path, evaluation)
    lines = (tmp_path / "intervals.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["group", "all", "1", "10"]
    stretch, by_group = (each.draw(evaluation) for each in interval_charts.CHARTS)
    assert len(stretch.axes) == 1
    assert [axes.get_ylabel() for axes in by_group.axes] == ["share of labels within", "mean width"]
    assert interval_charts.intervals_by_group.draw(evaluation_of(judged())) is None
    assert interval_charts.intervals.draw(evaluation_of(None)) is None
    assert [*interval_coverage.sentences(None), *interval_coverage.flat(None)] == []


def test_the_loss_of_a_quantile_is_least_for_it_and_of_the_median_half_the_absolute_error() -> None:
    labels = np.random.default_rng(0).normal(size=20_000)
    at = {
        level: problem_of("regression").score("pinball", labels, np.full(20_000, 1.2816), level) for level in (0.8, 0.9)
    }
    for other in (1.0, 1.5):
        assert problem_of("regression").score("pinball", labels, np.full(20_000, other), 0.9) > at[0.9]
    assert problem_of("regression").score("pinball", [1.0, 2.0], [2.0, 4.0]) == 0.75
