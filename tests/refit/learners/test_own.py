"""A class of the user's own: from her file into the candidate and out of it again, run only where she trusts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from refit.errors import RefitError, UserError
from refit.files.artifacts import write_manifest
from refit.learners import Spec, load, make, project_files, update
from refit.runtime import run_file

KIND = "my_learner.py:Shares"
SOURCE = """
import json
import numpy as np
from sklearn.linear_model import LogisticRegression
from refit.learners import Declaration

class Shares:
    declaration = Declaration(safe_format="json")

    def __init__(self, spec):
        self.spec = spec

    def fit(self, train, label, *, validation=None, iterations=None, progress=None):
        names = train["colour"].to_pylist()
        of = {name: [y for n, y in zip(names, label) if n == name] for name in sorted(set(names))}
        self.share = {name: float(np.mean(labels)) for name, labels in of.items()}

    def predict(self, table):
        return [self.share[name] for name in table["colour"].to_pylist()]

    def save(self, folder):
        (folder / "shares.json").write_text(json.dumps(self.share))

    @classmethod
    def load(cls, folder, spec):
        learner = cls(spec)
        learner.share = json.loads((folder / "shares.json").read_text())
        return learner

class Line(LogisticRegression):
    pass
"""


def spec_of(kind: str = KIND, source: str = SOURCE, trusted: tuple[str, ...] = (KIND,)) -> Spec:
    return Spec("it", kind, ("colour",), frozenset({"colour"}), trusted_types=trusted, source=source)


@pytest.mark.parametrize("kind", [KIND, "my_learner.py:Line"])
def test_a_model_keeps_the_code_it_was_made_with(kind: str, tmp_path: Path, train_rows: Any) -> None:
    """So it predicts the same when the project's file is another one, or gone."""
    learner = make(spec_of(kind, trusted=(kind,)))
    learner.fit(train_rows.table, train_rows.label)
    assert learner.unsafe_reason() is None
    learner.save(tmp_path)
    assert (tmp_path / "code/my_learner.py").read_text() == SOURCE
    again = load(tmp_path, trusted_types=(kind,))
    np.testing.assert_array_equal(again.predict(train_rows.table), learner.predict(train_rows.table))
    assert again.digest() == learner.digest()


@pytest.mark.parametrize("kind", [KIND, "my_learner.py:Line"])
def test_stored_code_is_not_run_unless_it_is_trusted(kind: str, tmp_path: Path, train_rows: Any) -> None:
    marker = tmp_path / "ran"
    learner = make(spec_of(kind, trusted=()))
    learner.fit(train_rows.table, train_rows.label)
    assert f"registry.trusted_types: ['{kind}']" in str(learner.unsafe_reason())
    folder = tmp_path / "stored"
    folder.mkdir()
    learner.save(folder)
    (folder / "code/my_learner.py").write_text(f"{SOURCE}\nopen({str(marker)!r}, 'w')\n")
    write_manifest(folder)
    with pytest.raises(RefitError, match=r"loading it runs the copy of my_learner.py"):
        load(folder)
    assert not marker.exists()


def test_another_text_of_the_file_is_another_model(train_rows: Any) -> None:
    digests = set()
    for source in (SOURCE, f"{SOURCE}# another line\n"):
        learner = make(spec_of(source=source))
        learner.fit(train_rows.table, train_rows.label)
        digests.add(learner.digest())
    assert len(digests) == 2


def test_what_fails_in_it_is_told_with_its_line(train_rows: Any) -> None:
    learner = make(spec_of(source=SOURCE.replace("self.share[name] for", "self.shares[name] for")))
    learner.fit(train_rows.table, train_rows.label)
    said = r"my_learner.py:Shares\): predict failed: AttributeError: .*\(line 19 of my_learner.py\); correct it"
    with pytest.raises(UserError, match=said):
        learner.predict(train_rows.table)
    with pytest.raises(UserError, match=r"cannot be imported: ZeroDivisionError: .* \(line 1 of my_learner.py\)"):
        make(spec_of(source="1 / 0"))
    with pytest.raises(UserError, match=r"did you mean 'my_learner.py:Shares'\? \(params.yaml: train.learners.kind\)"):
        make(spec_of("my_learner.py:Share"))


def test_a_file_that_is_not_there_or_needs_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "my_learner.py").write_text("import other")
    (tmp_path / "other.py").write_text("")
    with pytest.raises(UserError, match=r"no file my_learn.py in the project .*; did you mean 'my_learner.py'\?"):
        project_files.read_source(tmp_path, "my_learn.py:Shares")
    with pytest.raises(UserError, match=r"my_learner.py imports other of the project"):
        project_files.read_source(tmp_path, KIND)
    with pytest.raises(UserError, match=r"write it my_learner.py:Shares"):
        project_files.read_source(tmp_path, "my_learner.Shares")
    with pytest.raises(UserError, match=r"no file ../my_learner.py"):
        project_files.read_source(tmp_path / "inner", "../my_learner.py:Shares")
    (tmp_path / "my_learner.py").write_text("def :")
    with pytest.raises(UserError, match="line 1: invalid syntax"):
        project_files.read_source(tmp_path, KIND)
    assert project_files.read_source(tmp_path, "sklearn.svm.SVC") == ""


