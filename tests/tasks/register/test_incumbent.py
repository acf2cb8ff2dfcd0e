"""Which version a candidate is judged against, and how its stored model is fetched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from quick import quick

from refit import learners
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.files.artifacts import read_json, write_json
from refit.models import incumbent, model_cache, verification
from refit.runtime import registry_store
from registry import deletion, versions
from registry.client import client
from registry.store import RegistryError
from tasks import register

pytestmark = pytest.mark.usefixtures("same_process")


def test_without_a_champion_the_comparand_says_so(project: Any) -> None:
    assert incumbent.refresh(project.context).champion is None
    assert read_json(project.folder / artifacts.COMPARAND) == {
        "model": "toy",
        "version": None,
        "model_digest": None,
        "seen_until": None,
        "anchor": None,
        "looks": 0,
    }


def test_a_champion_that_was_registered_without_refit_is_left_by_the_way_that_the_error_names(project: Any) -> None:
    mlflow = client(project.store)
    mlflow.create_registered_model("toy")
    mlflow.create_model_version("toy", "file:///elsewhere")
    mlflow.set_registered_model_alias("toy", "champion", "1")
    project.trained(0)
    with pytest.raises(RefitError, match=r"Refit did not register it.*where there is none yet, remove the alias in ML"):
        incumbent.refresh(project.context)
    mlflow.delete_registered_model_alias("toy", "champion")
    project.registered(0)
    assert project.aliases["champion"] == "2"
    assert project.told == [("promote", None, "2")]


def test_a_new_candidate_is_judged_against_the_champion(project: Any) -> None:
    project.registered(0)
    digest = read_json(project.folder / artifacts.TRAINING)["model_digest"]
    project.trained(1)
    entry = {"version": "1", "model_digest": digest, "seen_until": "2013-12-17T00:00:00Z", "split": None}
    assert incumbent.refresh(project.context).to_json() == {"model": "toy", **entry, "anchor": entry, "looks": 1}
    assert read_json(project.folder / artifacts.COMPARAND) == {"model": "toy", **entry, "anchor": entry, "looks": 1}


@pytest.mark.ci
def test_a_champion_is_not_judged_against_itself_so_a_second_run_finds_the_file_unchanged(project: Any) -> None:
    project.registered(0)
    path = project.folder / artifacts.COMPARAND
    for seed in (0, 1):
        project.registered(seed)
        before = path.read_bytes(), path.stat().st_mtime_ns
        assert incumbent.refresh(project.context).version == (None, "1")[seed]
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.slow
def test_after_a_refusal_too_a_second_run_finds_the_file_unchanged(project: Any) -> None:
    project.registered(0)
    project.registered(1, promote=False)
    before = (project.folder / artifacts.COMPARAND).read_bytes()
    incumbent.refresh(project.context)
    assert (project.folder / artifacts.COMPARAND).read_bytes() == before


@pytest.mark.ci
def test_every_other_candidate_judged_on_the_same_test_window_is_a_look(project: Any) -> None:
    for seed in (0, 1, 2):
        project.registered(seed, promote=False)
    project.trained(3)
    assert incumbent.refresh(project.context).looks == 3
    features = read_json(project.folder / artifacts.FEATURE_SET)
    features["windows"]["test"]["end"] = "2014-01-01T00:00:00Z"
    write_json(project.folder / artifacts.FEATURE_SET, features)
    assert incumbent.refresh(project.context).looks == 0


@pytest.mark.ci
def test_a_look_counts_when_its_version_was_deleted_or_judged_again_on_a_newer_window(project: Any) -> None:
    """Otherwise `refit gc`, or an old candidate on new rows, would give back what the look has spent."""
    for seed in (0, 1):
        project.registered(seed, promote=False)
    project.trained(2)
    assert incumbent.refresh(project.context).looks == 2
    judged_again, deleted = (versions.version(project.store, "toy", number) for number in "12")
    assert judged_again
    assert deleted
    versions.set_tags(project.store, judged_again, {incumbent.TEST_TAG: "a newer window"})
    deletion.delete_version(project.store, deleted)
    assert incumbent.refresh(project.context).looks == 2


def test_the_anchor_is_the_last_superior_version_and_not_the_champion(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    project.trained(2)
    content = incumbent.refresh(project.context)
    assert (content.version, content.opponents["anchor"].version) == ("2", "1")


def test_evaluate_is_refused_where_the_file_and_the_registry_disagree(project: Any) -> None:
    project.registered(0)
    project.judged(1)
    client(project.store).set_model_version_tag("toy", "1", "refit.model_digest", "other")
    with pytest.raises(RefitError, match=r"comparand\.json names version 1, the registry version 1"):
        incumbent.check(project.context)
    write_json(project.folder / artifacts.COMPARAND, {"model": "toy", "version": None})
    with pytest.raises(RefitError, match=r"comparand\.json names no champion, the registry version 1; `refit run`"):
        incumbent.check(project.context)


@pytest.mark.slow
def test_a_look_that_another_checkout_takes_meanwhile_is_no_disagreement_on_the_champion(
    project: Any, new_project: Callable[[str], Any]
) -> None:
    project.registered(0)
    project.trained(1)
    written = incumbent.refresh(project.context)
    other = new_project("other")
    registry = other.context.params.registry.model_copy(update={"tracking_uri": project.store.uri})
    other.context = replace(other.context, params=other.context.params.model_copy(update={"registry": registry}))
    other.registered(2, promote=False)
    assert incumbent.expected(project.context).looks == written.looks + 1
    assert incumbent.check(project.context) == written


@pytest.mark.ci
@pytest.mark.parametrize("deleted", quick([False, True]))
def test_of_two_candidates_judged_at_once_on_one_window_the_later_one_is_judged_again_as_a_second_look(
    project: Any, new_project: Callable[[str], Any], deleted: bool
) -> None:
    """Two checkouts judge at the same time, each as the first look: together they would spend more than alpha."""
    other = new_project("other")
    registry = other.context.params.registry.model_copy(update={"tracking_uri": project.store.uri})
    other.context = replace(other.context, params=other.context.params.model_copy(update={"registry": registry}))
    project.judged(1)
    other.judged(2, promote=False)
    register.run(other.context)
    if deleted:
        deletion.delete_version(project.store, other.version("1"))
    register.run(project.context)
    meanwhile = "another candidate was judged on its test window meanwhile; `refit run` judges it as a later look"
    assert project.receipt["outcome"]["action"] == "refuse"
    assert project.receipt["outcome"]["reasons"] == [meanwhile]
    with pytest.raises(UserError, match=meanwhile):
        register.promote(project.context, project.receipt["version"])
    project.judged(1)
    register.run(project.context)
    assert read_json(project.folder / artifacts.DECISION)["looks"] == 1
    assert project.receipt["outcome"]["action"] == "promote"


def test_a_fetched_model_is_the_registered_one_and_is_fetched_again_when_its_copy_was_damaged(project: Any) -> None:
    project.registered(0)
    digest = read_json(project.folder / artifacts.TRAINING)["model_digest"]
    folder = incumbent.fetch_model(project.context, "1")
    assert learners.load(folder).digest() == digest
    (folder / "model.json").write_text("{}")
    assert learners.load(incumbent.fetch_model(project.context, "1")).digest() == digest
    assert [path.name for path in folder.parents[2].iterdir()] == [folder.parents[1].name]


def test_a_stored_model_that_was_tampered_with_is_not_handed_out(project: Any) -> None:
    project.registered(0)
    (weights,) = (project.folder / ".refit/mlartifacts").rglob("model.skops")
    weights.write_bytes(b"something else")
    shutil.rmtree(project.folder / model_cache.MODELS)
    with pytest.raises(RefitError, match=r"data/candidate/model\.skops is missing or differs"):
        incumbent.fetch_model(project.context, "1")


def test_a_download_in_use_stays_while_another_process_checks_the_champion(project: Any) -> None:
    """`refit doctor`, `export` and `refit.load` do so without the project's lock."""
    project.registered(0)
    with registry_store.opened(project.context) as store:
        of = versions.version(store, "toy", "1")
        assert of is not None
        with incumbent.downloaded(project.context, store, of) as folder:
            assert incumbent.check_champion(project.context) == "1"
            incumbent.check_trusted(project.context, store, of, folder)


