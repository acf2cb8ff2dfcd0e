"""A project starts from the champion of another one: through all stages, in the registry, and made again."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from driving import check_here, drive, states

from flows.run_options import RunOptions
from flows.session import context_of, session
from refit.cli.inspection import print_lineage
from refit.cli.running import reproduce
from refit.config import STAGES
from refit.errors import RefitError, UserError
from refit.files.artifacts import TRAINING, WARM_START, read_json
from refit.models import export, verification
from refit.new_project.project_folder import create
from refit.operations.retention import _staying
from refit.runtime import registry_store
from registry import versions
from registry.client import client
from registry.versions import version
from tasks.register import champion_summary, lineage
from tasks.stages import run_remembered

pytestmark = pytest.mark.slow  # tests/tasks/register/test_parents.py has what needs no pipeline

NETWORK = {"hidden": [8], "epochs": 6, "batch_rows": 64, "dropout": 0.0, "learning_rate": 0.02}
BASELINE = {"name": "base_rate", "kind": "baseline"}
UNCHANGED = ["unchanged"] * 6


def write(path: Path, names: tuple[str, str, str], seed: int) -> None:
    """Flats whose area and rooms decide which of three names they bear."""
    chance = random.Random(seed)
    rows = []
    for number in range(1500):
        area, rooms = round(chance.uniform(20, 150), 1), chance.randint(1, 6)
        worth = 0.03 * area + 0.4 * rooms + chance.gauss(0, 0.3)
        sold = date(2024, 1, 1) + timedelta(days=number // 10)
        name = names[0] if worth < 3 else names[1] if worth < 4.5 else names[2]
        rows.append({"flat": f"{seed}-{number:05d}", "sold": sold, "area": area, "rooms": rooms, "is": name})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def new_project(folder: Path, names: tuple[str, str, str], seed: int, **train: Any) -> Path:
    """A project whose registry lies next to its folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    table = folder.parent / f"{folder.name}.csv"
    write(table, names, seed)
    create(folder, csv=table, time=None, label="is", key=())
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["registry"]["tracking_uri"] = "sqlite:///../registry/mlflow.db"
    params["train"] |= {"learners": [BASELINE, {"name": "net", "kind": "mlp", "params": NETWORK}], "seed": 3, **train}
    params["evaluate"] |= {"permutation_rows": 0, "explain": {"rows": 0}}
    params["evaluate"].setdefault("gate", {}).update({"min_rows": 100, "min_clusters": 3})
    params["register"] = {"golden_rows": 5}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder.parent / "registry").mkdir(exist_ok=True)
    return folder


class Family:
    """A project, another one that starts from its champion, and their registry."""

    def __init__(self, root: Path) -> None:
        self.root, self.base, self.child = root, root / "base", root / "child"

    def with_client(self) -> Any:
        return client(registry_store.store_of(self.base, context_of(self.base).params))

    def delete_parent(self) -> None:
        mlflow = self.with_client()
        mlflow.delete_registered_model_alias("base", "champion")
        mlflow.delete_model_version("base", "1")


@pytest.fixture(scope="session", autouse=True)
def same_process() -> Iterator[None]:
    """Stored models are checked in this process; that a fresh one is started is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "in_fresh_process", check_here)
        yield


def train(project: Path, **overrides: Any) -> dict[str, Any]:
    """Run up to `train`; returns `training.json`."""
    with session(project, RunOptions(overrides=overrides)) as run:
        for stage in STAGES[: STAGES.index("evaluate")]:
            run_remembered(stage, run.context())
    training: dict[str, Any] = read_json(project / TRAINING)
    return training


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Both after their first run; only to be looked at."""
    family = Family(tmp_path_factory.mktemp("family"))
    new_project(family.base, ("low", "middle", "high"), 1)
    first = drive(family.base)
    assert first["model"]["alias"] == "champion", first["decision"]["reasons"]
    new_project(family.child, ("cheap", "fair", "dear"), 2, start_from="models:/base@champion")
    second = drive(family.child)
    assert second["model"]["alias"] == "champion", second["decision"]["reasons"]
    return family


