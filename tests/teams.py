"""A team: several clones of a project as several machines, with one registry and one ledger."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from registry import versions
from registry.ledger import Ledger
from registry.store import Store


@dataclass(frozen=True)
class Team:
    """What the machines of a team share, and their clones."""

    environ: dict[str, str]
    folder: Path

    def clone(self, name: str, project: Path) -> Path:
        """A clone of the project: its files without what a machine makes for itself."""
        made = ("data", "models", "reports", ".refit", "dvc.lock", "run.yaml", "__pycache__")
        shutil.copytree(project, self.folder / name, symlinks=True, ignore=shutil.ignore_patterns(*made))
        return self.folder / name

    def start(self, clone: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "refit", *arguments, "--project", str(clone)],
            env={**os.environ, **self.environ, "PREFECT_LOGGING_LEVEL": "CRITICAL"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def refit(self, clone: Path, *arguments: str, status: int = 0) -> str:
        process = self.start(clone, *arguments)
        said = process.communicate(timeout=600)[0]
        assert process.returncode == status, said
        return said

    @property
    def store(self) -> Store:
        return Store(
            self.environ["MLFLOW_TRACKING_URI"], self.folder / "here", self.environ["REFIT_LEDGER_URI"], "demo"
        )

    @property
    def moves(self) -> list[tuple[str, str | None, str]]:
        return [(each.action, each.from_version, each.to_version) for each in Ledger.of(self.store).entries("demo")]

    @property
    def champion(self) -> str | None:
        return versions.registered(self.store, "demo").aliases.get("champion")
