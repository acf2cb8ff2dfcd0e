"""A model for each value of a category: of its own rows alone, and the same bits whoever fits it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from refit.errors import RefitError, UserError
from refit.learners import Labels, Spec, load, make
from refit.learners.fit_workers import fitting_with
from refit.learners.group_fits import LabelledGroups
from refit.learners.per_group import PerGroup, TooFewGroups
from refit.learners.quantiles import quantile_of
from refit.runtime.workers import StartWorkers, Workers, processes
from refit.schemas.training import GroupModel, GroupModels

BOOSTING = {"kind": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 30}}
LOGISTIC = {"kind": "sklearn.linear_model.LogisticRegression"}
SIZES = {"north": 300, "south": 200, "west": 100, "tiny": 10}


def rows(sizes: dict[str, int] = SIZES, *, seed: int = 0) -> tuple[pa.Table, Labels]:
    """Shops in which the label depends on x in other ways; a shop's rows do not depend on the other shops."""
    tables, labels = [], []
    for shop, count in sizes.items():
        random = np.random.default_rng([seed, *shop.encode()])
        x, noise = random.normal(size=count), random.normal(size=count)
        slope = {"north": 2.0, "south": -2.0}.get(shop, 0.5)
        tables.append(pa.table({"shop": [shop] * count, "x": x, "noise": noise, "event_time": np.arange(count)}))
        labels.append((slope * x + random.normal(size=count) > 0).astype(np.int64))
    table, label = pa.concat_tables(tables), np.concatenate(labels)
    order = np.argsort(table["event_time"].to_numpy(), kind="stable")
    return table.take(order), label[order]


def spec(**params: Any) -> Spec:
    asked = {"by": "shop", "min_rows": 50, **(params or LOGISTIC)}
    return Spec("shops", "per_group", ("shop", "x", "noise"), frozenset({"shop"}), params=asked)


def fitted(table: pa.Table, label: Labels, asked: Spec | None = None, **named: Any) -> PerGroup:
    learner = make(asked or spec())
    assert isinstance(learner, PerGroup)
    learner.fit(table, label, **named)
    return learner


def test_small_unseen_and_missing_values_are_predicted_by_the_model_of_all_rows() -> None:
    learner = fitted(*rows())
    assert [*learner.models] == ["north", "south", "west"]
    assert (learner.stored.pooled_values, learner.stored.pooled_rows) == (1, 10)
    asked = pa.table({"shop": ["tiny", "moon", None, "south"], "x": [1.0] * 4, "noise": [0.0] * 4})
    predicted = learner.predict(asked)
    assert np.array_equal(predicted[:3], learner.inner.predict(asked.slice(0, 3)))
    assert predicted[3] < 0.2 < 0.8 < learner.predict(asked.set_column(0, "shop", pa.array(["north"] * 4)))[0]


def test_another_value_changes_no_other_values_model() -> None:
    asked = spec(kind="sklearn.ensemble.RandomForestClassifier", params={"n_estimators": 3})
    before, after = fitted(*rows(), asked), fitted(*rows({"east": 120} | SIZES), asked)
    assert [*after.models] == ["east", "north", "south", "west"]
    assert {value: after.models[value].digest() for value in before.models} == {
        value: model.digest() for value, model in before.models.items()
    }
    assert len({model.spec.seed for model in after.models.values()}) == 4, "each draws for itself"
    assert fitted(*rows(), replace(asked, seed=1)).models["west"].spec.seed != before.models["west"].spec.seed


def test_each_model_has_the_iterations_that_its_newest_rows_choose_and_is_fitted_to_all_of_its_rows() -> None:
    table, label = rows()
    learner = fitted(table, label, spec(**BOOSTING))
    for value, model in learner.models.items():
        own = np.flatnonzero(np.array(table["shop"].to_pylist()) == value)
        older, newest = np.split(own, [len(own) - round(len(own) * 0.2)])
        search, direct = make(model.spec), make(model.spec)
        report = search.fit(table.take(older), label[older], validation=(table.take(newest), label[newest]))
        direct.fit(table.take(own), label[own], iterations=report.iterations)
        assert model.digest() == direct.digest()