@pytest.fixture
def family(done: Family, tmp_path: Path) -> Family:
    """A copy in which anything may be broken."""
    from registry import relocation
    from registry.store import locate

    shutil.copytree(done.root, tmp_path / "family", symlinks=True)
    relocation.settle(locate(tmp_path / "family/base", "sqlite:///../registry/mlflow.db"))
    return Family(tmp_path / "family")


def test_the_parent_is_recorded_wherever_the_start_is(done: Family) -> None:
    started = read_json(done.child / TRAINING)["started_from"]
    assert started == read_json(done.child / WARM_START)
    parent = read_json(done.base / TRAINING)
    assert started["parent"]["model_digest"] == parent["model_digest"]
    assert (started["parent"]["model"], started["parent"]["version"]) == ("base", "1")
    context = context_of(done.child)
    with registry_store.opened(context) as store:
        mine = version(store, "child", "1")
    assert mine is not None
    assert mine.tags["refit.parent"] == "version 1 of base"
    assert mine.tags["refit.parent_digest"] == parent["model_digest"]


def test_lineage_is_walked_both_ways_and_printed(done: Family, capsys: pytest.CaptureFixture[str]) -> None:
    of_child, of_base = (lineage.lineage(context_of(project), "1") for project in (done.child, done.base))
    up, down = of_child.parents, of_base.children
    for each in (of_child, of_base):
        print_lineage(each)
    printed = capsys.readouterr().out
    assert f"parent        version 1 of base, model {str(of_base.model_digest)[:12]}" in printed
    assert f"child         version 1 of child, model {str(of_child.model_digest)[:12]}" in printed
    assert [(each.model, each.version, each.state) for each in up] == [("base", "1", "registered")]
    assert [(each.model, each.version, each.generation) for each in down] == [("child", "1", 1)]
    assert "started from the weights of version 1 of base" in " ".join(lineage.explain(context_of(done.child), "1"))
    assert champion_summary(context_of(done.child)).started_from == "version 1 of base"
    assert lineage.lineage(context_of(done.base), "1").parents == ()


def test_a_second_run_is_unchanged_and_a_new_parent_trains_again(family: Family) -> None:
    assert states(drive(family.child)) == UNCHANGED
    before = read_json(family.child / TRAINING)
    second = drive(family.base, overrides={"train.seed": 4})
    number = second["model"]["version"]
    after = train(family.child, **{"train.start_from": f"models:/base/{number}"})
    assert after["inputs"] != before["inputs"]
    assert after["model_digest"] != before["model_digest"]


def test_a_version_is_made_again_from_its_own_parent(family: Family) -> None:
    shutil.rmtree(family.child / ".refit/parents")
    compared = reproduce(family.child, "1", wait_seconds=0)
    assert [each.what for each in compared if not each.same] == []


def test_a_parent_that_was_deleted_is_an_error_that_names_it(family: Family) -> None:
    family.delete_parent()
    with pytest.raises(RefitError, match="version 1 of base"):
        train(family.child)
    with pytest.raises(UserError, match="version 1 of base was deleted in the registry"):
        train(family.child, **{"train.start_from": "models:/base/1"})
    with pytest.raises(UserError, match="version 1 of base was deleted"):
        reproduce(family.child, "1", wait_seconds=0)
    (parent,) = lineage.lineage(context_of(family.child), "1").parents
    assert parent.state == "deleted"


def test_a_parent_that_was_altered_is_an_error_that_names_it(family: Family) -> None:
    (weights,) = _weights(family)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    shutil.rmtree(family.child / ".refit/parents")
    for again in (lambda: train(family.child), lambda: reproduce(family.child, "1", wait_seconds=0)):
        with pytest.raises(RefitError, match=r"version 1 of base cannot be used: .*model\.safetensors"):
            again()


def test_a_copy_of_the_parent_that_was_altered_is_fetched_again_and_never_trained_from(family: Family) -> None:
    (copy,) = (family.child / ".refit/parents").iterdir()
    weights = copy / "data/candidate/model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"x")
    before = (family.child / TRAINING).read_bytes()
    train(family.child)
    assert weights.read_bytes() == good
    assert (family.child / TRAINING).read_bytes() == before


