"""The champions of another model, by its ledger: when each counts, and what happens if one is lost or altered."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from feature_store.definition import ModelVersion
from refit import config
from refit.errors import RefitError, UserError
from refit.files.artifacts import FEATURE_MODELS, FEATURE_SET, read_json, write_json
from refit.models import feature_models
from refit.models.feature_models import current, folder_of, refresh, versions_of
from refit.models.incumbent import USES
from refit.operations.retention import _staying
from refit.runtime.context import Context
from refit.schemas.feature_models import FeatureModels
from registry import versions
from registry.client import client
from tasks import register
from tasks.register import lineage
from tasks.register.promoting import promote_by_hand, roll_back

pytestmark = pytest.mark.usefixtures("same_process")

SEEN = datetime(2014, 1, 1, tzinfo=UTC)  # the end of the data of every version
LATER = {"1": SEEN + timedelta(days=3), "2": SEEN + timedelta(days=9)}


def user_of(toy: Any, **model: Any) -> Context:
    """A project that takes a feature from the model `toy`, whose registry it names."""
    folder = toy.folder.parent / "user"
    folder.mkdir(exist_ok=True)
    stages = {"featurize": {"cmd": "refit stage featurize", "deps": [FEATURE_MODELS.as_posix()]}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    raw = read_json_of_toy(toy)
    raw["project"]["name"] = "user"
    raw["featurize"]["models"] = [{"model": "models:/toy@champion", "columns": ["prediction"], **model}]
    raw["registry"] = {"tracking_uri": "sqlite:///../toy/.refit/mlflow.db"}
    return Context(project=folder, params=config.parse(raw))


def read_json_of_toy(toy: Any) -> dict[str, Any]:
    raw: dict[str, Any] = toy.context.params.model_dump(mode="json", by_alias=True, include={"project", "ingest"})
    raw["featurize"] = {"label": {"source": "rows", "column": "late"}}
    raw["train"] = {"learners": [{"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression"}]}
    return raw


def promote(toy: Any, seed: int, at: datetime) -> None:
    toy.context = replace(toy.context, now=lambda: at)
    toy.registered(seed)


def spans(context: Context) -> list[tuple[str, datetime]]:
    return [(each.version, each.since) for each in current(context).champions["toy"]]


@pytest.fixture
def toy(project: Any) -> Any:
    """A project with two champions, one after the other."""
    for seed, number in enumerate(("1", "2")):
        promote(project, seed, LATER[number])
    return project


@pytest.mark.ci
def test_a_version_counts_from_its_line_in_the_ledger(toy: Any) -> None:
    assert spans(user_of(toy)) == [("1", LATER["1"]), ("2", LATER["2"])]


@pytest.mark.ci
def test_a_version_never_counts_before_the_end_of_the_data_that_it_saw(project: Any) -> None:
    promote(project, 0, SEEN - timedelta(days=30))  # by a clock that is slow
    assert spans(user_of(project)) == [("1", SEEN)]


def test_made_after_the_fact_it_counts_from_the_end_of_its_data(toy: Any) -> None:
    """Both saw the same: the later move is the one that counts, and the version before it for no moment."""
    assert spans(user_of(toy, counts_from="as_of")) == [("2", SEEN)]


def test_a_rollback_counts_from_its_own_moment_even_among_versions_made_after_the_fact(toy: Any) -> None:
    at = SEEN + timedelta(days=20)
    context = replace(toy.context, now=lambda: at)
    roll_back(context, toy.store, toy.version("1"), "worse")
    assert spans(user_of(toy)) == [("1", LATER["1"]), ("2", LATER["2"]), ("1", at)]
    assert spans(user_of(toy, counts_from="as_of")) == [("2", SEEN), ("1", at)]


def test_no_move_counts_before_the_one_that_it_followed(toy: Any) -> None:
    slow = replace(toy.context, now=lambda: SEEN + timedelta(days=1))
    promote_by_hand(slow, toy.store, toy.version("1"), "because")
    assert spans(user_of(toy)) == [("1", LATER["1"])], "version 2 counted for no moment"


@pytest.mark.ci
def test_the_file_changes_only_with_a_new_champion(toy: Any) -> None:
    context = user_of(toy)
    refresh(context)
    path = context.path(FEATURE_MODELS)
    before = path.stat().st_mtime_ns
    toy.registered(2, promote=False)
    refresh(context)
    assert path.stat().st_mtime_ns == before, "a refused version changes nothing"
    promote(toy, 3, SEEN + timedelta(days=12))
    refresh(context)
    assert [each.version for each in FeatureModels.read(path).champions["toy"]] == ["1", "2", "4"]


def test_dvc_must_see_the_file(toy: Any) -> None:
    context = user_of(toy)
    context.path("dvc.yaml").write_text("stages: {featurize: {cmd: refit stage featurize, deps: []}}")
    with pytest.raises(UserError, match=r"featurize\.deps lacks data/feature_models\.json, .* champion of toy would"):
        refresh(context)


def test_versions_after_as_of_compute_nothing_and_none_at_all_is_an_error(toy: Any) -> None:
    context = user_of(toy)
    [model], champions = context.params.featurize.models, current(context)
    assert [each.version for each in versions_of(model, champions, LATER["2"] - timedelta(seconds=1))] == ["1"]
    with pytest.raises(UserError, match=r"toy had no champion by 2014-01-01.* first was from 2014-01-04.* --as-of, or"):
        versions_of(model, champions, SEEN)
    with pytest.raises(RefitError, match=r"feature_models\.json does not name 'toy'; `refit run` writes it again"):
        versions_of(model, FeatureModels(), SEEN)


def test_a_version_that_was_registered_again_counts_under_its_new_number(toy: Any) -> None:
    at = SEEN + timedelta(days=20)
    client(toy.store).delete_model_version("toy", "2")
    register.repair(replace(toy.context, now=lambda: at))
    assert spans(user_of(toy)) == [("1", LATER["1"]), ("3", LATER["2"])]


def test_a_copy_is_checked_and_a_damaged_one_is_fetched_again(toy: Any) -> None:
    context = user_of(toy)
    first = current(context).champions["toy"][0]
    copy = folder_of(context, "toy", first)
    weights = next(path for path in copy.iterdir() if path.suffix == ".skops")
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"x")
    assert folder_of(context, "toy", first) == copy
    assert weights.read_bytes() == good


def test_a_deleted_version_still_counts_and_its_files_are_an_error_unless_there_is_a_copy(toy: Any) -> None:
    context = user_of(toy)
    first, second = current(context).champions["toy"]
    folder_of(context, "toy", second)
    for number in ("1", "2"):
        client(toy.store).delete_model_version("toy", number)
    assert current(context).champions["toy"] == (first, second)
    assert folder_of(context, "toy", second).is_dir()
    with pytest.raises(UserError, match=r"version 1 of toy, champion from 2014-01-04.* was deleted .* from a copy"):
        folder_of(context, "toy", first)


@pytest.mark.parametrize("counts_from", ["promotion", "as_of"])
def test_a_deleted_version_of_which_a_server_shows_no_tags_still_counts_from_the_same_moment(
    project: Any, counts_from: str
) -> None:
    promote(project, 0, SEEN - timedelta(days=30))  # by a clock that is slow: it counts from the end of its data
    promote(project, 1, LATER["2"])
    context = user_of(project, counts_from=counts_from)
    refresh(context)
    before = current(context)
    client(project.store).delete_model_version("toy", "1")
    with sqlite3.connect(project.store.database) as database:
        database.execute("delete from model_version_tags where version = 1")
    assert current(context) == before
    context.path(FEATURE_MODELS).unlink()
    assert spans(context)[-1] == (("2", LATER["2"]) if counts_from == "promotion" else ("2", SEEN))


def test_an_altered_version_is_refused(toy: Any) -> None:
    context = user_of(toy)
    first = current(context).champions["toy"][0]
    with pytest.raises(RefitError, match=r"version 1 of toy was altered: its manifest was 000000000000 and is"):
        folder_of(context, "toy", first.model_copy(update={"manifest": "0" * 64}))
    stored = versions.stored_at(toy.store, toy.version("1"))
    assert isinstance(stored, Path)
    weights = next((stored / "data/candidate").glob("*.skops"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RefitError, match=r"\.skops is missing or differs from its manifest"):
        folder_of(context, "toy", first)
    assert not context.path(feature_models.FOLDER).joinpath("toy").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": "models:/tooy@champion"}, r"there is no model 'tooy' in the registry at .*; run its project first"),
        ({"model": "models:/user@champion"}, r"user is this project itself"),
        ({"project": "../nowhere"}, r"toy: there is no project in .*nowhere; name the folder of its params.yaml"),
    ],
)
def test_what_names_no_other_model_is_refused(toy: Any, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        current(user_of(toy, **changes))


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ({"model": "models:/toy/1", "columns": ["x"]}, "names no champion; write models:/NAME@champion"),
        (
            {"model": "models:/toy@champion", "columns": []},
            "columns: tuple should have at least 1 item",
        ),
        ({"model": "models:/toy@champion", "columns": ["x"], "counts_from": "now"}, "'promotion' or 'as_of'"),
        ({"model": "models:/toy@champion", "columns": ["x"], "column": "x"}, "unknown key; did you mean 'columns'"),
    ],
)
def test_a_wrong_entry_in_the_params_is_one_line(toy: Any, model: dict[str, Any], what: str) -> None:
    raw = read_json_of_toy(toy)
    raw["featurize"]["models"] = [model]
    with pytest.raises(UserError, match=what) as caught:
        config.parse(raw)
    assert "\n" not in str(caught.value)


def test_a_model_is_named_once(toy: Any) -> None:
    raw, entry = read_json_of_toy(toy), {"model": "models:/toy@champion", "columns": ["prediction"]}
    raw["featurize"]["models"] = [entry, entry]
    with pytest.raises(UserError, match="toy is named twice; give one entry all its columns"):
        config.parse(raw)


def test_a_circle_is_refused(toy: Any) -> None:
    """Version 3 of toy takes a feature from the project that takes one from toy."""
    context = user_of(toy)
    toy.judged(3)
    uses(toy, "user", "c0ffee")
    toy.context = replace(toy.context, now=lambda: SEEN + timedelta(days=12))
    register.run(toy.context)
    newest = current(context).champions["toy"][-1]
    assert newest.version == "3"
    with pytest.raises(UserError, match="version 3 of toy takes features from user itself: a circle; leave one"):
        folder_of(context, "toy", newest)


def uses(toy: Any, model: str, digest: str, version: str = "1") -> None:
    """Let the candidate take a feature from a version of another model."""
    from refit.files import artifacts

    features = read_json(toy.folder / FEATURE_SET)
    used = ModelVersion(since=SEEN, version=version, model_digest=digest, manifest="0" * 64)
    view = {"name": model, "features": [{"name": f"{model}_x", "column": "x"}]}
    features["definitions"]["feature_set"]["models"] = [view | {"versions": [used.model_dump(mode="json")]}]
    for path in (toy.folder / FEATURE_SET, toy.folder / artifacts.CANDIDATE / FEATURE_SET.name):
        write_json(path, features)
    artifacts.write_manifest(toy.folder / artifacts.CANDIDATE)


@pytest.mark.slow
def test_gc_keeps_and_lineage_names_a_version_that_computes_features_of_another_model(toy: Any) -> None:
    toy.judged(3)
    digest = toy.version("2").tags["refit.model_digest"]
    uses(toy, "toy", digest, version="2")  # any model of this registry will do
    register.run(toy.context)
    assert toy.version("3").tags[f"{USES}.toy.2"] == digest
    toy.registered(4)
    assert toy.aliases == {"champion": "4", "challenger": "4", "previous": "3"}
    retention = toy.context.params.retention.model_copy(update={"versions": 1})
    params = toy.context.params.model_copy(update={"retention": retention})
    every = versions.tagged_by_client(toy.store, "toy", {})
    staying = _staying(replace(toy.context, params=params), toy.store, every)
    assert staying["2"] == "it computes features of version 3 of toy"
    [other] = lineage.lineage(toy.context, "3").feature_models
    [user] = lineage.lineage(toy.context, "2").used_by
    assert (str(other), str(user)) == (
        f"version 2 of toy, model {digest[:12]}",
        f"version 3 of toy, model {toy.version('3').tags['refit.model_digest'][:12]}",
    )
