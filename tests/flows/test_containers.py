"""What goes into an image, and what servers in containers ask for before they start."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pathspec import PathSpec

from refit.runtime import provenance


def ignored(root: Path) -> PathSpec[Any]:
    """The patterns of `.dockerignore`, which begin at the top, as git would write them."""
    lines = (root / ".dockerignore").read_text().splitlines()
    return PathSpec.from_lines("gitignore", [f"/{line}" for line in lines if not line.startswith("#")])


@pytest.mark.parametrize(
    "file",
    [
        *(
            ".env",
            "infra/compose/.env",
            "churn/.env.production",
            "infra/kubernetes/secret.env",
            "keys/mlflow.pem",
            "keys/mlflow.key",
            ".netrc",
        ),
        *(".dvc/config.local", "churn/.dvc/config.local"),
        *(".git/config", ".git/config.worktree", ".git/modules/data/config", ".git/logs/HEAD", ".git/FETCH_HEAD"),
    ],
)
def test_a_file_that_holds_passwords_is_not_copied_into_an_image(file: str, root: Path) -> None:
    assert ignored(root).match_file(file)


def test_a_project_and_its_commit_are_copied_into_an_image(root: Path, tmp_path: Path) -> None:
    for file in ("params.yaml", "prefect.yaml", ".dvc/config", ".git/HEAD", ".git/objects/ab/cd", ".git/refs/heads/x"):
        assert not ignored(root).match_file(file)
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "A project")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    commit = provenance.commit_hash(tmp_path)
    for path in [*(tmp_path / ".git").rglob("*")]:
        if path.is_file() and ignored(root).match_file(path.relative_to(tmp_path)):
            path.unlink()
    assert not (tmp_path / ".git/config").exists()
    assert provenance.commit_hash(tmp_path) == commit is not None


def test_no_server_starts_with_an_empty_password(root: Path) -> None:
    text = (root / "infra/compose/compose.yaml").read_text()
    example = dict(
        line.split("=", 1)
        for line in (root / "infra/compose/env.example").read_text().splitlines()
        if not line.startswith("#")
    )
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(example)
    assert set(example.values()) == {""}, "a password that everybody knows is none"
    prefect = yaml.safe_load(text)["services"]["prefect"]["environment"]
    assert prefect["PREFECT_SERVER_API_AUTH_STRING"].startswith("refit:${PREFECT_PASSWORD:?")


@pytest.mark.parametrize("service", ["mlflow", "worker"])
@pytest.mark.parametrize(
    ("endpoint", "used"), [("", "https://s3.amazonaws.com"), ("http://minio:9000", "http://minio:9000")]
)
def test_services_find_the_store_of_models_whether_or_not_it_is_amazons(
    service: str, endpoint: str, used: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that `.env` leaves out are empty ones in the containers, not missing ones."""
    from mlflow.store.artifact import s3_artifact_repo

    s3_artifact_repo._cached_get_s3_client.cache_clear()
    env = {"AWS_ENDPOINT_URL": endpoint}
    services = yaml.safe_load((root / "infra/compose/compose.yaml").read_text())["services"]
    for name, value in services[service]["environment"].items():
        if name.startswith("AWS_") or "S3" in name:
            monkeypatch.setenv(name, re.sub(r"\$\{(\w+):-\}", lambda of: env.get(of[1], ""), value))
    assert s3_artifact_repo.S3ArtifactRepository("s3://models/mlflow")._get_s3_client().meta.endpoint_url == used
