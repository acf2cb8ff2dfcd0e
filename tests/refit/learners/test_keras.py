"""Keras models under the contract of learners, on both backends, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config.column_types import ArrayColumn
from refit.errors import RefitError, UserError
from refit.files.artifacts import write_manifest
from refit.learners import Spec, load, make
from refit.learners.conformance import RULES, NotApplicable, Rule, Subject, load_in_fresh_process
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, sample
from refit.learners.project_files import is_keras
from refit.problems import kind_of
from refit.runtime.provenance import requirements
from tasks.register.packaging import network_libraries

pytestmark = pytest.mark.ci

KIND = "net.py:build"
SOURCE = """
import keras

def build(shapes, outputs, width=16, end="sigmoid"):
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    parts = []
    for name, each in inputs.items():
        if name in shapes.categories:
            each = keras.layers.Embedding(shapes.categories[name], 4)(each)
        parts.append(keras.layers.Flatten()(each))
    together = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(width, activation="relu")(together))
    model = keras.Model(inputs, keras.layers.Dense(outputs, activation=end)(hidden))
    loss = {"sigmoid": "binary_crossentropy", "softmax": "sparse_categorical_crossentropy"}.get(end, "mse")
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model
"""
ENDS = {"binary": "sigmoid", "multiclass": "softmax", "regression": None}
ONE_QUICK = [task if task == "binary" else pytest.param(task, marks=pytest.mark.slow) for task in ENDS]
has_keras = pytest.mark.skipif(find_spec("keras") is None, reason="the extra [keras] is not installed")
has_tensorflow = pytest.mark.skipif(
    find_spec("keras") is None or find_spec("tensorflow") is None, reason="the extra [tensorflow] is not installed"
)


def spec_of(task: str = "binary", source: str = SOURCE, **params: Any) -> Spec:
    arguments = {"epochs": 4, "end": ENDS[task], **params}
    metric = kind_of(task).default_metric
    return Spec("it", KIND, FEATURES, CATEGORICAL, arguments, 0, metric, (KIND,), task, source=source)


def small(body: str, **params: Any) -> Spec:
    """A spec whose function has some body, and no arguments but those in `params`."""
    names = "".join(f", {name}" for name in params)
    return replace(spec_of(source=f"import keras\n\ndef build(shapes, outputs{names}):\n{body}\n"), params=params)


SEQUENTIAL = """
    return keras.Sequential([
        keras.Input(shapes["noise"], name="noise"), {layers} keras.layers.Dense(outputs, activation="sigmoid"),
    ])
