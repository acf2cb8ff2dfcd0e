"""The stage `train`, on a small table in the format that featurize writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks import artifacts, train
from tasks.context import Context
from tasks.errors import RefitError, UserError
from tasks.learners import load
from tasks.params import override, parse

LEARNERS = [
    {"name": "base_rate", "kind": "baseline"},
    {"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression"},
    {
        "name": "boosting",
        "kind": "sklearn.ensemble.HistGradientBoostingClassifier",
        "params": {"max_iter": 40, "min_samples_leaf": 5, "max_leaf_nodes": 7},
    },
]
PARAMS: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "*.csv", "columns": {"id": "text"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "label"}},
    "train": {"learners": LEARNERS},
}
WINDOWS = {"train": 600, "validation": 150, "test": 150}


def write_features(project: Path, table: pa.Table) -> None:
    """Leave a table as featurize does."""
    features = ["strength", "noise", "colour"]
    (project / artifacts.FEATURES).mkdir(parents=True, exist_ok=True)
    pq.write_table(table, project / artifacts.TABLE)
    ends = {"train": "2024-03-01T00:00:00Z", "validation": "2024-04-01T00:00:00Z", "test": "2024-05-01T00:00:00Z"}
    artifacts.write_json(
        project / artifacts.FEATURE_SET,
        {
            "key": "id",
            "features": features,
            "numeric": features[:2],
            "categorical": features[2:],
            "windows": {name: {"start": None, "end": end} for name, end in ends.items()},
            "table": {"sha256": artifacts.sha256(project / artifacts.TABLE), "rows": table.num_rows},
        },
    )
    artifacts.write_json(project / artifacts.PROFILE, {})


def small_table() -> pa.Table:
    random = np.random.default_rng(0)
    count = sum(WINDOWS.values())
    strength, colour = random.normal(size=count), random.integers(0, 3, count)
    label = (strength + 0.9 * (colour == 1) + random.normal(size=count) > 0.5).astype(np.int64)
    minutes = np.arange(count) // 2  # two rows a minute: the key decides their order
    return pa.table(
        {
            "id": [f"row {n:04d}" for n in range(count)],
            "event_time": pa.array(np.datetime64("2024-01-01T00:00", "us") + minutes.astype("timedelta64[m]")),
            "window": np.repeat(list(WINDOWS), list(WINDOWS.values())),
            "label": label,
            "strength": strength,
            "noise": pa.array(random.normal(size=count), mask=random.random(count) < 0.1),
            "colour": pa.array(["red", "green", "blue"]).take(pa.array(colour)),
        }
    )


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tracking.log_training", lambda context: None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_features(tmp_path, small_table())
    return tmp_path


def context_of(project: Path, said: list[str] | None = None, **changes: Any) -> Context:
    params = parse(override(PARAMS, {path.replace("__", "."): value for path, value in changes.items()}))
    notes = [] if said is None else said
    return Context(project=project, params=params, progress=lambda what, done=0, total=None: notes.append(what))


def run(project: Path, **changes: Any) -> dict[str, Any]:
    context = context_of(project, **changes)
    train.run(context)
    training: dict[str, Any] = artifacts.read_json(project / artifacts.TRAINING)
    return training


def rows_of(project: Path, window: str) -> pa.Table:
    table = pq.read_table(project / artifacts.TABLE)
    return table.filter(pc.equal(table["window"], window))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One run of the default learners, only looked at."""
    project = tmp_path_factory.mktemp("trained")
    write_features(project, small_table())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.tracking.log_training", lambda context: None)
        return project, run(project)


def test_the_candidate_says_everything_needed_to_predict(trained: tuple[Path, dict[str, Any]]) -> None:
    project, training = trained
    folder = project / artifacts.CANDIDATE
    learner = load(folder)
    assert learner.digest() == training["model_digest"]
    assert learner.threshold == training["threshold"]
    assert set(artifacts.check_manifest(folder)) == {"features.json", "model.json", "model.skops", "profile.json"}
    assert (folder / "features.json").read_bytes() == (project / artifacts.FEATURE_SET).read_bytes()
    p = learner.predict(rows_of(project, "test"))
    assert train.metrics.roc_auc(rows_of(project, "test")["label"].to_numpy(), p) > 0.75