def killing_one(folder: Path, killed: list[int]) -> StartWorkers:
    """Processes of which one is killed once a model was handed over."""

    @contextmanager
    def start(count: int) -> Iterator[Workers]:
        with processes(count) as workers:

            def kill() -> None:
                while not [*folder.glob("*/*/model/manifest.json")]:
                    time.sleep(0.001)
                process = next(iter(workers._pool._processes.values()))  # type: ignore[attr-defined]
                process.kill()
                killed.append(process.pid)

            threading.Thread(target=kill, daemon=True).start()
            yield workers

    return start


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_workers_fit_the_models_of_one_also_if_one_is_killed(tmp_path: Path, count: int) -> None:
    table, label = rows()
    alone, killed, counts = fitted(table, label, spec(**BOOSTING)), list[int](), list[Any]()
    with fitting_with(killing_one(tmp_path, killed), count, tmp_path, large=1000):
        several = fitted(table, label, spec(**BOOSTING), progress=lambda *said: counts.append(said))
        again = fitted(table, label, spec(**BOOSTING))
    assert killed
    assert several.digest() == again.digest() == alone.digest()
    assert np.array_equal(several.predict(table), alone.predict(table))
    assert [*dict.fromkeys(counts)] == [("fitting the models of shops", done, 4) for done in (1, 2, 3, 4)]
    assert not [*tmp_path.iterdir()], "rows and models on their way are gone"


def test_workers_are_given_the_rows_of_their_group_and_only_features(tmp_path: Path) -> None:
    given = []

    class Here:
        threads = 1

        def map(self, function: Any, parts: Any, done: Any) -> list[Any]:
            for part in parts:
                with pa.memory_map(str(part.folder / "rows.arrow")) as file:
                    given.append(pa.ipc.open_file(file).read_all())
            return [function(part) for part in parts]

    @contextmanager
    def here(count: int) -> Iterator[Workers]:
        yield Here()

    table, label = rows()
    with fitting_with(here, 2, tmp_path, large=1000):
        learner = fitted(table.append_column("secret", table["x"]), label, spec(**BOOSTING))
    assert learner.digest() == fitted(table, label, spec(**BOOSTING)).digest()
    assert [set(each["shop"].to_pylist()) for each in given] == [{*SIZES}, {"north"}, {"south"}]
    assert {*given[0].column_names} == {"shop", "x", "noise", "event_time"}


def test_models_that_cannot_be_stored_are_fitted_in_this_process(tmp_path: Path) -> None:
    def never(count: int) -> Any:
        raise AssertionError("workers hand models over in files")

    kernel = {"kind": "sklearn.gaussian_process.kernels.PairwiseKernel"}
    params = {"kernel": kernel, "max_iter_predict": 5, "optimizer": None}
    asked = spec(kind="sklearn.gaussian_process.GaussianProcessClassifier", params=params)
    with fitting_with(never, 2, tmp_path, large=1000):
        learner = fitted(*rows({"north": 60, "south": 60}), asked)
    assert "not trusted" in str(learner.unsafe_reason())


def test_stored_it_names_no_folder_after_a_value(tmp_path: Path) -> None:
    table, label = rows({"../x": 60, "a/b": 60})
    learner = fitted(table, label)
    learner.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["inner", "model-00000", "model-00001"]
    assert np.array_equal(load(tmp_path).predict(table), learner.predict(table))


def test_a_quantile_is_asked_of_each_model() -> None:
    table, _ = rows()
    regressor = {"kind": "sklearn.linear_model.QuantileRegressor", "params": {"alpha": 0.0}}
    asked = quantile_of(replace(spec(**regressor), task="regression"), 0.9)
    numbers = table["noise"].to_numpy()
    learner = fitted(table, numbers, replace(asked, features=("shop", "x")))
    assert (numbers <= learner.predict(table)).mean() == pytest.approx(0.9, abs=0.03)


def test_a_champion_is_not_gone_on_with() -> None:
    table, label = rows()
    with pytest.raises(UserError, match=r"does not go on; set train\.warm_start: null"):
        make(spec()).resume(fitted(table, label), table, label)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({**LOGISTIC, "by": "shops"}, "needs `by`, a category among its features; found 'shops'; did you mean 'shop'"),
        ({**LOGISTIC, "by": "x"}, "needs `by`, a category among its features; 'x' is none: declare its column as text"),
        ({**LOGISTIC, "by": ["shop", "x"]}, r"needs `by`, a category among its features; found \['shop', 'x'\]"),
        ({**LOGISTIC, "by": "note"}, "needs `by`, a category among its features; 'note' is free text "),
        ({**LOGISTIC, "params": None}, "params of what it fits are arguments by name; found None"),
        ({**LOGISTIC, "params": 3}, "params of what it fits are arguments by name; found 3"),
        (LOGISTIC | {"by": None}, "needs `by`, a category among its features; found None"),
        ({"min_rows": 50}, "needs `kind`: the learner that it fits"),
        ({**LOGISTIC, "min_rows": 3}, "min_rows is a number of rows from 20 on; found 3"),
        ({**LOGISTIC, "min_row": 30}, "takes no 'min_row'; did you mean 'min_rows'"),
        (
            {"kind": "sklearn.linear_model.LogistcRegression"},
            r"did you mean 'sklearn.linear_model.LogisticRegression'\? .*params\.kind",
        ),
        ({**LOGISTIC, "params": {"c": 1}}, "has no argument 'c'"),
        ({"kind": "online"}, "'online' learns a stream, which cannot be divided"),
        ({"kind": "sklearn.cluster.KMeans"}, "KMeans"),
        ({"kind": "label_spreading"}, "learns from rows without a label"),
        ({"kind": "per_group", "params": {**LOGISTIC, "by": "shop"}}, "'per_group' within 'per_group'"),
    ],
)
def test_params_that_do_not_fit_are_refused_in_one_line(params: dict[str, Any], words: str) -> None:
    asked = spec(**params)
    with pytest.raises(UserError, match=words) as raised:
        if params.get("by") == "note":
            words_of = {"kind": "sklearn.feature_extraction.text.TfidfVectorizer", "params": {}}
            asked = replace(asked, features=("note", *asked.features), text=("note",), vectoriser=words_of)
        make(asked)
    assert "\n" not in str(raised.value)


