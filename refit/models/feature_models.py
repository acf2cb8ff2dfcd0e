"""Finds the champions of other projects' models that compute features (`featurize.models`), and copies their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from feature_store.definition import ModelVersion
from refit.config.featurize import FeatureModelParams
from refit.errors import RefitError, UserError
from refit.files.artifacts import FEATURE_MODELS, FEATURE_SET, MODELS_USED, STATE, atomic_folder, check_manifest
from refit.files.yaml_files import read_yaml
from refit.models.incumbent import check_trusted, downloaded, required_tag
from refit.models.verification import MODEL
from refit.runtime import registry_store, run_file
from refit.runtime.context import Context
from refit.schemas.artifact import utc_moment, utc_text
from refit.schemas.feature_models import FeatureModels
from refit.schemas.feature_table import FeatureTable
from registry import versions
from registry.champion import require_own_ledger, verified_ledger
from registry.ledger import MOVES, Entry, Ledger
from registry.store import RegistryError, Store
from registry.versions import Version

__all__ = ["FOLDER", "Find", "current", "ensure", "folder_name", "folder_of", "refresh", "stored_with", "versions_of"]

Find = Callable[[str, ModelVersion], Path]  # a model's name and version -> the folder of its learner

FOLDER = STATE / "feature_models"  # checked copies of candidates' folders
WHERE = "params.yaml: featurize.models"
BY_HAND = ("rollback", "restore")


def ensure(context: Context) -> None:
    """Write `feature_models.json` if there is none and the params name models: DVC needs the file on a fresh clone."""
    if context.params.featurize.models and not context.path(FEATURE_MODELS).is_file():
        refresh(context)


def refresh(context: Context) -> None:
    """Write `feature_models.json` from the ledgers of the models that the params name, if it has changed.

    Raises:
        UserError: there is no such model or project, or `dvc.yaml` does not name the file.
        RefitError: a ledger was changed, or a version that was champion is unknown to the registry.
    """
    if not context.params.featurize.models:
        return
    _require_dependency(context)
    content, path = current(context), context.path(FEATURE_MODELS)
    if _read(path) != content:
        content.write(path)


def _read(path: Path) -> FeatureModels | None:
    try:
        return FeatureModels.read(path) if path.is_file() else None
    except RefitError:
        return None


def current(context: Context) -> FeatureModels:
    """The champions of every model that the params name, as their registries have them now."""
    before = _read(context.path(FEATURE_MODELS)) or FeatureModels()
    return FeatureModels(
        champions={
            each.name: _champions(context, each, before.champions.get(each.name, ()))
            for each in context.params.featurize.models
        }
    )


def versions_of(model: FeatureModelParams, champions: FeatureModels, as_of: datetime) -> tuple[ModelVersion, ...]:
    """The versions of a model that were champion by `as_of`.

    Raises:
        UserError: there is none.
        RefitError: `feature_models.json` does not name the model.
    """
    if (every := champions.champions.get(model.name)) is None:
        raise RefitError(f"{FEATURE_MODELS} does not name {model.name!r}; `refit run` writes it again")
    if known := tuple(each for each in every if each.since <= as_of):
        return known
    first = f"the first was from {utc_text(every[0].since)} on" if every else "it never had one"
    raise UserError(
        f"{WHERE}: {model.name} had no champion by {utc_text(as_of)}, so that its columns would be missing in every "
        f"row ({first}): take a later --as-of, or run its project as of earlier moments and set counts_from: as_of "
        "(Refit's docs/features.md)"
    )


def folder_name(model: str, version: ModelVersion) -> str:
    """The name of the copy of a version's folder."""
    return f"{model}-{version.version}-{version.model_digest[:12]}"


def folder_of(context: Context, model: str, version: ModelVersion) -> Path:
    """The checked local copy of a version's candidate folder, which is fetched if there is none.

    Raises:
        UserError: the version was deleted, its project is gone, or it takes features from this project itself.
        RefitError: its files are missing, or are not those that were registered.
    """
    copy = context.path(FOLDER) / folder_name(model, version)
    if _is_whole(copy):
        return copy
    wanted = next((each for each in context.params.featurize.models if each.name == model), None)
    if wanted is None:
        raise UserError(
            f"the features need version {version.version} of {model}, which params.yaml: featurize.models no longer "
            "names; put it back"
        )
    with _registry(context, wanted) as store:
        of = versions.version(store, model, version.version)
        if of is None:
            raise UserError(
                f"{WHERE}: version {version.version} of {model}, champion from {utc_text(version.since)} on, was "
                f"deleted in the registry at {store.shown}; restore it from a copy (`refit repair` in its project), or "
                "learn from later rows only (featurize.windows.training)"
            )
        if required_tag(of, "refit.manifest") != version.manifest:
            raise RefitError(
                f"{WHERE}: version {version.version} of {model} was altered: its manifest was {version.manifest[:12]} "
                f"and is {of.tags['refit.manifest'][:12]}; restore the registry from a copy"
            )
        with downloaded(context, store, of) as stored:
            check_trusted(context, store, of, stored)
            _refuse_circle(context, model, version, stored / MODEL)
            with atomic_folder(copy) as scratch:
                shutil.copytree(stored / MODEL, scratch, dirs_exist_ok=True)
    return copy


