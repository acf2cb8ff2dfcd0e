"""The search for arguments: the same whatever is killed or runs in parallel, and never with a look at the test rows."""

from __future__ import annotations

import itertools
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from searching import TREE, rows, search, spec, tried

from refit.config.train import SearchParams
from refit.errors import UserError
from refit.learners import Spec
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to
from refit.runtime.context import silent
from refit.schemas.training import TuningReport
from tasks import train
from tasks.train import tuning
from tasks.train.search_space import Search, most_epochs
from tasks.train.stored_trials import STORAGE
from tasks.train.trial import fit_fold
from tasks.train.tuning import _identity, tune


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, TuningReport]:
    return tune(spec(), search(), rows(), tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.ci
def test_it_finds_better_arguments_than_those_it_was_given(
    undisturbed: tuple[Spec, TuningReport], tmp_path: Path
) -> None:
    best, found = undisturbed
    whole = search({"max_depth": SearchParams(choices=(None, 3))}, sampler="grid")
    _, given = tune(spec(), whole, rows(), tmp_path)
    grown = next(each.value for each in given.trials if each.params == {"max_depth": None})
    assert grown is not None
    assert found.trials[found.best].value > grown + 0.03  # type: ignore[operator]
    assert best.params == found.trials[found.best].params
    complete = [each.value for each in found.trials if each.value is not None]
    assert found.trials[found.best].value == max(complete)
    assert sum(found.importance.values()) == pytest.approx(1, abs=0.01)


@pytest.mark.ci
@pytest.mark.parametrize("pruner", ["median", pytest.param("halving", marks=pytest.mark.slow)])
def test_a_search_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    pruner: str, undisturbed: tuple[Spec, TuningReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = search(pruner=pruner)
    _, through = undisturbed if asked == search() else tune(spec(), asked, rows(), tmp_path / "through")
    assert {each.state for each in through.trials} == {"complete", "pruned"}
    real, count = tuning._try, itertools.count()

    def killed(*args: Any) -> Any:
        if next(count) == 11:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(tuning, "_try", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(spec(), asked, rows(), tmp_path / "killed")
    count = itertools.count(100)
    resumed = tune(spec(), asked, rows(), tmp_path / "killed")[1]
    assert tried(resumed) == tried(through)
    assert next(count) == 100 + 3  # eleven of the fourteen were not tried again


@pytest.mark.ci
def test_trials_in_parallel_processes_find_what_they_find_one_by_one(tmp_path: Path) -> None:
    asked = search(trials=6, parallel=2)
    parallel = tune(spec(), asked, rows(200), tmp_path / "parallel")[1]
    alone = tune(spec(), asked, rows(200), tmp_path / "alone", start_workers=lambda count: nullcontext())[1]
    assert tried(alone) == tried(parallel)


def test_other_rows_take_up_no_trial_of_an_old_study(tmp_path: Path) -> None:
    first = tune(spec(), search(trials=2), rows(), tmp_path)[1]
    other = tune(spec(), search(trials=2), rows(380), tmp_path)[1]
    assert tried(first) != tried(other)


def test_other_rows_without_a_label_in_a_fold_are_another_study() -> None:
    development = rows()
    development = replace(development, whole=replace(development.whole, unlabelled=development.whole.rows))
    folds = [replace(fold, unlabelled=np.arange(3)) for fold in development.folds]
    names = {
        _identity(spec(), search(), replace(development, folds=each)) for each in (development.folds, tuple(folds))
    }
    assert len(names) == 2


def test_epochs_of_a_learner_within_another_one_are_searched_for_too() -> None:
    within = {"params.epochs": SearchParams(choices=(2, 4)), "pretrain.epochs": SearchParams(choices=(50,))}
    assert most_epochs(within) == 4


def test_a_training_counts_every_trial_though_some_ran_at_once_or_before(tmp_path: Path) -> None:
    asked = search(trials=2)
    first = tune(spec(), asked, rows(100, folds=2), tmp_path)[1]
    again = tune(spec(), asked, rows(100, folds=2), tmp_path)[1]
    assert all(each.cost and each.cost.rows_per_second > 0 and each.cost.latency_ms.p95 > 0 for each in first.trials)
    assert [each.cost for each in again.trials] == [each.cost for each in first.trials]
    assert again.work_seconds == first.work_seconds == sum(each.seconds for each in first.trials)
    tried = [SimpleNamespace(tuning=again.model_copy(update={"seconds": 0.0})), SimpleNamespace(tuning=None)]
    assert train._work_beyond(tried) == first.work_seconds  # type: ignore[arg-type]


def test_a_learner_whose_file_changed_takes_up_no_trial_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fitted = tuning._try, itertools.count()

    def counted(*args: Any) -> Any:
        next(fitted)
        return real(*args)

    monkeypatch.setattr(tuning, "_try", counted)
    code = "from sklearn.tree import DecisionTreeClassifier as Own\n"
    for source in (code, code, code + "# edited\n"):
        own = replace(spec("own.py:Own"), source=source)
        tune(own, search({"max_depth": SearchParams(low=1, high=4)}, trials=2), rows(100, folds=2), tmp_path)
    assert next(fitted) == 2 + 2


def test_the_arguments_of_the_params_are_tried_first(tmp_path: Path) -> None:
    given = {"max_depth": 4, "min_samples_leaf": 9, "criterion": "entropy"}
    assert tune(spec(**given), search(trials=1), rows(), tmp_path)[1].trials[0].params == given


LISTS = {
    "monotonic_cst": SearchParams(choices=((1, 1, 0, 0), (0, 0, 0, 0), (-1, 0, 0, 0))),
    "max_depth": SearchParams(choices=(2, 3)),
}


@pytest.mark.parametrize("sampler", ["grid", "tpe", "random"])
def test_a_small_space_of_choices_that_are_lists_is_tried_whole(sampler: str, tmp_path: Path) -> None:
    found = tune(spec(), search(LISTS, sampler=sampler, pruner="none", trials=10), rows(200, folds=2), tmp_path)[1]
    points = [
        {"monotonic_cst": signs, "max_depth": depth}
        for signs in ([1, 1, 0, 0], [0] * 4, [-1, 0, 0, 0])
        for depth in (2, 3)
    ]
    assert [trial.params for trial in found.trials] == points


def test_params_that_are_lists_are_tried_first_and_reported_by_their_own_names(tmp_path: Path) -> None:
    space = LISTS | {"min_samples_leaf": SearchParams(low=1, high=64)}
    given = spec(monotonic_cst=[-1, 0, 0, 0], max_depth=3, min_samples_leaf=7)
    found = tune(given, search(space, pruner="none", trials=12), rows(200, folds=2), tmp_path)[1]
    assert found.trials[0].params == given.params
    assert found.importance.keys() == space.keys()


def test_a_grid_tries_each_point_once_and_a_condition_leaves_arguments_out(tmp_path: Path) -> None:
    space = {
        "splitter": SearchParams(choices=("best", "random")),
        "max_depth": SearchParams(low=2, high=6, step=2),
        "max_features": SearchParams(choices=(1, 3), when={"splitter": "random"}),
    }
    found = tune(spec(), search(space, sampler="grid", pruner="none"), rows(), tmp_path)[1]
    points = [each.params for each in found.trials]
    assert len(points) == 3 + 3 * 2
    assert all(("max_features" in point) == (point["splitter"] == "random") for point in points)
    assert len({repr(point) for point in points}) == len(points)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_space_of_few_points_is_tried_whole_and_no_point_twice(tmp_path: Path, sampler: str) -> None:
    space = {"max_depth": SearchParams(low=1, high=4)}
    found = tune(spec(), search(space, sampler=sampler, pruner="none"), rows(folds=2), tmp_path)[1]
    assert [each.params["max_depth"] for each in found.trials] == [1, 2, 3, 4]


def test_a_condition_holds_for_sampled_arguments_too(tmp_path: Path) -> None:
    space = {
        "splitter": SearchParams(choices=("best", "random")),
        "max_features": SearchParams(low=1, high=4, when={"splitter": "random"}),
    }
    for each in tune(spec(), search(space, sampler="random"), rows(), tmp_path)[1].trials:
        assert ("max_features" in each.params) == (each.params["splitter"] == "random")


def test_trials_that_cannot_be_fitted_are_told_and_only_if_all_fail_is_there_no_candidate(tmp_path: Path) -> None:
    broken = {"min_samples_split": SearchParams(choices=(2, -1))}
    found = tune(spec(), search(broken, sampler="grid"), rows(), tmp_path)[1]
    assert [each.state for each in found.trials] == ["complete", "failed"]
    assert "min_samples_split" in found.trials[1].problem
    with pytest.raises(UserError, match=r"learner 'tree': none of 2 trials could be fitted: .*min_samples_split"):
        tune(spec(), search({"min_samples_split": SearchParams(choices=(0, -1))}, sampler="grid"), rows(), tmp_path)


@pytest.mark.ci
def test_choices_may_be_lists(tmp_path: Path) -> None:
    space = {"hidden": SearchParams(choices=((8,), (8, 4)))}
    found = tune(spec("torch_tabular", max_epochs=2), search(space, trials=3), rows(folds=2), tmp_path)
    assert found[0].params["hidden"] in ([8], [8, 4])


@pytest.mark.ci
def test_the_study_can_be_opened_with_optuna_itself(undisturbed: tuple[Spec, TuningReport], tmp_path: Path) -> None:
    _, found = tune(spec(), search(trials=4), rows(), tmp_path)
    storage = f"sqlite:///{tmp_path / STORAGE}"
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    assert [each.value for each in study.trials if each.state.name == "COMPLETE"] == [
        each.value for each in found.trials if each.state == "complete"
    ]


def test_an_argument_within_an_argument_is_tuned_by_a_name_with_dots(tmp_path: Path) -> None:
    inner = {"kind": TREE, "params": {"max_depth": 3}}
    given = spec("sklearn.ensemble.BaggingClassifier", n_estimators=2, estimator=inner)
    space = {
        "estimator.params.max_depth": SearchParams(choices=(1, 3)),
        "estimator.params.min_samples_leaf": SearchParams(choices=(1, 20), when={"estimator.params.max_depth": 3}),
    }
    best, found = tune(given, search(space, trials=9, sampler="grid", pruner="none"), rows(folds=2), tmp_path)
    depth = "estimator.params.max_depth"
    assert [each.params[depth] for each in found.trials] == [1, 3, 3]
    assert best.params["estimator"]["params"]["max_depth"] == found.trials[found.best].params[depth]
    assert given.params["estimator"]["params"] == {"max_depth": 3}, "nothing of the params was changed"


def networks(**changes: Any) -> tuple[Spec, Search]:
    """The search for the learning rate of a network, pruned by epoch."""
    given = spec("mlp", epochs=6, patience=6, hidden=[8], batch_rows=16, learning_rate=0.05)
    rates = {"learning_rate": SearchParams(choices=(0.05, 0.03, 0.02, 0.04, 0.06, 1e-6, 2e-6, 0.05001))}
    return given, search(rates, **{"sampler": "grid", "prune_after": "epoch", **changes})


@pytest.fixture(scope="module")
def by_epoch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Spec, TuningReport]]:
    """The searches of `networks`, undisturbed, by their pruner."""
    return {
        pruner: tune(*networks(pruner=pruner), rows(200, folds=2), tmp_path_factory.mktemp(pruner))
        for pruner in ("median", "none")
    }


@pytest.mark.ci
@pytest.mark.parametrize("pruner", ["median", pytest.param("halving", marks=pytest.mark.slow)])
def test_a_network_that_is_behind_after_some_epochs_is_given_up(
    pruner: str, by_epoch: dict[str, tuple[Spec, TuningReport]], tmp_path: Path
) -> None:
    given, asked = networks(pruner=pruner)
    best, report = by_epoch.get(pruner) or tune(given, asked, rows(200, folds=2), tmp_path)
    slow = [each for each in report.trials if each.params["learning_rate"] < 1e-5]  # type: ignore[operator]
    assert [each.state for each in slow] == ["pruned"] * 2
    assert all(2 <= len(each.epochs) < 6 for each in slow)
    assert {each.end for each in slow} == {"given up after some epochs"}
    complete = [each for each in report.trials if each.state == "complete"]
    assert len(complete) >= 2
    assert all([step for step, _ in each.epochs] == list(range(1, 13)) for each in complete)
    assert best.params == given.params | report.trials[report.best].params
    assert report.trials[report.best].value == max(each.value for each in complete if each.value is not None)
    whole = by_epoch["none"]
    values = {each.params["learning_rate"]: each.value for each in whole[1].trials}
    assert all(each.value == values[each.params["learning_rate"]] for each in complete), "a trial that ends is the same"


@pytest.mark.ci
@pytest.mark.parametrize("epoch", [20, 61], ids=["in the second fold", "before it is pruned"])
def test_a_search_by_epoch_that_was_killed_within_a_fit_ends_as_if_it_had_not_been(
    epoch: int, by_epoch: dict[str, tuple[Spec, TuningReport]], tmp_path: Path
) -> None:
    """Its checkpoint holds the curve, so that epochs from before the end are compared too."""
    given, asked = networks()
    _, through = by_epoch["median"]
    reports = itertools.count()

    def killed(report: EpochReport) -> None:
        if next(reports) == epoch:
            raise KeyboardInterrupt

    folder = tmp_path / "checkpoints"
    for on_epoch in (killed, lambda report: next(reports)):
        with suppress(KeyboardInterrupt), checkpoints_in(folder, every_seconds=0), reporting_to(on_epoch):
            resumed = tune(given, asked, rows(200, folds=2), tmp_path / "killed")[1]
        assert folder.is_dir() == (on_epoch is killed)
    assert tried(resumed) == tried(through)
    assert [each.epochs for each in resumed.trials] == [each.epochs for each in through.trials]


@pytest.mark.ci
def test_a_search_leaves_no_checkpoints_but_those_of_its_best_trial(tmp_path: Path) -> None:
    """Each has the weights of a whole network; those of the best trial are its fits once the search is over."""
    given = spec("mlp", epochs=2, hidden=[8], batch_rows=64)
    rates = {"learning_rate": SearchParams(choices=(1e-6, 0.05, 2e-6))}
    epochs: list[EpochReport] = []
    with checkpoints_in(tmp_path / "checkpoints", every_seconds=0), reporting_to(epochs.append):
        best, _ = tune(given, search(rates, sampler="grid", pruner="none"), rows(100, folds=2), tmp_path)
        assert len(epochs) == 3 * 2 * 2
        assert len(list((tmp_path / "checkpoints").iterdir())) == 2
        for fold in rows(100, folds=2).folds:
            fit_fold(best, rows(100, folds=2), fold, silent)
        assert len(epochs) == 3 * 2 * 2


@pytest.mark.slow
def test_a_search_by_epoch_in_processes_is_the_same(tmp_path: Path) -> None:
    given, asked = networks(parallel=2)
    parallel = tune(given, asked, rows(100, folds=2), tmp_path / "parallel")[1]
    one_by_one = tmp_path / "alone"
    alone = tune(given, asked, rows(100, folds=2), one_by_one, start_workers=lambda count: nullcontext())[1]
    assert tried(alone) == tried(parallel)


def test_epochs_that_are_searched_for_are_compared_with_the_same_epoch_of_the_same_fold(tmp_path: Path) -> None:
    given, _ = networks()
    asked = search({"epochs": SearchParams(choices=(2, 4))}, sampler="grid", prune_after="epoch")
    report = tune(given, asked, rows(100, folds=2), tmp_path)[1]
    assert [[step for step, _ in each.epochs] for each in report.trials] == [[1, 2, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8]]


@pytest.mark.ci
def test_a_learner_without_epochs_is_pruned_by_fold_whatever_the_params_say(tmp_path: Path) -> None:
    asked = search(prune_after="epoch")
    report = tune(spec(), asked, rows(), tmp_path)[1]
    assert {each.end for each in report.trials} == {"finished", "given up after some folds"}
    assert not any(each.epochs for each in report.trials)
