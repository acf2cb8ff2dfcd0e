"""A module of the user's own: built with the shapes, trained by the loop, stored with its code, run only if trusted."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import RefitError, UserError
from refit.files.artifacts import write_manifest
from refit.learners import Spec, load, make
from refit.learners.conformance import check
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, sample
from refit.learners.networks.surroundings import FitAbandoned, checkpoints_in, curves_judged_by

KIND = "my_network.py:Wide"
SOURCE = """
import torch
from torch import nn

class Wide(nn.Module):
    needs = {"columns"}

    def __init__(self, shapes, outputs, units=8):
        super().__init__()
        self.codes = nn.ModuleList(nn.Embedding(count, 2) for count in shapes.cardinalities)
        self.layers = nn.Sequential(
            nn.Linear(2 * len(shapes.cardinalities) + shapes.numbers, units), nn.ReLU(), nn.Linear(units, outputs)
        )

    def forward(self, batch):
        codes = [layer(batch.codes[:, index]) for index, layer in enumerate(self.codes)]
        return self.layers(torch.cat([*codes, batch.numbers], dim=1))
"""
PARAMS = {"units": 16, "epochs": 4, "batch_rows": 64, "learning_rate": 0.01}


def spec_of(source: str = SOURCE, trusted: tuple[str, ...] = (KIND,), **params: Any) -> Spec:
    return Spec("it", KIND, FEATURES, CATEGORICAL, {**PARAMS, **params}, trusted_types=trusted, source=source)


@pytest.fixture(scope="module")
def rows() -> Any:
    return sample("binary", 300, seed=1)


def test_the_example_of_the_documentation_is_trained(root: Path, rows: Any) -> None:
    block = re.search(r"```python\n(.*?)```", (root / "docs/networks.md").read_text(), re.DOTALL)
    assert block
    learner = make(spec_of(block[1]))
    learner.fit(rows.table, rows.label)
    assert learner.spec.score(rows.label, learner.predict(rows.table)) > 0.7


@pytest.mark.slow
def test_it_keeps_every_rule_of_the_contract() -> None:
    found = list(check(spec_of()))
    assert [each.said for each in found if each.outcome == "failed"] == []


def test_it_keeps_the_code_it_was_made_with(tmp_path: Path, rows: Any) -> None:
    learner = make(spec_of())
    learner.fit(rows.table, rows.label)
    assert learner.unsafe_reason() is None
    learner.save(tmp_path)
    assert (tmp_path / "code/my_network.py").read_text() == SOURCE
    stored = load(tmp_path, trusted_types=(KIND,))
    np.testing.assert_array_equal(stored.predict(rows.table), learner.predict(rows.table))
    assert stored.digest() == learner.digest()


def test_stored_code_is_not_run_unless_it_is_trusted(tmp_path: Path, rows: Any) -> None:
    marker, folder = tmp_path / "ran", tmp_path / "stored"
    learner = make(spec_of(trusted=()))
    learner.fit(rows.table, rows.label)
    assert f"registry.trusted_types: ['{KIND}']" in str(learner.unsafe_reason())
    folder.mkdir()
    learner.save(folder)
    (folder / "code/my_network.py").write_text(f"{SOURCE}\nopen({str(marker)!r}, 'w')\n")
    write_manifest(folder)
    with pytest.raises(RefitError, match=r"loading it runs the copy of my_network.py"):
        load(folder)
    assert not marker.exists()


def test_another_text_of_the_file_or_another_argument_is_another_model(rows: Any) -> None:
    digests = set()
    for spec in (
        spec_of(),
        spec_of(f"{SOURCE}# another line\n"),
        spec_of(units=17),
        replace(spec_of(), seed=1),
    ):
        learner = make(spec)
        learner.fit(rows.table, rows.label)
        digests.add(learner.digest())
    assert len(digests) == 4


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_it_is_built_with_as_many_outputs_as_the_task_has(task: str) -> None:
    rows = sample(task, 300, seed=1)
    metric = {"multiclass": "log_loss", "regression": "rmse"}[task]
    learner = make(replace(spec_of(), task=task, metric=metric, classes=rows.classes))
    learner.fit(rows.table, rows.label)
    assert learner.predict(rows.table).shape == ((300, 3) if task == "multiclass" else (300,))


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"unit": 3}, r"'my_network.py:Wide' has no argument 'unit'; did you mean 'units'\? \(.*params.unit\)"),
        ({"epoch": 3}, r"has no argument 'epoch'; did you mean 'epochs'\?"),
        ({"epochs": 0}, r"greater than or equal to 1; found 0 \(.*params.epochs\)"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(params: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        make(spec_of(**params))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (
            "self.layers(torch",
            "self.layer(torch",
            r"fit failed: AttributeError: .*'layer'.*\(line 17 of my_network.py\)",
        ),
        ("shapes.numbers, units", "3, units", r"fit failed: RuntimeError: .*\(line 17 of my_network.py\); correct it"),
        ("super().__init__()", "pass", r"fit failed: AttributeError: .*\(line 10 of my_network.py\)"),
        (
            "return self.layers(",
            "return 0 * batch.codes + self.layers(",
            r"gave \(64, 2\) for 64 rows; \(64, 1\)",
        ),
        ("return self.layers(", "return list(self.layers(", r"forward gave list for 64 rows"),
        ("self.codes = ", "self.numbers = nn.ParameterDict({'mean': torch.ones(1)}); self.codes = ", "'numbers.mean'"),
    ],
)
def test_what_fails_in_it_is_reported_with_its_line(old: str, new: str, what: str, rows: Any) -> None:
    source = SOURCE.replace(old, new)
    if "list(" in new:
        source = source.replace("dim=1))", "dim=1)))")
    with pytest.raises(UserError, match=what) as raised:
        make(spec_of(source)).fit(rows.table, rows.label)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [KIND, "wide_package.Wide"])
def test_its_fit_is_given_up_where_a_search_stops_it(
    kind: str, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(curve: Any, epochs: int) -> None:
        raise FitAbandoned

    (tmp_path / "wide_package.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FitAbandoned), curves_judged_by(judge):
        make(replace(spec_of(), kind=kind)).fit(rows.table, rows.label, validation=(rows.table, rows.label))


@pytest.mark.slow
def test_a_fit_that_a_changed_package_began_is_begun_again(
    rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with checkpoints_in(tmp_path / "checkpoints", every_seconds=0):
        for count, forward in ((1, "self.layers("), (1, "self.layers("), (2, "-self.layers(")):
            (tmp_path / "deep_package.py").write_text(SOURCE.replace("self.layers(torch", f"{forward}torch"))
            monkeypatch.delitem(sys.modules, "deep_package", raising=False)
            importlib.invalidate_caches()
            make(replace(spec_of("", epochs=1), kind="deep_package.Wide")).fit(rows.table, rows.label)
            assert len(list((tmp_path / "checkpoints").iterdir())) == count


def test_a_misspelt_class_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"did you mean 'my_network.py:Wide'\?"):
        make(replace(spec_of(), kind="my_network.py:Wid"))


def test_a_class_of_a_package_that_takes_no_shapes_is_one_line(rows: Any) -> None:
    learner = make(replace(spec_of(), kind="torch.nn.Linear", params={}, source=""))
    with pytest.raises(UserError, match=r"learner 'it' \(torch.nn.Linear\): fit failed: TypeError: ") as raised:
        learner.fit(rows.table, rows.label)
    assert "\n" not in str(raised.value)


def test_it_reads_no_feature_that_it_does_not_need(rows: Any) -> None:
    source = SOURCE.replace('needs = {"columns"}', 'needs = {"image"}')
    with pytest.raises(UserError, match=r"learner 'my_network.py:Wide' reads image, feature 'strength' is a number"):
        make(spec_of(source)).fit(rows.table, rows.label)


def test_a_module_that_reads_texts_has_a_tokenizer() -> None:
    pytest.importorskip("tokenizers", reason="needs the extra [transformers]")
    count = "torch.stack([row.bincount(minlength=self.words) for row in batch.tokens])"
    source = (
        SOURCE.replace('{"columns"}', '{"columns", "text"}')
        .replace("shapes.numbers, units", "shapes.numbers + shapes.vocabulary, units")
        .replace("        self.layers", "        self.words = shapes.vocabulary\n        self.layers")
        .replace("batch.numbers]", f"batch.numbers, {count}.float()]")
    )
    table = pa.table({"remark": ["a fine day", "a poor day"] * 20})
    vectoriser = {"kind": "sklearn.feature_extraction.text.TfidfVectorizer", "params": {}, "components": 50}
    params = {"vocabulary": 300, "epochs": 20}
    spec = replace(spec_of(source, **params), features=("remark",), categorical=frozenset(), text=("remark",))
    learner = make(replace(spec, vectoriser=vectoriser))
    learner.fit(table, np.array([1, 0] * 20))
    assert ((learner.predict(table) > 0.5) == np.array([1, 0] * 20)).all()
