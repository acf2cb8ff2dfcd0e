"""The model that networks start from: found, checked and copied; named by lineage, which walks both ways."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_transformer import write_folder

from refit import learners
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.files.artifacts import TRAINING, read_json, write_json
from refit.learners import Spec
from refit.models import ancestry, export, parents
from refit.operations import reproduce as reproduction
from refit.operations.retention import _staying
from refit.runtime import registry_store
from refit.schemas.snapshot import Snapshot
from refit.schemas.warm_start import WarmStart
from registry import versions
from registry.client import client
from tasks import register
from tasks.register import lineage

pytestmark = pytest.mark.usefixtures("same_process")

OWN = """
import json
from refit.learners import Declaration

class Flat:
    declaration = Declaration(safe_format="json")

    def __init__(self, spec):
        self.spec = spec

    def fit(self, train, label, *, validation=None, iterations=None, progress=None):
        self.share = float(sum(label)) / len(label)

    def predict(self, table):
        return [self.share] * len(table)

    def save(self, folder):
        (folder / "share.json").write_text(json.dumps(self.share))

    @classmethod
    def load(cls, folder, spec):
        learner = cls(spec)
        learner.share = json.loads((folder / "share.json").read_text())
        return learner
"""


@pytest.fixture
def base(project: Any) -> Any:
    """A project with a champion, version 1 of toy."""
    project.registered(0)
    return project


def with_child(base: Any, source: str = "models:/toy@champion", *, number: int = 2, records: bool = False) -> WarmStart:
    """Register version 2, whose training started from version 1; older Refits did not record what that has seen."""
    base.judged(number - 1)
    parent = parents.fetched(base.context, source)
    seen = ancestry.seen_by(base.context, base.folder / parent.folder) if records else None
    start = WarmStart(parent=parent, seen=seen)
    training = read_json(base.folder / TRAINING)
    write_json(base.folder / TRAINING, {**training, "started_from": start.to_json()})
    register.run(base.context)
    return start


def weights_in(folder: Path) -> Path:
    return next(path for path in (folder / "data/candidate").iterdir() if path.suffix == ".skops")


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_a_champion_or_a_number_names_the_same_parent_with_a_checked_copy(base: Any) -> None:
    champion, number = (parents.fetched(base.context, f"models:/toy{end}") for end in ("@champion", "/1"))
    assert champion == number.model_copy(update={"source": champion.source})
    assert (champion.model, champion.version) == ("toy", "1")
    assert champion.model_digest == base.version("1").tags["refit.model_digest"]
    copy = base.folder / champion.folder
    good = weights_in(copy).read_bytes()
    damage(weights_in(copy))
    parents.fetched(base.context, "models:/toy/1", champion)
    assert weights_in(copy).read_bytes() == good, "a damaged copy is fetched again"


@pytest.mark.slow
def test_only_the_newest_parent_has_a_copy(base: Any) -> None:
    first = parents.fetched(base.context, "models:/toy/1")
    base.registered(1)
    second = parents.fetched(base.context, "models:/toy@champion", first)
    assert second.version == "2"
    assert [path.name for path in (base.folder / parents.FOLDER).iterdir()] == [Path(second.folder).name]
    assert parents.fetched_again(base.context, first).is_dir()
    assert (base.folder / second.folder).is_dir(), "a reproduction leaves the parent of the next training"
    parents.fetched(base.context, "models:/toy@champion", second)
    assert [path.name for path in (base.folder / parents.FOLDER).iterdir()] == [Path(second.folder).name]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("models:/tooy/1", "there is no model 'tooy' in the registry at .* the same registry.tracking_uri"),
        ("models:/toy/7", "toy has no version 7 in the registry"),
        ("models:/toy@best", "toy has no version with the alias best in the registry"),
        ("../nothing", "nothing is not a folder that `refit export` wrote"),
    ],
)
def test_what_is_not_there_is_one_line(source: str, what: str, base: Any) -> None:
    with pytest.raises(UserError, match=what) as raised:
        parents.fetched(base.context, source)
    assert "\n" not in str(raised.value)


@pytest.mark.ci
def test_a_deleted_or_altered_parent_is_an_error_that_names_it(base: Any) -> None:
    parent = with_child(base).parent
    assert parent is not None
    with pytest.raises(
        RefitError, match=r"version 1 of toy was altered since .*: its manifest was 000000000000 and is"
    ):
        parents.fetched(base.context, "models:/toy/1", parent.model_copy(update={"manifest": "0" * 64}))
    run_id = base.version("1").run_id
    (stored,) = [path for path in (base.folder / ".refit/mlartifacts").rglob("model.skops") if run_id in path.parts]
    damage(stored)
    for what in ("is missing or is not the file that was registered; restore it", "is missing or differs from its"):
        for again in (
            lambda: parents.fetched(base.context, "models:/toy/1"),
            lambda: parents.fetched_again(base.context, parent),
        ):
            with pytest.raises(RefitError, match="version 1 of toy cannot be used") as raised:
                again()
            assert f"{stored} {what}" in str(raised.value), "no temporary copy is named"
        shutil.rmtree(base.folder / parents.FOLDER, ignore_errors=True)
    mlflow = client(base.store)
    for alias in ("champion", "previous", "challenger"):
        mlflow.delete_registered_model_alias("toy", alias)
    mlflow.delete_model_version("toy", "1")
    with pytest.raises(UserError, match="version 1 of toy was deleted in the registry at"):
        parents.fetched_again(base.context, parent)
    (of_lineage,) = lineage.lineage(base.context, "2").parents
    assert (of_lineage.version, of_lineage.state) == ("1", "deleted")
    what = (
        r"^train.start_from: models:/toy@champion: version 2 of toy is the .* \(with --project DIR, the project of toy"
    )
    with pytest.raises(RefitError, match=what):
        parents.fetched(base.context, "models:/toy@champion")


def test_an_exported_folder_is_a_parent_whose_files_are_checked(base: Any) -> None:
    exported = base.folder.parent / "exported"
    export.export(base.context, "1", exported)
    parent = parents.fetched(base.context, "../exported")
    assert (parent.model, parent.version) == ("toy", None)
    assert parent.model_digest == base.version("1").tags["refit.model_digest"]
    assert parents.fetched(base.context, "../exported", parent) == parent
    manifest = exported / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b"\n")
    with pytest.raises(RefitError, match=r"toy in \.\./exported was altered since"):
        parents.fetched(base.context, "../exported", parent)
    manifest.write_bytes(whole)
    damage(weights_in(exported))
    with pytest.raises(RefitError, match=r"exported is not as `refit export` wrote it: .*model\.skops"):
        parents.fetched(base.context, "../exported", parent)


@pytest.mark.parametrize("name", ["../../toy", "..", "a/b", "", 7])
def test_an_exported_folder_whose_model_is_named_like_a_path_deletes_and_writes_nothing(name: Any, base: Any) -> None:
    exported = base.folder.parent / "exported"
    export.export(base.context, "1", exported)
    params = exported / "provenance/params.yaml"
    params.write_text(yaml.safe_dump({**yaml.safe_load(params.read_bytes()), "project": {"name": name}}))
    (exported / "manifest.json").unlink()
    artifacts.write_manifest(exported)
    before = sorted(base.folder.rglob("*"))
    with pytest.raises(RefitError, match=r"exported is not as `refit export` wrote it: .*params.yaml: project.name"):
        parents.fetched(base.context, "../exported")
    assert sorted(base.folder.rglob("*")) == before


@pytest.mark.slow
def test_a_version_that_was_started_from_a_folder_outside_of_the_project_is_not_reproduced(
    base: Any, tmp_path: Path
) -> None:
    start = with_child(base)
    assert start.parent is not None
    (tmp_path / "stored/provenance").mkdir(parents=True)
    (tmp_path / "again").mkdir()
    for changed in (
        WarmStart(parent=start.parent.model_copy(update={"folder": "../elsewhere"})),
        WarmStart(version="1", model_digest="", seen_until=start.parent.seen_until, folder="../elsewhere"),
    ):
        changed.write(tmp_path / "stored/provenance/warm_start.json")
        with pytest.raises(RefitError, match=r"warm_start.json names \.\./elsewhere, .* outside of the project"):
            reproduction._start(base.context, tmp_path / "stored", tmp_path / "again")
    assert not (tmp_path / "elsewhere").exists()


def test_an_exported_model_of_ones_own_kind_is_a_parent_once_it_is_trusted(base: Any) -> None:
    exported = base.folder.parent / "exported"
    export.export(base.context, "1", exported)
    kind = "my_learner.py:Flat"
    spec = Spec("own", kind, ("distance",), trusted_types=(kind,), source=OWN)
    own = learners.make(spec)
    rows = pq.read_table(base.folder / artifacts.TABLE)
    own.fit(rows, rows["label"].to_numpy())
    model = exported / "data/candidate"
    described = (model / "features.json").read_bytes()
    shutil.rmtree(model)
    model.mkdir()
    own.save(model)
    (model / "features.json").write_bytes(described)
    for folder in (model, exported):
        (folder / "manifest.json").unlink()
        artifacts.write_manifest(folder)
    with pytest.raises(RefitError, match=r"train.start_from: .*exported cannot be used: .*registry.trusted_types"):
        parents.fetched(base.context, "../exported")
    registry = base.context.params.registry.model_copy(update={"trusted_types": (kind,)})
    context = replace(base.context, params=base.context.params.model_copy(update={"registry": registry}))
    assert parents.fetched(context, "../exported").model_digest == own.digest()


@pytest.mark.ci
def test_lineage_is_walked_both_ways_and_said_in_words(base: Any) -> None:
    with_child(base)
    digest = base.version("1").tags["refit.model_digest"]
    assert base.version("2").tags["refit.parent"] == "version 1 of toy"
    assert base.version("2").tags["refit.parent_digest"] == digest
    (parent,), (child,) = lineage.lineage(base.context, "2").parents, lineage.lineage(base.context, "1").children
    assert (parent.version, parent.model_digest, parent.state) == ("1", digest, "registered")
    assert (child.version, child.generation) == ("2", 1)
    assert lineage.lineage(base.context, "1").parents == lineage.lineage(base.context, "2").children == ()
    assert "started from the weights of version 1 of toy" in " ".join(lineage.explain(base.context, "2"))
    assert register.champion_summary(base.context).started_from == "version 1 of toy"


@pytest.mark.slow
def test_what_a_parents_parent_has_seen_is_recorded_or_looked_up_and_unknown_if_it_is_gone(base: Any) -> None:
    with_child(base)
    with_child(base, "models:/toy/2", number=3, records=True)
    batches = tuple(sorted(batch.sha256 for batch in Snapshot.read(base.folder / artifacts.SNAPSHOT).batches))

    def seen(number: str) -> Any:
        parent = parents.fetched(base.context, f"models:/toy/{number}")
        return ancestry.seen_by(base.context, base.folder / parent.folder)

    for number in "23":
        (own,) = seen(number)  # of one rule, so all that they have seen is one
        assert own.batches == batches
    for alias in ("champion", "previous", "challenger"):
        client(base.store).delete_registered_model_alias("toy", alias)
    client(base.store).delete_model_version("toy", "1")
    assert seen("2") is None
    assert seen("3") == (own,), "its own record says it"


@pytest.mark.slow
def test_a_parent_stays_while_its_child_does(base: Any) -> None:
    with_child(base)
    base.registered(2)
    base.registered(3)
    client(base.store).set_registered_model_tag("toy", versions.ANCHOR, "4")  # which would keep version 1 too
    retention = base.context.params.retention.model_copy(update={"versions": 1})
    context = type(base.context)(
        project=base.folder, params=base.context.params.model_copy(update={"retention": retention})
    )
    with registry_store.opened(context) as store:
        reasons = _staying(context, store, [base.version(number) for number in "1234"])
    assert reasons["1"] == "version 2 of toy was trained from it"


@pytest.fixture
def pretrained(base: Any) -> Path:
    """A Hugging Face folder next to the project."""
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
    return write_folder(base.folder.parent / "tiny")


def test_a_hugging_face_folder_is_a_parent_of_which_only_what_is_read_is_copied(base: Any, pretrained: Path) -> None:
    (pretrained / "pytorch_model.bin").write_bytes(b"a pickle")
    parent = parents.fetched(base.context, "../tiny")
    assert (str(parent), parent.version, parent.seen_until) == ("pretrained tiny in ../tiny", None, None)
    copy = base.folder / parent.folder
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert files == {"config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
    damage(copy / "model.safetensors")
    assert parents.fetched(base.context, "../tiny", parent) == parent
    assert (copy / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()


def test_a_pretrained_parent_that_was_altered_or_deleted_is_an_error_that_names_it(base: Any, pretrained: Path) -> None:
    parent = parents.fetched(base.context, "../tiny")
    write_folder(pretrained, seed=1)
    for again in (
        lambda: parents.fetched(base.context, "../tiny", parent),
        lambda: parents.fetched_again(base.context, parent),
    ):
        with pytest.raises(RefitError, match=r"pretrained tiny in \.\./tiny was altered since a training started"):
            again()
    shutil.rmtree(pretrained)
    with pytest.raises(UserError, match=r"tiny is not a folder that .* nor a Hugging Face folder"):
        parents.fetched_again(base.context, parent)


@pytest.mark.slow
def test_lineage_names_a_pretrained_parent(base: Any, pretrained: Path) -> None:
    start = with_child(base, "../tiny")
    (parent,) = lineage.lineage(base.context, "2").parents
    assert start.parent is not None
    assert (parent.model, parent.version, parent.state) == ("pretrained tiny in ../tiny", None, "pretrained")
    assert parent.model_digest == start.parent.model_digest
    assert "started from the weights of pretrained tiny in ../tiny" in " ".join(lineage.explain(base.context, "2"))


def test_a_folder_of_an_installed_package_is_found_without_importing_it(
    base: Any, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = base.folder.parent / "site/carries_tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    pretrained.rename(package / "model")
    monkeypatch.syspath_prepend(package.parent)
    parent = parents.fetched(base.context, "package:carries_tiny/model")
    assert str(parent) == "pretrained model in package:carries_tiny/model"
    with pytest.raises(UserError, match="there is no package carries_nothing in this environment; install the"):
        parents.fetched(base.context, "package:carries_nothing/model")
