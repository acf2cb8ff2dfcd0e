"""Reproduces a registered version from its commit, params and data, and compares the digests of the results."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.files.artifacts import sha256
from refit.models import feature_models, incumbent, parents, verification
from refit.runtime import environments, provenance, registry_store
from refit.runtime.context import Context
from refit.schemas.feature_models import FeatureModels
from refit.schemas.feature_table import FeatureTable
from refit.schemas.snapshot import Snapshot
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from registry import versions
from registry.urls import sqlite_url
from tasks.register.lineage import gone

STAGES = ("validate", "featurize", "train")  # the batches are the original ones, so nothing is ingested
_COMMIT = re.compile("[0-9a-f]{40}([0-9a-f]{24})?")
_RESULTS = {"data", "models", "reports", "dvc_plots"}  # folders of a project; deeper ones of these names may be code
_NO_CODE = shutil.ignore_patterns(".refit", ".git", ".dvc", "*.venv*")


@dataclass(frozen=True)
class DigestPair:
    """One digest, or what it depends on, of the original and of the reproduction."""

    what: str
    then: str | None
    now: str | None
    difference: float | None = None  # the largest of a golden prediction, of models whose digests differ

    @property
    def same(self) -> bool:
        return self.then == self.now


def reproduce(context: Context, number: str) -> list[DigestPair]:
    """Run validate, featurize and train again in a separate folder, without changing the project.

    The code is that of the version's commit with its patch, or the current code for a project outside git. The last
    digest compared is the model's own canonical digest.

    Raises:
        UserError: there is no such version, or it stores too little to be reproduced.
        RefitError: its files are not those registered; its data is missing or changed; its commit is not in this
            repository; or a stage fails.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        version = versions.version(store, model, number)
        if version is None:
            raise UserError(f"{gone(store, model, number)}; `refit history` names those that were judged")
        with incumbent.downloaded(context, store, version) as stored, _folder(context) as scratch:
            incumbent.check_trusted(context, store, version, stored)  # its patch and params decide which code runs
            provenance_folder = stored / "provenance"
            if not (provenance_folder / artifacts.SNAPSHOT.name).is_file():
                raise UserError(
                    f"version {number} of {model} was registered before its list of batches was kept with it, so it "
                    "cannot be made again by itself"
                )
            commit = version.tags.get("refit.git_commit")
            if commit is not None and not _COMMIT.fullmatch(commit):  # git would take --output=... as an option
                raise versions.changed(version, "the tag refit.git_commit", f"{commit[:80]!r} names no commit")
            context.progress("the code of then" if commit else "no commit was recorded: the code as it is now")
            project = code_of(context.project, commit, provenance_folder, scratch / "tree")
            _settings(context, incumbent.required_tag(version, "refit.as_of"), provenance_folder, project)
            context.progress("the data of then")
            _data(context, provenance_folder, project)
            started = FeatureTable.read(stored / "data/candidate/features.json")
            _start(context, stored, project)
            _feature_models(stored / "data/candidate", started, project)
            for stage in STAGES:
                context.progress(f"{stage} again")
                _run(stage, project, scratch / "tree")
            *compared, made = _compared(version.tags, started, project)
            if not made.same:
                made = replace(made, difference=_golden_difference(context, stored, project))
            return [*compared, made]


def _golden_difference(context: Context, stored: Path, project: Path) -> float | None:
    """The largest difference between a prediction of the model made again and the stored one of the same golden row.

    Of predictions above 1 it is a share. None if the model does not predict them, as one of other columns cannot.
    """
    import pyarrow.parquet as pq

    try:
        golden = pq.read_table(stored / verification.GOLDEN)
        trusted = context.params.registry.trusted_types
        _, _, shares = verification.golden_differences(project / artifacts.CANDIDATE, golden, trusted)
    except (RefitError, OSError, KeyError, ValueError):
        return None
    return float(shares.max())


def _compared(tags: Mapping[str, str], features: FeatureTable, project: Path) -> Iterator[DigestPair]:
    again = FeatureTable.read(project / artifacts.FEATURE_SET)
    yield DigestPair("Refit", tags.get("refit.release"), provenance.release())
    yield DigestPair("pinned libraries", tags.get("refit.constraints"), provenance.constraints_digest())
    yield DigestPair("processor", tags.get("refit.processor"), provenance.processor())
    yield DigestPair("feature definitions", features.definitions_digest, again.definitions_digest)
    yield DigestPair("training table", features.table.sha256, again.table.sha256)
    made = Training.read(project / artifacts.TRAINING)
    yield DigestPair("candidate's inputs", tags.get("refit.candidate"), made.inputs)
    yield DigestPair("model", tags.get("refit.model_digest"), made.model_digest)