"""


def numbers_of(spec: Spec) -> Spec:
    """The same with one number as the only feature."""
    source = spec.source.replace('shapes["noise"], name="noise"', 'shapes["numbers"], name="it"')
    return replace(spec, features=("strength",), categorical=frozenset(), source=source)


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    """One learner for each task under the rules; all are loaded in one fresh process."""
    found = {task: Subject(spec_of(task)) for task in ENDS}
    load_in_fresh_process([*found.values()])
    return found


@has_keras
@pytest.mark.parametrize("task", ONE_QUICK)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_is_kept_on_torch(subjects: dict[str, Subject], rule: Rule, task: str) -> None:
    try:
        rule.keep(subjects[task])
    except NotApplicable as why:
        pytest.skip(str(why))


@has_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("task", ENDS)
def test_each_rule_is_kept_on_tensorflow(task: str, tmp_path: Path) -> None:
    """In processes of their own: one has one backend."""
    (tmp_path / "net.py").write_text(SOURCE)
    params = json.dumps({**spec_of(task).params, "backend": "tensorflow"})
    command = [sys.executable, "-m", "refit", "check-learner", KIND, "--task", task, "--params", params, "--json"]
    done = subprocess.run([*command, "--project", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@has_keras
@pytest.mark.parametrize("task", ONE_QUICK)
def test_it_learns_what_there_is_to_learn(subjects: dict[str, Subject], task: str) -> None:
    learned = subjects[task]
    naive = Subject(replace(learned.spec, kind="baseline", params={}, source=""))
    reached, least = (each.spec.score(each.seen.label, each.predicted) for each in (learned, naive))
    assert abs(reached - least) > 0.03
    assert (reached > least) == (task == "binary")


@pytest.mark.slow
@has_keras
def test_each_kind_of_feature_is_an_input_by_its_name(tmp_path: Path) -> None:
    """A row is 1 if its image, vector, sequence and category agree by majority: none of them decides alone."""
    rng = np.random.default_rng(0)
    bits = rng.random((400, 4)) < 0.5
    pixels = np.where(bits[:, 0, None], 200, 50) + rng.integers(0, 40, (400, 12))
    columns = {
        "picture": [row.astype(np.uint8).tobytes() for row in pixels],
        "vector": (bits[:, 1, None] * 3.0 + rng.normal(size=(400, 3))).tolist(),
        "steps": [
            [[bit * 2.0 - 1.0]] * length for bit, length in zip(bits[:, 2], rng.integers(1, 5, 400), strict=True)
        ],
        "colour": np.where(bits[:, 3], "red", "blue"),
    }
    label = (bits.sum(axis=1) + 0.1 > 2).astype(np.int64)
    shapes = {"picture": ("image", (3, 4, 1)), "vector": ("vector", (3,)), "steps": ("sequence", (5, 1))}
    arrays = {name: ArrayColumn(kind=kind, shape=shape) for name, (kind, shape) in shapes.items()}  # type: ignore[arg-type]
    table = pa.table(columns)
    spec = replace(spec_of(epochs=20), features=tuple(columns), categorical=frozenset({"colour"}), arrays=arrays)
    learner = make(spec)
    learner.fit(table, label)
    predicted = learner.predict(table)
    assert np.mean((predicted > 0.5) == label) > 0.95
    learner.save(tmp_path)
    stored = load(tmp_path, trusted_types=(KIND,))
    np.testing.assert_array_equal(stored.predict(table), predicted)
    assert stored.digest() == learner.digest()


@has_keras
@pytest.mark.parametrize("change", [{"width": 8}, {"by": "tanh"}])
def test_a_training_goes_on_only_with_the_same_layers(change: dict[str, Any], train_rows: Any) -> None:
    source = SOURCE.replace("width=16", 'width=16, by="relu"').replace('activation="relu"', "activation=by")
    before, other = (make(spec_of(source=source, **{"epochs": 1, **more})) for more in ({}, change))
    before.fit(train_rows.table, train_rows.label)
    what = r"build of net.py returned a model with other layers than the one that it goes on from; set its params as"
    with pytest.raises(UserError, match=what) as raised:
        other.resume(before, train_rows.table, train_rows.label, iterations=1)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@has_keras
def test_a_model_that_goes_on_reads_features_in_the_order_that_it_has_learned(train_rows: Any, tmp_path: Path) -> None:
    """`features.py` may name them in another one since."""
    table, label = train_rows.table, train_rows.label
    before = make(spec_of(epochs=1))
    before.fit(table, label)
    later, in_order = (make(replace(before.spec, features=features)) for features in (FEATURES[::-1], FEATURES))
    for each in (later, in_order):
        each.resume(before, table, label, iterations=1)
    later.save(tmp_path)
    np.testing.assert_array_equal(later.predict(table), in_order.predict(table))
    np.testing.assert_array_equal(load(tmp_path, trusted_types=(KIND,)).predict(table), later.predict(table))


@has_keras
@pytest.mark.parametrize("more", ["validation", "iterations"])
def test_a_model_that_no_epoch_betters_stays_as_it_was(more: str, train_rows: Any, seen_rows: Any) -> None:
    before, after = (make(spec_of(epochs=2)) for _ in range(2))
    before.fit(train_rows.table, train_rows.label)
    given = {"validation": (seen_rows.table, seen_rows.label), "iterations": 0}
    report = after.resume(before, train_rows.table, 1 - train_rows.label, **{more: given[more]})
    assert report.iterations == 0
    assert [point.iteration for point in report.curve] == ([0, 1, 2] if more == "validation" else [])
    np.testing.assert_array_equal(after.predict(seen_rows.table), before.predict(seen_rows.table))


@has_keras
def test_a_function_gets_the_number_of_epochs_if_it_names_it(train_rows: Any) -> None:
    body = "    assert epochs == 2\n" + SEQUENTIAL.replace("{layers}", "")
    make(numbers_of(small(body, epochs=2))).fit(train_rows.table, train_rows.label)


LAMBDAS = {
    "it has a Lambda layer": "keras.layers.Lambda(lambda x: 2 * x),",
    r"Keras cannot describe a layer \(OSError: .*\)": "keras.layers.Dense(3, activation=lambda x: 2 * x),",
}


@has_keras
@pytest.mark.parametrize("reason", LAMBDAS)
def test_a_lambda_is_refused_before_it_is_trained(reason: str, train_rows: Any) -> None:
    learner = make(numbers_of(small(SEQUENTIAL.replace("{layers}", LAMBDAS[reason]), epochs=1)))
    with pytest.raises(
        UserError, match=rf"build of net.py returned a model that cannot be stored safely: {reason}; use"
    ):
        learner.fit(train_rows.table, train_rows.label)


@pytest.mark.slow
@has_keras
def test_a_lambda_in_a_stored_model_is_not_run(train_rows: Any, tmp_path: Path) -> None:
    learner = make(numbers_of(small(SEQUENTIAL.replace("{layers}", ""), epochs=1)))
    learner.fit(train_rows.table, train_rows.label)
    learner.save(tmp_path)
    import keras

    other = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(1)])
    other.save(tmp_path / "model.keras")
    write_manifest(tmp_path)
    with pytest.raises(RefitError, match=r"model.keras is no model that Keras loads safely \(.*; restore the folder"):
        load(tmp_path, trusted_types=(KIND,))


@pytest.mark.slow
@has_keras
def test_a_layer_of_the_file_is_loaded_from_the_copy_of_the_file(train_rows: Any, tmp_path: Path) -> None:
    source = f"""
