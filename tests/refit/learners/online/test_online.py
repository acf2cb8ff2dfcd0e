"""A learner of a stream: in order, once, never before a label is known, and the same after any interruption."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from quick import quick

from refit.errors import RefitError, UserError
from refit.learners import Spec, load, make, update
from refit.learners.conformance import RULES, Broken, Subject, check
from refit.learners.conformance.sample import CATEGORICAL, FEATURES
from refit.learners.online import step_errors
from refit.learners.online.learner import Online
from refit.learners.online.step_errors import Record
from refit.learners.online.stream_times import Moments
from refit.schemas.online_state import Position

HOUR = 3_600_000_000
SGD = {"kind": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss"}}
KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "linear": ("binary", {}),
    "linear of classes": ("multiclass", {"params": {"learning_rate": 0.2}}),
    "linear of numbers": ("regression", {}),
    "partial_fit": ("binary", SGD),
    "partial_fit of classes": ("multiclass", {"kind": "sklearn.naive_bayes.GaussianNB"}),
    "partial_fit of numbers": ("regression", {"kind": "sklearn.linear_model.SGDRegressor"}),
    "forest of river, watched": (
        "binary",
        {"kind": "river.forest.ARFClassifier", "params": {"n_models": 3}, "detectors": ["adwin", "page_hinkley"]},
    ),
    "tree of river": ("multiclass", {"kind": "river.tree.HoeffdingTreeClassifier"}),
    "linear of river": ("regression", {"kind": "river.linear_model.LinearRegression", "scale": True}),
}
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}


def spec_of(params: Mapping[str, Any], task: str = "binary", features: tuple[str, ...] = ("x", "z")) -> Spec:
    return Spec("stream", "online", features, params=params, task=task, metric=METRICS[task])


def stream(rows: int, *, delay_hours: int = 1, seed: int = 0, first: int = 0) -> tuple[pa.Table, Any]:
    """Hourly rows whose label follows x until the middle, and the opposite after it."""
    chance = np.random.default_rng(seed)
    x, z = chance.normal(size=(2, rows))
    label = (np.where(np.arange(rows) < rows // 2, x, -x) + chance.normal(scale=0.3, size=rows) > 0).astype(np.int64)
    at = (first + np.arange(rows)) * HOUR

    def times(values: Any) -> pa.Array:
        return pa.array(values, pa.timestamp("us", tz="UTC"))

    columns = {"event_time": times(at), "prediction_time": times(at), "label_known_at": times(at + delay_hours * HOUR)}
    return pa.table({"x": x, "z": z, **columns}), label


def learned(params: Mapping[str, Any], table: pa.Table, label: Any, task: str = "binary") -> Online:
    learner = make(spec_of(params, task))
    learner.fit(table, label)
    assert isinstance(learner, Online)
    return learner


QUICK = ("linear",)


@pytest.mark.ci
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in KINDS]
)
def test_it_keeps_every_rule_of_the_contract(name: str) -> None:
    task, params = KINDS[name]
    if "river" in name:
        pytest.importorskip("river", reason="needs the extra [online]")
    spec = replace(spec_of(params, task, FEATURES), categorical=CATEGORICAL)
    broken = [(each.rule, each.said) for each in check(spec) if each.outcome == "failed"]
    assert broken == []


OF_BATCHES = """
import numpy as np
from refit.learners import Declaration
class Mean:
    declaration = Declaration(order=True, safe_format="json")
    def __init__(self, spec): pass
    def fit(self, train, label, **named): self.mean = float(label.mean())
    def update(self, rows, label): self.mean = 0.9 * self.mean + 0.1 * float(label.mean())
    def predict(self, table): return np.full(len(table), self.mean)
    def save(self, folder): (folder / "mean").write_text(self.mean.hex())
    @classmethod
    def load(cls, folder, spec):
        learner = cls(spec)
        learner.mean = float.fromhex((folder / "mean").read_text())
        return learner