def test_a_change_of_the_file_is_a_change_of_what_training_executes(tmp_path: Path) -> None:
    (tmp_path / "my_learner.py").write_text(SOURCE)
    rows = {"kind": "files", "path": "*.csv", "columns": {"id": "text"}, "key": ["id"]}
    params = {
        "project": {"name": "demo"},
        "ingest": {"sources": {"rows": rows}},
        "featurize": {"label": {"source": "rows", "column": "label"}},
        "train": {"learners": [{"name": "shares", "kind": KIND}]},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    def code() -> dict[str, str]:
        run_file.write(tmp_path, run_file.RunFile())
        found: dict[str, str] = yaml.safe_load((tmp_path / "run.yaml").read_text())["code"]
        return found

    before = code()
    assert code() == before
    (tmp_path / "my_learner.py").write_text(f"{SOURCE}# changed\n")
    assert {stage for stage, digest in code().items() if digest != before[stage]} == {"train"}


UPDATED = SOURCE.replace(
    "class Line(",
    """    def update(self, rows, label):
        for name in sorted(set(rows["colour"].to_pylist())):
            new = [y for n, y in zip(rows["colour"].to_pylist(), label) if n == name]
            self.share[name] = (self.share.get(name, 0.5) + float(np.mean(new))) / 2

class Line(""",
)


def test_a_class_with_an_update_learns_batch_by_batch_and_from_a_champion(train_rows: Any) -> None:
    table, label = train_rows.table, train_rows.label
    before = make(spec_of(source=UPDATED))
    before.fit(table, label)
    digest = before.digest()
    assert before.declaration.warm_start
    after = update(before, [(table, 1 - label), (table, 1 - label)])
    assert before.digest() == digest
    colours = table["colour"].to_pylist()
    red = [index for index, colour in enumerate(colours) if colour == colours[0]]
    share = label[red].mean()
    assert after.predict(table)[0] == pytest.approx(((share + 1 - share) / 2 + 1 - share) / 2)
    kept, moved = make(before.spec), make(before.spec)
    assert kept.resume(before, table, 1 - label, validation=(table, label)).iterations == 0
    assert kept.digest() == digest
    assert moved.resume(before, table, 1 - label, validation=(table, 1 - label)).iterations == 1
    assert moved.digest() == update(before, [(table, 1 - label)]).digest()


def test_a_class_that_has_changed_since_does_not_go_on(train_rows: Any) -> None:
    """What it has learned predicts by the code that it was learned with."""
    before = make(spec_of(source=UPDATED))
    before.fit(train_rows.table, train_rows.label)
    other = replace(before.spec, source=f"{UPDATED}# changed\n")
    with pytest.raises(UserError, match=r"Shares has changed since; set train.warm_start: null to use it"):
        make(other).resume(before, train_rows.table, train_rows.label, iterations=1)
    other = replace(before.spec, params={"rounds": 3})
    with pytest.raises(UserError, match=r"learned by rounds: its default; the params ask for 3: set it back, or"):
        make(other).resume(before, train_rows.table, train_rows.label, iterations=1)


USING = UPDATED.replace("safe_format=", 'unlabelled="used", safe_format=')
TAKING = USING.replace(
    "update(self, rows, label):", "update(self, rows, label, unlabelled=None):\n        self.more = unlabelled"
)


def test_a_class_that_uses_rows_without_a_label_gets_them_when_it_goes_on_too(train_rows: Any) -> None:
    table, label = train_rows.table, train_rows.label
    for source in (TAKING, USING):  # an `update` that takes only rows and label gets no more
        before: Any = make(spec_of(source=source))
        before.fit(table, label)
        after: Any = make(spec_of(source=source))
        after.resume(before, table, label, iterations=1, unlabelled=table.slice(0, 7))
        if source == TAKING:
            assert after._inner.more.column_names == ["colour"]
            assert after._inner.more.num_rows == 7


def test_a_class_without_an_update_says_what_it_lacks(train_rows: Any) -> None:
    before = make(spec_of())
    before.fit(train_rows.table, train_rows.label)
    assert not before.declaration.warm_start
    with pytest.raises(UserError, match=r"cannot go on .*: it has no method update\(rows, label\); write one, or"):
        update(before, [(train_rows.table, train_rows.label)])