def stored_with(context: Context, folder: Path) -> Find:
    """Find the versions of other models that are stored with a candidate or a champion, else as `folder_of` does."""

    def find(model: str, version: ModelVersion) -> Path:
        copy = folder / MODELS_USED.name / folder_name(model, version)
        return copy if copy.is_dir() else folder_of(context, model, version)

    return find


def _is_whole(copy: Path) -> bool:
    """Whether there is an intact local copy."""
    try:
        check_manifest(copy)
    except RefitError:
        return False
    return True


def _refuse_circle(context: Context, model: str, version: ModelVersion, folder: Path) -> None:
    """Refuse a version that takes features from this project: each would wait for the other."""
    own = context.params.project.name
    names = [each.name for each in FeatureTable.read(folder / FEATURE_SET.name).definitions.feature_set.models]
    if own not in names:
        return
    known = _read(context.path(FEATURE_MODELS)) or FeatureModels()
    newest = max((each.since for each in known.champions.get(model, ())), default=version.since)
    later = "" if version.since >= newest else ", or learn from the rows of later versions only"
    later += " (featurize.windows.training)" if later else ""
    raise UserError(
        f"{WHERE}: version {version.version} of {model} takes features from {own} itself: a circle; leave one of "
        f"the two out{later}"
    )


def _champions(context: Context, model: FeatureModelParams, before: Sequence[ModelVersion]) -> tuple[ModelVersion, ...]:
    """Every champion of a model, in the order in which they count; one that counted for no moment is left out.

    Args:
        before: those of the last time, which say of a version that was deleted since from when on it counts.
    """
    if model.name == context.params.project.name:
        raise UserError(f"{WHERE}: {model.name} is this project itself, whose features cannot need its own predictions")
    spans: list[ModelVersion] = []
    with _registry(context, model) as store:
        if not versions.registered(store, model.name).aliases and not Ledger.of(store).last_move(model.name):
            raise UserError(
                f"{WHERE}: there is no model {model.name!r} in the registry at {store.shown}; run its project first, "
                "and let both name the same registry.tracking_uri, or its folder as `project`"
            )
        require_own_ledger(store, model.name)
        for line in verified_ledger(store, model.name).entries(model.name):
            if line.action not in MOVES:
                continue
            if (span := _span(store, model, line, before)) is None:
                continue
            if line.action == "restore":  # the same model under another number; the old one has no files any longer
                again = {"version": span.version, "manifest": span.manifest}
                spans = [each.model_copy(update=again) if each.version == line.from_version else each for each in spans]
            if spans and span.since <= spans[-1].since:  # no move counts before those that it followed
                span = span.model_copy(update={"since": spans.pop().since})
            if not spans or spans[-1].model_digest != span.model_digest:
                spans.append(span)
    return tuple(spans)


def _span(store: Store, model: FeatureModelParams, line: Entry, before: Sequence[ModelVersion]) -> ModelVersion | None:
    """The version of a line, and the moment from which it counts: never before the end of the data that it saw.

    A server shows no tags of a deleted version: the ledger's line has its digests, and its moment is that of `before`,
    else that of the line. Made after the fact, it had another one, which nothing tells any longer: None.
    """
    after_the_fact = model.counts_from == "as_of" and line.action not in BY_HAND
    known, at = versions.version(store, line.model, line.to_version), utc_moment(line.at)
    if known is None:
        tags = {f"refit.{name}": value for name, value in line.digests.items() if value}
        tags |= versions.tags_of_deleted(store, line.model, line.to_version)
        same = [each.since for each in before if each.model_digest == tags.get("refit.model_digest")]
        if "refit.as_of" not in tags and after_the_fact and not same:
            return None
        tags.setdefault("refit.as_of", utc_text(min(same, default=at)))
        known = Version(line.model, line.to_version, None, line.at, tags)
    as_of = utc_moment(required_tag(known, "refit.as_of"))
    return ModelVersion(
        since=as_of if after_the_fact else max(as_of, at),
        version=line.to_version,
        model_digest=required_tag(known, "refit.model_digest"),
        manifest=required_tag(known, "refit.manifest"),
    )


@contextmanager
def _registry(context: Context, model: FeatureModelParams) -> Iterator[Store]:
    """The registry of a model's project."""
    other = context
    if model.project is not None:
        folder = context.path(model.project)
        if not (folder / "params.yaml").is_file():
            raise UserError(
                f"{WHERE}: {model.name}: there is no project in {folder}; name the folder of its params.yaml"
            )
        other = replace(context, project=folder, params=run_file.params_outside(folder))
        if (name := other.params.project.name) != model.name:
            raise UserError(f"{WHERE}: the project in {folder} makes the model {name!r}, not {model.name!r}")
    try:
        with registry_store.opened(other) as store:
            yield store
    except RegistryError as error:
        raise RefitError(f"{WHERE}: {model.name}: {error}") from error


def _require_dependency(context: Context) -> None:
    """Refuse a `dvc.yaml` by which DVC would not see a new champion."""
    path = context.path("dvc.yaml")
    stages = read_yaml(path).get("stages") if path.is_file() else None
    featurize = stages.get("featurize") if isinstance(stages, dict) else None
    deps = featurize.get("deps") if isinstance(featurize, dict) else None
    if str(FEATURE_MODELS) not in (deps or ()):
        raise UserError(
            f"dvc.yaml: stages.featurize.deps lacks {FEATURE_MODELS}, without which a new champion of "
            f"{context.params.featurize.models[0].name} would go unnoticed; add the line `- {FEATURE_MODELS}`"
        )
