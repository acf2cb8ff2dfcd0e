"""What is stored runs nothing when it is read, no matter who wrote it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json, write_manifest
from refit.learners import Spec, load, make, safe
from refit.learners.conformance.sample import sample


class Stranger(LogisticRegression):
    """A type that nobody trusts."""


def test_a_type_that_nobody_trusts_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(Stranger(), path)
    with pytest.raises(RefitError, match=r"holds types that are not trusted.*Stranger"):
        safe.load_skops(path, ())


def test_a_trusted_partial_does_not_bring_its_function_along(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(functools.partial(os.system, f"touch {marker}")), path)
    with pytest.raises(RefitError, match="not trusted"):
        safe.load_skops(path, ())
    assert not marker.exists()


def test_what_a_folder_says_of_itself_is_not_trusted(
    tmp_path: Path, train_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    learner = make(spec_of("sklearn.linear_model.LogisticRegression"))
    learner.fit(train_rows.table, train_rows.label)
    learner.save(tmp_path)
    safe.save_skops(Stranger(), tmp_path / "model.skops")
    write_json(
        tmp_path / "model.json", read_json(tmp_path / "model.json") | {"trusted_types": [f"{__name__}.Stranger"]}
    )
    write_manifest(tmp_path)
    with pytest.raises(RefitError, match="not trusted"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"\x80\x04\x95 a pickle"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(RefitError, match="is no skops file"):
        safe.load_skops(tmp_path / "model.skops", ())
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RefitError, match="is no safetensors file"):
        safe.load_arrays(tmp_path / "model.safetensors")


def test_a_description_of_another_format_or_none_is_refused(tmp_path: Path) -> None:
    for description, said in (
        ({"kind": "baseline", "format": 99}, "has format 99, this code reads 1"),
        ([], "Input should be an object"),
    ):
        write_json(tmp_path / "model.json", description)
        write_manifest(tmp_path)
        with pytest.raises(RefitError, match=said):
            load(tmp_path)


STORED: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.Ridge": {},
    "lightgbm.LGBMRegressor": {"n_estimators": 2},
    "xgboost.XGBRegressor": {"n_estimators": 2},
    "torch_tabular": {"hidden": [4], "max_epochs": 1},
    "relative": {"kind": "sklearn.linear_model.Ridge", "level": "strength", "change": "difference"},
    "baseline": {},
}


def stored(kind: str, folder: Path, spec_of: Callable[..., Spec]) -> dict[str, Any]:
    """Fit a learner to numbers, store it, and return its description."""
    rows = sample("regression", 60, seed=1)
    learner = make(replace(spec_of(kind), params=STORED[kind], task="regression", metric="rmse"))
    learner.fit(rows.table, rows.label)
    learner.save(folder)
    return dict(read_json(folder / "model.json"))


@pytest.mark.parametrize("kind", STORED)
def test_no_name_in_a_description_makes_a_module_run_that_the_user_does_not_trust(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec_of: Callable[..., Spec]
) -> None:
    folder, marker = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (tmp_path / "stranger.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Model:\n    fit = get_params = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    description, evil = stored(kind, folder, spec_of), {"kind": "stranger.Model", "params": {}}
    own = {"params": description["params"] | {"kind": "stranger.Model"}}
    text = {"text": ["colour"], "categorical": ["place"], "vectoriser": evil}
    for change in (
        {"kind": "stranger.Model"},
        {"kind": "stranger:Model"},
        own,
        text,
        own | text,
        {"calibration": evil},
    ):
        write_json(folder / "model.json", description | change)
        write_manifest(folder)
        with suppress(RefitError):
            load(folder)
        assert not marker.exists(), change


@pytest.mark.parametrize("kind", STORED)
def test_a_description_that_was_changed_is_refused_in_one_line(
    kind: str, tmp_path: Path, spec_of: Callable[..., Spec]
) -> None:
    description = stored(kind, tmp_path, spec_of)
    damages: list[dict[str, Any]] = [{"threshold": "x"}, {"features": 5}, {"format": [1]}, {"average": "x"}]
    damages += [{"categories": None}, {"categories": [1]}] if "categories" in description else []
    for change in damages:
        write_json(tmp_path / "model.json", description | change)
        write_manifest(tmp_path)
        with pytest.raises(RefitError) as caught:
            load(tmp_path)
        assert len(str(caught.value).splitlines()) == 1
    if weights := description.get("weights"):
        write_json(tmp_path / "model.json", description)
        (tmp_path / weights).unlink()
        write_manifest(tmp_path)
        with pytest.raises(RefitError, match=weights):
            load(tmp_path)


def test_trees_that_are_none_and_a_model_that_predicts_nothing_are_refused(
    tmp_path: Path, spec_of: Callable[..., Spec]
) -> None:
    for kind, write in (
        ("lightgbm.LGBMRegressor", lambda path: path.write_text("no trees")),
        ("xgboost.XGBRegressor", lambda path: path.write_text("{}")),
        ("sklearn.linear_model.Ridge", lambda path: skops.io.dump([1], path)),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        write(folder / stored(kind, folder, spec_of)["weights"])
        write_manifest(folder)
        with pytest.raises(RefitError, match="restore the folder, or train again"):
            load(folder)


def test_an_estimator_without_a_safe_format_runs_and_says_why_it_cannot_be_stored(
    train_rows: Any, spec_of: Callable[..., Spec]
) -> None:
    kernel = {"kind": "sklearn.gaussian_process.kernels.PairwiseKernel"}
    spec = spec_of("sklearn.gaussian_process.GaussianProcessClassifier", kernel=kernel, optimizer=None)
    learner = make(spec)
    learner.fit(train_rows.table, train_rows.label)
    assert len(learner.predict(train_rows.table)) == 400
    obstacle = learner.unsafe_reason()
    assert obstacle is not None
    assert "sklearn.gaussian_process.kernels.PairwiseKernel" in obstacle
    assert "registry.trusted_types" in obstacle


def test_bytes_of_stored_arrays_depend_on_the_arrays_alone(tmp_path: Path) -> None:
    arrays = {"b": np.arange(4.0), "a": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    safe.save_arrays(arrays, tmp_path / "one")
    safe.save_arrays(dict(reversed(arrays.items())), tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    np.testing.assert_array_equal(safe.load_arrays(tmp_path / "one")["a"], arrays["a"])


WHERE = "params.yaml: train.learners[0]"


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        (
            "sklearn.linear_model.Logistic",
            {},
            "learner 'sklearn.linear_model.Logistic' is unknown; did you mean "
            "'sklearn.linear_model.LogisticRegression'? (params.yaml: train.learners[0].kind)",
        ),
        (
            "sklearn.linear_modle.LogisticRegression",
            {},
            "learner 'sklearn.linear_modle.LogisticRegression' is unknown; did you mean "
            "'sklearn.linear_model.LogisticRegression'? (params.yaml: train.learners[0].kind)",
        ),
        (
            "base_line",
            {},
            "learner 'base_line' is unknown; did you mean 'baseline'? (params.yaml: train.learners[0].kind)",
        ),
        (
            "sklearn.linear_model.LogisticRegression",
            {"max_iters": 3},
            "learner 'sklearn.linear_model.LogisticRegression' has no argument 'max_iters'; did you mean 'max_iter'? "
            "(params.yaml: train.learners[0].params.max_iters)",
        ),
        (
            "sklearn.linear_model.LogisticRegression",
            {"C": -1},
            "learner 'sklearn.linear_model.LogisticRegression': The 'C' parameter of LogisticRegression must be a "
            "float in the range (0.0, inf]. Got -1 instead. (params.yaml: train.learners[0].params)",
        ),
        ("sklearn.linear_model.LinearRegression", {}, "is no classifier; train.task is 'binary'"),
        ("sklearn.preprocessing.StandardScaler", {}, "is no classifier"),
        (
            "sklearn.svm.SVC",
            {},
            "predicts no probabilities (it has no predict_proba); wrap it: kind sklearn.calibration",
        ),
        ("os.path.join", {}, "learner 'os.path.join' is unknown"),
        (
            "sklearn.ensemble.HistGradientBoostingClassifier",
            {"early_stopping": True},
            "early_stopping is not set here, the validation window chooses the number of iterations",
        ),
        (
            "sklearn.ensemble.GradientBoostingClassifier",
            {"n_iter_no_change": 3},
            "n_iter_no_change is not set here, the validation window chooses the number of iterations",
        ),
        (
            "sklearn.ensemble.RandomForestClassifier",
            {"random_state": 3},
            "random_state is not set here, it is train.seed",
        ),
        (
            "sklearn.calibration.CalibratedClassifierCV",
            {"estimator": {"kind": "sklearn.svm.SVD"}},
            "learner 'sklearn.svm.SVD' is unknown; did you mean 'sklearn.svm.SVC'? "
            "(params.yaml: train.learners[0].params.estimator.kind)",
        ),
        ("baseline", {"rate": 0.5}, "learner 'baseline' takes no params; found rate"),
        (
            "torch_tabular",
            {"droput": 0.5},
            "learner 'torch_tabular' has no argument 'droput'; did you mean 'dropout'? "
            "(params.yaml: train.learners[0].params.droput)",
        ),
        (
            "torch_tabular",
            {"dropout": 1.5},
            "learner 'torch_tabular': input should be less than 1; found 1.5 "
            "(params.yaml: train.learners[0].params.dropout)",
        ),
    ],
)
def test_a_mistake_in_a_learner_is_named_with_what_would_be_right(
    kind: str, params: dict[str, Any], said: str, spec_of: Callable[..., Spec]
) -> None:
    with pytest.raises(UserError) as caught:
        make(spec_of(kind, **params), where=WHERE)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_random_state_is_the_seed(spec_of: Callable[..., Spec]) -> None:
    from dataclasses import replace

    from refit.learners.sklearn_estimator import SklearnEstimator

    spec = spec_of(
        "sklearn.ensemble.BaggingClassifier",
        estimator={"kind": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 2}},
    )
    learner = make(replace(spec, seed=7))
    assert isinstance(learner, SklearnEstimator)
    found = learner._estimator.get_params()
    assert (found["random_state"], found["estimator__random_state"], found["estimator__max_depth"]) == (7, 7, 2)


def test_more_categories_than_boosting_can_tell_apart_are_cut_to_the_frequent_ones(
    spec_of: Callable[..., Spec],
) -> None:
    import pyarrow as pa

    from refit.learners.encoding import Encoding

    names = [f"c{n:03d}" for n in range(400)]
    table = pa.table({"strength": np.arange(1200.0), "colour": names[:300] * 2 + names[300:] * 6})
    label = (np.arange(1200) % 2).astype(np.int64)
    spec = Spec("it", "sklearn.ensemble.HistGradientBoostingClassifier", ("strength", "colour"), frozenset({"colour"}))
    learner = make(spec)
    learner.fit(table, label)
    assert len(learner.predict(table)) == 1200
    known = Encoding.learn(table, spec.features, spec.categorical).categories["colour"]
    assert len(known) == 255
    assert set(names[300:]) <= set(known)  # the frequent ones
    assert set(names[:155]) <= set(known)  # of the others the first by name


def test_what_mlflow_loads_takes_frames(tmp_path: Path, train_rows: Any, spec_of: Callable[..., Spec]) -> None:
    from refit.learners.pyfunc import _load_pyfunc

    learner = make(spec_of("sklearn.ensemble.HistGradientBoostingClassifier", max_iter=5))
    learner.fit(train_rows.table, train_rows.label)
    learner.save(tmp_path)
    frame = train_rows.table.to_pandas()
    before = frame.copy()
    model = _load_pyfunc(str(tmp_path))
    np.testing.assert_array_equal(model.predict(frame), learner.predict(train_rows.table))
    assert frame.equals(before)
    with pytest.raises(UserError, match="feature 'colour' is missing"):
        model.predict(frame.drop(columns="colour"))


WITHOUT_TORCH = """
import sys
from sklearn.linear_model import LogisticRegression
from refit.learners import safe
assert safe.untrusted_types(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), ()) == []
assert "torch" not in sys.modules
import sklearn.externals.array_api_compat.torch
import torch
print(torch.ones(2).sum().item(), safe.untrusted_types(LogisticRegression(), ()))
"""


@pytest.mark.slow
def test_looking_at_a_model_of_scikit_learn_imports_no_torch_and_leaves_it_importable() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.stdout == "2.0 []\n", done.stderr
