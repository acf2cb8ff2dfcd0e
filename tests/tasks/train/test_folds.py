"""How rows are cut into folds, and what is learned from predictions for the rows that no fit had seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config import override, parse
from refit.errors import UserError
from refit.files.artifacts import write_manifest
from refit.learners import Spec, make
from refit.problems import problem_of
from refit.runtime.context import Context
from refit.schemas.warm_start import WarmStart
from tasks.train.folds import Development, Fold, LabelledRows, content, development, newest
from tasks.train.warm import _newer, go_on

RAW: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {"sources": {"s": {"kind": "files", "path": "s.csv", "columns": {"id": "integer"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "s", "column": "late", "delay_hours": 48}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}
HOUR = np.timedelta64(1, "h")


def cut(count: int = 300, **train: Any) -> Development:
    random = np.random.default_rng(3)
    times = np.datetime64("2024-01-01", "us") + np.sort(random.integers(0, 90 * 24, count)).astype("timedelta64[h]")
    owner = random.integers(0, 30, count)
    x = random.normal(size=count)
    label = (x + random.normal(size=count) > 0.6).astype(np.int64)
    rows = pa.table({"event_time": times, "owner": owner, "x": x})
    edge = round(0.8 * count)
    parts = (LabelledRows(rows.slice(0, edge), label[:edge]), LabelledRows(rows.slice(edge), label[edge:]))
    return development(*parts, parse({**RAW, "train": {**RAW["train"], **train}}), problem_of("binary"))


def folds(**asked: Any) -> dict[str, Any]:
    return {"cross_validation": asked}


def test_without_folds_the_validation_window_is_scored_by_a_fit_of_the_training_window() -> None:
    found = cut()
    (fold,) = found.folds
    assert (fold.fitted.tolist(), fold.scored.tolist()) == (list(range(240)), list(range(240, 300)))


@pytest.mark.parametrize("kind", ["kfold", "stratified"])
def test_every_row_is_scored_once_by_a_fit_that_has_not_seen_it(kind: str) -> None:
    found = cut(**folds(kind=kind, folds=5))
    assert np.sort(np.concatenate([fold.scored for fold in found.folds])).tolist() == list(range(300))
    for fold in found.folds:
        assert not np.intersect1d(fold.fitted, fold.scored).size
        assert len(fold.fitted) + len(fold.scored) == 300
    if kind == "stratified":
        rates = [found.whole.label[fold.scored].mean() for fold in found.folds]
        assert max(rates) - min(rates) < 0.02


def test_repeats_draw_new_folds_and_draws_are_of_the_share_asked_for() -> None:
    twice = cut(**folds(kind="stratified", folds=3, repeats=2)).folds
    assert len(twice) == 6
    assert twice[0].scored.tolist() != twice[3].scored.tolist()
    drawn = cut(**folds(kind="shuffle", folds=20, share=0.2)).folds
    assert [len(fold.scored) for fold in drawn] == [60] * 20


@pytest.mark.parametrize("asked", [{"kind": "kfold"}, {"kind": "stratified"}, {"kind": "group", "group": "owner"}])
def test_folds_are_drawn_by_the_seed_and_by_nothing_else(asked: dict[str, Any]) -> None:
    def scored(seed: int) -> list[list[int]]:
        return [fold.scored.tolist() for fold in cut(seed=seed, **folds(folds=3, **asked)).folds]

    assert scored(1) == scored(1)
    assert scored(1) != scored(2)


def test_repeats_are_those_of_the_seeds_that_follow() -> None:
    repeated = cut(seed=4, **folds(kind="kfold", folds=3, repeats=2)).folds
    following = cut(seed=5, **folds(kind="kfold", folds=3)).folds
    assert [fold.scored.tolist() for fold in repeated[3:]] == [fold.scored.tolist() for fold in following]


@pytest.mark.parametrize("kind", ["time", "rolling"])
@pytest.mark.parametrize("count", [300, 301, 307])
def test_every_row_from_the_first_edge_on_is_scored_by_one_fold(kind: str, count: int) -> None:
    """Rows at an edge too; and each fold but the first part holds as many rows as the others, nearly."""
    training = {"training_days": 30} if kind == "rolling" else {}
    found = cut(count, **folds(kind=kind, folds=4, gap_hours=0, **training))
    scored = np.concatenate([fold.scored for fold in found.folds])
    assert scored.tolist() == list(range(scored[0], count))
    assert max(len(fold.scored) for fold in found.folds) - min(len(fold.scored) for fold in found.folds) <= 4
    times = found.whole.rows["event_time"].to_numpy()
    for fold in found.folds:
        before = times < times[fold.scored[0]]
        if kind == "rolling":
            before &= times >= times[fold.scored[0]] - 30 * 24 * HOUR
        assert fold.fitted.tolist() == np.flatnonzero(before).tolist(), "all that may be fitted is"


def test_rows_that_are_just_as_old_as_the_gap_are_not_fitted_and_those_just_within_the_span_are() -> None:
    times = np.datetime64("2024-01-01", "us") + 24 * HOUR * np.arange(200)
    rows = LabelledRows(pa.table({"event_time": times}), np.arange(200) % 2)
    asked = folds(kind="rolling", folds=3, gap_hours=48, training_days=30)
    params = parse({**RAW, "train": {**RAW["train"], **asked}})
    found = development(rows.at(np.arange(160)), rows.at(np.arange(160, 200)), params, problem_of("binary"))
    assert [(fold.fitted[0], fold.fitted[-1]) for fold in found.folds] == [(18, 47), (68, 97), (118, 147)]
    assert [(fold.scored[0], fold.scored[-1]) for fold in found.folds] == [(50, 99), (100, 149), (150, 199)]


def test_rows_of_one_group_stay_in_one_fold() -> None:
    found = cut(**folds(kind="group", group="owner", folds=4))
    owner = found.whole.rows["owner"].to_numpy()
    for fold in found.folds:
        assert not set(owner[fold.fitted]) & set(owner[fold.scored])


def test_folds_in_time_fit_only_what_was_known_before_the_rows_that_they_score() -> None:
    found = cut(**folds(kind="time", folds=4))
    times = found.whole.rows["event_time"].to_numpy()
    for earlier, fold in zip([None, *found.folds], found.folds, strict=False):
        assert times[fold.fitted].max() < times[fold.scored].min() - 48 * HOUR  # the label's delay
        assert earlier is None or len(fold.fitted) > len(earlier.fitted)
    assert cut(**folds(kind="time", gap_hours=0)).folds[0].fitted.max() > found.folds[0].fitted.max() - 60


def with_late_labels(found: Development) -> LabelledRows:
    """The same rows; every tenth label became known 20 days after its row, the others at once."""
    times = found.whole.rows["event_time"].to_numpy()
    known = times + np.where(np.arange(len(times)) % 10 == 0, 20, 0) * 24 * HOUR
    return LabelledRows(found.whole.rows.append_column("label_known_at", pa.array(known)), found.whole.label)


@pytest.mark.parametrize("kind", ["time", "rolling"])
def test_folds_in_time_leave_out_labels_that_became_known_only_after_the_first_row_that_they_score(kind: str) -> None:
    asked = folds(kind=kind, folds=4, **({"training_days": 40} if kind == "rolling" else {}))
    plain = cut(600, **asked)
    whole, params = with_late_labels(plain), parse({**RAW, "train": {**RAW["train"], **asked}})
    found = development(whole, whole.at(np.arange(0)), params, problem_of("binary"))
    known = whole.rows["label_known_at"].to_numpy()
    for before, fold in zip(plain.folds, found.folds, strict=True):
        opens = whole.rows["event_time"].to_numpy()[fold.scored].min()
        assert fold.scored.tolist() == before.scored.tolist()
        assert fold.fitted.tolist() == before.fitted[known[before.fitted] <= opens].tolist()
        assert len(fold.fitted) < len(before.fitted)


def test_the_newest_rows_are_compared_on_by_a_fit_of_labels_that_could_be_relied_on_by_then() -> None:
    whole = with_late_labels(cut(600))
    fold = newest(whole, 0.2, parse(RAW))
    times, known = (whole.rows[name].to_numpy() for name in ("event_time", "label_known_at"))
    assert fold.scored.tolist() == list(range(480, 600))
    reliable = (times < times[480] - 48 * HOUR) & (known <= times[480])
    assert fold.fitted.tolist() == np.flatnonzero(reliable).tolist()
    undated = LabelledRows(whole.rows.drop_columns("label_known_at"), whole.label)
    assert len(newest(undated, 0.2, parse(RAW)).fitted) > len(fold.fitted), "a table of before says it by the delay"
    assert newest(whole.at(np.arange(0)), 0.2, parse(RAW)).fitted.tolist() == []


def test_the_newest_rows_of_one_moment_are_drawn_from_all_of_it() -> None:
    """Their order is that of their keys, such as folders of pictures by class."""
    rows = pa.table({"event_time": [np.datetime64("2024-01-31", "us")] * 200, "x": range(200)})
    whole = LabelledRows(rows, np.repeat([0, 1], 100))
    recent = whole.recent(40)
    assert 10 < recent.label.sum() < 30
    assert recent.rows["x"].to_pylist() == sorted(recent.rows["x"].to_pylist())
    fold = newest(whole, 0.2, parse(override(RAW, {"featurize.label.delay_hours": 0})))
    assert 10 < whole.label[fold.scored].sum() < 30
    assert sorted([*fold.fitted, *fold.scored]) == list(range(200))


def test_a_warm_start_of_windows_that_a_rule_divides_holds_back_the_newest_rows_of_both() -> None:
    """Then training and validation rows are of all times."""
    whole = cut(600).whole
    drawn = np.random.default_rng(0).random(600) < 0.2
    windows = (whole.at(np.flatnonzero(~drawn)), whole.at(np.flatnonzero(drawn)))
    since = whole.rows["event_time"][100].as_py().replace(tzinfo=UTC)
    new = _newer(*windows, since)
    times = new.rows["event_time"].to_numpy()
    assert times.tolist() == sorted(times)
    assert len(new) == (whole.rows["event_time"].to_numpy() >= times[0]).sum() >= 500
    label_of = dict(zip(whole.rows["x"].to_pylist(), whole.label, strict=True))
    assert [label_of[x] for x in new.rows["x"].to_pylist()] == new.label.tolist()
    fold = newest(new, 0.2, parse(RAW))
    assert times[fold.scored].min() > times[fold.fitted].max()
    assert len(fold.fitted) > 0.9 * (times < times[fold.scored].min() - 48 * HOUR).sum()


def test_a_warm_start_says_how_far_to_go_by_rows_whose_labels_the_fit_could_have_known(tmp_path: Path) -> None:
    whole = with_late_labels(cut(400))
    params = parse({**RAW, "train": {"learners": [{"name": "line", "kind": "sklearn.linear_model.SGDClassifier"}]}})
    spec = Spec("line", "sklearn.linear_model.SGDClassifier", ("x",), params={"loss": "log_loss"})
    champion = make(spec)
    champion.fit(whole.rows.slice(0, 100), whole.label[:100])
    (tmp_path / "m").mkdir()
    champion.save(tmp_path / "m")
    write_manifest(tmp_path / "m")
    seen_until = whole.rows["event_time"][100].as_py().replace(tzinfo=UTC)
    start = WarmStart(version="1", folder="m", model_digest="", seen_until=seen_until)

    def gone_on(rows: LabelledRows) -> int:
        return go_on(Context(tmp_path, params), [spec], start, rows, rows.at(np.arange(0)), opens=None).rows

    assert gone_on(whole) == 300
    never = pa.array(np.full(400, np.datetime64("2025-01-01", "us")))
    unknown = whole.rows.set_column(whole.rows.column_names.index("label_known_at"), "label_known_at", never)
    with pytest.raises(UserError, match="needs 20 new rows with labels that differ to learn from"):
        gone_on(LabelledRows(unknown, whole.label))


def test_a_warm_start_keeps_the_arguments_that_a_search_had_chosen(tmp_path: Path) -> None:
    line = {"name": "line", "kind": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss", "alpha": 1e-4}}
    searched = {**line, "search": {"alpha": {"choices": [1e-4, 0.1]}}}
    asked = Spec("line", str(line["kind"]), ("x",), params=line["params"])  # type: ignore[arg-type]
    whole, champion = cut(400).whole, make(replace(asked, params={"loss": "log_loss", "alpha": 0.1}))
    champion.fit(whole.rows.slice(0, 100), whole.label[:100])
    (tmp_path / "m").mkdir()
    champion.save(tmp_path / "m")
    seen_until = whole.rows["event_time"][100].as_py().replace(tzinfo=UTC)
    start = WarmStart(version="1", folder="m", model_digest="", seen_until=seen_until)

    def alpha(learner: dict[str, Any]) -> object:
        context = Context(tmp_path, parse({**RAW, "train": {"learners": [learner]}}))
        trained = go_on(context, [asked], start, whole, whole.at(np.arange(0)), opens=None)
        return trained.learner.spec.params["alpha"]

    assert alpha(searched) == 0.1
    with pytest.raises(UserError, match=r"goes on with what it has learned by alpha: 0.1; the params ask for 0.0001"):
        alpha(line)


FORECASTS: dict[str, Any] = {
    **RAW,
    "ingest": {
        "sources": {
            "s": {**RAW["ingest"]["sources"]["s"], "columns": {"id": "integer", "day": "date"}, "event_time": "day"},
            "ahead": {"kind": "forecasts", "forecast": {"of": "s", "step": "1d", "horizons": [1, 3]}},
        }
    },
    "featurize": {"label": {"source": "s", "column": "id", "delay_hours": 0}},
    "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 1.0}},
}


def forecasts(told_late: np.timedelta64, **train: Any) -> Development:
    """A row for each of 120 days and both horizons, whose outcome is told so long after its step."""
    times, ahead = np.repeat(np.datetime64("2024-01-01", "us") + 24 * HOUR * np.arange(120), 2), np.tile([1, 3], 120)
    known = times + ahead * 24 * HOUR + told_late
    rows = LabelledRows(pa.table({"event_time": times, "horizon": ahead, "label_known_at": known}), np.arange(240.0))
    params = parse({**FORECASTS, "train": {**RAW["train"], "task": "forecast", "metric": "mae", **train}})
    return development(rows.at(np.arange(200)), rows.at(np.arange(200, 240)), params, problem_of("regression"))


@pytest.mark.parametrize("late", [0, 10])
def test_folds_of_forecasts_fit_only_outcomes_that_were_told_before_the_rows_that_they_score(late: int) -> None:
    found = forecasts(late * 24 * HOUR, **folds(kind="time", folds=3))
    times, known = (found.whole.rows[name].to_numpy() for name in ("event_time", "label_known_at"))
    for fold in found.folds:
        assert known[fold.fitted].max() <= times[fold.scored].min()
        assert late == 0 or known[fold.fitted].max() == times[fold.scored].min(), "what is told just then is known"
        earlier = (times < times[fold.scored].min() - 3 * 24 * HOUR) & (known <= times[fold.scored].min())
        assert fold.fitted.tolist() == np.flatnonzero(earlier).tolist(), "the gap is the longest horizon; no fewer"


def test_folds_of_forecasts_are_in_time_where_no_kind_is_asked() -> None:
    params = parse({**FORECASTS, "train": {**RAW["train"], "task": "forecast", "metric": "mae", **folds(folds=4)}})
    assert params.train.cross_validation is not None
    assert params.train.cross_validation.kind == params.evaluate.cross_validation.kind == "time"


def test_a_rolling_origin_fits_a_span_of_fixed_length() -> None:
    found = cut(**folds(kind="rolling", folds=3, training_days=20))
    times = found.whole.rows["event_time"].to_numpy()
    for fold in found.folds:
        assert times[fold.fitted].max() - times[fold.fitted].min() <= 20 * 24 * HOUR


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            {"kind": "group", "group": "ownr"},
            r"no column 'ownr'; did you mean 'owner'\?; featurize.keep carries columns along that are no features",
        ),
        ({"kind": "kfold", "folds": 40}, "the scored rows of fold 1 of 40 are 8, 20 are the fewest to learn from"),
        ({"kind": "kfold", "folds": 400}, "300 rows cannot be cut so: "),
        ({"kind": "rolling", "training_days": 0.5}, "the fitted rows of fold 1 of 5 are"),
    ],
)
def test_folds_that_cannot_be_cut_are_the_users_mistake(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        cut(**folds(**asked))


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"kind": "group"}, "kind 'group' needs `group`"),
        ({"kind": "rolling"}, "kind 'rolling' needs `training_days`"),
        ({"kind": "kfold", "group": "owner"}, "group is for kind group, not 'kfold'"),
        ({"kind": "time", "repeats": 2}, "repeats is for kind kfold or stratified, not 'time'"),
    ],
)
def test_folds_that_contradict_themselves_are_refused_with_the_params(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        cut(**folds(**asked))


def test_rows_are_taken_by_place_by_name_and_from_the_end() -> None:
    rows = pa.table({"window": ["train", "test", "train", "test", "train"], "x": [0, 1, 2, 3, 4]})
    window = LabelledRows(rows, np.arange(5) * 10)

    def taken(some: LabelledRows) -> tuple[list[int], list[int]]:
        return some.rows["x"].to_pylist(), some.label.tolist()

    assert taken(window.named("test")) == ([1, 3], [10, 30])
    assert taken(window.named("nothing")) == ([], [])
    assert taken(window.at(np.array([1, 2, 3]))) == ([1, 2, 3], [10, 20, 30])
    assert taken(window.at(np.array([0, 2, 3]))) == ([0, 2, 3], [0, 20, 30])
    assert taken(window.at(np.array([4]))) == ([4], [40])
    assert taken(window.recent(2)) == ([3, 4], [30, 40])
    assert taken(window.recent(9)) == taken(window)


def test_a_fold_gives_the_rows_to_fit_and_those_to_score_and_the_unseen_are_all_that_were_scored() -> None:
    whole = LabelledRows(pa.table({"x": [0, 1, 2, 3, 4, 5]}), np.arange(6))
    first, second = Fold(np.array([0, 1]), np.array([2, 4])), Fold(np.array([0, 1, 2]), np.array([4, 5]))
    found = Development(whole, (first, second))
    fitted, scored = found.windows(first)
    assert (fitted.label.tolist(), scored.label.tolist()) == ([0, 1], [2, 4])
    assert found.unseen.tolist() == [2, 4, 5]


def test_the_digest_of_a_table_is_of_its_values_whatever_its_chunks() -> None:
    table = pa.table({"x": [1, 2, 3], "y": ["a", "b", None]})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert content(table) == content(chunked)
    assert len(content(table)) == 64
    others = [table.slice(1), table.rename_columns(["x", "z"]), table.set_column(0, "x", pa.array([1, 2, 4]))]
    assert len({content(each) for each in (table, *others)}) == 4


@pytest.mark.parametrize("kind", ["time", "rolling"])
def test_no_fold_in_time_learns_a_label_that_was_known_only_after_one_of_its_predictions(kind: str) -> None:
    """Each row is predicted three days before its event, when its label is known; no gap is asked for."""
    asked = folds(kind=kind, folds=4, gap_hours=0, **({"training_days": 40} if kind == "rolling" else {}))
    whole, params = cut(600).whole, parse({**RAW, "train": {**RAW["train"], **asked}})
    times = whole.rows["event_time"].to_numpy()
    moments = {"label_known_at": times, "prediction_time": times - 72 * HOUR}
    rows = whole.rows
    for name, values in moments.items():
        rows = rows.append_column(name, pa.array(values))
    ahead = LabelledRows(rows, whole.label)
    none = ahead.at(np.arange(0))
    for fold in (*development(ahead, none, params, problem_of("binary")).folds, newest(ahead, 0.2, params)):
        first = moments["prediction_time"][fold.scored].min()
        assert times[fold.fitted].max() <= first
        assert times[fold.fitted].max() > first - 72 * HOUR, "and not much less than it may"


def test_a_row_without_a_prediction_time_counts_as_predicted_at_its_event() -> None:
    times = np.datetime64("2024-01-01", "us") + HOUR * np.arange(3)
    predicted = pa.array([None, times[0], None], pa.timestamp("us"))
    rows = LabelledRows(pa.table({"event_time": times, "prediction_time": predicted}), np.arange(3))
    assert [rows.first_prediction(np.array([n])) for n in range(3)] == [times[0], times[0], times[2]]


def test_folds_in_time_whose_edges_fall_on_one_moment_are_the_users_mistake() -> None:
    days = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(3) * np.timedelta64(1, "D"), [200, 100, 60])
    rows = LabelledRows(pa.table({"event_time": days, "x": np.arange(360.0)}), np.arange(360) % 2)
    params = parse({**RAW, "train": {**RAW["train"], **folds(kind="time", folds=5)}})
    with pytest.raises(UserError, match="the fitted rows of fold 1 of 5 are 0"):
        development(rows.at(np.arange(300)), rows.at(np.arange(300, 360)), params, problem_of("binary"))