import keras

class Twice(keras.Layer):
    def call(self, x):
        return x * 2

def build(shapes, outputs):{SEQUENTIAL.replace("{layers}", "Twice(),")}
"""
    spec = numbers_of(replace(spec_of(source=source), params={"epochs": 2}))
    learner = make(spec)
    learner.fit(train_rows.table, train_rows.label)
    assert learner.unsafe_reason() is None
    assert "loading it runs the copy of net.py" in str(make(replace(spec, trusted_types=())).unsafe_reason())
    learner.save(tmp_path)
    with pytest.raises(RefitError, match=r"loading it runs the copy of net.py stored with it"):
        load(tmp_path)
    stored = load(tmp_path, trusted_types=(KIND,))
    np.testing.assert_array_equal(stored.predict(train_rows.table), learner.predict(train_rows.table))
    assert stored.digest() == learner.digest()


@has_keras
def test_another_text_of_the_file_is_another_model(train_rows: Any) -> None:
    digests = set()
    for source in (SOURCE, f"{SOURCE}# another line\n"):
        learner = make(spec_of(source=source, epochs=1))
        learner.fit(train_rows.table, train_rows.label)
        digests.add(learner.digest())
    assert len(digests) == 2


@has_keras
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (spec_of(widht=3), r"'net.py:build' has no argument 'widht'; did you mean 'width'\? \(.*params.widht\)"),
        (spec_of(epoch=3), r"has no argument 'epoch'; did you mean 'epochs'\?"),
        (spec_of(epochs=0), r"input should be greater than or equal to 1; found 0 \(.*params.epochs\)"),
        (spec_of(backend="jax"), r"input should be 'torch' or 'tensorflow'; found 'jax' \(.*params.backend\)"),
        (replace(spec_of(), kind="net.py:biuld"), r"net.py has no function biuld; did you mean 'build'\? \(.*kind\)"),
        (spec_of(source="import keras\ndef build(shapes): pass"), r"build takes too few arguments; .*build\(shapes, o"),
        (replace(small("    pass", width=3), params={}), r"needs the argument 'width' \(.*params.width\)"),
        (spec_of(source="import keras\n1 / 0"), r"cannot be imported: ZeroDivisionError: .* \(line 2 of net.py\)"),
        (replace(spec_of(), features=("numbers",), categorical=frozenset({"numbers"})), "is named 'numbers', which"),
        (small("    return 3"), "build of net.py returned a int, a keras.Model was expected"),
        (small("    return 1 / 0"), r"\(net.py:build\): build failed: ZeroDivisionError: .* \(line 4 of net.py\)"),
        (small("    return keras.Sequential([keras.layers.Dense(1)])"), r"without inputs; begin it with keras.Input\("),
        (
            numbers_of(small(SEQUENTIAL.replace("{layers}", "").replace("(outputs", "(3"))),
            r"output is \(None, 3\), \(None, 1\) was",
        ),
        (
            small(
                SEQUENTIAL.replace("{layers}", "").replace('shapes["noise"]', "(1,)").replace('"noise"', '"colours"')
            ),
            r"the model has an input 'colours', the rows have numbers, colour, place; did you mean 'colour'\?",
        ),
        (spec_of(end="linear"), r"outputs are no probabilities, from .*; end it with activation='sigmoid'"),
        (
            spec_of(source=SOURCE.replace("0.01", "1e30"), epochs=9),
            r"the loss is nan in epoch \d, batch \d+ \(training rows (\d+, )+\d+ and \d+ more, counted from 0\); lower",
        ),
    ],
)
def test_a_mistake_is_one_line(spec: Spec, message: str, train_rows: Any) -> None:
    with pytest.raises(UserError, match=message) as raised:
        make(spec).fit(train_rows.table, train_rows.label)
    assert "\n" not in str(raised.value)


@has_keras
def test_a_process_has_one_backend(train_rows: Any) -> None:
    make(spec_of())
    with pytest.raises(
        UserError, match=r"wants Keras with backend tensorflow, this process uses it with torch, .* the"
    ):
        make(spec_of(backend="tensorflow"))


@pytest.mark.parametrize(("backend", "missing"), [("torch", "keras"), ("tensorflow", "tensorflow")])
def test_an_extra_that_is_not_installed_is_named(backend: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    install = rf"uv pip install -c constraints.txt -e '.\[{missing}\]' --torch-backend=auto"
    command = rf"needs {missing}, which is not installed; .* {install} \(.*kind"
    with pytest.raises(UserError, match=command):
        make(spec_of(backend=backend))


def test_a_class_of_a_file_is_no_keras_model() -> None:
    assert is_keras("net.py:build", SOURCE)
    assert is_keras("net.py:make", "import keras\nmake = keras.Sequential")
    assert not is_keras("net.py:Own", "import keras\nclass Own: ...")
    assert not is_keras("net.py:Line", "from sklearn.linear_model import LogisticRegression as Line")


ISOLATED = """
import sys
from pathlib import Path
import pyarrow.parquet as pq

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(refuse)
from tests.refit.learners.test_keras import make, spec_of
rows = pq.read_table(sys.argv[1])
learner = make(spec_of(epochs=1))
learner.fit(rows.drop_columns(["label"]), rows["label"].to_numpy())
print(learner.digest(), "tensorflow" in sys.modules)
"""


@has_keras
@pytest.mark.slow
def test_it_depends_on_no_settings_of_the_machine_and_reaches_no_network(tmp_path: Path, root: Path) -> None:
    """Neither on those in the home folder and the environment, where Keras looks for some."""
    import pyarrow.parquet as pq

    rows = sample("binary", 100, seed=1)
    pq.write_table(rows.table.append_column("label", [rows.label]), tmp_path / "rows.parquet")
    (home := tmp_path / "home/.keras").mkdir(parents=True)
    (home / "keras.json").write_text('{"floatx": "float16", "image_data_format": "channels_first", "backend": "jax"}')
    settings = {
        "HOME": str(tmp_path / "home"),
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": str(home),
        "KERAS_MAX_EPOCHS": "1",
    }
    command = [sys.executable, "-c", ISOLATED, str(tmp_path / "rows.parquet")]
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    learner = make(spec_of(epochs=1))
    learner.fit(rows.table, rows.label)
    assert done.stdout.split() == [learner.digest(), "False"]
    assert [path.name for path in home.iterdir()] == ["keras.json"]


@pytest.mark.slow
@has_keras
def test_a_stored_model_names_the_libraries_it_needs(train_rows: Any, tmp_path: Path) -> None:
    learner = make(spec_of(epochs=1))
    learner.fit(train_rows.table, train_rows.label)
    learner.save(tmp_path)
    needed = requirements(KIND, network=network_libraries(tmp_path))
    assert {name.split("==")[0] for name in needed} >= {"keras", "torch", "safetensors"}
    stored = json.loads((tmp_path / "model.json").read_text())["libraries"]
    assert not [each for each in (*stored, *stored.values()) if "+" in each or "_" in each]