def test_training_tells_what_the_other_stages_read(trained: tuple[Path, dict[str, Any]]) -> None:
    project, training = trained
    table = pq.read_table(project / artifacts.TABLE).slice(0, 750)
    assert training["seen_until"] == "2024-04-01T00:00:00Z"
    assert training["baseline"]["rate"] == pytest.approx(pc.mean(table["label"]).as_py())
    assert training["rows"] == {"train": 600, "validation": 150}
    assert training["refit_rows"] == 750
    assert len(training["inputs"]) == 64
    assert [learner["name"] for learner in training["learners"]] == ["base_rate", "logistic", "boosting"]
    for learner in training["learners"]:
        assert {"roc_auc", "log_loss", "brier", "accuracy"} <= set(learner["validation"]) & set(learner["training"])
        assert learner["not_chosen"] is None
        assert learner["seconds"] >= 0
        assert learner["peak_memory_mb"] > 0
    base_rate, logistic, boosting = training["learners"]
    assert base_rate["size_curve"] == base_rate["curve"] == logistic["curve"] == []
    assert [point["rows"] for point in logistic["size_curve"]] == [60, 180, 600]
    assert boosting["iterations"] in [point["iteration"] for point in boosting["curve"]]
    assert boosting["size_curve"][-1]["validation"] == boosting["validation"]["roc_auc"]
    assert boosting["verdict"].split(":")[0] in {"overfit", "underfit", "balanced"}


