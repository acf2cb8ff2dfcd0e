"""The report on a stream says what a walk through the test rows gives, and the card shows it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from refit.evaluation import prequential
from refit.evaluation.holdout import Holdout, holdout
from refit.evaluation.scored import Scored
from refit.learners import Spec, make, update
from refit.problems import problem_of
from refit.reports.drawing import styled
from refit.reports.model_card import card_stream, stream_charts
from refit.reports.model_card.stream_charts import _curves
from refit.schemas.prequential_report import PrequentialReport

HOUR = 3_600_000_000
ROWS, LEARNED = 3_000, 2_000


def stream(delay_hours: int = 2) -> tuple[pa.Table, Any]:
    """Hourly rows whose label follows x, and the opposite in the last sixth, so that a model must go on learning."""
    chance = np.random.default_rng(7)
    x, at = chance.normal(size=ROWS), np.arange(ROWS) * HOUR
    turned = np.where(np.arange(ROWS) < ROWS * 5 // 6, x, -x)
    label = (turned + chance.normal(scale=0.3, size=ROWS) > 0).astype(np.int64)
    kind = pa.timestamp("us", tz="UTC")
    times = {"event_time": at, "prediction_time": at, "label_known_at": at + delay_hours * HOUR}
    columns = {name: pa.array(values, kind) for name, values in times.items()}
    return pa.table({"x": x, "label": label, **columns}), label


def judged(params: dict[str, Any]) -> tuple[PrequentialReport, Holdout, Scored]:
    table, label = stream()
    learner = make(Spec("stream", "online", ("x",), params=params))
    learner.fit(table.slice(0, LEARNED), label[:LEARNED])
    test = holdout(table.slice(LEARNED), ZoneInfo("UTC"), "day", problem_of("binary"))
    ours = learner.predict(test.table)
    scored = Scored({"candidate": ours, "champion": 1 - ours}, {"candidate": 0.5, "champion": 0.5}, {})
    measured = prequential.report(learner, test, scored)
    assert measured is not None
    return measured, test, scored


@pytest.mark.ci
def test_it_is_what_a_walk_through_the_test_rows_gives() -> None:
    measured, test, scored = judged({})
    table, label = stream()
    learner = make(Spec("stream", "online", ("x",)))
    learner.fit(table.slice(0, LEARNED), label[:LEARNED])
    before, right, chance = learner, 0, 0
    for row in range(LEARNED, ROWS):
        if row >= LEARNED + 2:  # the label of two hours ago is known now
            before = update(before, [(table.slice(row - 2, 1), label[row - 2 : row - 1])])
        right += (before.predict(table.slice(row, 1))[0] >= 0.5) == label[row]
        chance += label[max(row - 2, LEARNED - 1)] == label[row]
    assert measured.test["prequential"] == pytest.approx(right / test.rows)
    assert measured.test["no_change"] == pytest.approx(chance / test.rows)
    assert measured.test["candidate"] == pytest.approx(((scored.p["candidate"] >= 0.5) == test.labels).mean())
    assert measured.test["champion"] == pytest.approx(1 - measured.test["candidate"])
    assert measured.test["prequential"] > measured.test["candidate"] + 0.1, "the stream has turned"
    steps = measured.learned_steps, measured.test_steps
    whole = np.average([measured.learned["prequential"], measured.test["prequential"]], weights=steps)
    assert measured.whole["prequential"] == pytest.approx(whole)


def test_curves_end_where_the_figures_are() -> None:
    measured, _, _ = judged({})
    for points, values in ((measured.test_points, measured.test), (measured.learned_points, measured.learned)):
        assert points[-1].cumulative == pytest.approx(dict(values))
        assert [point.step for point in points] == sorted({point.step for point in points})
    assert measured.test_points[-1].rolling["candidate"] < 0.1, "the newest steps are those that have turned"


@pytest.mark.slow
def test_the_card_names_alarms_with_their_time_and_what_they_watch() -> None:
    pytest.importorskip("river", reason="needs the extra [online]")
    measured, _, _ = judged({"detectors": ["adwin", "page_hinkley"]})
    shown = card_stream.shown(measured)
    assert shown is not None
    assert {row.name for row in shown.rows} == {"training", "test", "both"}
    assert {alarm.detector for alarm in shown.alarms} == {"ADWIN", "PageHinkley"}
    turned = 0.0 + ROWS * 5 // 6 * 3600
    assert all(alarm.time is not None and alarm.time.timestamp() > turned for alarm in shown.alarms)
    assert all(alarm.metric == "error rate" for alarm in shown.alarms)
    with styled():
        figure = _curves("it", measured.test_points, shown.alarms, measured.measure)
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert len(dotted) == len(shown.alarms)


@pytest.mark.slow
def test_a_candidate_no_better_than_no_change_is_pointed_out() -> None:
    measured, _, _ = judged({})

    def remarks(better_by: float) -> list[str]:
        values = {**measured.test, "candidate": measured.test["no_change"] + better_by}
        return list(prequential.remarks(measured.model_copy(update={"test": values})))

    assert remarks(0.01) == []
    (said,) = remarks(0.0)
    assert "it has learned no more than that nothing changes" in said


def test_another_learner_has_no_such_report() -> None:
    table, label = stream()
    learner = make(Spec("it", "sklearn.linear_model.LogisticRegression", ("x",)))
    learner.fit(table, label)
    test = holdout(table, ZoneInfo("UTC"), "day", problem_of("binary"))
    scored = Scored({"candidate": learner.predict(table)}, {"candidate": 0.5}, {})
    assert prequential.report(learner, test, scored) is None
    assert card_stream.shown(None) is None
    assert list(prequential.flat(None)) == []


@pytest.mark.slow
def test_labels_of_a_class_that_it_has_not_learned_are_left_out() -> None:
    table, label = stream()
    names = np.array(["down", "up"], dtype=object)[label]
    classes = ("down", "up")
    learner = make(Spec("it", "online", ("x",), task="multiclass", metric="log_loss", classes=classes))
    learner.fit(table.slice(0, LEARNED), label[:LEARNED])
    names[-5:] = "sideways"
    later = table.set_column(table.column_names.index("label"), "label", pa.array(names)).slice(LEARNED)
    problem = problem_of("multiclass", ("down", "sideways", "up"))
    test = holdout(later, ZoneInfo("UTC"), "day", problem)
    wide = np.insert(learner.predict(later), 1, 0.0, axis=1)
    measured = prequential.report(learner, replace(test), Scored({"candidate": wide}, {"candidate": 0.5}, {}))
    assert measured is not None
    assert measured.test_steps == ROWS - LEARNED - 5


def test_there_is_one_chart_of_training_and_one_of_the_test_rows() -> None:
    assert [each.name for each in stream_charts.CHARTS] == ["stream", "stream_test"]
    assert {each.section for each in stream_charts.CHARTS} == {"stream"}


@pytest.mark.slow
def test_what_is_undefined_is_left_out_and_drawn_nowhere() -> None:
    measured, test, scored = judged({})
    nothing = replace(test, table=test.table.slice(0, 0), labels=test.labels[:0])
    learner = make(Spec("stream", "online", ("x",)))
    table, label = stream()
    learner.fit(table.slice(0, LEARNED), label[:LEARNED])
    empty = prequential.report(learner, nothing, Scored({}, scored.thresholds, {}))
    assert empty is not None
    assert (empty.test_steps, dict(empty.test), empty.test_points) == (0, {}, ())
    assert empty.whole == pytest.approx(dict(measured.learned)), "the training rows alone"
    assert list(prequential.remarks(empty)) == []
    assert prequential._values("regression", {"prequential": float("nan"), "no_change": 0.0}) == {"no_change": 0.0}
    assert stream_charts.stream_test.draw(SimpleNamespace(prequential=empty)) is None  # type: ignore[arg-type]


def test_a_copy_that_cannot_learn_a_test_row_ends_no_report() -> None:
    chance = np.random.default_rng(0)
    table, _ = stream()
    label = chance.normal(size=ROWS)
    label[-500] = 1e120
    table = table.set_column(table.column_names.index("label"), "label", pa.array(label))
    learner = make(Spec("stream", "online", ("x",), task="regression", metric="mae"))
    learner.fit(table.slice(0, LEARNED), label[:LEARNED])
    test = holdout(table.slice(LEARNED), ZoneInfo("UTC"), "day", problem_of("regression"))
    scored = Scored({"candidate": learner.predict(test.table)}, {}, {})
    measured = prequential.report(learner, test, scored)
    assert measured is not None
    assert "prequential" in measured.learned
    assert {*measured.test, *measured.whole} == {"candidate", "no_change"}
    (said, *_) = prequential.remarks(measured)
    assert said.startswith("it could not go on learning the test rows: learner 'stream': a label is 1e+120, whose")
    shown = card_stream.shown(measured)
    assert shown is not None
    assert "could not go on learning" in shown.words
    assert stream_charts.stream_test.draw(SimpleNamespace(prequential=measured)) is not None  # type: ignore[arg-type]