"""


def test_a_learner_of_a_stream_that_learns_by_batches_breaks_a_rule() -> None:
    rule = next(each for each in RULES if each.name == "it goes on where it says so")
    kind, by_row = "mean.py:Mean", ("rows, label): ", "rows, labels):\n        for label in labels: ")

    def subject(source: str) -> Subject:
        return Subject(Spec("it", kind, FEATURES, CATEGORICAL, trusted_types=(kind,), source=source))

    with pytest.raises(Broken, match="a stream in two batches gave another model than in one"):
        rule.keep(subject(OF_BATCHES))
    rule.keep(subject(OF_BATCHES.replace(*by_row)))


def test_a_step_is_predicted_by_the_labels_known_at_its_time_alone() -> None:
    table, label = stream(120, delay_hours=7)
    changed = label.copy()
    changed[50] = 1 - changed[50]
    first, second = (Online(spec_of({}))._started(table)._learn(table, each, print) for each in (label, changed))
    differs = np.flatnonzero(first != second)
    assert differs.min() == 57, "row 50 is known seven hours later, when row 57 is predicted, and not before"


def test_no_change_is_the_newest_label_that_was_known() -> None:
    table, label = stream(60, delay_hours=3)
    moments = Moments.of(table)
    before = moments.learned_before(60)
    wrong = step_errors.no_change_errors(make(spec_of({})).spec.problem, label, before, None)
    expected = [float((label[row - 3] if row >= 3 else 0) != label[row]) for row in range(60)]
    assert wrong.tolist() == expected


def test_a_label_that_never_becomes_known_is_used_by_no_step() -> None:
    table, _ = stream(30)
    known = table["label_known_at"].to_pylist()
    known[10] = None
    place = table.column_names.index("label_known_at")
    table = table.set_column(place, "label_known_at", pa.array(known, table["label_known_at"].type))
    assert Moments.of(table).learned_before(30).tolist() == [*range(11), *[10] * 19]
    assert learned({}, table, stream(30)[1]).position.known_until == known[29]


def test_a_stored_learner_goes_on_through_test_rows_without_importing_the_class_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, label = stream(120)
    learner = learned(SGD, table.slice(0, 60), label[:60])
    learner.save(tmp_path)
    stored = load(tmp_path)
    assert isinstance(stored, Online)
    monkeypatch.setattr("refit.learners.online.partial_fit.build", None)
    predicted, after = stored.prequential(table.slice(60), label[60:])
    assert np.isfinite(predicted).all()
    assert (after.position.steps, stored.position.steps) == (120, 60)


def test_a_label_that_is_known_late_holds_up_those_after_it() -> None:
    hours = np.arange(6) * HOUR
    known = hours + np.array([1, 4, 1, 1, 1, 1]) * HOUR
    assert Moments(hours, hours, known).learned_before(6).tolist() == [0, 1, 1, 1, 1, 5]


def test_what_it_says_of_its_errors_is_what_they_were() -> None:
    table, label = stream(1_234, delay_hours=2)
    learner = Online(spec_of({}))._started(table)
    predicted = learner._learn(table, label, print)
    steps, errors, chance = step_errors.totals(learner.record.blocks)
    assert (steps, errors) == (1_234, ((predicted >= 0.5) != label).sum())
    assert chance == (np.concatenate([[0, 0], label[:-2]]) != label).sum()


def test_blocks_stay_few_however_long_the_stream() -> None:
    record = Record()
    for step in range(200_000):
        record.add(step, (1.0, 0.5, 0.0))
    assert 200 <= len(record.blocks) <= 401
    assert step_errors.totals(record.blocks) == (200_000, 200_000.0, 0.0)
    assert len({block.steps for block in record.blocks[:-1]}) == 1


@pytest.mark.parametrize("rows", [0, 1, 49, 50, 51, 19_999, 20_000, 20_001, 20_100, 24_999])
def test_a_record_goes_on_from_its_state(rows: int) -> None:
    whole, half = Record(), Record()
    for step in range(rows):
        half.add(step, (step % 3, step % 5, step % 2))
    after = Record.restored(half.state(Position(steps=rows)))
    for step in range(30_000):
        whole.add(step, (step % 3, step % 5, step % 2))
        if step >= rows:
            after.add(step, (step % 3, step % 5, step % 2))
    assert after == whole


@pytest.mark.ci
@pytest.mark.parametrize("name", quick(["linear", "partial_fit", "forest of river, watched"], 0, 1))
def test_two_runs_give_the_state_of_one_and_no_row_is_learned_twice(name: str, tmp_path: Path) -> None:
    _, params = KINDS[name]
    if "river" in name:
        pytest.importorskip("river", reason="needs the extra [online]")
    table, label = stream(500)
    whole, half = learned(params, table, label), learned(params, table.slice(0, 200), label[:200])
    half.save(tmp_path)
    stored = load(tmp_path)
    after = update(stored, [(table.slice(200, 100), label[200:300]), (table.slice(300), label[300:])])
    assert isinstance(after, Online)
    assert after.digest() == whole.digest()
    assert after.record == whole.record
    assert np.array_equal(after.predict(table), whole.predict(table))
    assert (after.position.steps, after.position.digest) == (500, whole.position.digest)
    with pytest.raises(UserError, match="has learned 200 rows up to 1970-01-09 07:00:00 and learns no row twice"):
        update(stored, [(table.slice(199), label[199:])])


def test_with_a_longer_delay_two_runs_give_the_model_of_one_and_judge_fewer_steps() -> None:
    table, label = stream(500, delay_hours=7)
    whole, half = learned({}, table, label), learned({}, table.slice(0, 200), label[:200])
    after = update(half, [(table.slice(200), label[200:])])
    assert isinstance(after, Online)
    assert after.digest() == whole.digest()
    judged = [step_errors.totals(each.record.blocks)[0] for each in (whole, after)]
    assert judged == [500, 500 - 6]


def test_a_later_run_judges_no_step_by_labels_that_were_unknown_at_its_time() -> None:
    table, label = stream(300, delay_hours=24)
    before = learned({}, table.slice(0, 200), label[:200])
    after = update(before, [(table.slice(200), label[200:])])
    assert isinstance(after, Online)
    assert step_errors.totals(after.record.blocks)[0] == 300 - 23, "a day of steps was predicted before the run's start"


@pytest.mark.ci
def test_alarms_come_after_the_stream_has_turned_and_are_stored(tmp_path: Path) -> None:
    pytest.importorskip("river", reason="needs the extra [online]")
    table, label = stream(4_000)
    learner = learned({"params": {"learning_rate": 0.02}, "detectors": ["adwin", "page_hinkley"]}, table, label)
    first = {name: min(each.step for each in learner.record.alarms if each.detector == name) for name in DETECTORS}
    assert all(2_000 < step < 2_400 for step in first.values()), first
    learner.save(tmp_path)
    stored = load(tmp_path)
    assert isinstance(stored, Online)
    assert stored.record.alarms == learner.record.alarms


DETECTORS = ("ADWIN", "PageHinkley")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"knd": "linear"}, "has no argument 'knd'; did you mean 'kind'"),
        ({"params": {"learning_rat": 1}}, "has no argument 'learning_rat'; did you mean 'learning_rate'"),
        ({"params": {"learning_rate": 0}}, r"should be greater than 0; found 0 \(.*params\.learning_rate\)"),
        ({"kind": "sklearn.linear_model.LogisticRegression"}, "has no partial_fit, so it cannot learn row by row"),
        ({"kind": "river.forest.ARFClasifier"}, "river has no 'river.forest.ARFClasifier'; did you mean"),
        ({"kind": "river.forest.ARFClassifier", "params": {"models": 3}}, "has no argument 'models'"),
        ({"kind": "river.forest.ARFRegressor"}, "is no classifier; train.task is 'binary'"),
        ({"detectors": ["adwn"]}, "detector 'adwn' is unknown; did you mean 'adwin'"),
        ({"detectors": "adwin"}, r"should be a valid list; found 'adwin' \(.*params\.detectors\)"),
    ],
)
def test_a_wrong_argument_is_named(params: Mapping[str, Any], said: str) -> None:
    if "river" in str(params) or "ad" in str(params):
        pytest.importorskip("river", reason="needs the extra [online]")
    with pytest.raises(UserError, match=said):
        make(spec_of(params))


def test_rows_out_of_order_are_refused() -> None:
    table, label = stream(50)
    order = [*range(20), 30, *range(20, 30), *range(31, 50)]
    with pytest.raises(UserError, match="reads rows in order of time; row 21 of 1970-01-01 20:00:00 comes after"):
        learned({}, table.take(order), label[order])


def test_a_state_of_other_arguments_does_not_go_on() -> None:
    table, label = stream(200)
    before = learned({}, table.slice(0, 100), label[:100])
    after = make(spec_of(SGD))
    with pytest.raises(UserError, match="goes on with a stored state of kind 'linear'; the params ask for"):
        after.resume(before, table.slice(100), label[100:])


def test_gaps_and_new_categories_of_later_rows_count_as_missing() -> None:
    table, label = stream(200)
    places = pa.array(["a", "b"] * 100)
    table = table.append_column("place", places)
    learner = make(replace(spec_of({}, features=("x", "z", "place")), categorical=frozenset({"place"})))
    learner.fit(table.slice(0, 100), label[:100])
    later = table.slice(100).set_column(0, "x", pa.nulls(100, pa.float64()))
    unseen = later.set_column(5, "place", pa.array(["c"] * 100))
    missing = later.set_column(5, "place", pa.nulls(100, pa.string()))
    digests = [update(learner, [(rows, label[100:])]).digest() for rows in (unseen, missing)]
    assert digests[0] == digests[1]


def test_without_river_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(UserError) as raised:
        make(spec_of({"kind": "river.forest.ARFClassifier"}))
    assert "needs river, which is not installed: uv pip install -c constraints.txt -e '.[online]'" in str(raised.value)
    assert learned({}, *stream(40)).position.steps == 40, "Refit's own needs none"


@pytest.mark.parametrize(
    "content",
    [
        {"object": "os:system", "arguments": ["true"], "called": True},
        {"class": "subprocess:Popen"},
        {"object": "river.base.base:inspect.Signature", "called": True},
        {"object": "list", "called": True},
        {"method": "system", "of": {"object": "os:path"}},
        {"partial": "builtins:eval", "arguments": ["1"], "named": []},
        {"ref": 7},
        {"function": "os:system"},
    ],
)
def test_a_state_can_name_nothing_but_classes_of_river(content: Any) -> None:
    pytest.importorskip("river", reason="needs the extra [online]")
    from refit.learners.online import river_json

    with pytest.raises(RefitError, match="is no state of a river model"):
        river_json.decode(content)


def test_a_model_of_river_that_json_cannot_hold_is_compared_and_never_stored() -> None:
    pytest.importorskip("river", reason="needs the extra [online]")
    learner = learned({"kind": "river.naive_bayes.GaussianNB"}, *stream(100))
    assert "cannot be stored as JSON: it holds a builtins.function" in str(learner.unsafe_reason())