def test_the_best_learner_on_validation_is_refitted_with_the_iterations_that_it_fixed(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    project, training = trained
    best = max(training["learners"], key=lambda learner: learner["validation"]["roc_auc"])
    assert training["learner"] == best["name"]
    only = [learner for learner in LEARNERS if learner["name"] == "boosting"]
    boosting = next(learner for learner in training["learners"] if learner["name"] == "boosting")
    again = project.parent / "boosting"
    shutil.copytree(project / "data", again / "data")
    run(again, train__learners=only)
    model = load(again / artifacts.CANDIDATE)._model  # type: ignore[attr-defined]
    assert model.n_iter_ == model.max_iter == boosting["iterations"] < 40
    assert model.early_stopping is False


def test_rows_in_another_order_in_the_file_give_the_same_model(project: Path, trained: Any) -> None:
    table = pq.read_table(project / artifacts.TABLE)
    write_features(project, table.take(np.random.default_rng(1).permutation(table.num_rows)))
    training = run(project)
    assert training["model_digest"] == trained[1]["model_digest"]
    assert training["inputs"] != trained[1]["inputs"]


def test_the_test_window_has_no_say(project: Path, trained: Any) -> None:
    table = pq.read_table(project / artifacts.TABLE)
    write_features(project, table.filter(pc.not_equal(table["window"], "test")))
    assert run(project)["model_digest"] == trained[1]["model_digest"]


def test_the_inputs_name_the_candidate(project: Path, trained: Any) -> None:
    assert run(project)["inputs"] == trained[1]["inputs"]
    assert run(project, train__seed=1)["inputs"] != trained[1]["inputs"]


TRAIN = """
import json, locale, sys
from pathlib import Path
import tasks.tracking
from tasks import train
from tasks.context import Context
from tasks.params import parse
locale.setlocale(locale.LC_ALL, "")
tasks.tracking.log_training = lambda context: None
for project, params in json.loads(sys.argv[1]):
    train.run(Context(project=Path(project), params=parse(params)))
"""


def start_training(
    cwd: Path, *runs: tuple[Path, dict[str, Any]], script: str = TRAIN, **env: str
) -> subprocess.Popen[str]:
    path = {"PYTHONPATH": str(Path(train.__file__).parent.parent)}
    command = [sys.executable, "-c", script, json.dumps([(str(project), params) for project, params in runs])]
    return subprocess.Popen(command, cwd=cwd, env=os.environ | path | env, stderr=subprocess.PIPE, text=True)


def test_directory_time_zone_locale_hash_seed_and_threads_do_not_change_the_model(tmp_path: Path) -> None:
    learners = [
        *LEARNERS[1:],
        {"name": "forest", "kind": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 10}},
        {"name": "network", "kind": "torch_tabular", "params": {"hidden": [16], "max_epochs": 3}},
    ]
    surroundings = [
        {"TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
        {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "3"},
    ]
    processes = []
    for place, env in enumerate(surroundings):
        runs = []
        for learner in learners:
            project = tmp_path / str(place) / str(learner["name"])
            write_features(project, small_table())
            runs.append((project, override(PARAMS, {"train.learners": [learner]})))
        cwd = tmp_path / str(place)
        processes.append(start_training(cwd, *runs, **env, OPENBLAS_NUM_THREADS=env["OMP_NUM_THREADS"]))
    for process in processes:
        assert process.wait() == 0, process.stderr and process.stderr.read()
    found = [
        {
            path.parent.parent.name: artifacts.read_json(path)["model_digest"]
            for path in tmp_path.glob(f"{place}/*/models/*.json")
        }
        for place in range(2)
    ]
    assert found[0] == found[1]
    assert len(set(found[0].values())) == len(learners)


@pytest.mark.parametrize("where", ["save", "write_manifest", "replace"])
def test_a_killed_training_leaves_nothing_half_done_and_the_next_run_clears_up(project: Path, where: str) -> None:
    dies = {
        "save": "from tasks.learners.sklearn_estimator import SklearnEstimator as target; name = 'save'",
        "write_manifest": "from tasks import train as target; name = 'write_manifest'",
        "replace": "from pathlib import Path as target; name = 'replace'",
    }[where]
    killed = f"{TRAIN.split('locale.set')[0]}\nimport os, signal\n{dies}\n"
    killed += "before = getattr(target, name)\n"
    killed += "def die(*arguments):\n"
    killed += "    if name != 'replace' or 'candidate' in arguments[0].name:\n"
    killed += "        os.kill(os.getpid(), signal.SIGKILL)\n"
    killed += "    return before(*arguments)\n"
    killed += "setattr(target, name, die)\n"
    process = start_training(project, (project, PARAMS), script=killed + "locale.set" + TRAIN.split("locale.set")[1])
    assert process.wait() == -signal.SIGKILL
    assert not (project / artifacts.CANDIDATE).exists()
    assert not (project / artifacts.TRAINING).exists()
    assert list((project / "models").iterdir())
    run(project)
    assert sorted(path.name for path in (project / "models").iterdir()) == ["candidate", "training.json"]


def test_a_second_training_replaces_the_first_one_whole(project: Path) -> None:
    run(project)
    training = run(project, train__learners=LEARNERS[:1])
    assert training["learner"] == "base_rate"
    assert set(artifacts.check_manifest(project / artifacts.CANDIDATE)) == {
        "features.json",
        "model.json",
        "profile.json",
    }
    assert sorted(path.name for path in (project / "models").iterdir()) == ["candidate", "training.json"]


def test_of_equal_learners_the_first_by_name_is_chosen(project: Path) -> None:
    twins = [LEARNERS[1] | {"name": name} for name in ("zeta", "alpha", "beta")]
    assert run(project, train__learners=twins)["learner"] == "alpha"


def test_where_lower_is_better_the_lowest_is_chosen(project: Path) -> None:
    training = run(project, train__metric="log_loss")
    best = min(training["learners"], key=lambda learner: learner["validation"]["log_loss"])
    assert training["learner"] == best["name"] != "base_rate"


def test_a_learner_without_a_safe_format_is_compared_and_never_chosen(project: Path) -> None:
    # Rows with one informative number: the process is the better learner here.
    process = {
        "name": "process",
        "kind": "sklearn.gaussian_process.GaussianProcessClassifier",
        "params": {"max_iter_predict": 5, "n_restarts_optimizer": 0, "optimizer": None},
    }
    training = run(project, train__learners=[LEARNERS[0], process])
    compared = training["learners"][1]
    assert compared["validation"]["roc_auc"] > 0.6
    assert "it holds types that are not trusted: sklearn.gaussian_process" in compared["not_chosen"]
    assert training["learner"] == "base_rate"
    with pytest.raises(UserError, match="no learner can be stored without pickle, so there is no candidate: process"):
        run(project, train__learners=[process])
    trusted = compared["not_chosen"].split(": ")[1].split(" (")[0].split(", ")
    allowed = run(project, train__learners=[LEARNERS[0], process], registry={"trusted_types": trusted})
    assert allowed["learner"] == "process"
    with pytest.raises(RefitError, match="not trusted"):
        load(project / artifacts.CANDIDATE)
    load(project / artifacts.CANDIDATE, trusted_types=tuple(trusted))


def test_every_learner_is_checked_before_the_first_is_fitted(project: Path) -> None:
    wrong = [
        LEARNERS[1],
        {"name": "off", "kind": "no.such.Thing", "enabled": False},
        {"name": "one", "kind": "sklearn.linear_model.Logistic"},
        {"name": "two", "kind": "sklearn.ensemble.RandomForestClassifier", "params": {"n_trees": 3}},
    ]
    said: list[str] = []
    with pytest.raises(UserError) as caught:
        train.run(context_of(project, said, train__learners=wrong))
    message = str(caught.value)
    assert "(params.yaml: train.learners[2].kind)" in message
    assert "has no argument 'n_trees'" in message
    assert "(params.yaml: train.learners[3].params.n_trees)" in message
    assert not any(note.startswith("fitting") for note in said)
    assert not (project / "models").exists()


def relabelled(window: str, value: int) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        label = pc.if_else(pc.equal(table["window"], window), value, table["label"])
        return table.set_column(table.schema.get_field_index("label"), "label", label)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            relabelled("train", 0),
            "the label is constant in the train window: all 600 rows are 0; both classes are needed",
        ),
        (relabelled("validation", 1), "the label is constant in the validation window: all 150 rows are 1"),
        (lambda table: table.slice(590), "the train window has 10 rows, 20 are the fewest to learn from; widen"),
        (lambda table: table.slice(0, 600), "the validation window has 0 rows"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_the_users_mistake(
    project: Path, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    write_features(project, change(small_table()))
    with pytest.raises(UserError) as caught:
        run(project)
    assert said in str(caught.value)
    assert not (project / "models").exists()


def test_a_changed_or_missing_table_is_refused(project: Path) -> None:
    content = bytearray((project / artifacts.TABLE).read_bytes())
    content[100] ^= 1
    (project / artifacts.TABLE).write_bytes(content)
    with pytest.raises(RefitError, match=r"table\.parquet has changed: recorded"):
        run(project)
    (project / artifacts.TABLE).unlink()
    with pytest.raises(RefitError, match=r"table\.parquet is gone"):
        run(project)
    (project / artifacts.FEATURE_SET).unlink()
    with pytest.raises(RefitError, match=r"features\.json does not exist yet"):
        run(project)


STRANGE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Lost(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict_proba(self, X):
        p = np.full((len(X), 2), 0.5)
        p[:3] = np.nan
        return p

class Broken(Lost):
    def fit(self, X, y):
        raise ValueError("this solver cannot do that\\nsecond line")
"""


def test_predictions_that_are_no_probabilities_and_fits_that_fail_name_the_learner(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "strange_learners.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(str(project))
    with pytest.raises(RefitError, match="learner 'lost' predicted 3 values of 150 that are no probability"):
        run(project, train__learners=[{"name": "lost", "kind": "strange_learners.Lost"}])
    with pytest.raises(UserError) as caught:
        run(project, train__learners=[{"name": "broken", "kind": "strange_learners.Broken"}])
    assert "learner 'broken' (strange_learners.Broken) could not be fitted: this solver cannot do that;" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert not (project / artifacts.CANDIDATE).exists()


def test_what_a_library_warns_of_is_kept(project: Path) -> None:
    hasty = LEARNERS[1] | {"params": {"max_iter": 1}}
    training = run(project, train__learners=[hasty])
    assert any("failed to converge" in warning for warning in training["learners"][0]["warnings"])


def test_progress_tells_of_every_learner_and_of_the_refit(project: Path) -> None:
    said: list[str] = []
    train.run(context_of(project, said))
    for name in ("base_rate", "logistic", "boosting"):
        assert f"fitting {name}" in said
    assert any(note.endswith("on 750 rows") for note in said)