def test_other_meta_learners_are_not_around_it_and_check_their_params_too() -> None:
    params = {"level": "x", "kind": "per_group", "params": {"by": "shop", **LOGISTIC}}
    outer = replace(spec(), kind="relative", task="regression", params=params)
    with pytest.raises(UserError, match="'per_group' within 'relative': only the outermost can be that one"):
        make(outer)
    with pytest.raises(UserError, match="params of what it fits are arguments by name; found None"):
        make(replace(outer, params={**params, "kind": "sklearn.linear_model.Ridge", "params": None}))


def test_the_sentence_on_the_models_is_one_short_line_whatever_the_values_are() -> None:
    models = tuple(GroupModel(value=value, rows=90, unseen_rows=0, validation=None) for value in ("a\nb" * 99, "c"))
    sentence = GroupModels(by="shop", models=models, pooled_values=0, pooled_rows=7).sentence
    assert "\n" not in sentence
    assert len(sentence) < 250
    assert sentence.endswith("; 7 rows without a value, and new values share one of all rows")


def test_fewer_than_two_models_are_refused_with_the_sizes() -> None:
    with pytest.raises(UserError, match=r"two values of 'shop' .* 250 rows.*; 1 of 4 do, the largest has 300 of 610"):
        fitted(*rows(), spec(**LOGISTIC, min_rows=250))


BAYES = {"kind": "sklearn.naive_bayes.GaussianNB"}
FOLDS = {
    "kind": "sklearn.calibration.CalibratedClassifierCV",
    "params": {"estimator": BAYES, "cv": 40},
}  # rows of a class


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_value_whose_rows_cannot_be_fitted_is_pooled_with_a_warning(tmp_path: Path, workers: int) -> None:
    table, label = rows({"north": 200, "south": 200, "west": 60, "east": 70})
    learner = make(spec(**FOLDS))
    assert isinstance(learner, PerGroup)
    with fitting_with(processes, workers, tmp_path, large=10**9):
        report = learner.fit(table, label)
    assert [*learner.models] == ["north", "south"] == [model.value for model in learner.stored.models]
    assert (learner.stored.pooled_values, learner.stored.pooled_rows) == (2, 130)
    (warning,) = report.warnings
    assert "2 of 4 values of 'shop'" in warning
    assert "learner 'shops of east'" in warning
    asked = table.filter(pc.equal(table["shop"], "west"))
    assert np.array_equal(learner.predict(asked), learner.inner.predict(asked))
    assert not [*tmp_path.iterdir()]


def test_fewer_than_two_values_that_can_be_fitted_are_an_error_that_names_the_first() -> None:
    table, label = rows({"north": 200, "south": 60})
    with pytest.raises(TooFewGroups, match=r"1 of 2 values .*learner 'shops of south' .*could not be fitted"):
        fitted(table, label, spec(**FOLDS))


def test_a_pooled_model_that_cannot_be_fitted_is_an_error() -> None:
    table, label = rows({"north": 60, "south": 60})
    with pytest.raises(UserError, match=r"learner 'shops' .*could not be fitted"):
        fitted(
            table, label, spec(kind="sklearn.calibration.CalibratedClassifierCV", params={"estimator": BAYES, "cv": 90})
        )


def test_no_group_copies_the_table() -> None:
    table, label = rows({f"shop {number:03d}": 40 for number in range(60)})
    before = pa.total_allocated_bytes()
    groups = [rows for _, rows in make(spec()).groups(table)]  # type: ignore[attr-defined]
    divided = LabelledGroups(table, label, groups)
    parts = [divided.of(number) for number in range(1, 61)]
    assert pa.total_allocated_bytes() - before < 2 * table.nbytes
    for indices, (part, of_part) in zip(groups, parts, strict=True):
        assert part.equals(table.take(indices))
        assert np.array_equal(of_part, label[indices])


def test_nothing_is_predicted_before_a_fit() -> None:
    with pytest.raises(RefitError, match="before it was fitted"):
        make(spec()).predict(rows()[0])
