"""`python -P -m flows.sagemaker.container`: what a training job runs in Refit's image.

SageMaker has put the job's input below /opt/ml, and takes its output from there. The stage is `refit stage train`, as
everywhere else; it reaches no registry, whose keys this container does not have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.sagemaker.bundle import ARCHIVE, deliver, unpack
from refit.errors import RefitError
from refit.files.artifacts import CHECKPOINTS, sha256
from refit.plain_text import one_line
from refit.runtime import environments
from refit.runtime.terminal import say
from registry.store import LEDGER_VARIABLE, URI_VARIABLE
from registry.urls import sqlite_url

ROOT = Path("/opt/ml")
_REASON = 1024  # characters of the reason that SageMaker shows


def train(root: Path, project: Path) -> None:
    """Train on a job's input in a new folder, and put the candidate where SageMaker takes it from.

    Raises:
        RefitError: the input is not the one that was sent, or the stage failed.
    """
    settings = json.loads((root / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    archive = root / "input/data/project" / ARCHIVE
    if not archive.is_file() or sha256(archive) != settings["sha256"]:
        raise RefitError(f"{archive} is not the archive that was sent ({settings['sha256'][:12]})")
    unpack(archive, project)
    if (kept := root / "checkpoints").is_dir():  # SageMaker keeps them when it takes a spot machine away
        (project / CHECKPOINTS).parent.mkdir(parents=True, exist_ok=True)
        (project / CHECKPOINTS).symlink_to(kept)
    command = [sys.executable, "-P", "-m", "refit", "stage", "train", "--project", str(project)]
    last = "it said nothing"
    with subprocess.Popen(command, env=environment(project, settings), stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():  # as it comes: the job's log is what shows a training of hours
            say(last := line.rstrip(), stderr=True)
    if process.returncode:
        raise RefitError(f"stage train failed: {last.removeprefix('error: ')} (status {process.returncode})")
    deliver(project, root / "model")


def environment(project: Path, settings: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the stage's variables: the job's environment of the project, and an MLflow that ends with this container.

    Args:
        settings: the job's hyperparameters.
    """
    ours = {name: value for name, value in environ.items() if name != LEDGER_VARIABLE}
    registry = sqlite_url(project / ".refit/mlflow.db")
    return {**ours, URI_VARIABLE: registry, environments.VARIABLE: settings.get("environment", "")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and leave the reason where SageMaker looks for it if that fails."""
    parser = argparse.ArgumentParser(prog="python -P -m flows.sagemaker.container", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="another folder than /opt/ml, to try it out")
    root: Path = parser.parse_args(arguments).root
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(root, Path(folder).resolve())
    except RefitError as error:
        (root / "output").mkdir(parents=True, exist_ok=True)
        (root / "output/failure").write_text(one_line(error)[:_REASON], encoding="utf-8")
        say(f"error: {one_line(error)}", stderr=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