@contextmanager
def _folder(context: Context) -> Iterator[Path]:
    home = context.path(artifacts.STATE) / "reproduce"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def code_of(project: Path, commit: str | None, provenance_folder: Path, tree: Path) -> Path:
    """Write the code of a version of a project to the new folder `tree`, and return the project's folder in it.

    Args:
        commit: None takes the code as it is now.
        provenance_folder: of the version, with the patch of what was not committed.
    """
    if commit is None:
        copy_code(project, tree)
        return tree
    top = Path(_git(project, "rev-parse", "--show-toplevel").decode().strip())
    with tarfile.open(fileobj=io.BytesIO(_git(top, "archive", "--format=tar", commit))) as archive:
        archive.extractall(tree, filter="data")
    if (patch := provenance_folder / "uncommitted.patch").is_file():
        # Without a ceiling, git would take paths from the top of the repository that the folder lies in.
        alone = {"GIT_CEILING_DIRECTORIES": str(tree.parent)}
        _git(tree, "apply", "--binary", "--whitespace=nowarn", str(patch.resolve()), environment=alone)
    return tree / project.resolve().relative_to(top.resolve())


def copy_code(project: Path, tree: Path) -> None:
    """Copy a project to the new folder `tree`, without its data and results."""
    shutil.copytree(
        project,
        tree,
        ignore=lambda folder, names: _NO_CODE(folder, names) | (_RESULTS if Path(folder) == project else set()),
    )


def _git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> bytes:
    given = {**provenance.git_environment(), **(environment or {})}
    done = subprocess.run(["git", *arguments], cwd=folder, env=given, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise RefitError(f"git {arguments[0]} in {folder}: {said[-1]}; is the version's commit in this repository?")
    return done.stdout


def _settings(context: Context, as_of: str, provenance_folder: Path, project: Path) -> None:
    shutil.copyfile(provenance_folder / "params.yaml", project / "params.yaml")
    if (released := provenance_folder / artifacts.RELEASED.name).is_file():  # versions of older Refits have none
        shutil.copyfile(released, project / artifacts.RELEASED)
    (project / artifacts.RUN).write_text(yaml.safe_dump({"as_of": as_of}), encoding="utf-8")


def _data(context: Context, provenance_folder: Path, project: Path) -> None:
    """Copy the batches that the version was made from, after checking their digests."""
    snapshot = Snapshot.read(provenance_folder / artifacts.SNAPSHOT.name)
    (project / artifacts.SNAPSHOT).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(provenance_folder / artifacts.SNAPSHOT.name, project / artifacts.SNAPSHOT)
    for batch in snapshot.batches:
        for path, digest in ((batch.path, batch.sha256), (batch.uncast_path, batch.uncast_sha256)):
            if path is None:
                continue
            source, target = context.path(path), _inside(project, path, "list of batches")
            if not source.is_file() or sha256(source) != digest:
                raise RefitError(f"{path} is gone or changed; `dvc checkout` brings it back from DVC's cache or remote")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _start(context: Context, stored: Path, project: Path) -> None:
    """Copy the model that training started from: a champion that it continued, or the parent of networks."""
    record = stored / "provenance" / artifacts.WARM_START.name
    if not record.is_file():
        return
    shutil.copyfile(record, project / artifacts.WARM_START)
    start = WarmStart.read(record)
    if start.parent is not None:
        target = _inside(project, start.parent.folder, record.name)
        shutil.copytree(parents.fetched_again(context, start.parent), target)
    if start.version is not None and start.folder is not None:
        target = _inside(project, start.folder, record.name)
        shutil.copytree(incumbent.fetch_model(context, start.version), target)


def _feature_models(candidate: Path, features: FeatureTable, project: Path) -> None:
    """Copy the versions of other models that computed features, which are stored with the version."""
    if not (models := features.definitions.feature_set.models):
        return
    FeatureModels(champions={each.name: each.versions for each in models}).write(project / artifacts.FEATURE_MODELS)
    shutil.copytree(candidate / artifacts.MODELS_USED.name, project / feature_models.FOLDER)


def _inside(project: Path, path: str, named_in: str) -> Path:
    """A path within the project.

    Raises:
        RefitError: it leads out of it.
    """
    target = project / path
    if not target.resolve().is_relative_to(project.resolve()):
        raise RefitError(f"the version's {named_in} names {path}, which lies outside of the project")
    return target


def _run(stage: str, project: Path, tree: Path) -> None:
    """Run a stage in a new process, with the code of the tree if it contains Refit."""
    source = tree if (tree / "tasks/stages.py").is_file() else provenance.SOURCE_ROOT
    environment = {name: value for name, value in os.environ.items() if name != environments.VARIABLE}  # resolved
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH", "")]))
    # MLflow's records of this run are removed with the folder, and no trial is taken from a search that is stored.
    environment["MLFLOW_TRACKING_URI"] = sqlite_url(project / artifacts.STATE / "mlflow.db")
    program = "refit" if (source / "refit/__main__.py").is_file() else "flows"  # module of the command in older commits
    command = [sys.executable, "-P", "-m", program, "stage", stage, "--project", str(project)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise RefitError(f"stage {stage} of then fails now: {said[-1].removeprefix('error: ')}")