def test_a_copy_that_another_process_adds_at_the_same_time_is_no_failure(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.registered(0)
    with registry_store.opened(project.context) as store:
        of = versions.version(store, "toy", "1")
        assert of is not None
        copy = model_cache.copy_path(project.context, "1", of.tags["refit.model_digest"])
        assert copy.is_dir()
        with incumbent.downloaded(project.context, store, of) as folder, monkeypatch.context() as patch:
            patch.setattr(Path, "is_dir", lambda self: self != copy)  # as it was a moment ago
            assert model_cache.add(project.context, of, folder) == copy


def test_a_version_that_does_not_exist_is_named(project: Any) -> None:
    with pytest.raises(RefitError, match="toy has no version 4"):
        incumbent.fetch_model(project.context, "4")


@pytest.mark.ci
def test_an_unchanged_run_and_show_ask_the_registry_without_importing_mlflow_or_sqlalchemy(project: Any) -> None:
    project.registered(0)
    project.registered(1, promote=False)
    params = project.context.params.model_dump_json(by_alias=True)
    code = f"""
import json, sys
from pathlib import Path
from tasks import register
from refit.models import incumbent
from refit.runtime.context import Context
from refit.config import parse
context = Context(Path({str(project.folder)!r}), parse(json.loads({params!r})), may_promote=True)
incumbent.refresh(context)
heavy = [name for name in ("mlflow", "sqlalchemy", "pandas", "sklearn", "numpy", "pyarrow") if name in sys.modules]
answers = [register.needs_rerun(context), register.champion_summary(context).version]
print(json.dumps([*answers, heavy, [name for name in ("mlflow", "sqlalchemy") if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [None, "1", [], []]


def test_a_fresh_clone_gets_a_file_that_says_nobody(project: Any) -> None:
    params = json.loads(project.context.params.model_dump_json(by_alias=True))
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params))
    incumbent.ensure(project.folder)
    assert incumbent.check(project.context).version is None


def test_a_whole_local_copy_is_never_removed_and_a_damaged_one_only_once_a_whole_one_is_here(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.registered()
    copy = incumbent.fetch_model(project.context, "1").parents[1]
    was = copy.stat().st_ino
    with incumbent.downloaded(project.context, project.store, project.version("1")) as folder:
        assert model_cache.add(project.context, project.version("1"), folder) == copy
    assert copy.stat().st_ino == was
    (copy / "golden.parquet").write_bytes(b"damaged")

    def unreachable(*_: Any) -> Path:
        raise RegistryError("the artifact store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(versions, "download", unreachable)
        with pytest.raises(RefitError, match="does not answer"):
            incumbent.fetch_model(project.context, "1")
    assert copy.is_dir()
    incumbent.fetch_model(project.context, "1")
    verification.check_stored(copy, project.version("1").tags["refit.manifest"])
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