def test_the_parent_of_a_version_stays_when_others_go(family: Family) -> None:
    for seed in (4, 5):
        drive(family.base, overrides={"train.seed": seed})
    context = context_of(family.base)
    params = context.params.model_copy(
        update={"retention": context.params.retention.model_copy(update={"versions": 1})}
    )
    family.with_client().set_registered_model_alias("base", "champion", "3")
    family.with_client().delete_registered_model_alias("base", "previous")
    family.with_client().set_registered_model_tag("base", versions.ANCHOR, "3")  # which would keep version 1 too
    with registry_store.opened(context) as store:
        every = [each for number in "123" if (each := version(store, "base", number))]
        reasons = _staying(type(context)(project=context.project, params=params), store, every)
    assert reasons["1"] == "version 1 of child was trained from it"


def test_an_exported_folder_is_a_start_too(family: Family) -> None:
    export.export(context_of(family.base), "1", family.root / "exported")
    settings = {"train.start_from": "../exported"}
    told = drive(family.child, overrides=settings)
    parent = read_json(family.child / TRAINING)["started_from"]["parent"]
    assert (parent["model"], parent.get("version")) == ("base", None)
    (of_lineage,) = lineage.lineage(context_of(family.child), told["model"]["version"]).parents
    assert (of_lineage.model, of_lineage.state) == ("base in ../exported", "exported")
    manifest = family.root / "exported/manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b"\n")
    with pytest.raises(RefitError, match=r"base in \.\./exported was altered since"):
        train(family.child, **settings)
    manifest.write_bytes(whole)
    weights = family.root / "exported/data/candidate/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RefitError, match=r"exported is not as `refit export` wrote it: .*model\.safetensors"):
        train(family.child, **settings)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (
            {"train.start_from": "models:/bse/1"},
            "there is no model 'bse' in the registry at .*same registry.tracking_uri",
        ),
        ({"train.start_from": "models:/base/7"}, "base has no version 7 in the registry"),
        ({"train.start_from": "models:/base@best"}, "base has no version with the alias best"),
        ({"train.start_from": "../nothing"}, "nothing is not a folder that `refit export` wrote"),
        ({"train.start_from": "hf:bert"}, "'hf:bert' names no version; write models:/NAME@champion"),
        ({"train.warm_start": "champion"}, "starts from one model; leave warm_start or start_from out"),
        (
            {"train.learners": [BASELINE, {"name": "line", "kind": "sklearn.linear_model.LogisticRegression"}]},
            r"'line' cannot start from version 1 of base: networks can, .*learners\[1\]",
        ),
        (
            {"train.learners.1.params.hidden": [16]},
            r"layers.0.bias is 8 there and 16 here; its params are hidden: \[8\], dropout: 0.0",
        ),
        ({"featurize.windows.test": 12}, "has learned from data up to .*, the test window starts at"),
    ],
)
def test_what_cannot_start_is_one_line_before_anything_is_fitted(
    settings: dict[str, Any], what: str, family: Family
) -> None:
    before = (family.child / TRAINING).read_bytes()
    with pytest.raises(UserError, match=what) as raised:
        train(family.child, **settings)
    assert "\n" not in str(raised.value)
    left = family.child / TRAINING  # DVC deletes the outputs of a stage before it runs
    assert not left.is_file() or left.read_bytes() == before


def test_a_file_of_another_start_is_not_trained_from(family: Family) -> None:
    from tasks.train.start import start_of

    context = context_of(family.child)
    (family.child / WARM_START).write_text('{"version": null}')
    with pytest.raises(RefitError, match=r"warm_start.json names no parent, train.start_from models:/base@champion"):
        start_of(context)


def _weights(family: Family) -> list[Path]:
    """The stored weights of the parent."""
    run = family.with_client().get_model_version("base", "1").run_id
    return [path for path in (family.root / "registry").rglob("model.safetensors") if run in path.parts]
