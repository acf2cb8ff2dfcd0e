"""Single files among the artifacts of a run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePosixPath

from registry.client import client
from registry.refusals import refusal
from registry.secrets import first_line
from registry.store import RegistryError, Store


def store(registry: Store, run_id: str, content: Path, name: str) -> None:
    """Store a file under the path `name`."""
    path = PurePosixPath(name)
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / path.name  # MLflow takes the name from the file
        shutil.copyfile(content, named)
        client(registry).log_artifact(run_id, str(named), str(path.parent))


def fetch(registry: Store, run_id: str, name: str, target: Path) -> None:
    """Copy a file to `target`.

    Raises:
        RegistryError: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            copy = client(registry).download_artifacts(run_id, name, folder)
        except Exception as error:
            advice = "restore the artifact store from a copy, or see that it answers"
            said = refusal(error) or f"{first_line(error)}; {advice}"
            raise RegistryError(f"{name} of run {run_id} cannot be read: {said}") from error
        shutil.copyfile(copy, target)


def remove(registry: Store, run_id: str, name: str) -> None:
    """Delete a file."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = client(registry).get_run(run_id).info.artifact_uri
    get_artifact_repository(uri, tracking_uri=registry.uri).delete_artifacts(name)
