"""What goes into a training job and what comes out: one archive each, known by its content."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import (
    CANDIDATE,
    COMPARAND,
    FEATURE_MODELS,
    FEATURE_SET,
    FEATURES,
    PROFILE,
    PROFILE_COUNTS,
    RELEASED,
    RUN,
    SNAPSHOT,
    TRAINING,
    WARM_START,
    atomic_folder,
    check_manifest,
    sha256,
)
from refit.learners import load
from refit.models.verification import check_safe
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from tasks.train import require_own

ARCHIVE = "project.tar"
_FILES = (RUN, WARM_START, COMPARAND, RELEASED, SNAPSHOT, FEATURE_MODELS, Path("requirements.txt"), FEATURES)


def pack(project: Path, archive: Path) -> str:
    """Write what the stage `train` reads of a project into an archive; return its sha256.

    That is its settings, its own code, its features and the models that it starts from: no raw rows, no registry and
    nothing that git or DVC keep. The same project gives the same bytes.

    Raises:
        RefitError: a file that is needed lies outside of the project.
    """
    wanted = [*run_file.code_files(project), *(project / name for name in _FILES), *_starts(project)]
    files = sorted({file for path in wanted for file in (path.rglob("*") if path.is_dir() else [path])})
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            if file.is_file():
                if not file.is_relative_to(project):
                    raise RefitError(f"{file} lies outside of {project}, so a training elsewhere cannot have it")
                tar.add(file.resolve(), file.relative_to(project).as_posix(), filter=_plain)
    return sha256(archive)


def _starts(project: Path) -> Iterator[Path]:
    """The folders of the models that `warm_start.json` names."""
    start = WarmStart.read(project / WARM_START)
    for folder in (start.folder, start.parent.folder if start.parent else None):
        if folder:
            yield project / folder


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry without what differs from machine to machine."""
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode = 0, 0, 0, "", "", 0o644
    return entry


def unpack(archive: Path, folder: Path) -> None:
    """Extract an archive into a folder, and nowhere else.

    Raises:
        RefitError: it is no archive, or an entry would be written elsewhere.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise RefitError(f"{archive.name} cannot be unpacked: {error}") from error


@contextmanager
def scratch_of(project: Path) -> Iterator[Path]:
    """A new folder next to the project's state, gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="sagemaker-", dir=project / ".refit"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def deliver(made: Path, target: Path) -> None:
    """Copy the outputs of the stage `train` from a project into a folder, which becomes the job's `model.tar.gz`."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made / CANDIDATE, target / CANDIDATE.name)
    shutil.copyfile(made / TRAINING, target / TRAINING.name)


def accept(context: Context, folder: Path, inputs: str) -> Training:
    """Check what a job has made, and put it where the stage `train` writes.

    Args:
        inputs: the identity of the candidate that was wanted.

    Raises:
        RefitError: a file is not the one in its manifest or in no safe format, or it is another candidate, or it says
            other than this project does: what the gate reads is never the job's word.
    """
    candidate = folder / CANDIDATE.name
    if not (candidate / "manifest.json").is_file() or not (folder / TRAINING.name).is_file():
        raise RefitError(
            f"the job's output lacks {CANDIDATE.name}/manifest.json or {TRAINING.name}: it is no result of stage train"
        )
    training = Training.read(folder / TRAINING.name)
    if training.inputs != inputs:
        raise RefitError(
            f"the job has trained candidate {training.inputs[:12]}, and {inputs[:12]} was wanted: its image has "
            "another release of Refit or of the project's packages"
        )
    check_manifest(candidate)
    check_safe(candidate)
    learner = load(candidate, trusted_types=context.params.registry.trusted_types)
    if (digest := learner.digest()) != training.model_digest:
        raise RefitError(f"the job's model is {digest[:12]}, its training names {training.model_digest[:12]}")
    for source in (FEATURE_SET, PROFILE, PROFILE_COUNTS):
        if not (copy := candidate / source.name).is_file() or sha256(copy) != sha256(context.path(source)):
            raise RefitError(f"the job's {CANDIDATE.name}/{source.name} is not this project's {source}")
    training = require_own(context, learner, training)
    context.path(TRAINING).unlink(missing_ok=True)  # never next to a candidate that it does not describe
    with atomic_folder(context.path(CANDIDATE)) as target:
        shutil.copytree(candidate, target, dirs_exist_ok=True)
    training.write(context.path(TRAINING))
    return training
