"""Association rules: which there are, what they recommend, how they are judged, and baskets that say nothing."""

from __future__ import annotations

import os
import sys
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.evaluation.details.association import details
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.gate.comparison import Sample
from refit.learners import Spec, load, make
from refit.metrics.clusters import Clusters
from refit.problems import problem_of
from refit.problems.association import TOP, Association, left_out

pytest.importorskip("mlxtend", reason="needs the extra [baskets]")
from refit.learners.baskets import FPGrowth  # after the check

SHARED = Path(os.environ.get("REFIT_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared/data"))
GROCERIES = SHARED / "groceries/groceries.csv"


def baskets(rows: int = 400, seed: int = 0) -> pa.Table:
    """Bread goes with butter, tea with lemon; the rest are chance."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(rows):
        items = {*random.choice(["milk", "eggs", "rice", "soap", "salt", "figs", "beer"], 2).tolist()}
        items |= {"bread", "butter"} if random.random() < 0.3 else set()
        items |= {"tea", "lemon"} if random.random() < 0.2 else set()
        lines.append(",".join(sorted(items)))
    return pa.table({"items": lines})


def fitted(rows: pa.Table | None = None, **params: Any) -> FPGrowth:
    spec = Spec("it", "fp_growth", ("items",), params=params, metric="hit_rate", task="association")
    learner, table = make(spec), baskets() if rows is None else rows
    learner.fit(table, np.zeros(len(table), dtype=np.int64))
    assert isinstance(learner, FPGrowth)
    return learner


def test_rules_are_found_recommend_what_they_add_and_come_back_from_their_file(tmp_path: Path) -> None:
    learner, new = fitted(min_support=0.1, min_confidence=0.8), baskets(300, seed=1)
    assert (("butter",), "bread") in [(rule.items, rule.adds) for rule in learner.rules]
    assert learner.recommended(("butter", "salt"))[0] == "bread"
    assert len(learner.recommended(())) == TOP
    assert "butter" not in learner.recommended(("butter",))
    assert learner.recommendations(pa.table({"items": ["tea, salt", None]}))[0].startswith("lemon,")
    problem, predicted = Association(), learner.predict(new)
    assert problem.check_predictions(predicted, 300) == ""
    naive = problem.naive(np.zeros(400), "hit_rate", baskets())
    labels = np.zeros(300)
    ours, popular = (problem.score("hit_rate", labels, p) for p in (predicted, problem.guess_for(new, naive)))
    assert ours > popular + 0.1
    assert problem.score("rule_confidence", labels, predicted) > 0.9
    assert problem.score("rule_lift", labels, predicted) > 2
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(new), predicted)
    assert again.digest() == learner.digest() == fitted(min_support=0.1, min_confidence=0.8).digest()


def test_mining_leaves_the_warnings_of_other_libraries_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mlxtend.")]:
        monkeypatch.delitem(sys.modules, name)
    before = list(warnings.filters)
    fitted()
    assert "mlxtend.frequent_patterns.fpcommon" in sys.modules, (
        "it asks Python for all deprecations when it is imported"
    )
    assert list(warnings.filters) == before


def test_the_item_that_is_left_out_depends_on_the_basket_alone_and_any_may_be() -> None:
    assert left_out(("a", "b", "c")) == left_out(("a", "b", "c"))
    places = Counter(int(left_out(tuple(f"{n} {m}" for m in range(4)))[0].split()[1]) for n in range(400))
    assert min(places.values()) > 60
    assert set(places) == {0, 1, 2, 3}


def test_empty_baskets_and_those_of_one_item_count_neither_for_nor_against() -> None:
    problem, learner = problem_of("association"), fitted(min_support=0.1)
    rows = pa.table({"items": ["bread,butter", "", None, "milk", " , "]})
    predicted = learner.predict(rows)
    assert predicted[:, 1].tolist() == [1, 0, 0, 0, 0]
    assert problem.check_predictions(predicted, 5) == ""
    assert learner.predict(rows.slice(0, 0)).shape == (0, 5)


@pytest.mark.skipif(not GROCERIES.is_file(), reason="REFIT_SHARED_DATA has no groceries")
def test_the_groceries_have_exactly_the_463_rules_that_are_known_of_them() -> None:
    learner = fitted(pa.table({"items": GROCERIES.read_text().splitlines()}), min_support=0.006, min_confidence=0.25)
    assert Counter(len(rule.items) + 1 for rule in learner.rules) == {2: 150, 3: 297, 4: 16}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"items": ["milk", "", None]}, "no basket of 3 has two items or more, divided by ','"),
        ({"items": ["a,b"], "price": [2.0]}, "a basket is one text of items, and there are 2 features"),
        ({"price": [2.0]}, "a basket is one text of items, and there are 1 features"),
    ],
)
def test_baskets_that_say_nothing_are_refused_in_a_line(rows: dict[str, Any], said: str) -> None:
    assert problem_of("association").unusable(pa.table(rows)).startswith(said)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"min_suport": 0.1}, "did you mean 'min_support'"),
        ({"min_support": 2}, r"should be less than or equal to 1; found 2 \(.*params\.min_support\)"),
        ({"min_confidence": 0}, r"should be greater than 0; found 0 \(.*params\.min_confidence\)"),
        ({"max_items": 2.5}, r"should be a valid integer; found 2\.5 \(.*params\.max_items\)"),
        ({"max_items": 0}, "should be greater than or equal to 2; found 0"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_in_a_line(params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        fitted(**params)


def test_no_rule_at_all_is_a_warning_and_recommends_the_most_frequent_items() -> None:
    spec = Spec("it", "fp_growth", ("items",), params={"min_support": 0.9}, metric="hit_rate", task="association")
    learner = make(spec)
    report = learner.fit(baskets(), np.zeros(400, dtype=np.int64))
    assert report.warnings == ("no rule is that frequent and sure: it recommends the most frequent items",)
    problem = problem_of("association")
    naive = problem.naive(np.zeros(400), "hit_rate", baskets())
    np.testing.assert_array_equal(learner.predict(baskets())[:, :2], problem.guess_for(baskets(), naive)[:, :2])


def with_rare_items(rows: pa.Table, each: int) -> pa.Table:
    """The same baskets, with items that no other basket has."""
    lines = [
        ",".join([line, *(f"rare {row} {number}" for number in range(each))])
        for row, line in enumerate(rows["items"].to_pylist())
    ]
    return pa.table({"items": lines})


def peak_of(call: Callable[[], Any]) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_rare_items_change_no_rule_and_take_no_memory() -> None:
    rows = baskets(3_000)
    usual = fitted(rows, min_support=0.05)
    rare = with_rare_items(rows, 15)
    learner, peak = peak_of(lambda: fitted(rare, min_support=0.05))
    assert learner.rules == usual.rules
    assert peak < 60e6, "a table of 3,000 baskets and 45,000 items has 135 MB"
    labels = np.zeros(3_000, dtype=np.int64)
    clusters = Clusters.rows(3_000)
    test = Holdout(rare, labels, np.array([]), Sample(labels, clusters, Association()), Association())
    measured, peak = peak_of(lambda: details(test, Scored({}, {}, {}, candidate=learner), 0.95))
    assert len(measured.rules) == len(usual.rules) > 0
    assert peak < 60e6
    sets = [set(basket) for basket in Association().baskets(rare)]
    for rule in measured.rules:
        applies = [basket for basket in sets if basket.issuperset(rule.items)]
        assert rule.baskets == len(applies)
        assert rule.test.confidence == pytest.approx(np.mean([rule.adds in basket for basket in applies]))


def test_a_rule_of_an_item_that_no_test_basket_has_applies_to_none() -> None:
    learner = fitted(min_support=0.1)
    rows, labels = pa.table({"items": ["soap,salt"] * 5}), np.zeros(5, dtype=np.int64)
    sample = Sample(labels, Clusters.rows(5), Association())
    measured = details(
        Holdout(rows, labels, np.array([]), sample, Association()), Scored({}, {}, {}, candidate=learner), 0.95
    )
    assert measured.rules
    assert {(rule.baskets, rule.test.confidence, rule.test.lift) for rule in measured.rules} == {(0, None, None)}
